"""A safetensors file, on disk or on the Hub: its header says where each tensor's bytes lie.

The file begins with the length of its header (8 bytes, little-endian), then the header (JSON). Nothing that the header
says is believed before it is checked against the file's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec

from gpt2ln_cli.checkpoint.files import read_at
from gpt2ln_cli.checkpoint.tensors import Place, StoredTensor
from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

LENGTH_BYTES = 8
# One read brings the header of nearly every GPT-2: gpt2-xl's 580 tensors take about 60,000 bytes.
FIRST_BYTES = 65_536
# The limit of the safetensors library itself.
MOST_HEADER_BYTES = 100_000_000
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    data_offsets: tuple[int, int]


def read_header(name: str, size: int, read: Callable[[int, int], bytes]) -> dict[str, Place]:
    """Read and check the header: where each tensor lies, by its stored name.

    Args:
        name: what messages call the file.
        size: the file's length in bytes.
        read: reads the bytes [start, stop).

    Raises:
        CheckpointError: the header contradicts itself or the file's size.
    """

    def damaged(what: str) -> CheckpointError:
        return CheckpointError(f"{name} is damaged or not a safetensors file: {what}.")

    first = read(0, min(FIRST_BYTES, size))
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    data_start = LENGTH_BYTES + length
    if len(first) < LENGTH_BYTES or data_start > size or length > MOST_HEADER_BYTES:
        raise damaged(f"a header of {length:,} bytes in a file of {size:,}")
    header = first[LENGTH_BYTES:data_start]
    if data_start > len(first):
        header += read(len(first), data_start)
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        # What save_model left out, since it shares its memory with another: the name of that one.
        shared = msgspec.json.decode(raw.pop("__metadata__", b"{}"), type=dict[str, str])
        entries = {stored: msgspec.json.decode(entry, type=_Entry) for stored, entry in raw.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(f"its header does not read: {error}") from error
    # The tensors must fill the file from the header to its end, each as many bytes as its shape says.
    end, data_bytes = 0, size - data_start
    for stored, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        start, stop = entry.data_offsets
        if start != end or stop < start or stop > data_bytes:
            raise damaged(f"'{stored}' has the bytes {start:,} to {stop:,} of {data_bytes:,}")
        if entry.dtype in ITEM_BYTES and stop - start != math.prod(entry.shape) * ITEM_BYTES[entry.dtype]:
            raise damaged(f"'{stored}' has {stop - start:,} bytes for a shape of {list(entry.shape)}")
        end = stop
    if end != data_bytes:
        raise damaged(f"its tensors end at byte {end:,} of {data_bytes:,}")
    places = {
        stored: Place(
            DTYPES.get(entry.dtype, entry.dtype), entry.shape, *(data_start + at for at in entry.data_offsets)
        )
        for stored, entry in entries.items()
    }
    return {left_out: places[kept] for left_out, kept in shared.items() if kept in places} | places


def open_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by their names; its header alone is read.

    Raises:
        CheckpointError: it can't be read, is damaged, or its header disagrees with its size.
    """

    def read(start: int, stop: int) -> bytes:
        return read_at(path, start, stop - start)

    places = read_header(str(path), path.stat().st_size, read)
    return {name: place.stored(path) for name, place in places.items()}
