"""Tensors in a checkpoint file: shape and type are known at once, values are read when they are asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Array = NDArray[Any]

FLOATS = ("float64", "float32", "float16", "bfloat16")
LINEAR = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
LM_HEAD = "lm_head.weight"
EMBEDDING = re.compile(r"(.*\.)?wte\.weight")


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
        )

    def reshaped(self, *shape: int) -> StoredTensor:
        """The same values in another shape."""
        return StoredTensor(
            shape, self.dtype, lambda: self.array().reshape(shape), lambda: self.tensor().reshape(shape)
        )


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
    return StoredTensor(
        tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), lambda: as_array(tensor), lambda: tensor
    )


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


def body_names(names: Iterable[str]) -> dict[str, str]:
    """The stored name of each tensor of GPT-2's body, by the name that ``transformers.GPT2Model`` gives it.

    Where the body sits is told by its embedding: ``transformer.wte.weight`` in a model with a head,
    ``_orig_mod.transformer.wte.weight`` from torch.compile, ``wte.weight`` in OpenAI's own files. Of what lies
    beside it only an LM head is kept, as ``lm_head.weight``.
    """
    stored = list(names)
    prefixes = sorted(name.removesuffix("wte.weight") for name in stored if EMBEDDING.fullmatch(name))
    prefix = min(prefixes, key=len, default="")
    found = {name.removeprefix(prefix): name for name in stored if name.startswith(prefix)}
    head = prefix.removesuffix("transformer.") + LM_HEAD
    return {**found, LM_HEAD: head} if head in stored else found


def body_of(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors of GPT-2's body, and its LM head if there is one, by the names of :func:`body_names`."""
    return {name: tensors[stored] for name, stored in body_names(tensors).items()}


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
