"""A table as newline-delimited JSON: an object for each row, with the columns as its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from gpt2ln_cli.output.json import encode

if TYPE_CHECKING:
    from gpt2ln_cli.output.blocks import Table, View


def write(_: View, table: Table, stream: TextIO) -> None:
    """Write the table, one strict JSON object a line."""
    for row in table.objects():
        stream.write(encode(row) + "\n")
