"""A view as text for a terminal: it adapts to the width, nothing is cut, and colours go to a terminal only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, TextIO

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from gpt2ln_cli.output import blocks
from gpt2ln_cli.output.layout import Group, Sheet, sheets
from gpt2ln_cli.output.text import visible

if TYPE_CHECKING:
    from gpt2ln_cli.output.blocks import Block, Tone, View

GAP = 2
WIDE = 100
KEY_WIDTH = 12
HEADING_WIDTH = 24
# A rule under the headings and nothing else; rich's own boxes keep three spaces between columns.
RULE = box.Box("\n".join(["    ", "    ", " ── ", "    ", "    ", "    ", "    ", "    "]))
STYLES: dict[Tone, str] = {
    "plain": "",
    "note": "",
    "strong": "bold",
    "warning": "bold yellow",
    "good": "green",
    "bad": "bold red",
    "unsure": "yellow",
}


class PipeConsole(Console):
    """A console that leaves a closed pipe to its caller, where rich's own ends the process with code 1."""

    def __init__(self, stream: TextIO) -> None:
        # Without colours there is no code at all, no bold either.
        system: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
        super().__init__(file=stream, highlight=False, soft_wrap=False, color_system=system)
        if not self.width:
            # COLUMNS=0 is no width, and here, unlike with rich, as good as unset.
            self.width = shutil.get_terminal_size().columns

    def on_broken_pipe(self) -> None:
        """Pass the error on."""
        raise


def write(view: View, stream: TextIO, *, everything: bool = False) -> None:
    """Write the view's blocks.

    Args:
        view: what to show.
        stream: where to.
        everything: whether the columns that are for data alone are shown, too.
    """
    console = PipeConsole(stream)
    before: Block | None = None
    for block in view.blocks:
        if isinstance(block, blocks.Quotes | blocks.Boxes):
            continue
        # Paragraphs follow one another as the sentences of one text.
        if before is not None and not (isinstance(before, blocks.Paragraph) and isinstance(block, blocks.Paragraph)):
            console.print()
        for line in _rendered(console, block, everything=everything):
            console.print(line)
        before = block


def _rendered(console: Console, block: Block, *, everything: bool) -> Iterator[RenderableType]:
    if isinstance(block, blocks.Heading):
        yield Text(visible(block.text), style="bold" if block.level == 2 else "bold cyan")
    elif isinstance(block, blocks.Paragraph):
        yield Text(visible(block.text), style=STYLES[block.tone])
    elif isinstance(block, blocks.Facts):
        yield _facts(block)
    elif isinstance(block, blocks.Code):
        for line in block.text.split("\n"):
            yield Text.assemble(block.lead, (visible(line), "bold"))
    elif isinstance(block, blocks.Table):
        for number, piece in enumerate(_table(console, block, everything=everything)):
            if number:
                yield ""
            yield piece
    elif isinstance(block, blocks.Grid):
        from gpt2ln_cli.output import heatmap

        yield from heatmap.lines(console, block)


