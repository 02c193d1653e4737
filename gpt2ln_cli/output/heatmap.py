"""A grid as a picture for the terminal: one quantity, sites downwards, tokens to the right.

Position 0 has columns and a scale of its own: its residual is so much larger than any other's in the middle layers of
GPT-2 that on one scale all other tokens would look alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from gpt2ln_cli.output.blocks import Column
from gpt2ln_cli.output.colors import DIVERGING, DIVERGING_256, VIRIDIS, VIRIDIS_256, colored
from gpt2ln_cli.output.text import cell, isolated, number
from gpt2ln_cli.quantities import POSITION

if TYPE_CHECKING:
    import numpy.typing as npt
    from rich.console import Console, RenderableType

    from gpt2ln_cli.output.blocks import Grid, Strip

    Numbers = npt.NDArray[np.float64]

GAP = 2
SHADES = "·░▒▓█"
ASCII_SHADES = ".:-=+*#%@"
# For what has a 0 in its middle: pointing down below it, up above it.
SIGNED_SHADES = "▼▽·△▲"
ASCII_SIGNED_SHADES = "=-.+#"
NOT_FINITE = "?"
CELL_WIDTHS = (4, 3, 2, 1)
# Characters between sequences that share lines.
BETWEEN = 4
FIRST_WIDTH = 2
BAR_WIDTH = 40
# Token texts are set at multiples of this many columns.
TAB = 14
StepT = TypeVar("StepT", int, str)
Ink = Callable[[float], tuple[str, str]]


def lines(console: Console, grid: Grid) -> Iterator[RenderableType]:
    """The grid's chosen quantity, fitted to the console's width and colours.

    Args:
        console: one with 256 colours or more gets colours, everything else shades; quantities that may be negative
            have a scale with 0 in its middle.
        grid: what to draw.
    """
    label_width = max(map(len, [*grid.rows, POSITION])) + GAP
    fitted = [_fit(values, console.width - label_width) for values in grid.values(grid.chosen, None)]
    signed = grid.chosen in grid.signed
    first = _scale([drawn.first for drawn in fitted], signed=signed)
    later = _scale([drawn.later for drawn in fitted], signed=signed)
    ink = _ink(console, signed=signed)
    yield Text(grid.title, style="bold")
    widths = [max(drawn.width, len(strip.title)) for drawn, strip in zip(fitted, grid.strips, strict=True)]
    for group in _groups(fitted, widths, console.width - label_width):
        strips = [(grid.strips[place], fitted[place], widths[place]) for place in group]
        yield ""
        if len(fitted) > 1:
            titles = (strip.title.ljust(width) for strip, _, width in strips)
            indent = label_width if len(group) > 1 else 0
            yield Text(" " * indent + (" " * BETWEEN).join(titles).rstrip(), style="bold cyan")
        for index, name in enumerate(grid.rows):
            line = Text(name.ljust(label_width))
            for strip, drawn, width in strips:
                line.append(" " * BETWEEN if len(line) > label_width else "")
                _paint(line, drawn.first[index], drawn.first_width, first, ink)
                line.append(" " * GAP if drawn.later.size else "")
                _paint(line, drawn.later[index], drawn.cell_width, later, ink)
                line.append(" " * (width - drawn.width) if strip is not strips[-1][0] else "")
            yield line
        axes = (_axis(drawn).ljust(width) for _, drawn, width in strips)
        yield Text(POSITION.ljust(label_width) + (" " * BETWEEN).join(axes).rstrip(), style="dim")
        for strip, drawn, _ in strips:
            if drawn.bin_size > 1:
                yield Text(_bins(len(strip.ids) - 1, drawn))
            else:
                yield Text(strip.title, style="cyan") if len(group) > 1 else ""
                yield from _tokens(strip, console.width)
    yield ""
    scales = [("first", first)]
    if any(drawn.later.size for drawn in fitted):
        scales.append(("rest", later))
    yield from _legend(scales, grid.quantity, ink, console.width)
    if any(np.isnan(drawn.first).any() or np.isnan(drawn.later).any() for drawn in fitted):
        yield Text(f"{NOT_FINITE} stands where there is no finite number.")
    yield ""
    middle = ", 0 in its middle" if signed else ""
    yield Text(
        f"{grid.chosen}: {grid.quantity.description} Each scale is linear{middle}; position 0, the first, has its own."
    )


@dataclass(frozen=True)
class Drawn:
    """The numbers of one sequence as they are drawn; NaN where a number is not finite.

    Attributes:
        first: (sites, 1): position 0.
        later: (sites, columns): the later positions, or means of ``bin_size`` of them; no column where there are none.
        bin_size: positions in a column; the last may hold fewer.
        cell_width: characters of a column.
    """

    first: Numbers
    later: Numbers
    bin_size: int
    cell_width: int

    @property
    def first_width(self) -> int:
        """Characters of position 0's column."""
        return max(self.cell_width, FIRST_WIDTH)

    @property
    def width(self) -> int:
        """Characters of a line."""
        return self.first_width + (GAP + self.later.shape[1] * self.cell_width if self.later.size else 0)


def _groups(fitted: Sequence[Drawn], widths: Sequence[int], room: int) -> list[list[int]]:
    """Which sequences, by number, share lines: neighbours whose widest cells have room beside each other."""
    groups: list[list[int]] = []
    used = 0
    for place, (drawn, width) in enumerate(zip(fitted, widths, strict=True)):
        widest = drawn.cell_width == fitted[place - 1].cell_width == CELL_WIDTHS[0]
        if groups and widest and used + BETWEEN + width <= room:
            groups[-1].append(place)
            used += BETWEEN + width
        else:
            groups.append([place])
            used = width
    return groups


