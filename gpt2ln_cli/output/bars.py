"""Vectors as small bars, a bar a feature, for where there are only characters.

A bar grows in steps of 1/8, 1/2 and all of a line, since below the line of 0 characters know no others: so that what is
as far below as above looks alike.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.output.text import number, visible

if TYPE_CHECKING:
    from gpt2ln_cli.output.pictures import Bars

GAP = 2
# Lines above and below that of 0.
HEIGHT = 2
# Characters that stand beside each other at least; where there are fewer, one vector follows another.
NARROWEST = 24
# From how much of a line on it has which character: half way between the steps.
STEPS = (1 / 16, 5 / 16, 3 / 4)
ABOVE, BELOW = " ▁▄█", " ▔▀█"
ASCII_ABOVE, ASCII_BELOW = " .o#", " '\"#"
NOT_FINITE = "?"


def farthest(vectors: Sequence[Sequence[float | None]]) -> float:
    """The reach of a band that shows all of them: their greatest absolute value, or 1 where all is 0."""
    return max((abs(value) for vector in vectors for value in vector if value is not None), default=0.0) or 1.0


def lines(bars: Bars, width: int, *, ascii_only: bool = False) -> Iterator[str]:
    """The bars as text of at most ``width`` columns, under its title.

    Args:
        bars: what to draw.
        width: columns of the terminal; where the features are more, a column is the one of its neighbours that lies
            farthest from 0.
        ascii_only: whether nothing but ASCII can be shown.
    """
    count = len(bars.names)
    beside = (width - GAP * (count - 1)) // count
    groups = [range(count)] if beside >= NARROWEST else [range(place, place + 1) for place in range(count)]
    room = beside if len(groups) == 1 else width
    size = math.ceil(bars.features / room)
    yield bars.title
    for group in groups:
        yield ""
        yield from _beside([_wrapped(bars.names[place], room) for place in group], room)
        for band in bars.bands:
            lanes = [band.lanes[place] for place in group]
            yield ""
            yield from textwrap.wrap(f"{band.title} (a full bar: {number(band.reach)})", width)
            yield from _beside([_wrapped(lane.note, room) for lane in lanes], room)
            yield from _beside([drawn(lane.values, band.reach, size, ascii_only=ascii_only) for lane in lanes], room)
    if size > 1:
        yield ""
        yield from textwrap.wrap(f"Each bar is the feature farthest from 0 of {size} neighbouring ones.", width)


def drawn(values: Sequence[float | None], reach: float, size: int = 1, *, ascii_only: bool = False) -> list[str]:
    """A vector in lines of characters, ``HEIGHT`` above 0 and as many below it; what is not finite is a ``?``.

    Args:
        values: by feature.
        reach: what the longest bar stands for.
        size: features of a column, which shows the one farthest from 0.
        ascii_only: whether nothing but ASCII can be shown.
    """
    above, below = (ASCII_ABOVE, ASCII_BELOW) if ascii_only else (ABOVE, BELOW)
    shown = [_farthest(values[start : start + size]) for start in range(0, len(values), size)]
    upper = ["".join(_character(value, reach, line, above) for value in shown) for line in range(HEIGHT)]
    lower = [
        "".join(" " if value is None else _character(-value, reach, line, below) for value in shown)
        for line in range(HEIGHT)
    ]
    return [*reversed(upper), *lower]


def _farthest(values: Sequence[float | None]) -> float | None:
    return max(values, key=lambda value: math.inf if value is None else abs(value))


def _character(value: float | None, reach: float, line: int, steps: str) -> str:
    """What a bar shows at a line, counted from that of 0; the least step stands for what is hardly there, too."""
    if value is None:
        return NOT_FINITE if line == 0 else " "
    if value < 0 or (value == 0 and steps in (BELOW, ASCII_BELOW)):
        return " "
    filled = HEIGHT * value / reach - line
    step = sum(filled >= least for least in STEPS)
    return steps[max(step, 1) if line == 0 else step]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(visible(text), width)


def _beside(columns: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Columns of text beside each other, each filled up to the width."""
    from rich.cells import cell_len

    for row in range(max(map(len, columns))):
        cells = [column[row] if row < len(column) else "" for column in columns]
        yield (" " * GAP).join(cell + " " * (width - cell_len(cell)) for cell in cells).rstrip()
