"""HDF5 files as Keras writes them: h5py says where each tensor lies, and its values are read from there.

What would lead out of the file is refused: external links, external storage, virtual datasets. So are datasets in
chunks, which may be compressed: Keras writes none, and a small file could claim terabytes of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gpt2ln_cli.checkpoint.tensors import FLOATS, Place, StoredTensor
from gpt2ln_cli.errors import CheckpointError, is_want_of_memory

if TYPE_CHECKING:
    from pathlib import Path

MOST_DEPTH = 32
# What h5py sees of bfloat16, whose name Keras writes beside it.
TWO_BYTES, ATTRIBUTE = "V2", "dtype"


def open_hdf5(path: Path) -> dict[str, StoredTensor]:
    """The tensors of an HDF5 file by their paths in it, without the first slash; no values are read.

    Raises:
        CheckpointError: h5py is not installed, or the file can't be read, is damaged or leads out of itself.
        OSError: it can't be read.
    """
    try:
        import h5py
    except ImportError as error:
        raise CheckpointError(f'{path} is an HDF5 file, which needs h5py: pip install ".[h5]".') from error
    path.open("rb").close()  # what may not be read is said by the system, and not by HDF5
    size = path.stat().st_size
    found: dict[str, StoredTensor] = {}
    seen: set[int] = set()

    def walk(group: Any, names: tuple[str, ...]) -> None:
        if len(names) > MOST_DEPTH:
            raise ValueError(f"groups in groups, over {MOST_DEPTH} deep")
        for name in group:
            here = (*names, name)
            full = "/".join(here)
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise CheckpointError(f"{path}: '{full}' is a link to elsewhere, which gpt2ln does not follow.")
            inner = group[name]
            address = h5py.h5o.get_info(inner.id).addr
            if isinstance(inner, h5py.Dataset):
                tensor = _stored(path, size, full, inner)
                if tensor is not None:
                    found[full] = tensor
            elif isinstance(inner, h5py.Group) and address not in seen:
                seen.add(address)
                walk(inner, here)

    try:
        with h5py.File(path, "r") as file:
            walk(file, ())
    except CheckpointError:
        raise
    except Exception as error:  # h5py raises whatever a damaged file leads HDF5 to
        if is_want_of_memory(error):
            raise
        raise CheckpointError(f"{path} is damaged or no HDF5 file ({' '.join(str(error).split())}).") from error
    return found


def _stored(path: Path, size: int, name: str, dataset: Any) -> StoredTensor | None:
    """A tensor; None where the dataset holds nothing."""
    shape, kind = dataset.shape, dataset.dtype
    if shape is None:
        return None
    dtype = kind.str if kind.byteorder == ">" else kind.name
    if kind.str.endswith(TWO_BYTES) and dataset.attrs.get(ATTRIBUTE) == "bfloat16":
        dtype = "bfloat16"
    length = math.prod(shape) * kind.itemsize
    start = dataset.id.get_offset()
    if dtype in FLOATS and length:
        # HDF5 tells no offset where the values are in chunks, in other files, or not there.
        if start is None or dataset.external:
            raise CheckpointError(f"{path}: the values of '{name}' are not in one piece of it, as Keras writes them.")
        if start + length > size:
            raise CheckpointError(f"{path} is damaged: '{name}' ends beyond its {size:,} bytes.")
    return Place(dtype, tuple(shape), start or 0, (start or 0) + length).stored(path)
