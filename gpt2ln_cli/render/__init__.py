"""From records to text: one module for each output format.

A format is a module with ``write(record, stream)``, registered in ``FORMATS``; one that writes a single table of the
record takes its name as a third argument. Nothing here imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from gpt2ln_cli.records import Record

FORMATS = {
    "table": "gpt2ln_cli.render.table",
    "json": "gpt2ln_cli.render.json",
    "ndjson": "gpt2ln_cli.render.ndjson",
    "csv": "gpt2ln_cli.render.csv",
    "markdown": "gpt2ln_cli.render.markdown",
    "parquet": "gpt2ln_cli.render.parquet",
}
ONE_TABLE = ("ndjson", "csv", "markdown", "parquet")
BINARY = ("parquet",)


def write(record: Record, output_format: str, stream: TextIO, *, table: str | None = None) -> None:
    """Write the record to the stream in one of ``FORMATS``.

    Args:
        record: what any function of the library returned.
        output_format: its name; a binary one is written to the stream's ``buffer``.
        stream: where to.
        table: which table of the record, in the formats of ``ONE_TABLE``; None is the main one.
    """
    module = import_module(FORMATS[output_format])
    if output_format in ONE_TABLE:
        module.write(record, stream, table)
    else:
        module.write(record, stream)
