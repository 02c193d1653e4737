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
# A bucket's end may lie beyond the largest number that there is, its middle does not.
LARGEST_EXPONENT = sys.float_info.max_exp - RELATIVE_ERROR
# Room for so many more buckets is made at a time.
ROOM = 128


def bucket(values: Floats) -> Integers:
    """The number of each value's bucket, which holds what lies in (gamma^(n - 1), gamma^n]; values above 0."""
    numbers = np.log2(values)
    numbers *= _PER_OCTAVE
    return np.ceil(numbers, out=numbers).astype(np.int64)


def middle(number: int) -> float:
    """What stands for a bucket: no value in it is further off than the relative error."""
    return float(2.0 ** min(number / _PER_OCTAVE, LARGEST_EXPONENT) * (2.0 / (1 + GAMMA)))


class Sketches:
    """One sketch for each of so many cells.

    Args:
        cells: how many.
    """

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self._zeros: Integers = np.zeros(cells, dtype=np.int64)
        self._low = 0
        # (2 x cells, buckets), of the buckets from the lowest on: those of values above 0, then those of values below.
        self._counts: Integers = np.zeros((2 * cells, 0), dtype=np.int64)

    def add(self, values: Floats, cells: Integers) -> None:
        """Take in finite values, each in its cell; both of one shape, without dimensions that are stretched."""
        values, cells = values.reshape(-1), cells.reshape(-1)
        if values.size == 0:
            return
        if values.min() > SMALLEST:
            self._count(cells, bucket(values))
            return
        size = np.abs(values)
        if size.min() <= SMALLEST:
            chosen = size > SMALLEST
            np.add.at(self._zeros, cells[~chosen], 1)
            values, size, cells = values[chosen], size[chosen], cells[chosen]
        self._count(cells + (values < 0) * self.cells, bucket(size))

    def _count(self, rows: Integers, buckets: Integers, counts: Integers | int = 1) -> None:
        if buckets.size == 0:
            return
        self._make_room(int(buckets.min()), int(buckets.max()))
        buckets += rows * self._counts.shape[1] - self._low
        np.add.at(self._counts.reshape(-1), buckets, counts)

    def _make_room(self, least: int, greatest: int) -> None:
        width = self._counts.shape[1]
        end = self._low + width
        if width and self._low <= least and greatest < end:
            return
        if not width:
            self._low = end = least
        low = least - ROOM if least < self._low or not width else self._low
        wider = np.zeros((2 * self.cells, max(end, greatest + 1 + ROOM) - low), dtype=np.int64)
        wider[:, self._low - low : self._low - low + width] = self._counts
        self._low, self._counts = low, wider

    def merge(self, other: Self) -> None:
        """Take in what other sketches of as many cells have."""
        assert self.cells == other.cells
        self._zeros += other._zeros
        self._count(*other._sparse())

    def quantiles(self, cells: Sequence[int], ranks: Sequence[int]) -> list[float]:
        """The order statistics of these ranks, from 0, of what the cells hold together."""
        chosen = np.array(cells)
        above, below = (self._counts[chosen + shift].sum(axis=0) for shift in (0, self.cells))
        width = len(above)
        ends = np.cumsum(np.concatenate([below[::-1], [self._zeros[chosen].sum()], above]))
        found = []
        for place in np.searchsorted(ends, ranks, side="right").tolist():
            if place < width:
                found.append(-middle(self._low + width - 1 - place))
            elif place == width:
                found.append(0.0)
            else:
                found.append(middle(self._low + place - width - 1))
        return found

    def _sparse(self) -> tuple[Integers, Integers, Integers]:
        """Rows, buckets and counts of what is not 0."""
        rows, places = np.nonzero(self._counts)
        return rows.astype(np.int64), places.astype(np.int64) + self._low, self._counts[rows, places]

    def state(self) -> dict[str, Any]:
        """All that they hold."""
        rows, buckets, counts = self._sparse()
        return {"cells": self.cells, "zeros": self._zeros.copy(), "rows": rows, "buckets": buckets, "counts": counts}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The sketches that had this state."""
        sketches = cls(state["cells"])
        sketches._zeros = np.array(state["zeros"])
        sketches._count(state["rows"], np.array(state["buckets"]), state["counts"])
        return sketches
