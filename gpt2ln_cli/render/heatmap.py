"""One quantity of every token at every LayerNorm as a picture for the terminal: sites downwards, tokens to the right.

Position 0 has columns and a scale of its own: its residual is so much larger than any other's in the middle layers of
GPT-2 that on one scale all other tokens would look alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO, TypeVar

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from gpt2ln_cli.quantities import POSITION
from gpt2ln_cli.record_schema import descriptions
from gpt2ln_cli.records import Row
from gpt2ln_cli.render.colors import VIRIDIS_256, viridis
from gpt2ln_cli.render.grid import grids
from gpt2ln_cli.render.header import prompt_lines, write_header, write_warnings
from gpt2ln_cli.render.layout import GAP, PipeConsole, number, percent, quoted

if TYPE_CHECKING:
    import numpy.typing as npt
    from rich.console import Console

    from gpt2ln_cli.records import Inspection, PromptInfo

    Numbers = npt.NDArray[np.float64]

SHADES = "·░▒▓█"
ASCII_SHADES = ".:-=+*#%@"
NOT_FINITE = "?"
CELL_WIDTHS = (4, 3, 2, 1)
FIRST_WIDTH = 2
BAR_WIDTH = 40
# Token texts are set at multiples of this many columns.
TAB = 14
StepT = TypeVar("StepT", int, str)
Ink = Callable[[float], tuple[str, str]]


def write(record: Inspection, quantity: str, stream: TextIO) -> None:
    """Write the heatmap of one of ``quantities.QUANTITIES``; it adapts to the width and to the terminal's colours.

    Args:
        record: with ``rows``.
        quantity: the field of the rows that is shown.
        stream: a terminal with 256 colours or more gets viridis, everything else shades.
    """
    console = PipeConsole(stream)
    write_header(console, record.model, prompt_lines(record.prompts, bos=record.bos, padding=record.counts.padding))
    write_warnings(console, record.warnings)
    names = [site.name for site in record.sites]
    label_width = max(map(len, [*names, POSITION])) + GAP
    fitted = [_fit(values, console.width - label_width) for values in grids(record, quantity)]
    first = _scale([grid.first for grid in fitted])
    later = _scale([grid.later for grid in fitted])
    ink = _ink(console)
    console.print()
    console.print(Text(f"{quantity} of each token at each LayerNorm", style="bold"))
    for prompt, grid in zip(record.prompts, fitted, strict=True):
        console.print()
        if len(fitted) > 1:
            console.print(Text(f"sequence {prompt.index}: {prompt.length:,} tokens", style="bold cyan"))
        for index, name in enumerate(names):
            line = Text(name.ljust(label_width))
            _paint(line, grid.first[index], grid.first_width, first, ink)
            line.append(" " * GAP if grid.later.size else "")
            _paint(line, grid.later[index], grid.cell_width, later, ink)
            console.print(line)
        console.print(Text(POSITION.ljust(label_width) + _axis(grid), style="dim"))
        if grid.bin_size > 1:
            console.print(Text(_bins(prompt.length - 1, grid)))
        else:
            console.print()
            for line in _tokens(prompt, console.width):
                console.print(line)
    console.print()
    scales = [("position 0", first)]
    if any(grid.later.size for grid in fitted):
        scales.append(("later", later))
    for line in _legend(scales, percent if quantity == "mean_share" else number, ink, console.width):
        console.print(line)
    if any(np.isnan(grid.first).any() or np.isnan(grid.later).any() for grid in fitted):
        console.print(Text(f"{NOT_FINITE} stands where there is no finite number."))
    console.print()
    console.print(Text(f"{quantity}: {descriptions(Row)[quantity]} Each scale is linear; position 0 has its own."))


@dataclass(frozen=True)
class Grid:
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


def _fit(values: Numbers, room: int) -> Grid:
    """Make the cells as wide as the room allows; where even the narrowest are too many, average neighbours."""
    first, later = values[:, :1], values[:, 1:]
    count = later.shape[1]
    for width in CELL_WIDTHS:
        if max(width, FIRST_WIDTH) + GAP + count * width <= room:
            return Grid(first, later, 1, width)
    size = max(1, -(-count // max(1, room - FIRST_WIDTH - GAP)))
    starts = np.arange(0, count, size)
    sizes = np.diff([*starts, count])
    return Grid(first, np.add.reduceat(later, starts, axis=1) / sizes, size, 1)


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


def _scale(arrays: Sequence[Numbers]) -> Scale | None:
    """The common scale of all sequences; None where there is no finite number."""
    finite = np.concatenate([grid[np.isfinite(grid)] for grid in arrays])
    return Scale(float(finite.min()), float(finite.max())) if finite.size else None


def _ink(console: Console) -> Ink:
    """What a cell at a share of its scale is filled with, as (character, style)."""
    system = None if console.no_color else console.color_system
    if system == "truecolor":
        return lambda share: (" ", "on rgb({},{},{})".format(*viridis(share)))
    if system == "256":
        return lambda share: (" ", f"on color({_step(share, VIRIDIS_256)})")
    try:
        SHADES.encode(console.encoding)
    except UnicodeError:
        return lambda share: (_step(share, ASCII_SHADES), "")
    return lambda share: (_step(share, SHADES), "")


def _step(share: float, steps: Sequence[StepT]) -> StepT:
    """The step of equally wide ones in which the share lies."""
    return steps[min(int(share * len(steps)), len(steps) - 1)]


def _paint(line: Text, values: Numbers, width: int, scale: Scale | None, ink: Ink) -> None:
    for value in values:
        character, style = ink(scale.share(value)) if scale and np.isfinite(value) else (NOT_FINITE, "")
        line.append(character * width, style)


def _axis(grid: Grid) -> str:
    """Positions under the left edge of their columns, as many as there is room for; of a bin the first."""
    line = "0".ljust(grid.first_width + GAP)
    begin = len(line)
    columns = grid.later.shape[1]
    last = str(columns * grid.bin_size)
    every = next(step for step in _round_steps() if step * grid.cell_width > len(last))
    for column in range(columns):
        position = 1 + column * grid.bin_size
        place = begin + column * grid.cell_width
        due = position % every == 0 if grid.bin_size == 1 else column % every == 0
        label = str(position)
        if (due or column == 0) and len(line) <= place and place + len(label) <= begin + columns * grid.cell_width:
            line = line.ljust(place) + label + " "
    return line.rstrip()


def _round_steps() -> Iterator[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


def _bins(count: int, grid: Grid) -> str:
    rest = count % grid.bin_size
    last = f" (the last one of {rest})" if rest else ""
    return (
        f"Each column but position 0 is the mean of {grid.bin_size} tokens{last}, from the position below it on; "
        "a wider terminal shows more columns, and --per-token lists every token."
    )


def _tokens(prompt: PromptInfo, width: int) -> Iterator[Text]:
    """The texts of the sequence's tokens by position, as many in a line as fit."""
    digits = len(str(prompt.length - 1))
    texts = [f"id {token}" for token in prompt.token_ids] if prompt.tokens is None else map(quoted, prompt.tokens)
    line = Text()
    for position, text in enumerate(texts):
        entry = Text.assemble((str(position).rjust(digits), "dim"), " ", text)
        start = -(-(cell_len(line.plain) + GAP) // TAB) * TAB if line else 0
        if line and start + cell_len(entry.plain) > width:
            yield line
            line, start = Text(), 0
        line.append(" " * (start - cell_len(line.plain))).append_text(entry)
    yield line


def _legend(
    scales: Sequence[tuple[str, Scale | None]], show: Callable[[float | None], str], ink: Ink, width: int
) -> Iterator[Text]:
    """A bar of colours from the least to the greatest number of each scale."""
    title_width = max(len(title) for title, _ in scales) + GAP
    lows = [show(scale.low) if scale else "" for _, scale in scales]
    low_width = max(map(len, lows))
    number_widths = low_width + max(len(show(scale.high)) if scale else 0 for _, scale in scales)
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
            line.append(" " + show(scale.high))
        yield line
