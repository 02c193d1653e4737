"""OpenAI's release of GPT-2, and what gpt-2-simple trains: a bundle of TensorFlow beside ``hparams.json``.

Several steps may lie in one folder, of which the file ``checkpoint`` names the newest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from gpt2ln_cli.checkpoint.base import Config, Contents
from gpt2ln_cli.checkpoint.files import BUNDLE, read_json
from gpt2ln_cli.checkpoint.single import infer_config
from gpt2ln_cli.checkpoint.tensor_bundle import open_bundle
from gpt2ln_cli.checkpoint.tensors import StoredTensor, check_alone
from gpt2ln_cli.errors import CheckpointError, listed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG = "hparams.json"
NEWEST = "checkpoint"
# The last part of a path that may be of another machine.
NAMED = re.compile(r'\s*model_checkpoint_path:\s*"(?:[^"\n]*[/\\])?([^"/\\\n]+)"')
EMBEDDING = re.compile(r"model/(wte|wpe)")
PARAMETER = re.compile(r"model/(?:h(\d{1,9})/)?(ln_1|ln_2|ln_f|attn/c_attn|attn/c_proj|mlp/c_fc|mlp/c_proj)/([gwb])")
PARTS = {"g": "weight", "w": "weight", "b": "bias"}


class Hyperparameters(msgspec.Struct, frozen=True):
    """``hparams.json``."""

    n_vocab: int
    n_ctx: int
    n_embd: int
    n_head: int
    n_layer: int


def matches(path: Path) -> bool:
    """Whether the path is a folder of this layout, or the index of one of its steps."""
    if path.is_dir():
        return (path / CONFIG).is_file() or any(path.glob("*" + BUNDLE))
    return path.name.endswith(BUNDLE)


def read(path: Path, heads: int | None, prefix: str | None) -> Contents:
    """Read the configuration, and the index of the newest step or of the one that is given.

    Raises:
        CheckpointError: the configuration or the bundle can't be used, or nothing says which of several it is.
        UsageError: a prefix was given, or the heads are needed and not given.
    """
    check_alone(path, prefix)
    index, inferred = _newest(path) if path.is_dir() else (path, [])
    tensors = _renamed(open_bundle(index))
    if not tensors:
        raise CheckpointError(f"{index} has no variable of GPT-2 by the names of OpenAI, such as 'model/wte'.")
    beside = index.parent / CONFIG
    if not beside.is_file():
        config, concluded = infer_config(path, tensors, heads)
        return Contents(config, tensors, [*inferred, *concluded])
    try:
        told = msgspec.json.decode(read_json(beside), type=Hyperparameters)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{beside} does not tell the sizes of a GPT-2: {error}.") from error
    config = Config(
        vocab_size=told.n_vocab, n_positions=told.n_ctx, n_embd=told.n_embd, n_head=told.n_head, n_layer=told.n_layer
    )
    said = f"eps {config.layer_norm_epsilon:g} and activation {config.activation_function}, which are OpenAI's"
    return Contents(config, tensors, [*inferred, said])


def _newest(folder: Path) -> tuple[Path, list[str]]:
    """The index to read, and what is said of the choice where there is one."""
    found = sorted(path.name.removesuffix(BUNDLE) for path in folder.glob("*" + BUNDLE))
    if not found:
        raise CheckpointError(f"{folder} has a {CONFIG} and no *{BUNDLE} of TensorFlow's beside it.")
    if len(found) == 1:
        return folder / (found[0] + BUNDLE), []
    several = f"{folder} holds {len(found)} steps, {listed(found)}"
    if not (folder / NEWEST).is_file():
        raise CheckpointError(f"{several}, and no file '{NEWEST}' that names the newest; give one of their *{BUNDLE}.")
    with (folder / NEWEST).open(encoding="utf-8", errors="replace") as file:
        named = NAMED.match(file.readline(4096))
    if named is None or named[1] not in found:
        name = "none" if named is None else f"'{named[1]}'"
        raise CheckpointError(f"{several}, and its file '{NEWEST}' names {name}; give one of their *{BUNDLE}.")
    return folder / (named[1] + BUNDLE), [f"'{named[1]}' of {len(found)} steps, the newest by the file '{NEWEST}'"]


def _renamed(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """GPT-2's parameters by its own names; an optimizer's moments are left out."""
    found = {}
    for name, tensor in tensors.items():
        if embedding := EMBEDDING.fullmatch(name):
            found[f"{embedding[1]}.weight"] = tensor
        elif parameter := PARAMETER.fullmatch(name):
            layer, module, part = parameter.groups()
            block = "" if layer is None else f"h.{layer}."
            # OpenAI multiplies by convolutions of width 1.
            matrix = part == "w" and tensor.shape[:1] == (1,)
            found[f"{block}{module.replace('/', '.')}.{PARTS[part]}"] = (
                tensor.reshaped(*tensor.shape[1:]) if matrix else tensor
            )
    return found
