"""What the tables are built from: numbers, safe text, and groups of columns packed to the terminal's width."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

MISSING = "-"
GAP = 3
# rich's SIMPLE_HEAD with the one space between columns as its only separation.
DENSE = box.Box("\n".join(["    ", "    ", " ── ", "    ", "    ", "    ", "    ", "    "]))


def number(value: float | None) -> str:
    """Four significant digits; a missing or non-finite number is a dash."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude < 7:
        return f"{value:.3e}"
    return f"{value:.{max(0, 3 - magnitude)}f}"


def integer(value: int | None) -> str:
    """Digits in groups of three; a missing number is a dash."""
    return MISSING if value is None else f"{value:,}"


def percent(value: float | None) -> str:
    """A share as a percentage with four significant digits."""
    return MISSING if value is None else f"{number(100 * value)}%"


def visible(text: str) -> str:
    """Text from a checkpoint or a prompt, with everything that is not printable escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def quoted(text: str) -> Text:
    """A token in quotation marks, so that its spaces show."""
    return Text(f'"{visible(text)}"')


class PipeConsole(Console):
    """A console that leaves a closed pipe to its caller, where rich's own ends the process with code 1."""

    def on_broken_pipe(self) -> None:
        """Pass the error on."""
        raise


@dataclass(frozen=True)
class Group:
    """Columns of numbers that belong together under one title."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def packed(console: Console, key: Group, groups: Sequence[Group]) -> Iterator[RenderableType]:
    """Set the groups side by side, as many as fit, each time beside the key column; nothing is cut.

    Args:
        console: whose width counts.
        key: the leftmost column, repeated.
        groups: each with as many rows as the key.
    """
    key_table = _table(key, justify="left")
    room = console.width - console.measure(key_table).maximum
    line: list[Table] = []
    used = 0
    for group in groups:
        table = _table(group, justify="right")
        needed = console.measure(table).maximum + GAP
        if line and used + needed > room:
            yield _side_by_side([key_table, *line])
            line, used = [], 0
        line.append(table)
        used += needed
    yield _side_by_side([key_table, *line])


def plain_table(*headings: str, left: int = 1, dense: bool = False) -> Table:
    """An empty table with a rule under its headings.

    Args:
        headings: one for each column.
        left: how many columns, from the first, are aligned left; the others hold numbers, aligned right.
        dense: one space between columns instead of three.
    """
    style = {"box": DENSE, "padding": 0} if dense else {"box": box.SIMPLE_HEAD}
    table = Table(show_edge=False, pad_edge=False, header_style="bold", **style)  # type: ignore[arg-type]
    for index, heading in enumerate(headings):
        # A number is never broken over two lines; a name may be.
        is_number = index >= left
        table.add_column(
            heading,
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
            vertical="bottom",
        )
    return table


def _table(group: Group, *, justify: str) -> Table:
    table = plain_table(*group.headings, left=len(group.headings) if justify == "left" else 0)
    table.title = Text(group.title or " ")  # an empty title would take no line, and the rows must stay level
    table.title_style = "bold cyan"
    table.title_justify = "left"
    for column in table.columns:
        column.no_wrap = True  # the key too: rows of neighbouring tables stay level
    for row in group.rows:
        table.add_row(*map(Text, row))
    return table


def _side_by_side(tables: Sequence[Table]) -> Table:
    grid = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    grid.add_row(*tables)
    return grid
