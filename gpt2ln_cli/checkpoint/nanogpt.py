"""nanoGPT's ``ckpt.pt``: the tensors under ``model`` and their configuration under ``model_args``.

build-nanogpt's is the same with an object of its own class under ``config``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from gpt2ln_cli.checkpoint.base import Config, Contents
from gpt2ln_cli.checkpoint.files import begins_with
from gpt2ln_cli.checkpoint.inert import Inert
from gpt2ln_cli.checkpoint.pickled import ZIP_MAGIC, open_pickle
from gpt2ln_cli.checkpoint.single import PICKLED, without_bias
from gpt2ln_cli.checkpoint.tensors import body_of, chosen_body, from_linear, is_linear
from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path


class ModelArguments(msgspec.Struct, frozen=True):
    """What nanoGPT needs to build the model again."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    vocab_size: int


def matches(path: Path) -> bool:
    """Whether the path is a file of this layout.

    Raises:
        CheckpointError: it is a pickle that can't be read.
    """
    is_zip = path.is_file() and path.suffix in PICKLED and begins_with(path, ZIP_MAGIC)
    return is_zip and _is_training_state(open_pickle(path).content)


def _is_training_state(content: Any) -> bool:
    return isinstance(content, Mapping) and "model" in content and _arguments(content) is not None


def _arguments(content: Mapping[str, Any]) -> Any:
    """The fields of the configuration, wherever they stand; None where there are none."""
    config = content.get("config")
    own = vars(config) if isinstance(config, Inert) and "block_size" in vars(config) else None
    return content.get("model_args", own)


def read(path: Path, heads: int | None, prefix: str | None) -> Contents:  # noqa: ARG001  (model_args tells the heads)
    """Read the configuration and the tensors' shapes.

    Raises:
        CheckpointError: the file can't be used.
        UsageError: it holds several bodies and ``prefix`` does not say which, or says one that is not there.
    """
    pickle = open_pickle(path)
    try:
        arguments = msgspec.convert(_arguments(pickle.content), type=ModelArguments)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{path}: its configuration makes no GPT-2: {error}.") from error
    tensors = body_of(path, pickle.tensors("model"), prefix)
    config = Config(
        vocab_size=arguments.vocab_size,
        n_positions=arguments.block_size,
        n_embd=arguments.n_embd,
        n_layer=arguments.n_layer,
        n_head=arguments.n_head,
    )
    return Contents(
        without_bias(config, tensors),
        from_linear(tensors) if is_linear(tensors) else tensors,
        [
            f"eps {config.layer_norm_epsilon:g}, which is nanoGPT's",
            f"activation {config.activation_function}, which is GPT-2's; where nanoGPT was trained with the exact "
            "gelu, that differs by up to 5e-4",
            *chosen_body(prefix),
        ],
    )
