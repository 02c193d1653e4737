"""The record of ``tour`` as text and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from gpt2ln_cli.render.layout import integer, number, plain_table

if TYPE_CHECKING:
    from rich.console import Console

    from gpt2ln_cli.records import Tour


def write_tour(console: Console, record: Tour) -> None:
    """Write what follows the header."""
    for index, answer in enumerate(record.answers, start=1):
        console.print()
        console.print(Text(f"{index}. {answer.question}", style="bold cyan"))
        console.print()
        console.print(Text(answer.answer))
        console.print()
        table = plain_table(*answer.table.headings)
        for row in answer.table.rows:
            table.add_row(*(_cell(value) for value in row))
        console.print(table)
        console.print()
        console.print(Text.assemble("more: ", (answer.more, "bold")))


def _cell(value: str | float | None) -> Text:
    if isinstance(value, str):
        return Text(value)
    return Text(integer(value) if isinstance(value, int) else number(value))
