"""Tensors in a checkpoint file: shape and type are known at once, values are read when they are asked for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpt2ln_cli.checkpoint.files import bytes_of
from gpt2ln_cli.errors import CheckpointError, UsageError, listed

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

    Array = NDArray[Any]

FLOAT_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
FLOATS = tuple(FLOAT_BYTES)
LINEAR = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
LM_HEAD = "lm_head.weight"
EMBEDDING = re.compile(r"(.*\.)?wte\.weight")
# loralib's lora_A and PEFT's lora_A.default.weight, DoRA's lora_magnitude_vector.
FACTOR = re.compile(r"(.*\.)?lora_[^.]+(\..*)?")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint file."""

    shape: tuple[int, ...]
    dtype: str
    """torch's name of its type; anything outside ``FLOATS`` is the file's own name for it."""
    array: Callable[[], Array]
    """Read it for NumPy; bfloat16 is that of ml_dtypes."""
    tensor: Callable[[], torch.Tensor]
    """Read it for torch, on the CPU."""
    mapped: bool = False
    """Whether torch is given pages of the file, which take no memory of its own."""

    def transposed(self) -> StoredTensor:
        """The transposed matrix; torch gets it contiguous, so that it multiplies bit for bit as one stored that way."""
        return StoredTensor(
            self.shape[::-1], self.dtype, lambda: self.array().T, lambda: self.tensor().t().contiguous()
        )

    def first_rows(self, rows: int) -> StoredTensor:
        """Its first rows."""
        return StoredTensor(
            (min(rows, self.shape[0]), *self.shape[1:]),
            self.dtype,
            lambda: self.array()[:rows],
            lambda: self.tensor()[:rows],
            self.mapped,
        )

    def reshaped(self, *shape: int) -> StoredTensor:
        """The same values in another shape."""
        return StoredTensor(
            shape,
            self.dtype,
            lambda: self.array().reshape(shape),
            lambda: self.tensor().reshape(shape),
            self.mapped,
        )


@dataclass(frozen=True)
class Place:
    """Where one tensor's values lie in a file, in order: the bytes [start, stop)."""

    dtype: str
    """As for :class:`StoredTensor`."""
    shape: tuple[int, ...]
    start: int
    stop: int

    def array(self, read: Callable[[int, int], bytes | Array]) -> Array:
        """The tensor, of a floating-point type, that ``read`` gives the bytes of."""
        import numpy as np

        return np.frombuffer(read(self.start, self.stop), self._kind()).reshape(self.shape)

    def stored(self, path: Path) -> StoredTensor:
        """The tensor in a file on this disk: copied for NumPy, for torch mapped by itself.

        Numbers that lie across their type's boundaries are copied for torch, too, which does not compute with such.
        """
        item_bytes = (self.stop - self.start) // max(1, math.prod(self.shape))
        aligned = item_bytes > 0 and self.start % item_bytes == 0

        def array() -> Array:
            return self.array(lambda start, stop: bytes_of(path, start, stop - start, mapped=False))

        def tensor() -> torch.Tensor:
            values = bytes_of(path, self.start, self.stop - self.start, mapped=aligned)
            return as_torch((values if aligned else values.copy()).view(self._kind()).reshape(self.shape))

        return StoredTensor(self.shape, self.dtype, array, tensor, aligned)

    def _kind(self) -> np.dtype[Any]:
        import numpy as np

        name: Any = self.dtype
        if self.dtype == "bfloat16":
            from ml_dtypes import bfloat16 as name
        kind: np.dtype[Any] = np.dtype(name)
        return kind.newbyteorder("<")


def from_array(shape: Sequence[int], dtype: str, read: Callable[[bool], Array]) -> StoredTensor:
    """A tensor that NumPy reads, copied, or for torch mapped: writable then, as a copy-on-write map is.

    Args:
        shape: its shape.
        dtype: its type.
        read: reads it; called with whether to map it.
    """
    return StoredTensor(tuple(shape), dtype, lambda: read(False), lambda: as_torch(read(True)))


def from_torch(tensor: torch.Tensor) -> StoredTensor:
    """A tensor that torch has loaded or mapped."""
    return StoredTensor(tuple(tensor.shape), dtype_of(tensor), lambda: as_array(tensor), lambda: tensor)


def dtype_of(tensor: torch.Tensor) -> str:
    """Torch's name of its type."""
    return str(tensor.dtype).removeprefix("torch.")


def joined(parts: Sequence[StoredTensor]) -> StoredTensor:
    """Tensors of one type and shape, one after the other along the first dimension."""

    def array() -> Array:
        import numpy as np

        return np.concatenate([part.array() for part in parts])

    def tensor() -> torch.Tensor:
        import torch

        return torch.cat([part.tensor() for part in parts])

    rows = sum(part.shape[0] for part in parts)
    return StoredTensor((rows, *parts[0].shape[1:]), parts[0].dtype, array, tensor)


