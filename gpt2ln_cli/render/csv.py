"""One table of the record as comma-separated values (RFC 4180, but for line ends of one character)."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, TextIO

from gpt2ln_cli.escaping import visible
from gpt2ln_cli.render.json import encode
from gpt2ln_cli.render.tables import choose

if TYPE_CHECKING:
    from gpt2ln_cli.records import Record


def write(record: Record, stream: TextIO, table: str | None = None) -> None:
    """Write the table under a line of column names: no value is an empty cell, a list is JSON."""
    chosen = choose(record, table)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(column.name for column in chosen.columns)
    # A file keeps every character; a terminal would obey some.
    text = visible if stream.isatty() else str
    for row in chosen.rows:
        writer.writerow(text(_cell(value)) for value in row)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else encode(value)
