"""GGUF files of architecture gpt2, as llama.cpp converts them; quantized matrices are dequantized to float32.

The header is read here and not by ``gguf.GGUFReader``, which believes every count in it: an array that claims 2^60
entries keeps it busy for ever. What the types are and how they are dequantized is the gguf package's.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from gpt2ln_cli.checkpoint.base import MODEL_TYPE, Config, Contents
from gpt2ln_cli.checkpoint.encoding import guarded
from gpt2ln_cli.checkpoint.files import begins_with, bytes_of
from gpt2ln_cli.checkpoint.tensors import StoredTensor, check_alone, from_array, from_linear
from gpt2ln_cli.checkpoint.tokenizer import byte_level_bpe
from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

    from gpt2ln_cli.checkpoint.tensors import Array

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
# The least that each takes: a string its length; a value a name, its type and a byte; a tensor's entry a name, the
# number of dimensions, one of them, its type and its offset.
STRING_BYTES, VALUE_BYTES, ENTRY_BYTES = 8, 13, 32
MOST_DIMENSIONS = 4
# The size bears no count out: a sparse file has terabytes for nothing. Tokens and merges of GPT-2 take 1.5 MB.
MOST_HEADER_BYTES, MOST_STRINGS = 32 * 2**20, 2**20
DEFAULT_ALIGNMENT = 32
PLAIN = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
NOT_WEIGHTS = ("I8", "I16", "I32", "I64")
NAMES = {"token_embd": "wte", "position_embd": "wpe", "output_norm": "ln_f"}
BLOCK_NAMES = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}


class Metadata(msgspec.Struct, frozen=True):
    """What the header says of the model."""

    n_layer: int = msgspec.field(name="gpt2.block_count")
    n_head: int = msgspec.field(name="gpt2.attention.head_count")
    n_embd: int = msgspec.field(name="gpt2.embedding_length")
    n_positions: int = msgspec.field(name="gpt2.context_length")
    eps: float = msgspec.field(name="gpt2.attention.layer_norm_epsilon")
    n_inner: int | None = msgspec.field(name="gpt2.feed_forward_length", default=None)
    alignment: int = msgspec.field(name="general.alignment", default=DEFAULT_ALIGNMENT)
    bos_token_id: int | None = msgspec.field(name="tokenizer.ggml.bos_token_id", default=None)


def matches(path: Path) -> bool:
    """Whether the path is a file of this layout."""
    return path.is_file() and begins_with(path, MAGIC)


def read(path: Path, heads: int | None, prefix: str | None) -> Contents:  # noqa: ARG001  (the metadata tells the heads)
    """Read the metadata and where each tensor lies.

    Raises:
        CheckpointError: the gguf package is not installed, the architecture is another, or the file is damaged.
        UsageError: a prefix was given.
    """
    check_alone(path, prefix)
    try:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError as error:
        raise CheckpointError(f'{path} is a GGUF file, which needs the gguf package: pip install ".[gguf]".') from error
    try:
        metadata, declared, end = _read_header(path)
        architecture = metadata.get("general.architecture")
        if architecture != MODEL_TYPE:
            raise CheckpointError(f"{path} says architecture '{architecture}'; gpt2ln reads GPT-2 ('{MODEL_TYPE}').")
        told = msgspec.convert(metadata, type=Metadata)
        if told.alignment < 1 or told.alignment % 8:
            raise ValueError(f"an alignment of {told.alignment}")
        start = -(-end // told.alignment) * told.alignment
        size = path.stat().st_size
        tensors: dict[str, StoredTensor] = {}
        quantized = set()
        for entry in declared:
            kind = GGMLQuantizationType(entry.kind)
            block, block_bytes = GGML_QUANT_SIZES[kind]
            if entry.offset % told.alignment:
                raise ValueError(f"'{entry.name}' is not aligned")
            if entry.shape[-1] % block:
                raise ValueError(f"a row of {entry.shape[-1]} in '{entry.name}', of {kind.name}")
            row_bytes = entry.shape[-1] // block * block_bytes
            rows = 1
            for length in entry.shape[:-1]:
                rows *= length
            if start + entry.offset + rows * row_bytes > size:
                raise ValueError(f"'{entry.name}' lies beyond the end of the file")
            dtype = kind.name if kind.name in NOT_WEIGHTS else PLAIN.get(kind.name, "float32")
            if kind.name not in PLAIN:
                quantized.add(kind.name)
            tensors[_canonical(entry.name)] = from_array(
                entry.shape, dtype, partial(_values, path, entry, kind.name, start + entry.offset, (rows, row_bytes))
            )
    except (ValueError, KeyError, IndexError, struct.error, msgspec.ValidationError) as error:
        raise CheckpointError(f"{path} is damaged or no GGUF file of a GPT-2: {error}.") from error
    config = Config(
        vocab_size=tensors["wte.weight"].shape[0] if "wte.weight" in tensors else 0,
        n_positions=told.n_positions,
        n_embd=told.n_embd,
        n_layer=told.n_layer,
        n_head=told.n_head,
        n_inner=told.n_inner,
        layer_norm_epsilon=_shortest(told.eps),
        bos_token_id=told.bos_token_id,
    )
    inferred = ["activation gelu_new, which is GPT-2's"]
    if quantized:
        inferred.append(f"float32 matrices from {', '.join(sorted(quantized))}")
    return Contents(config, from_linear(tensors), inferred, partial(_tokenizer, path, metadata))


def _shortest(eps: float) -> float:
    """The decimal number that was meant: the file holds it in float32, 1e-5 as 9.99999974737875e-06."""
    import numpy as np

    return float(str(np.float32(eps)))


@dataclass(frozen=True)
class _Entry:
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class _Cursor:
    """Reads forward through the header; every step ends within it or raises ``struct.error`` or ``ValueError``."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.stop = min(os.fstat(file.fileno()).st_size, MOST_HEADER_BYTES)
        self.place = file.seek(len(MAGIC))

    def take(self, length: int) -> bytes:
        self.place += length
        if self.place > self.stop:
            raise ValueError(f"its header goes beyond byte {self.stop:,}")
        return self.file.read(length)

    def number(self, code: str) -> Any:
        (value,) = struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))
        return value

    def count(self, least_bytes: int) -> int:
        """How many of something follow, each of so many bytes at least."""
        number: int = self.number("Q")
        if number * least_bytes > self.stop - self.place:
            raise ValueError(f"a count of {number:,} before byte {self.place:,}")
        return number

    def text(self) -> bytes:
        return self.take(self.count(1))

    def value(self) -> Any:
        kind = self.number("I")
        if kind != ARRAY:
            return self.text().decode("utf-8") if kind == STRING else self.number(_scalar(kind))
        kind = self.number("I")
        if kind == STRING:
            length = self.count(STRING_BYTES)
            if length > MOST_STRINGS:
                raise ValueError(f"an array of {length:,} texts, more than any vocabulary has")
            return [self.text() for _ in range(length)]
        item_bytes = struct.calcsize("<" + _scalar(kind))
        # No number that gpt2ln needs is in an array.
        self.take(self.count(item_bytes) * item_bytes)
        return None


