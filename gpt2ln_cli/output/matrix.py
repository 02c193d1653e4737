"""A picture of shares: sites downwards, features or writers to the right, each a whole percentage on its colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Steps of the colours on either side of 0, the last for the share that is farthest from it.
STEPS = 5
NOTHING = "\N{MIDDLE DOT}"


@dataclass(frozen=True)
class Cell:
    """One share, as text and as a step of the colours, below 0 for a negative one."""

    text: str
    step: int


@dataclass(frozen=True)
class Matrix:
    """Shares of 1; a table has the same numbers with their digits."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    """A line break is where a name takes another line."""
    values: Sequence[Sequence[float | None]]
    """Of each row; None where there is none."""

    def cells(self) -> Iterator[tuple[str, list[Cell]]]:
        """Each row's name and cells."""
        reach = max((abs(value) for row in self.values for value in row if value is not None), default=0.0) or 1.0
        for name, row in zip(self.rows, self.values, strict=True):
            yield name, [_cell(value, reach) for value in row]


def _cell(value: float | None, reach: float) -> Cell:
    if value is None:
        return Cell("", 0)
    percent = round(100 * value)
    return Cell(str(percent) if percent else NOTHING, round(STEPS * value / reach) if percent else 0)
