"""Blocks of numbers that are drawn, and in no table: box plots, and vectors as bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """One plot of ``Boxes``."""

    title: str
    start: float
    """Where a line is drawn to compare with."""
    boxes: Sequence[Sequence[float | None] | None]
    """Of each label least, lower quartile, median, upper quartile and greatest; None where there are none."""


@dataclass(frozen=True)
class Boxes:
    """Box plots beside each other, for a page alone: a table next to them has the numbers."""

    title: str
    labels: Sequence[str]
    panels: Sequence[Panel]
    line: str
    """What the panels' lines stand for."""


@dataclass(frozen=True)
class Lane:
    """One vector of a band."""

    values: Sequence[float | None]
    """By feature; None where it is not finite."""
    note: str = ""
    """Its mean, norm and the like, in words."""


@dataclass(frozen=True)
class Band:
    """A vector of each thing that is set side by side, on one scale."""

    title: str
    lanes: Sequence[Lane]
    """As many as ``Bars`` has names."""
    reach: float
    """What the longest bar that could be drawn, up or down, stands for."""


@dataclass(frozen=True)
class Bars:
    """Vectors of the same features: what they are of from left to right, their stages from top to bottom."""

    title: str
    names: Sequence[str]
    bands: Sequence[Band]

    @property
    def features(self) -> int:
        """How many a vector has."""
        return len(self.bands[0].lanes[0].values)


@dataclass(frozen=True)
class Vectors:
    """One token through one LayerNorm, as a cell of a grid has it; None is a number that is not finite."""

    row: int
    """Of the grid: which site."""
    column: int
    """Of all strips together: which token."""
    x: Sequence[float | None]
    xhat: Sequence[float | None]
    y: Sequence[float | None]
