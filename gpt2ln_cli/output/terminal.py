"""A view as text for a terminal: it adapts to the width, nothing is cut, and colours go to a terminal only."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from gpt2ln_cli.output import blocks, shaded
from gpt2ln_cli.output.layout import Group, Head, Sheet, sheets
from gpt2ln_cli.output.matrix import NOTHING, Matrix
from gpt2ln_cli.output.text import visible

if TYPE_CHECKING:
    from gpt2ln_cli.output.blocks import Block, Tone, View

GAP = 2
WIDE = 100
KEY_WIDTH = 12
HEADING_WIDTH = 24
TRAILING = re.compile(r" +$", re.MULTILINE)
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


def write(view: View, stream: TextIO, *, everything: bool = False) -> None:
    """Write the view's blocks.

    Args:
        view: what to show.
        stream: where to.
        everything: whether the columns that are for data alone are shown, too.
    """
    console = Console(file=stream, highlight=False, soft_wrap=False)
    if not console.width:
        # COLUMNS=0 is no width, and here, unlike with rich, as good as unset.
        console.width = shutil.get_terminal_size().columns
    before: Block | None = None
    for block in view.blocks:
        if isinstance(block, blocks.Quotes | blocks.Boxes):
            continue
        # Paragraphs follow one another as the sentences of one text.
        if before is not None and not (isinstance(before, blocks.Paragraph) and isinstance(block, blocks.Paragraph)):
            stream.write("\n")
        for piece in _rendered(console, block, everything=everything):
            with console.capture() as captured:
                console.print(piece)
            # Written here, for rich would end the process where a pipe is closed. A cell of a heatmap in colours is a
            # space.
            text = captured.get()
            stream.write(text if console.color_system else TRAILING.sub("", text))
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
        left_out: dict[str, None] = {}
        for number, piece in enumerate(_table(console, block, left_out, everything=everything)):
            if number:
                yield ""
            yield piece
        if left_out:
            yield Text(f"Left out at this width: {', '.join(left_out)}; --all has them.")
    elif isinstance(block, blocks.Grid):
        from gpt2ln_cli.output import heatmap

        yield from heatmap.lines(console, block)
    elif isinstance(block, Matrix):
        yield from shaded.lines(block, console.width, ascii_only=not _can_show(console, NOTHING))


def _can_show(console: Console, text: str) -> bool:
    try:
        text.encode(console.encoding)
    except UnicodeError:
        return False
    return True


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


def _table(
    console: Console, table: blocks.Table, left_out: dict[str, None], *, everything: bool
) -> Iterator[RenderableType]:
    """The table in pieces; ``left_out`` is told the names of the columns for which there is no room."""
    for sheet in sheets(table, everything=everything):
        if sheet.title:
            yield Text(visible(sheet.title), style="bold")
        sheet = replace(sheet, keys=_headed(sheet.keys), groups=[_headed(group) for group in sheet.groups])
        narrow = _narrowed(sheet, console.width)
        shown = _names(narrow)
        left_out.update((name, None) for name in _names(sheet) if name not in shown)
        titled = any(group.title for group in narrow.groups)
        yield from (_side_by_side if titled and _groups_fit(narrow, console.width) else _stacked)(console, narrow)


def _headed(group: Group) -> Group:
    """A heading of any length, such as a token's, takes several lines."""
    return replace(
        group, heads=[replace(head, text="\n".join(chop_cells(head.text, HEADING_WIDTH))) for head in group.heads]
    )


def _narrowed(sheet: Sheet, width: int) -> Sheet:
    """Without what has a rank and keeps the sheet from fitting the width in one piece, as far as that helps."""
    while sheet.rank and _sheet_width(sheet, 1) > width:
        sheet = sheet.below(sheet.rank)
    return sheet


def _names(sheet: Sheet) -> dict[str, None]:
    """What stands above the columns, each once, in their order."""
    return dict.fromkeys(" ".join(head.split()) for group in sheet.groups for head in group.headings)


def _groups_fit(sheet: Sheet, width: int) -> bool:
    """Whether no column of a group is wider than the room beside the keys."""
    room = width - _width(sheet.keys) - GAP
    return all(width <= room for group in sheet.groups for width in _widths(group))


def _side_by_side(console: Console, sheet: Sheet) -> Iterator[RenderableType]:
    """Set groups beside the key columns, as many as fit, and repeat the keys for the next ones; nothing is cut."""
    keys = sheet.keys
    room = console.width - _width(keys)
    gap = 1 if _sheet_width(sheet, 1) <= console.width < _sheet_width(sheet, GAP) else GAP
    line: list[Group] = []
    used = 0
    for part in (part for group in sheet.groups for part in _fitting(group, room, gap)):
        needed = GAP + _width(part, gap)
        if line and used + needed > room:
            yield _row(keys, line, sheet.stressed, gap)
            line, used = [], 0
        line.append(part)
        used += needed
    yield _row(keys, line, sheet.stressed, gap)


