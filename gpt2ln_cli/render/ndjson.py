"""One table of the record as newline-delimited JSON: an object for each row, with the columns as its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from gpt2ln_cli.render.json import encode
from gpt2ln_cli.render.tables import choose

if TYPE_CHECKING:
    from gpt2ln_cli.records import Record


def write(record: Record, stream: TextIO, table: str | None = None) -> None:
    """Write the table, one strict JSON object a line."""
    for row in choose(record, table).objects():
        stream.write(encode(row) + "\n")
