"""Matrices that are made when a pass comes to them, where making them takes memory.

A matrix that is stored as it is multiplied with is mapped: pages of its file, of which the system keeps what it has
room for. One that is converted, transposed, dequantized or moved to a device takes memory of its own, and matrices are
nearly all of a model. So a body has these *deferred*: each is made when a pass comes to it, so that a run up to layer N
makes no more than these layers, and is kept for the next pass, or dropped where the memory does not take all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from transformers import GPT2Model


@dataclass
class Source:
    """What a deferred matrix is made of."""

    make: Callable[[], Tensor]
    nbytes: int
    """What it takes."""
    keep: bool = False
    """Whether the next one that is made is kept."""
    making: threading.Lock = field(default_factory=threading.Lock)


class Deferred(Conv1D):
    """GPT-2's ``Conv1D`` with a matrix that is made when it is asked for; once one is kept, this is a plain one."""

    source: Source

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The matrix, (in, out)."""
        source: Source | None = self.__dict__.get("source")
        # Another thread may have kept it since, or keep it now: then this is a plain one, which has no such method.
        return Deferred.settle(self) if source is None or source.keep else _made(source)

    def settle(self) -> Tensor:
        """Make the matrix and keep it: from now on this is a ``Conv1D`` like any other."""
        source: Source | None = self.__dict__.get("source")
        if source is not None:
            with source.making:
                if "source" in self.__dict__:
                    # Before the bias, as it was; the class hides it until it is another one.
                    kept = nn.Parameter(_made(source), requires_grad=False)
                    self.__dict__["_parameters"] = {"weight": kept, **self._parameters}
                    self.__class__ = Conv1D  # type: ignore[assignment]
                    del self.__dict__["source"]
        return self._parameters["weight"]  # type: ignore[return-value]


def _made(source: Source) -> Tensor:
    # Whatever the caller computes in: it serves all.
    with torch.inference_mode(False), torch.no_grad():
        return source.make()


def defer(module: Conv1D, make: Callable[[], Tensor], itemsize: int) -> None:
    """Have a module's matrix made when it is asked for.

    Args:
        module: it, whose own matrix goes.
        make: makes it; called each time, until one is kept.
        itemsize: bytes of one of its numbers.
    """
    del module._parameters["weight"]
    module.__dict__["source"] = Source(make, module.nx * module.nf * itemsize)
    module.__class__ = Deferred


def deferred(body: nn.Module) -> dict[Deferred, Source]:
    """Those of a body that were not made, or not kept, with what they are made of."""
    found = {module: module.__dict__.get("source") for module in body.modules() if isinstance(module, Deferred)}
    # Another thread may have kept one meanwhile.
    return {module: source for module, source in found.items() if source is not None}


def tensors(body: GPT2Model) -> Iterator[tuple[str, Tensor]]:
    """All that the body computes with, by name and in the order of the names, each made when it is its turn."""
    missing = (f"{name}.weight" for name, module in body.named_modules() if isinstance(module, Deferred))
    for name in sorted([*body.state_dict(), *missing]):
        yield name, attrgetter(name)(body)
