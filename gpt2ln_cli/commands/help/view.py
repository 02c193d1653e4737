"""A page as a terminal shows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markdown import CodeBlock, Markdown, TableElement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult

# Pictures and comments, which no terminal shows.
UNSHOWN = re.compile(r"^(!\[[^\]]*\]\([^)]*\)|<!--.*?-->)\n+", re.MULTILINE)
MOST_COLUMNS = 100
# To another page, which a terminal reaches by the very command that is the link's text.
LINK = re.compile(r"\[(`[^`\]]+`)\]\([\w-]+\.md\)")


class _Verbatim(CodeBlock):
    """What was printed at 80 columns fits 80 columns, where rich's own block has margins and a background."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(str(self.text).rstrip(), style="cyan", no_wrap=True, overflow="ignore")


class _Table(TableElement):
    """Its neighbours are a line away already, where rich's own has an empty edge beside."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            assert isinstance(table, Table)
            table.show_edge = False
            yield table


class _Page(Markdown):
    elements = {  # noqa: RUF012
        **Markdown.elements,
        "fence": _Verbatim,
        "code_block": _Verbatim,
        "table_open": _Table,
    }


def rendered(page: str) -> str:
    """The page at the width of the terminal, with the styles that it knows."""
    console = Console(highlight=False)
    console.width = min(console.width, MOST_COLUMNS)
    with console.capture() as captured:
        # A line that is longer than the terminal is for the pager to break; rich would cut it.
        console.print(_Page(UNSHOWN.sub("", LINK.sub(r"\1", page))), crop=False)
    return captured.get()
