"""From records to text: one module for each output format.

A format is a module with ``write(record, stream)``, registered in ``FORMATS``. Nothing here imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from gpt2ln_cli.records import Record

FORMATS = {"table": "gpt2ln_cli.render.table", "json": "gpt2ln_cli.render.json"}


def write(record: Record, output_format: str, stream: TextIO) -> None:
    """Write the record to the stream in one of ``FORMATS``."""
    import_module(FORMATS[output_format]).write(record, stream)
