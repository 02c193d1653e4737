"""The record as Markdown, with tables as GitHub has them: what it is of, and one table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TextIO

from gpt2ln_cli.escaping import visible
from gpt2ln_cli.render.json import encode
from gpt2ln_cli.render.layout import number
from gpt2ln_cli.render.tables import RECORD, choose

if TYPE_CHECKING:
    from gpt2ln_cli.records import Record

# An underscore between letters is no markup.
MARKUP = re.compile(r"([\\`*{}\[\]<>#!|~&$]|(?<!\w)_|_(?!\w))")


def write(record: Record, stream: TextIO, table: str | None = None) -> None:
    """Write a heading, a list of what stands outside of the record's lists, and the table, to four digits.

    Where rows hold structs, each of these has a table of its own, beside the columns that tell what a row is of.
    """
    stream.write(f"# gpt2ln {record.command}\n\n")
    for name, value in next(choose(record, RECORD).objects()).items():
        stream.write(f"- {name}: {_cell(value)}\n")
    chosen = choose(record, table)
    stream.write(f"\n## {chosen.name}\n")
    for struct in dict.fromkeys(column.struct for column in chosen.columns):
        columns = [
            index for index, column in enumerate(chosen.columns) if index < chosen.keys or column.struct == struct
        ]
        headings = [chosen.columns[index].name for index in columns]
        stream.write(f"\n### {struct}\n\n" if struct else "\n")
        stream.write(_line(headings))
        stream.write(_line(["---"] * len(columns)))
        # Made again for each table, so that no more than a row is ever held.
        for row in choose(record, table).rows:
            stream.write(_line([_cell(row[index]) for index in columns]))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cell(value: Any) -> str:
    if isinstance(value, str):
        # Markdown drops spaces at the ends of a cell.
        text = visible(value)
        return MARKUP.sub(r"\\\1", f'"{text}"' if text != text.strip() or text[:1] in ('"', "") else text)
    if isinstance(value, float) or value is None:
        return number(value)
    return MARKUP.sub(r"\\\1", encode(value))
