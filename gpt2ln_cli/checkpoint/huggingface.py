"""The Hugging Face folder: ``config.json`` beside weights in safetensors, pickles or HDF5, whole or in shards."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from gpt2ln_cli.checkpoint import tfgpt2
from gpt2ln_cli.checkpoint.base import CONFIG, Contents, parse_config
from gpt2ln_cli.checkpoint.files import read_json
from gpt2ln_cli.checkpoint.hdf5 import open_hdf5
from gpt2ln_cli.checkpoint.pickled import open_pickle
from gpt2ln_cli.checkpoint.safetensors_file import open_safetensors
from gpt2ln_cli.checkpoint.tensors import StoredTensor, body_of, chosen_body
from gpt2ln_cli.errors import CheckpointError, listed
from gpt2ln_cli.paths import path_text

if TYPE_CHECKING:
    from pathlib import Path

    Opener = Callable[[Path], dict[str, StoredTensor]]

WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"
TENSORFLOW_WEIGHTS = "tf_model.h5"
INDEX_SUFFIX = ".index.json"
# What training leaves beside its weights, adapters, and parts of what has an index.
NO_WEIGHTS = re.compile(r"optimizer|scheduler|training_args|rng_state|random_states|adapter_|.*-\d{5}-of-\d{5}\.")


class Index(msgspec.Struct, frozen=True):
    """Which shard holds each tensor."""

    weight_map: dict[str, str]


def matches(path: Path) -> bool:
    """Whether the path is a folder of this layout."""
    return (path / CONFIG).is_file()


def read(path: Path, heads: int | None, prefix: str | None) -> Contents:  # noqa: ARG001  (config.json tells the heads)
    """Read the folder's configuration and the headers of its weights.

    Raises:
        CheckpointError: the configuration or the weights can't be used.
        UsageError: the weights are several bodies' and ``prefix`` does not say whose, or says one that is not there.
    """
    config = parse_config(path / CONFIG)
    openers: tuple[tuple[str, Opener], ...] = (
        (WEIGHTS, open_safetensors),
        (PICKLED_WEIGHTS, open_pickled),
        (TENSORFLOW_WEIGHTS, open_hdf5),
    )
    for name, opener in openers:
        if (path / name).is_file():
            tensors = opener(path / name)
        elif (path / (name + INDEX_SUFFIX)).is_file():
            tensors = _open_shards(path / (name + INDEX_SUFFIX), opener)
        else:
            continue
        inferred: list[str] = []
        break
    else:
        file = _only_weights(path)
        tensors = (open_safetensors if file.suffix == ".safetensors" else open_pickled)(file)
        inferred = [only(file)]
    return Contents(config, body_of(path, tfgpt2.renamed(tensors), prefix), [*inferred, *chosen_body(prefix)])


def _only_weights(path: Path) -> Path:
    """The weights of a folder that has none of the usual name.

    Raises:
        CheckpointError: there are none, or several.
    """
    found = weights_in(path)
    if not found:
        raise CheckpointError(
            f"{path} has a {CONFIG} and no {WEIGHTS}, {PICKLED_WEIGHTS} or {TENSORFLOW_WEIGHTS} beside it."
        )
    if len(found) > 1:
        raise CheckpointError(f"{path} has no {WEIGHTS}, and several other files of weights; {choose(found)}.")
    return found[0]


def weights_in(path: Path) -> list[Path]:
    """A folder's files that are weights by their names: safetensors where there are any, else pickles."""
    for suffix in (".safetensors", ".bin"):
        files = sorted(file for file in path.glob(f"*{suffix}") if file.is_file() and not NO_WEIGHTS.match(file.name))
        if files:
            return files
    return []


def only(file: Path) -> str:
    """What a record says where a file was taken since there was no other."""
    return f"weights from {path_text(file.name)}, the only ones there"


def choose(files: Sequence[Path]) -> str:
    """What to do where there are several."""
    return f"give one of them, as --model {files[0]}: {listed([file.name for file in files])}"


def open_pickled(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a pickled state dict by their names, wherever in the file it stands.

    Raises:
        CheckpointError: it can't be read, is damaged, or wants more than tensors.
    """
    opened = open_pickle(path)
    return opened.tensors(*opened.state_dict())


def read_index(path: Path) -> dict[str, str]:
    """Which shard holds each tensor; shards are files beside the index.

    Raises:
        CheckpointError: it can't be read, is no index, or names something else than a file beside it.
    """
    try:
        weight_map = msgspec.json.decode(read_json(path), type=Index).weight_map
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not an index of shards: {error}.") from error
    if not weight_map:
        raise CheckpointError(f"{path} names no shard.")
    for shard in sorted(set(weight_map.values())):
        check_beside(path, shard)
    return weight_map


def check_beside(path: Path, shard: str) -> None:
    """Refuse what is more than the name of a file: no folder above, no other drive.

    Raises:
        CheckpointError: it is.
    """
    if shard in ("", ".", "..") or any(mark in shard for mark in "/\\:\0"):
        raise CheckpointError(f"{path} names the shard '{shard}', which is not a file of this folder.")


def _open_shards(path: Path, opener: Opener) -> dict[str, StoredTensor]:
    weight_map = read_index(path)
    shards: dict[str, dict[str, StoredTensor]] = {}
    for shard in sorted(set(weight_map.values())):
        if not (path.parent / shard).is_file():
            raise CheckpointError(f"{path} names the shard '{shard}', which is missing; fetch the folder whole.")
        shards[shard] = opener(path.parent / shard)
    found = {}
    for name, shard in weight_map.items():
        # TensorFlow's weights leave out in the shard what the model's variables are under.
        stored = name if name in shards[shard] else name.partition("/")[2]
        if stored not in shards[shard]:
            raise CheckpointError(f"{path} says that '{name}' is in '{shard}', where it is not.")
        found[name] = shards[shard][stored]
    return found
