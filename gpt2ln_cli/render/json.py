"""The record as one strict JSON document on one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import msgspec

if TYPE_CHECKING:
    from gpt2ln_cli.records import Record


def write(record: Record, stream: TextIO) -> None:
    """Write the record as JSON, in UTF-8 whatever the locale."""
    stream.write(msgspec.json.encode(record).decode("utf-8") + "\n")