def _scalar(kind: int) -> str:
    if kind not in SCALARS:
        raise ValueError(f"a value of type {kind}")
    return SCALARS[kind]


def _read_header(path: Path) -> tuple[dict[str, Any], list[_Entry], int]:
    """The metadata, the tensors' entries, and where the header ends."""
    with path.open("rb") as file:
        cursor = _Cursor(file)
        version = cursor.number("I")
        if version not in VERSIONS:
            raise ValueError(f"version {version}, not {' or '.join(map(str, VERSIONS))}")
        tensor_count, value_count = cursor.count(ENTRY_BYTES), cursor.count(VALUE_BYTES)
        metadata: dict[str, Any] = {}
        for _ in range(value_count):
            key = cursor.text().decode("utf-8")
            if key in metadata:  # a long hole in the file is one empty key after the other
                raise ValueError(f"'{key}' twice in its metadata")
            metadata[key] = cursor.value()
        return metadata, list(_entries(cursor, tensor_count)), cursor.place


def _entries(cursor: _Cursor, count: int) -> Iterator[_Entry]:
    for _ in range(count):
        name = cursor.text().decode("utf-8")
        dimensions = cursor.number("I")
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            raise ValueError(f"'{name}' has {dimensions} dimensions")
        # ggml counts from the fastest-running dimension, NumPy from the slowest.
        shape = tuple(cursor.number("Q") for _ in range(dimensions))[::-1]
        yield _Entry(name, shape, cursor.number("I"), cursor.number("Q"))


def _canonical(name: str) -> str:
    """GPT-2's name of a tensor; names of no interest stay as they are."""
    module, _, part = name.rpartition(".")
    if module in NAMES:
        return f"{NAMES[module]}.{part}"
    block, _, rest = module.removeprefix("blk.").partition(".")
    return f"h.{block}.{BLOCK_NAMES[rest]}.{part}" if rest in BLOCK_NAMES else name


def _values(path: Path, entry: _Entry, kind: str, offset: int, byte_shape: tuple[int, int], mapped: bool) -> Array:
    import ml_dtypes
    import numpy as np
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    rows, row_bytes = byte_shape
    stored = bytes_of(path, offset, rows * row_bytes, mapped=mapped).reshape(byte_shape)
    if kind in PLAIN:
        plain = np.dtype(ml_dtypes.bfloat16) if kind == "BF16" else np.dtype(PLAIN[kind])
        return stored.view(plain).reshape(entry.shape)
    try:
        return dequantize(stored, GGMLQuantizationType[kind]).reshape(entry.shape)
    except NotImplementedError as error:
        raise CheckpointError(
            f"{path}: the gguf package can't dequantize {kind}, the type of '{entry.name}'."
        ) from error


def _tokenizer(path: Path, metadata: Mapping[str, Any]) -> Tokenizer | None:
    """The byte-pair tokenizer inside the file; None where it is of another kind or has none."""
    tokens, merges = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.merges")
    if metadata.get("tokenizer.ggml.model") != MODEL_TYPE or not tokens or not merges:
        return None

    def build() -> Tokenizer:
        vocabulary = {token.decode("utf-8"): number for number, token in enumerate(tokens)}
        pairs = [(first, second) for first, _, second in (merge.decode("utf-8").partition(" ") for merge in merges)]
        return byte_level_bpe(vocabulary, pairs)

    return guarded(build, f"can't read the tokenizer in {path}")
