"""A table as comma-separated values (RFC 4180, but that lines end in one character)."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, TextIO

from gpt2ln_cli.output.json import encode
from gpt2ln_cli.output.text import visible

if TYPE_CHECKING:
    from gpt2ln_cli.output.blocks import Table, View


# A spreadsheet computes a cell that begins like this, quoted or not.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(_: View, table: Table, stream: TextIO, *, safe: bool = False) -> None:
    """Write the table under a line of column names: no value is an empty cell, a list is JSON.

    Args:
        table: the table.
        stream: where to.
        safe: put ``'`` before texts that a spreadsheet would take for formulas; numbers stay as they are.
    """
    writer = csv.writer(_ShorterLineEnds(stream))
    writer.writerow(column.name for column in table.columns)
    as_json = [index for index, column in enumerate(table.columns) if column.type not in (str, int, float)]
    # A file keeps every character; a terminal would obey some.
    terminal = stream.isatty()
    for row in map(list, table.rows()):
        for index in as_json:
            row[index] = None if row[index] is None else encode(row[index])
        if safe:
            row = [f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in row]
        writer.writerow([visible(cell) if isinstance(cell, str) else cell for cell in row] if terminal else row)


class _ShorterLineEnds:
    """Takes CRLF and writes LF: before Python 3.13 the csv module quotes a CR in a cell only where lines end in one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        self._stream.write(line.removesuffix("\r\n") + "\n")
