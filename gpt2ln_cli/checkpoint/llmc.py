"""llm.c's ``.bin``: 256 integers, then the tensors one kind after the other, in float32 (version 3) or bfloat16 (5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt2ln_cli.checkpoint.base import Config, Contents, check_numbers
from gpt2ln_cli.checkpoint.files import begins_with, bytes_of
from gpt2ln_cli.checkpoint.tensors import StoredTensor, check_alone, from_array, from_linear
from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from gpt2ln_cli.checkpoint.tensors import Array

MAGIC = (20240326).to_bytes(4, "little")
HEADER_BYTES = 1024
DTYPES = {3: "float32", 5: "bfloat16"}
# The file's length bears no narrow layer out: a sparse file has terabytes for nothing.
MOST_LAYERS = 10_000
ITEM_BYTES = {"float32": 4, "bfloat16": 2}


def matches(path: Path) -> bool:
    """Whether the path is a file of this layout."""
    return path.is_file() and begins_with(path, MAGIC)


def read(path: Path, heads: int | None, prefix: str | None) -> Contents:  # noqa: ARG001  (the header tells the heads)
    """Read the header, whose sizes determine where each tensor lies.

    Raises:
        CheckpointError: the version is another, or the file is not as long as its header says.
        UsageError: a prefix was given.
    """
    import numpy as np

    check_alone(path, prefix)
    with path.open("rb") as file:
        raw = file.read(HEADER_BYTES)
    if len(raw) < HEADER_BYTES:
        raise CheckpointError(f"{path} is cut off within its header.")
    version, positions, vocabulary, layers, n_head, width, padded = (
        int(number) for number in np.frombuffer(raw, "<i4", count=7, offset=4)
    )
    if version not in DTYPES:
        raise CheckpointError(f"{path} is of llm.c's version {version}; gpt2ln reads 3 (float32) and 5 (bfloat16).")
    config = Config(vocab_size=vocabulary, n_positions=positions, n_embd=width, n_layer=layers, n_head=n_head)
    check_numbers(path, config)
    if layers > MOST_LAYERS:
        raise CheckpointError(f"{path} says {layers} layers; gpt2ln reads no more than {MOST_LAYERS:,} of llm.c's.")
    if padded < vocabulary:
        raise CheckpointError(f"{path} pads its vocabulary of {vocabulary} to {padded}, which is less.")
    dtype = DTYPES[version]
    item_bytes = ITEM_BYTES[dtype]
    block = 12 * width * width + 13 * width
    elements = (padded + positions) * width + layers * block + 2 * width
    if path.stat().st_size != HEADER_BYTES + elements * item_bytes:
        raise CheckpointError(
            f"{path} has {path.stat().st_size} bytes where its header makes {HEADER_BYTES + elements * item_bytes}."
        )
    tensors: dict[str, StoredTensor] = {}
    offset = HEADER_BYTES
    for name, shape in _order(layers, width, positions, padded):
        tensors[name] = _stored(path, dtype, shape, offset)
        offset += _count(shape) * item_bytes
    tensors["wte.weight"] = tensors["wte.weight"].first_rows(vocabulary)
    return Contents(config, from_linear(tensors), ["eps 1e-05 and activation gelu_new, which are llm.c's"])


def _order(layers: int, width: int, positions: int, padded: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "wte.weight", (padded, width)
    yield "wpe.weight", (positions, width)
    for module, rows in (
        ("ln_1", 0),
        ("attn.c_attn", 3 * width),
        ("attn.c_proj", width),
        ("ln_2", 0),
        ("mlp.c_fc", 4 * width),
        ("mlp.c_proj", width),
    ):
        columns = 4 * width if module == "mlp.c_proj" else width
        shapes: dict[str, tuple[int, ...]] = {
            "weight": (rows, columns) if rows else (width,),
            "bias": (rows or width,),
        }
        for part, shape in shapes.items():
            for layer in range(layers):
                yield f"h.{layer}.{module}.{part}", shape
    yield "ln_f.weight", (width,)
    yield "ln_f.bias", (width,)


def _count(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def _stored(path: Path, dtype: str, shape: tuple[int, ...], offset: int) -> StoredTensor:
    def values(mapped: bool) -> Array:
        import ml_dtypes
        import numpy as np

        kind = np.dtype("<f4") if dtype == "float32" else np.dtype(ml_dtypes.bfloat16)
        return bytes_of(path, offset, _count(shape) * kind.itemsize, mapped=mapped).view(kind).reshape(shape)

    return from_array(shape, dtype, values)
