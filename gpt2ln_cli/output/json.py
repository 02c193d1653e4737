"""The record as one strict JSON document on one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from gpt2ln_cli.records import Rows

if TYPE_CHECKING:
    from gpt2ln_cli.output.blocks import View


def write(view: View, stream: TextIO) -> None:
    """Write the view's record as JSON, in UTF-8 whatever the locale, one row at a time where it has rows."""
    _write(view.record, stream)
    stream.write("\n")


def _write(value: Any, stream: TextIO) -> None:
    if isinstance(value, Rows):
        for index, row in enumerate(value):
            stream.write(("," if index else "[") + encode(row))
        stream.write("]" if len(value) else "[]")
    elif isinstance(value, msgspec.Struct):
        for index, name in enumerate(value.__struct_fields__):
            stream.write(f'{"," if index else "{"}"{name}":')
            _write(getattr(value, name), stream)
        stream.write("}")
    else:
        stream.write(encode(value))


def encode(value: Any) -> str:
    """Strict JSON of what holds no rows, with what is not printable (control characters, for one) as escapes."""
    text = msgspec.json.encode(value).decode("utf-8")
    if text.isprintable():
        return text
    # Only inside of strings can such a character stand, and there its escape means the same.
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
