"""A view as Markdown, with tables as GitHub has them and every column in them, numbers to four digits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from gpt2ln_cli.output import blocks
from gpt2ln_cli.output.layout import Sheet, in_full, sheets
from gpt2ln_cli.output.text import visible

if TYPE_CHECKING:
    from gpt2ln_cli.output.blocks import Block, View

# An underscore between letters is no markup.
MARKUP = re.compile(r"([\\`*{}\[\]<>#!|~&$]|(?<!\w)_|_(?!\w))")


def write(view: View, stream: TextIO, *, everything: bool = True) -> None:  # noqa: ARG001
    """Write the view's blocks; a grid, which is a picture, has its numbers in the table of rows.

    Args:
        view: what to show.
        stream: where to.
        everything: has no effect; the columns that are for data alone are always shown, too.
    """
    stream.write(f"# gpt2ln {view.record.command}\n")
    for block in in_full(view, view.blocks):
        for line in _rendered(block):
            stream.write(line)


def _rendered(block: Block) -> Iterator[str]:
    if isinstance(block, blocks.Heading):
        yield f"\n{'#' * block.level} {_text(block.text)}\n"
    elif isinstance(block, blocks.Paragraph):
        text = _text(block.text)
        yield f"\n**{text}**\n" if block.tone in ("strong", "warning") else f"\n{text}\n"
    elif isinstance(block, blocks.Facts):
        yield "\n"
        for fact in block.facts:
            name = f"{_text(fact.name)}: " if fact.name else ""
            mark = f"**{_text(fact.mark)}**: " if fact.mark else ""
            yield f"- {name}{mark}{_text(fact.value)}\n"
    elif isinstance(block, blocks.Code):
        yield "\n" + "".join(f"    {visible(line)}\n" for line in f"{block.lead}{block.text}".split("\n"))
    elif isinstance(block, blocks.Table):
        for sheet in sheets(block, everything=True):
            yield from _table(sheet)


def _table(sheet: Sheet) -> Iterator[str]:
    if sheet.title:
        yield f"\n### {_text(sheet.title)}\n"
    for group in sheet.groups:
        if group.title:
            yield f"\n{_text(group.title)}\n"
        yield "\n"
        headings = [*sheet.keys.headings, *group.headings]
        yield _line(headings)
        rules = ["---"] * len(sheet.keys.heads) + ["---" if head.left else "---:" for head in group.heads]
        yield f"| {' | '.join(rules)} |\n"
        for key, row, stressed in zip(sheet.keys.rows, group.rows, sheet.stressed, strict=True):
            yield _line([*key, *row], stressed=stressed)


def _line(cells: Sequence[str], *, stressed: bool = False) -> str:
    texts = [_cell(text) for text in cells]
    return f"| {' | '.join(f'**{text}**' if stressed and text else text for text in texts)} |\n"


def _cell(text: str) -> str:
    # Markdown drops spaces at the ends of a cell, and takes a line break for the end of the row.
    text = text.replace("\n", " ")
    return _text(f'"{text}"' if text != text.strip() else text)


def _text(text: str) -> str:
    return MARKUP.sub(r"\\\1", visible(text))