def _fit(values: Numbers, room: int) -> Drawn:
    """Make the cells as wide as the room allows; where even the narrowest are too many, average neighbours."""
    first, later = values[:, :1], values[:, 1:]
    count = later.shape[1]
    for width in CELL_WIDTHS:
        if max(width, FIRST_WIDTH) + GAP + count * width <= room:
            return Drawn(first, later, 1, width)
    size = max(1, -(-count // max(1, room - FIRST_WIDTH - GAP)))
    starts = np.arange(0, count, size)
    sizes = np.diff([*starts, count])
    return Drawn(first, np.add.reduceat(later, starts, axis=1) / sizes, size, 1)


@dataclass(frozen=True)
class Scale:
    """From the least to the greatest of the numbers shown."""

    low: float
    high: float

    @property
    def flat(self) -> bool:
        """Whether the numbers are alike in all digits that are shown: what differs is rounding, and has no colour."""
        return number(self.low) == number(self.high)

    def share(self, value: float) -> float:
        """Where on the scale the value lies, 0 to 1."""
        return 0.0 if self.flat else (value - self.low) / (self.high - self.low)


def _scale(arrays: Sequence[Numbers], *, signed: bool) -> Scale | None:
    """The common scale of all sequences, as far below 0 as above it if signed; None where no number is finite."""
    finite = np.concatenate([grid[np.isfinite(grid)] for grid in arrays])
    if signed and finite.size:
        reach = float(np.abs(finite).max())
        return Scale(-reach, reach)
    return Scale(float(finite.min()), float(finite.max())) if finite.size else None


def _ink(console: Console, *, signed: bool) -> Ink:
    """What a cell at a share of its scale is filled with, as (character, style)."""
    system = None if console.no_color else console.color_system
    if system == "truecolor":
        colors = DIVERGING if signed else VIRIDIS
        return lambda share: (" ", "on rgb({},{},{})".format(*colored(share, colors)))
    if system == "256":
        numbers = DIVERGING_256 if signed else VIRIDIS_256
        return lambda share: (" ", f"on color({_step(share, numbers)})")
    shades = SIGNED_SHADES if signed else SHADES
    try:
        shades.encode(console.encoding)
    except UnicodeError:
        shades = ASCII_SIGNED_SHADES if signed else ASCII_SHADES
    return lambda share: (_step(share, shades), "")


def _step(share: float, steps: Sequence[StepT]) -> StepT:
    """The step of equally wide ones in which the share lies."""
    return steps[min(int(share * len(steps)), len(steps) - 1)]


def _paint(line: Text, values: Numbers, width: int, scale: Scale | None, ink: Ink) -> None:
    for value in values:
        character, style = ink(scale.share(value)) if scale and np.isfinite(value) else (NOT_FINITE, "")
        line.append(character * width, style)


def _axis(drawn: Drawn) -> str:
    """Positions under the left edge of their columns, as many as there is room for; of a bin the first."""
    line = "0".ljust(drawn.first_width + GAP)
    begin = len(line)
    columns = drawn.later.shape[1]
    last = str(columns * drawn.bin_size)
    every = next(step for step in _round_steps() if step * drawn.cell_width > len(last))
    for column in range(columns):
        position = 1 + column * drawn.bin_size
        place = begin + column * drawn.cell_width
        due = position % every == 0 if drawn.bin_size == 1 else column % every == 0
        label = str(position)
        if (due or column == 0) and len(line) <= place and place + len(label) <= begin + columns * drawn.cell_width:
            line = line.ljust(place) + label + " "
    return line.rstrip()


def _round_steps() -> Iterator[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


def _bins(count: int, drawn: Drawn) -> str:
    rest = count % drawn.bin_size
    last = f" (the last one of {rest})" if rest else ""
    return (
        f"Each column but position 0 is the mean of {drawn.bin_size} tokens{last}, from the position below it on; "
        "a wider terminal shows more columns, and --per-token lists every token."
    )


def _tokens(strip: Strip, width: int) -> Iterator[Text]:
    """The sequence's tokens by position, as many in a line as fit."""
    digits = len(str(len(strip.ids) - 1))
    line = Text()
    for position, text in enumerate(strip.columns):
        entry = Text.assemble((str(position).rjust(digits), "dim"), " ", isolated(text))
        start = -(-(cell_len(line.plain) + GAP) // TAB) * TAB if line else 0
        if line and start + cell_len(entry.plain) > width:
            yield line
            line, start = Text(), 0
        line.append(" " * (start - cell_len(line.plain))).append_text(entry)
    yield line


def _legend(scales: Sequence[tuple[str, Scale | None]], quantity: Column, ink: Ink, width: int) -> Iterator[Text]:
    """A bar of colours from the least to the greatest number of each scale."""
    title_width = max(len(title) for title, _ in scales) + GAP
    lows = [cell(quantity, scale.low) if scale else "" for _, scale in scales]
    low_width = max(map(len, lows))
    number_widths = low_width + max(len(cell(quantity, scale.high)) if scale else 0 for _, scale in scales)
    bar = max(len(ASCII_SHADES), min(BAR_WIDTH, width - title_width - number_widths - 2))
    for (title, scale), low in zip(scales, lows, strict=True):
        line = Text(title.ljust(title_width))
        if scale is None:
            line.append("no finite number")
        elif scale.flat:
            line.append(low.rjust(low_width) + " ")
            _paint(line, np.array([scale.low]), FIRST_WIDTH, scale, ink)
            line.append(" everywhere, to four digits")
        else:
            line.append(low.rjust(low_width) + " ")
            for step in range(bar):
                character, style = ink(step / (bar - 1))
                line.append(character, style)
            line.append(" " + cell(quantity, scale.high))
        yield line
