"""From records to text: one module for each output format.

A format is a module with ``write(record, stream)``, registered in ``FORMATS``; one that writes a single table of the
record takes its name as a third argument. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

from gpt2ln_cli.errors import UsageError

if TYPE_CHECKING:
    from gpt2ln_cli.records import Record


@dataclass(frozen=True)
class Format:
    """An output format."""

    module: str
    one_table: bool = False
    """Whether it writes a single table of the record."""
    binary: bool = False
    """Whether it writes to the stream's ``buffer``."""
    needs: str | None = None
    """A module that comes with the extra of the format's name."""


FORMATS = {
    "table": Format("gpt2ln_cli.render.table"),
    "json": Format("gpt2ln_cli.render.json"),
    "ndjson": Format("gpt2ln_cli.render.ndjson", one_table=True),
    "csv": Format("gpt2ln_cli.render.csv", one_table=True),
    "markdown": Format("gpt2ln_cli.render.markdown", one_table=True),
    "parquet": Format("gpt2ln_cli.render.parquet", one_table=True, binary=True, needs="pyarrow"),
}
ONE_TABLE = [name for name, output_format in FORMATS.items() if output_format.one_table]


def write(
    record: Record, output_format: str, stream: TextIO, *, table: str | None = None, csv_safe: bool = False
) -> None:
    """Write the record to the stream in one of ``FORMATS``.

    Args:
        record: what any function of the library returned.
        output_format: its name; a binary one is written to the stream's ``buffer``.
        stream: where to.
        table: which table of the record, in the formats of ``ONE_TABLE``; None is the main one.
        csv_safe: put ``'`` before each text of a csv that a spreadsheet would take for a formula.

    Raises:
        UsageError: there is no such format, no such table of the record, the format writes all tables, or ``csv_safe``
            is for another format.
    """
    if output_format not in FORMATS:
        raise UsageError(f"no format '{output_format}': it is none of {', '.join(FORMATS)}.")
    if table is not None and not FORMATS[output_format].one_table:
        raise UsageError(f"'{output_format}' writes everything; a table goes with {', '.join(ONE_TABLE)}.")
    module = import_module(FORMATS[output_format].module)
    if csv_safe:
        if output_format != "csv":
            raise UsageError(f"csv_safe goes with csv, not {output_format}.")
        module.write(record, stream, table, safe=True)
    elif FORMATS[output_format].one_table:
        module.write(record, stream, table)
    else:
        module.write(record, stream)
