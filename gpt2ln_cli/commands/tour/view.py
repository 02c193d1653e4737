"""The record of ``tour`` as blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.tour.record import Answer
from gpt2ln_cli.output.blocks import Block, Code, Column, Heading, Look, Paragraph, Table, View, table_of
from gpt2ln_cli.output.header import WARNINGS, header, warnings, warnings_table

if TYPE_CHECKING:
    from gpt2ln_cli.commands.tour.record import Tour, TourTable

QUESTIONS = 6
TABLES = ("answers", *(f"answer_{number}" for number in range(1, QUESTIONS + 1)), WARNINGS)


def view(record: Tour) -> View:
    """Every question with its answer, the numbers behind it, and the command that shows more."""
    answers = table_of("answers", Answer, record.answers)
    blocks = [header(record.model), *warnings(record.warnings), *_answers(record.answers)]
    return View(record, blocks, more=[answers, warnings_table(record.warnings)], main=answers.name)


def _answers(answers: Sequence[Answer]) -> Iterator[Block]:
    for index, answer in enumerate(answers, start=1):
        yield Heading(f"{index}. {answer.question}")
        yield Paragraph(answer.answer)
        yield _numbers(answer.table, f"answer_{index}")
        yield Code(answer.more, lead="more: ")


def _numbers(table: TourTable, name: str) -> Table:
    kinds = [{type(value) for value in values if value is not None} for values in zip(*table.rows, strict=True)]
    columns = [
        # A column holds texts, counts or figures, and no two of them.
        Column(_column_name(heading), kind.pop() if len(kind) == 1 else str, look=Look(heading, key=place == 0))
        for place, (heading, kind) in enumerate(zip(table.headings, kinds, strict=True))
    ]
    return Table(name, columns, lambda: iter(table.rows))


def _column_name(heading: str) -> str:
    return re.sub(r"\W+", "_", heading).strip("_").lower() or "what"
