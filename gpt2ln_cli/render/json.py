"""The record as one strict JSON document on one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from gpt2ln_cli.records import Rows

if TYPE_CHECKING:
    from gpt2ln_cli.records import Record


def write(record: Record, stream: TextIO) -> None:
    """Write the record as JSON, in UTF-8 whatever the locale, one row at a time where it has rows."""
    for index, name in enumerate(record.__struct_fields__):
        stream.write(f'{"," if index else "{"}"{name}":')
        value = getattr(record, name)
        if isinstance(value, Rows):
            for number, row in enumerate(value):
                stream.write(f"{',' if number else '['}{encode(row)}")
            stream.write("]" if len(value) else "[]")
        else:
            stream.write(encode(value))
    stream.write("}\n")


def encode(value: Any) -> str:
    """Strict JSON of a part of a record, with what is not printable (control characters, for one) as escapes."""
    text = msgspec.json.encode(value, enc_hook=list).decode("utf-8")  # the rows of a record inside a record
    if text.isprintable():
        return text
    # Only inside of strings can such a character stand, and there its escape means the same.
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
