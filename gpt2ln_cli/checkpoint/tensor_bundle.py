"""TensorFlow's bundle: ``NAME.index``, a sorted table of where each tensor lies, beside ``NAME.data-00000-of-00001``.

The table is LevelDB's: blocks of keys and values, a block of where these are, and a footer of where that is. TensorFlow
compresses none of them. Blocks and tensors have checksums, and nothing that the index says is believed before it is
checked against the files' sizes.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gpt2ln_cli.checkpoint.crc32c import crc32c, masked
from gpt2ln_cli.checkpoint.files import BUNDLE, bytes_of
from gpt2ln_cli.checkpoint.tensors import FLOAT_BYTES, Place, StoredTensor, from_array
from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from gpt2ln_cli.checkpoint.tensors import Array

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER_BYTES, HANDLE_BYTES = 48, 40
# After each block: the kind of its compression, and a checksum over both.
TRAILER_BYTES = 5
# The index of GPT-2 XL and its optimizer takes about 100,000 bytes; in memory, names that share a beginning take more.
MOST_INDEX_BYTES = 16 * 2**20
DTYPES = {1: "float32", 2: "float64", 14: "bfloat16", 19: "float16"}
# Numbers of fields: of the header, of a tensor's entry and of its shape.
SHARDS, ENDIANNESS = 1, 2
DTYPE, SHAPE, SHARD, OFFSET, SIZE, CHECKSUM, SLICES = range(1, 8)
DIMENSION = 2
# The wire types of protocol buffers.
VARINT, EIGHT_BYTES, TEXT, FOUR_BYTES = 0, 1, 2, 5


def open_bundle(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a bundle by their names; its index alone is read.

    Args:
        path: of the index.

    Raises:
        CheckpointError: a file is missing, can't be read or is damaged.
        OSError: the index can't be read.
    """
    with path.open("rb") as index:
        size = os.fstat(index.fileno()).st_size
        if size > MOST_INDEX_BYTES:
            raise CheckpointError(f"{path} has {size:,} bytes; gpt2ln reads no index of over {MOST_INDEX_BYTES:,}.")
        content = index.read(MOST_INDEX_BYTES)
    try:
        table = _table(content)
        if "" not in table:
            raise ValueError("no header")
        header = _Message(_fields(table.pop("")))
        if header.number(ENDIANNESS):
            raise ValueError("numbers of a big-endian machine, which gpt2ln does not read")
        shards = header.number(SHARDS)
        entries = {name: _Entry.of(name, message, shards) for name, message in table.items()}
    except (ValueError, IndexError, struct.error) as error:
        raise CheckpointError(f"{path} is damaged or no index of TensorFlow's: {error}.") from error
    stem = path.name.removesuffix(BUNDLE)
    files = {
        shard: path.with_name(f"{stem}.data-{shard:05}-of-{shards:05}")
        for shard in {entry.shard for entry in entries.values()}
    }
    for file in files.values():
        if not file.is_file():
            raise CheckpointError(f"{path} has tensors in {file.name}, which is missing; fetch the folder whole.")
    sizes = {shard: file.stat().st_size for shard, file in files.items()}
    for name, entry in entries.items():
        if entry.place.stop > sizes[entry.shard]:
            raise CheckpointError(f"{files[entry.shard]} is cut off: '{name}' ends beyond its end; fetch it again.")
    return {
        name: from_array(entry.place.shape, entry.place.dtype, partial(_values, files[entry.shard], name, entry))
        for name, entry in entries.items()
    }


def _values(path: Path, name: str, entry: _Entry, mapped: bool) -> Array:
    start, stop = entry.place.start, entry.place.stop
    raw = bytes_of(path, start, stop - start, mapped=mapped)
    if masked(crc32c(raw)) != entry.checksum:
        raise CheckpointError(f"{path} is damaged: the checksum of '{name}' is not that of its values; fetch it again.")
    values = entry.place.array(lambda *_: raw)
    return values if values.flags.aligned else values.copy()


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise ValueError("a number of over ten bytes")


