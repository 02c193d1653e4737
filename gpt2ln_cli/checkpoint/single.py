"""A single file of tensors: the configuration is inferred from their shapes, or read from a file beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gpt2ln_cli.checkpoint import tfgpt2
from gpt2ln_cli.checkpoint.base import CONFIG, Config, Contents, body_shapes, parse_config
from gpt2ln_cli.checkpoint.hdf5 import open_hdf5
from gpt2ln_cli.checkpoint.huggingface import open_pickled
from gpt2ln_cli.checkpoint.mingpt import renamed
from gpt2ln_cli.checkpoint.safetensors_file import open_safetensors
from gpt2ln_cli.checkpoint.tensors import StoredTensor, body_of, chosen_body, from_linear, is_linear
from gpt2ln_cli.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".tar", ".pkl")
OPENERS = {".safetensors": open_safetensors, ".h5": open_hdf5, **dict.fromkeys(PICKLED, open_pickled)}
HEAD_WIDTH = 64
# What a relative has beside GPT-2's own names: it would run, and mean nothing.
RELATIVE = "embed_timestep.weight"
LAYER = re.compile(r"h\.(\d{1,9})\.")


def matches(path: Path) -> bool:
    """Whether the path is a file of this layout, by its suffix."""
    return path.is_file() and path.suffix in OPENERS


def read(path: Path, heads: int | None, prefix: str | None) -> Contents:
    """Read the file's header, and the configuration beside it or infer it.

    Args:
        path: the file.
        heads: attention heads, for a file that does not tell.
        prefix: what the tensors' names begin with, for a file that holds several bodies.

    Raises:
        CheckpointError: the file can't be used.
        UsageError: the heads do not divide the width, or they or the prefix are needed and not given.
    """
    stored = OPENERS[path.suffix](path)
    if RELATIVE in stored:
        raise CheckpointError(f"{path} is a Decision Transformer: its blocks are GPT-2's, its inputs are no tokens.")
    tensors = body_of(path, tfgpt2.renamed(renamed(stored)), prefix)
    linear = is_linear(tensors)
    if linear:
        tensors = from_linear(tensors)
    beside = path.parent / CONFIG
    if beside.is_file():
        config, inferred = parse_config(beside), [f"configuration from {CONFIG} beside the file"]
    else:
        config, inferred = infer_config(path, tensors, heads)
    if linear:
        inferred.append("matrices of torch's Linear, turned into GPT-2's Conv1D")
    return Contents(config, tensors, [*inferred, *chosen_body(prefix)])


def infer_config(
    path: Path, tensors: Mapping[str, StoredTensor], heads: int | None, whence: str = "--heads"
) -> tuple[Config, list[str]]:
    """Conclude the configuration from the tensors' shapes; return it with what was concluded.

    Args:
        path: the file or folder, for errors.
        tensors: by GPT-2's names.
        heads: how many attention heads there are, where that is known.
        whence: how it is known.

    Raises:
        CheckpointError: the embeddings are missing or are no matrices.
        UsageError: the heads do not divide the width, or are needed and not given.
    """
    for name in ("wte.weight", "wpe.weight"):
        if name not in tensors or len(tensors[name].shape) != 2:
            raise CheckpointError(f"{path} has no matrix '{name}'; gpt2ln reads GPT-2.")
    (vocabulary, width), positions = tensors["wte.weight"].shape, tensors["wpe.weight"].shape[0]
    layers = 1 + max((int(found[1]) for name in tensors if (found := LAYER.match(name))), default=0)
    if heads is not None:
        if width % heads:
            raise UsageError(f"{heads} heads do not divide the width {width} of {path}.")
    elif width % HEAD_WIDTH == 0 and width > 0:
        heads, whence = width // HEAD_WIDTH, f"width / {HEAD_WIDTH}"
    else:
        raise UsageError(
            f"{path} does not tell the number of heads and its width {width} is no multiple of {HEAD_WIDTH}; "
            f"give --heads, or put its {CONFIG} beside it."
        )
    hidden = tensors.get("h.0.mlp.c_fc.bias", tensors.get("h.0.mlp.c_fc.weight"))
    config = Config(
        vocab_size=vocabulary,
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        n_inner=hidden.shape[-1] if hidden is not None and hidden.shape else None,
    )
    return without_bias(config, tensors), [
        f"{layers} layers, width {width}, {positions} positions and vocabulary {vocabulary} from the tensors' shapes",
        f"n_head {heads} from {whence}",
        f"eps {config.layer_norm_epsilon:g} and activation {config.activation_function}, which are GPT-2's",
    ]


def without_bias(config: Config, tensors: Mapping[str, StoredTensor]) -> Config:
    """The configuration, its ``bias`` False where no tensor is a bias."""
    import msgspec

    # Layer 0 and ln_f stand for all: a bias that is missing elsewhere is then an error.
    names = (name for name, _ in body_shapes(msgspec.structs.replace(config, n_layer=1)) if name.endswith(".bias"))
    return config if any(name in tensors for name in names) else msgspec.structs.replace(config, bias=False)