def _facts(block: blocks.Facts) -> RenderableType:
    marked = any(fact.mark for fact in block.facts)
    grid = RichTable.grid(padding=(0, GAP, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    if marked:
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for fact in block.facts:
        mark = [Text(fact.mark, style=STYLES[fact.tone])] if marked else []
        grid.add_row(Text(visible(fact.name)), *mark, Text(visible(fact.value)))
    return grid


def _table(console: Console, table: blocks.Table, *, everything: bool) -> Iterator[RenderableType]:
    for sheet in sheets(table, everything=everything):
        if sheet.title:
            yield Text(visible(sheet.title), style="bold")
        room = console.width - _width(_headed(sheet.keys)) - GAP
        titled = any(group.title for group in sheet.groups)
        fits = all(width <= room for group in sheet.groups for width in _widths(_headed(group)))
        yield from (_side_by_side if titled and fits else _stacked)(console, sheet)


def _side_by_side(console: Console, sheet: Sheet) -> Iterator[RenderableType]:
    """Set groups beside the key columns, as many as fit, and repeat the keys for the next ones; nothing is cut."""
    keys = _headed(sheet.keys)
    room = console.width - _width(keys)
    line: list[Group] = []
    used = 0
    for part in (part for group in sheet.groups for part in _fitting(_headed(group), room)):
        needed = GAP + _width(part)
        if line and used + needed > room:
            yield _row(keys, line, sheet.stressed)
            line, used = [], 0
        line.append(part)
        used += needed
    yield _row(keys, line, sheet.stressed)


def _headed(group: Group) -> Group:
    """A heading of any length, such as a token's, takes several lines."""
    return Group(group.title, ["\n".join(chop_cells(text, HEADING_WIDTH)) for text in group.headings], group.rows)


def _fitting(group: Group, room: int) -> Iterator[Group]:
    """The group itself, or halved until each part fits the room."""
    if GAP + _width(group) <= room or len(group.headings) == 1:
        yield group
        return
    half = (len(group.headings) + 1) // 2
    for part in (slice(None, half), slice(half, None)):
        yield from _fitting(Group(group.title, group.headings[part], [row[part] for row in group.rows]), room)


def _stacked(console: Console, sheet: Sheet) -> Iterator[RenderableType]:
    """One table where the width allows, else several with the keys repeated; only the last key may fold."""
    keys = _headed(sheet.keys)
    numbers = Group("", [], [[] for _ in keys.rows])
    for group in sheet.groups:
        headings = [*numbers.headings, *_headed(group).headings]
        numbers = Group("", headings, [[*a, *b] for a, b in zip(numbers.rows, group.rows, strict=True)])
    widths = [*_widths(keys), *_widths(numbers)]
    gap = GAP if console.width >= min(WIDE, sum(widths) + GAP * (len(widths) - 1)) else 1
    room = console.width - sum(width + gap for width in _widths(keys)[:-1]) - min(KEY_WIDTH, _widths(keys)[-1])
    chunks: list[list[int]] = [[]]
    used = 0
    for index, width in enumerate(_widths(numbers)):
        if chunks[-1] and used + gap + width > room:
            chunks.append([])
            used = 0
        chunks[-1].append(index)
        used += gap + width
    for chunk in chunks:
        # No number is as wide as that; a text is.
        folds = len(chunk) == 1 and _widths(numbers)[chunk[0]] > room - gap
        left = len(keys.headings) + folds
        table = _plain(*keys.headings, *(numbers.headings[index] for index in chunk), left=left, gap=gap)
        for names, values, stressed in zip(keys.rows, numbers.rows, sheet.stressed, strict=True):
            table.add_row(
                *map(Text, names), *(Text(values[index]) for index in chunk), style="bold" if stressed else ""
            )
        yield table


def _widths(group: Group) -> list[int]:
    return [
        max(cell_len(line) for line in [*heading.split("\n"), *(row[index] for row in group.rows)])
        for index, heading in enumerate(group.headings)
    ]


def _width(group: Group) -> int:
    widths = _widths(group)
    return max(cell_len(group.title), sum(widths) + GAP * (len(widths) - 1))


def _plain(*headings: str, left: int, gap: int = GAP) -> RichTable:
    """An empty table with a rule under its headings; columns from ``left`` on hold numbers, aligned right."""
    table = RichTable(box=RULE, padding=(0, gap - 1, 0, 0), show_edge=False, pad_edge=False, header_style="bold")
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


def _row(keys: Group, groups: Sequence[Group], stressed: Sequence[bool]) -> RichTable:
    grid = RichTable.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    # Rich would measure every cell again at each level of nesting; the widths are known.
    for group in (keys, *groups):
        grid.add_column(width=_width(group))
    # The rows must stay level.
    lines = max(heading.count("\n") for group in (keys, *groups) for heading in group.headings) + 1
    grid.add_row(
        _titled(keys, lines, stressed, left=len(keys.headings)), *(_titled(group, lines, stressed) for group in groups)
    )
    return grid


def _titled(group: Group, lines: int, stressed: Sequence[bool], *, left: int = 0) -> RichTable:
    first, *others = group.headings
    table = _plain("\n" * (lines - 1 - first.count("\n")) + first, *others, left=left)
    for column, width in zip(table.columns, _widths(group), strict=True):
        column.width = width
    table.min_width = _width(group)  # a title longer than its columns would take two lines
    # An empty title would take no line.
    table.title = Text(group.title or " ", style="bold cyan")
    table.title_justify = "left"
    for row, stress in zip(group.rows, stressed, strict=True):
        table.add_row(*map(Text, row), style="bold" if stress else "")
    return table
