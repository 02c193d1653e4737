"""What the tables are built from: numbers, safe text, and groups of columns packed to the terminal's width."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from gpt2ln_cli.escaping import visible

MISSING = "-"
GAP = 2
WIDE = 100
KEY_WIDTH = 12
HEADING_WIDTH = 24
# A rule under the headings and nothing else; rich's own boxes keep three spaces between columns.
RULE = box.Box("\n".join(["    ", "    ", " ── ", "    ", "    ", "    ", "    ", "    "]))


def number(value: float | None) -> str:
    """Four significant digits; a missing or non-finite number is a dash."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    magnitude = int(f"{value:.3e}".partition("e")[2])  # after rounding: 0.99999 is 1.000
    if not -4 <= magnitude < 7:
        return f"{value:.3e}"
    return f"{value:.{max(0, 3 - magnitude)}f}"


def integer(value: int | None) -> str:
    """Digits in groups of three; a missing number is a dash."""
    return MISSING if value is None else f"{value:,}"


def percent(value: float | None) -> str:
    """A share as a percentage with four significant digits."""
    return MISSING if value is None else f"{number(100 * value)}%"


def quoted(text: str) -> str:
    """A token in quotation marks, so that its spaces show."""
    return f'"{visible(text)}"'


def heading(text: str) -> str:
    """A token or another name of any length as a column's heading: a long one takes several lines."""
    return "\n".join(chop_cells(text, HEADING_WIDTH))


class PipeConsole(Console):
    """A console that leaves a closed pipe to its caller, where rich's own ends the process with code 1."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(file=stream, highlight=False, soft_wrap=False)
        if not self.width:
            # COLUMNS=0 is no width, and here, unlike with rich, as good as unset.
            self.width = shutil.get_terminal_size().columns

    def on_broken_pipe(self) -> None:
        """Pass the error on."""
        raise


@dataclass(frozen=True)
class Group:
    """Columns of numbers that belong together under one title."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def side_by_side(console: Console, key: Group, groups: Sequence[Group]) -> Iterator[RenderableType]:
    """Set groups beside the key column, as many as fit, and repeat the key for the next ones; nothing is cut.

    Args:
        console: whose width counts.
        key: the leftmost column, whose cells take one line each.
        groups: each with as many rows as the key.
    """
    room = console.width - _width(key)
    line: list[Group] = []
    used = 0
    for part in (part for group in groups for part in _fitting(group, room)):
        needed = GAP + _width(part)
        if line and used + needed > room:
            yield _row(key, line)
            line, used = [], 0
        line.append(part)
        used += needed
    yield _row(key, line)


def _fitting(group: Group, room: int) -> Iterator[Group]:
    """The group itself, or halved until each part fits the room."""
    if GAP + _width(group) <= room or len(group.headings) == 1:
        yield group
        return
    half = (len(group.headings) + 1) // 2
    for part in (slice(None, half), slice(half, None)):
        yield from _fitting(Group(group.title, group.headings[part], [row[part] for row in group.rows]), room)


def stacked(console: Console, key: Group, numbers: Group) -> Iterator[Table]:
    """One table where the width allows, else several with the key repeated; only the key's last column may fold.

    Args:
        console: whose width counts.
        key: the leftmost columns, the last of them text of any length.
        numbers: the other columns, with as many rows as the key.
    """
    gap = GAP if console.width >= WIDE else 1
    text_width = min(KEY_WIDTH, _widths(key)[-1])
    room = console.width - sum(width + gap for width in _widths(key)[:-1]) - text_width
    chunks: list[list[int]] = [[]]
    used = 0
    for index, width in enumerate(_widths(numbers)):
        if chunks[-1] and used + gap + width > room:
            chunks.append([])
            used = 0
        chunks[-1].append(index)
        used += gap + width
    for chunk in chunks:
        headings = [numbers.headings[index] for index in chunk]
        table = plain_table(*key.headings, *headings, left=len(key.headings), gap=gap)
        for names, values in zip(key.rows, numbers.rows, strict=True):
            table.add_row(*map(Text, names), *(Text(values[index]) for index in chunk))
        yield table


def _widths(group: Group) -> list[int]:
    columns = zip(*group.rows, strict=True)
    return [
        max(cell_len(line) for line in [*heading.split("\n"), *cells])
        for heading, cells in zip(group.headings, columns, strict=True)
    ]


def plain_table(*headings: str, left: int = 1, gap: int = GAP) -> Table:
    """An empty table with a rule under its headings.

    Args:
        headings: one for each column.
        left: how many columns, from the first, are aligned left; the others hold numbers, aligned right.
        gap: spaces between columns.
    """
    table = Table(box=RULE, padding=(0, gap - 1, 0, 0), show_edge=False, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        # A number is never broken over two lines; a name may be.
        is_number = index >= left
        table.add_column(
            heading,
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="ellipsis" if is_number else "fold",
            vertical="bottom",
        )
    return table


def _row(key: Group, groups: Sequence[Group]) -> Table:
    grid = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    # Rich would measure every cell again at each level of nesting; the widths are known.
    for group in (key, *groups):
        grid.add_column(width=_width(group))
    # The rows must stay level.
    lines = max(heading.count("\n") for group in (key, *groups) for heading in group.headings) + 1
    grid.add_row(_titled_table(key, lines, left=len(key.headings)), *(_titled_table(group, lines) for group in groups))
    return grid


def _titled_table(group: Group, lines: int, *, left: int = 0) -> Table:
    first, *others = group.headings
    table = plain_table("\n" * (lines - 1 - first.count("\n")) + first, *others, left=left)
    for column, width in zip(table.columns, _widths(group), strict=True):
        column.width = width
    table.min_width = _width(group)  # a title longer than its columns would take two lines
    # An empty title would take no line.
    table.title = Text(group.title or " ", style="bold cyan")
    table.title_justify = "left"
    for row in group.rows:
        table.add_row(*map(Text, row))
    return table


def _width(group: Group) -> int:
    widths = _widths(group)
    return max(cell_len(group.title), sum(widths) + GAP * (len(widths) - 1))
