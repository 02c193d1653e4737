"""Quantiles of any number of values, right to a relative error: DDSketch's mapping, stored sparsely, merged exactly.

Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", 2019.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RELATIVE_ERROR = 0.005
GAMMA = 1 + 2 * RELATIVE_ERROR / (1 - RELATIVE_ERROR)
_PER_OCTAVE = math.log(2) / math.log1p(2 * RELATIVE_ERROR / (1 - RELATIVE_ERROR))
# What is no further from 0 counts as 0.
SMALLEST = sys.float_info.min * GAMMA
# Room for so many more buckets is made at a time.
ROOM = 128


def bucket(values: Floats) -> Integers:
    """The number of each value's bucket, which holds what lies in (gamma^(n - 1), gamma^n]; values above 0."""
    numbers = np.log2(values)
    numbers *= _PER_OCTAVE
    return np.ceil(numbers, out=numbers).astype(np.int64)


def middle(number: int) -> float:
    """What stands for a bucket: no value in it is further off than the relative error."""
    return float(2.0 ** (number / _PER_OCTAVE) * (2.0 / (1 + GAMMA)))


class _Store:
    """Counts of one sign's buckets, (cells, buckets), of the buckets from ``low`` on."""

    def __init__(self, cells: int) -> None:
        self.low = 0
        self.counts: Integers = np.zeros((cells, 0), dtype=np.int64)

    def add(self, cells: Integers, numbers: Integers, counts: Integers | int = 1) -> None:
        if numbers.size == 0:
            return
        self._make_room(int(numbers.min()), int(numbers.max()))
        np.add.at(self.counts.reshape(-1), cells * self.counts.shape[1] + (numbers - self.low), counts)

    def _make_room(self, least: int, greatest: int) -> None:
        width = self.counts.shape[1]
        if width and self.low <= least and greatest < self.low + width:
            return
        low = least - ROOM if not width else min(self.low, least - ROOM if least < self.low else self.low)
        end = greatest + 1 + ROOM if not width else max(self.low + width, greatest + 1 + ROOM)
        wider = np.zeros((self.counts.shape[0], end - low), dtype=np.int64)
        wider[:, self.low - low : self.low - low + width] = self.counts
        self.low, self.counts = low, wider

    def sparse(self) -> tuple[Integers, Integers, Integers]:
        """Cells, buckets and counts of what is not 0."""
        cells, places = np.nonzero(self.counts)
        return cells.astype(np.int64), places.astype(np.int64) + self.low, self.counts[cells, places]


class Sketches:
    """One sketch for each of so many cells.

    Args:
        cells: how many.
    """

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self._zeros: Integers = np.zeros(cells, dtype=np.int64)
        self._stores = {1: _Store(cells), -1: _Store(cells)}

    def add(self, values: Floats, cells: Integers) -> None:
        """Take in finite values, each in its cell; both of one shape, without dimensions that are stretched."""
        values, cells = values.reshape(-1), cells.reshape(-1)
        if values.size == 0:
            return
        if values.min() > SMALLEST:
            self._stores[1].add(cells, bucket(values))
            return
        for sign, store in self._stores.items():
            signed = values * sign
            chosen = signed > SMALLEST
            store.add(cells[chosen], bucket(signed[chosen]))
        np.add.at(self._zeros, cells[np.abs(values) <= SMALLEST], 1)

    def merge(self, other: Self) -> None:
        """Take in what other sketches of as many cells have."""
        assert self.cells == other.cells
        self._zeros += other._zeros
        for sign, store in other._stores.items():
            self._stores[sign].add(*store.sparse())

    def quantiles(self, cells: Sequence[int], ranks: Sequence[int]) -> list[float]:
        """The order statistics of these ranks, from 0, of what the cells hold together."""
        below, above = (store.counts[list(cells)].sum(axis=0) for store in (self._stores[-1], self._stores[1]))
        counts = np.concatenate([below[::-1], [self._zeros[list(cells)].sum()], above])
        ends = np.cumsum(counts)
        found = []
        for place in np.searchsorted(ends, ranks, side="right").tolist():
            if place < len(below):
                found.append(-middle(self._stores[-1].low + len(below) - 1 - place))
            elif place == len(below):
                found.append(0.0)
            else:
                found.append(middle(self._stores[1].low + place - len(below) - 1))
        return found

    def state(self) -> dict[str, Any]:
        """All that they hold."""
        stores = {
            name: dict(zip(("cells", "buckets", "counts"), self._stores[sign].sparse(), strict=True))
            for name, sign in (("positive", 1), ("negative", -1))
        }
        return {"cells": self.cells, "zeros": self._zeros.copy(), **stores}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The sketches that had this state."""
        sketches = cls(state["cells"])
        sketches._zeros = np.array(state["zeros"])
        for name, sign in (("positive", 1), ("negative", -1)):
            sketches._stores[sign].add(*(state[name][part] for part in ("cells", "buckets", "counts")))
        return sketches