def as_torch(array: Array) -> torch.Tensor:
    """The array's memory as a tensor; NumPy's bfloat16 is foreign to torch and goes by its bits."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("uint16")).view(torch.bfloat16)
    return torch.from_numpy(array)


def as_array(tensor: torch.Tensor) -> Array:
    """The tensor's memory as an array; torch's bfloat16 is foreign to NumPy and goes by its bits."""
    import torch

    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.detach().contiguous().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.detach().numpy()


def body_names(path: Path, names: Iterable[str], prefix: str | None) -> dict[str, str]:
    """The stored name of each tensor of GPT-2's body, by the name that ``transformers.GPT2Model`` gives it.

    Where the body sits is told by its embedding: ``transformer.wte.weight`` in a model with a head,
    ``_orig_mod.transformer.wte.weight`` from torch.compile, ``wte.weight`` in OpenAI's own files. Of what lies
    beside it only an LM head is kept, as ``lm_head.weight``.

    Args:
        path: the file or folder, for errors.
        names: of all tensors.
        prefix: what the names of the wanted body begin with, for a file of several.

    Raises:
        CheckpointError: low-rank factors lie beside the body's weights.
        UsageError: there are several bodies and ``prefix`` does not say which, or it says one that is not there.
    """
    stored = list(names)
    bodies = [name.removesuffix("wte.weight") for name in stored if EMBEDDING.fullmatch(name)]
    start = _chosen(path, sorted(body.removesuffix(".") for body in bodies), prefix)
    body = f"{start}." if start else ""
    found = {name.removeprefix(body): name for name in stored if name.startswith(body)}
    head = body.removesuffix("transformer.") + LM_HEAD
    beside = [name for name in stored if name.startswith(head.removesuffix("weight"))]
    factor = next((name for name in [*found.values(), *beside] if FACTOR.fullmatch(name)), None)
    if factor is not None:
        raise CheckpointError(
            f"{path} has the low-rank factor '{factor}' beside its weights: what runs is their sum; merge them (PEFT's "
            "merge_and_unload) and save again."
        )
    return {**found, LM_HEAD: head} if head in stored else found


def _chosen(path: Path, bodies: Sequence[str], prefix: str | None) -> str:
    """What the names of the wanted body begin with, of those that there are."""
    if prefix is None and len(bodies) <= 1:
        return bodies[0] if bodies else ""
    wanted = [] if prefix is None else [body for body in bodies if body == prefix]
    if prefix is not None and not wanted:
        wanted = [body for body in bodies if body.startswith(f"{prefix}.")]
    if len(wanted) == 1:
        return wanted[0]
    shown = listed([f"'{body}'" for body in bodies])
    if prefix is None:
        raise UsageError(f"{path} holds {len(bodies)} bodies of GPT-2, {shown}: choose one with --prefix.")
    problem = f"{len(wanted)} bodies" if wanted else "no body"
    raise UsageError(f"{path} has {problem} of GPT-2 under --prefix '{prefix}'; it has {shown or 'none'}.")


def body_of(path: Path, tensors: Mapping[str, StoredTensor], prefix: str | None) -> dict[str, StoredTensor]:
    """The tensors of GPT-2's body, and its LM head if there is one, by the names of :func:`body_names`."""
    return {name: tensors[stored] for name, stored in body_names(path, tensors, prefix).items()}


def check_alone(path: Path, prefix: str | None) -> None:
    """Refuse a prefix for a file of a kind that holds one body, whose tensors have names of their own.

    Raises:
        UsageError: one was given.
    """
    if prefix is not None:
        raise UsageError(f"{path} holds one body; leave out --prefix {prefix}.")


def chosen_body(prefix: str | None) -> list[str]:
    """What a record says of the choice."""
    return [] if prefix is None else [f"the body under '{prefix}' from --prefix"]


def from_linear(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Turn the matrices of torch's ``Linear``, (out, in), into those of GPT-2's ``Conv1D``, (in, out)."""
    return {
        name: tensor.transposed() if name.endswith(LINEAR) and len(tensor.shape) == 2 else tensor
        for name, tensor in tensors.items()
    }


def is_linear(tensors: Mapping[str, StoredTensor]) -> bool:
    """Whether the matrices are those of ``Linear``; attention's, d to 3d features, shows it."""
    shape = tensors["h.0.attn.c_attn.weight"].shape if "h.0.attn.c_attn.weight" in tensors else ()
    return len(shape) == 2 and shape[0] == 3 * shape[1]