def _fitting(group: Group, room: int, gap: int) -> Iterator[Group]:
    """The group itself, or halved until each part fits the room."""
    columns = range(len(group.heads))
    if GAP + _width(group, gap) <= room or len(columns) == 1:
        yield group
        return
    half = (len(columns) + 1) // 2
    for part in (columns[:half], columns[half:]):
        yield from _fitting(group.only(part), room, gap)


def _stacked(console: Console, sheet: Sheet) -> Iterator[RenderableType]:
    """One table where the width allows, else several with the keys repeated; only the last key may fold."""
    keys = sheet.keys
    others = Group("", [], [[] for _ in keys.rows])
    for group in sheet.groups:
        rows = [[*a, *b] for a, b in zip(others.rows, group.rows, strict=True)]
        others = Group("", [*others.heads, *group.heads], rows)
    widths = [*_widths(keys), *_widths(others)]
    gap = GAP if console.width >= min(WIDE, sum(widths) + GAP * (len(widths) - 1)) else 1
    room = console.width - sum(width + gap for width in _widths(keys)[:-1]) - min(KEY_WIDTH, _widths(keys)[-1])
    chunks: list[list[int]] = [[]]
    used = 0
    for index, width in enumerate(_widths(others)):
        if chunks[-1] and used + gap + width > room:
            chunks.append([])
            used = 0
        chunks[-1].append(index)
        used += gap + width
    for chunk in chunks:
        part = others.only(chunk)
        # No number is as wide as that; a text is.
        folds = len(chunk) == 1 and _widths(part)[0] > room - gap
        table = _plain([*keys.heads, *part.heads], folding=len(keys.heads) + folds, gap=gap)
        for names, values, stressed in zip(keys.rows, part.rows, sheet.stressed, strict=True):
            table.add_row(*map(Text, [*names, *values]), style="bold" if stressed else "")
        yield table


def _widths(group: Group) -> list[int]:
    return [
        max(cell_len(line) for line in [*heading.split("\n"), *(row[index] for row in group.rows)])
        for index, heading in enumerate(group.headings)
    ]


def _width(group: Group, gap: int = GAP) -> int:
    widths = _widths(group)
    return max(cell_len(group.title), sum(widths) + gap * (len(widths) - 1))


def _sheet_width(sheet: Sheet, gap: int) -> int:
    """In one piece, with this gap between columns; groups with a title stand further apart."""
    between = GAP if any(group.title for group in sheet.groups) else gap
    return _width(sheet.keys, gap) + sum(between + _width(group, gap) for group in sheet.groups if group.heads)


def _plain(heads: Sequence[Head], *, folding: int, gap: int) -> RichTable:
    """An empty table with a rule under its headings; its first columns, keys, stand on the left.

    Args:
        heads: what stands above its columns.
        folding: how many of the first may take several lines where they are too wide; a number is never broken.
        gap: between the columns.
    """
    table = RichTable(box=RULE, padding=(0, gap - 1, 0, 0), show_edge=False, pad_edge=False, header_style="bold")
    for index, head in enumerate(heads):
        folds = index < folding
        table.add_column(
            head.text,
            justify="left" if folds or head.left else "right",
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
            vertical="bottom",
        )
    return table


def _row(keys: Group, groups: Sequence[Group], stressed: Sequence[bool], gap: int) -> RichTable:
    grid = RichTable.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    # Rich would measure every cell again at each level of nesting; the widths are known.
    for group in (keys, *groups):
        grid.add_column(width=_width(group, gap))
    # The rows must stay level.
    lines = max(heading.count("\n") for group in (keys, *groups) for heading in group.headings) + 1
    grid.add_row(
        _titled(keys, lines, stressed, gap, folding=len(keys.heads)),
        *(_titled(group, lines, stressed, gap) for group in groups),
    )
    return grid


def _titled(group: Group, lines: int, stressed: Sequence[bool], gap: int, *, folding: int = 0) -> RichTable:
    first, *others = group.heads
    raised = replace(first, text="\n" * (lines - 1 - first.text.count("\n")) + first.text)
    table = _plain([raised, *others], folding=folding, gap=gap)
    for column, width in zip(table.columns, _widths(group), strict=True):
        column.width = width
    table.min_width = _width(group, gap)  # a title longer than its columns would take two lines
    # An empty title would take no line.
    table.title = Text(group.title or " ", style="bold cyan")
    table.title_justify = "left"
    for row, stress in zip(group.rows, stressed, strict=True):
        table.add_row(*map(Text, row), style="bold" if stress else "")
    return table
