"""Reading the index of a sharded checkpoint: which file holds which tensor."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

import msgspec

from gpt2ln_cli.errors import CheckpointError

INDEX_SUFFIX = ".index.json"


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def read_index(path: Path) -> dict[str, str]:
    """The file that holds each tensor, by the tensor's stored name; files are named within the index's own folder.

    Args:
        path: ``model.safetensors.index.json`` or ``pytorch_model.bin.index.json``.

    Raises:
        CheckpointError: it can't be read, is no index, is empty, or names a file elsewhere or of another kind.
    """
    suffix = Path(path.name.removesuffix(INDEX_SUFFIX)).suffix
    try:
        weight_map = msgspec.json.decode(path.read_bytes(), type=_Index).weight_map
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not an index of shards: {error}.") from error
    if not weight_map:
        raise CheckpointError(f"{path} names no tensor.")
    for name in set(weight_map.values()):
        if PurePosixPath(name).name != name or PureWindowsPath(name).name != name or not name.endswith(suffix):
            raise CheckpointError(f"{path} names '{name}', which is no {suffix} file beside it.")
    return weight_map