def _table(content: bytes) -> dict[str, bytes]:
    """Keys and values of the table."""
    footer = content[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or not footer.endswith(MAGIC):
        raise ValueError("it does not end as one")
    at = 0
    handle = []
    for _ in range(4):  # of the block of metadata, which is empty, and of the block of blocks
        number, at = _varint(footer[:HANDLE_BYTES], at)
        handle.append(number)
    blocks = []
    for _, value in _pairs(_block(content, handle[2], handle[3])):
        start, at = _varint(value, 0)
        size, _ = _varint(value, at)
        blocks.append((start, size))
    # Of a table none is in two places.
    if sum(size for _, size in blocks) > len(content):
        raise ValueError("its blocks have more bytes than it")
    table: dict[str, bytes] = {}
    names_bytes = 0
    for start, size in blocks:
        for key, value in _pairs(_block(content, start, size)):
            names_bytes += len(key)
            if names_bytes > MOST_INDEX_BYTES:
                raise ValueError(f"names of over {MOST_INDEX_BYTES:,} bytes")
            table[key.decode("utf-8")] = value
    return table


def _block(content: bytes, start: int, size: int) -> bytes:
    stop = start + size
    if stop + TRAILER_BYTES > len(content):
        raise ValueError(f"a block of the bytes {start:,} to {stop:,} of {len(content):,}")
    import numpy as np

    kind = content[stop]
    (checksum,) = struct.unpack_from("<I", content, stop + 1)
    if masked(crc32c(np.frombuffer(content, np.uint8, size + 1, start))) != checksum:
        raise ValueError(f"the checksum of its block at byte {start:,} is wrong")
    if kind:
        raise ValueError(f"a block of compression {kind}, and TensorFlow compresses none")
    return content[start:stop]


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """A block's keys, of which each is stored as what differs from the one before, and values."""
    (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 * (1 + restarts)
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        size, at = _varint(block, at)
        if shared > len(key) or at + own + size > end:
            raise ValueError("an entry beyond the end of its block")
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + size]
        at += own + size


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer's message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        value: int | bytes
        if kind == VARINT:
            value, at = _varint(message, at)
        else:
            if kind == TEXT:
                size, at = _varint(message, at)
            elif kind in (EIGHT_BYTES, FOUR_BYTES):
                size = 8 if kind == EIGHT_BYTES else 4
            else:
                raise ValueError(f"a field of wire type {kind}")
            value = message[at : at + size]
            if len(value) < size:
                raise ValueError("a field beyond the end of its message")
            at += size
            if kind != TEXT:
                value = int.from_bytes(value, "little")
        yield tag >> 3, value


class _Message(dict[int, int | bytes]):
    """A message's fields by their numbers; of one that is repeated, the last."""

    def number(self, field: int) -> int:
        value = self.get(field, 0)
        if not isinstance(value, int):
            raise ValueError(f"no number in field {field}")
        return value

    def text(self, field: int) -> bytes:
        value = self.get(field, b"")
        if not isinstance(value, bytes):
            raise ValueError(f"a number in field {field}")
        return value


@dataclass(frozen=True)
class _Entry:
    shard: int
    place: Place
    checksum: int

    @classmethod
    def of(cls, name: str, message: bytes, shards: int) -> _Entry:
        """What the index says of a tensor.

        Raises:
            ValueError: it contradicts itself.
        """
        told = _Message(_fields(message))
        dimensions = (value for field, value in _fields(told.text(SHAPE)) if field == DIMENSION)
        shape = tuple(_Message(_fields(each)).number(1) for each in dimensions if isinstance(each, bytes))
        kind, shard, start, size = (told.number(field) for field in (DTYPE, SHARD, OFFSET, SIZE))
        dtype = DTYPES.get(kind, f"TensorFlow's type {kind}")
        if SLICES in told:
            # Of a variable that was partitioned the values lie under other keys.
            dtype = "slices"
        elif dtype in FLOAT_BYTES and size != math.prod(shape) * FLOAT_BYTES[dtype]:
            raise ValueError(f"'{name}' has {size:,} bytes for a shape of {list(shape)}")
        if shard >= shards:
            raise ValueError(f"'{name}' lies in file {shard} of {shards}")
        return cls(shard, Place(dtype, shape, start, start + size), told.number(CHECKSUM))
