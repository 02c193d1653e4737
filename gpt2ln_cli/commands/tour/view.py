"""The record of ``tour`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.tour.record import Answer
from gpt2ln_cli.output.blocks import Block, Code, Column, Heading, Look, Paragraph, Table, View, table_of
from gpt2ln_cli.output.header import header, warnings
from gpt2ln_cli.output.text import integer, number

if TYPE_CHECKING:
    from gpt2ln_cli.commands.tour.record import Tour, TourTable

TABLES = ("answers",)


def view(record: Tour) -> View:
    """Every question with its answer, the numbers behind it, and the command that shows more."""
    answers = table_of("answers", Answer, record.answers)
    blocks = [header(record.model), *warnings(record.warnings), *_answers(record.answers)]
    return View(record, blocks, more=[answers], main=answers.name)


def _answers(answers: Sequence[Answer]) -> Iterator[Block]:
    for index, answer in enumerate(answers, start=1):
        yield Heading(f"{index}. {answer.question}")
        yield Paragraph(answer.answer)
        yield _numbers(answer.table, f"answer_{index}")
        yield Code(answer.more, lead="more: ")


def _numbers(table: TourTable, name: str) -> Table:
    columns = [
        Column(f"column_{place}", str, look=Look(heading, key=place == 0))
        for place, heading in enumerate(table.headings)
    ]
    return Table(name, columns, lambda: ([_text(value) for value in row] for row in table.rows))


def _text(value: str | float | None) -> str:
    return value if isinstance(value, str) else integer(value) if isinstance(value, int) else number(value)
