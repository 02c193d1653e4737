"""How numbers and foreign text read, in every format that a person reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt2ln_cli.output.blocks import Column

MISSING = "-"


def visible(text: str) -> str:
    """The text with everything that is not printable (control characters, bidirectional marks) written as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def number(value: float | None) -> str:
    """Four significant digits; a missing or non-finite number is a dash."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    magnitude = int(f"{value:.3e}".partition("e")[2])  # after rounding: 0.99999 is 1.000
    if not -4 <= magnitude < 7:
        return f"{value:.3e}"
    return f"{value:.{max(0, 3 - magnitude)}f}"


def integer(value: int | None) -> str:
    """Digits in groups of three; a missing number is a dash."""
    return MISSING if value is None else f"{value:,}"


def percent(value: float | None) -> str:
    """A share as a percentage with four significant digits."""
    return MISSING if value is None else f"{number(100 * value)}%"


def share(value: float | None) -> str:
    """A share as a percentage, rounded down, so that only what is all is called 100%."""
    return MISSING if value is None else f"{math.floor(round(value * 1e4, 6)) / 100:.2f}%"


def quoted(text: str) -> str:
    """A token in quotation marks, so that its spaces show."""
    return f'"{visible(text)}"'


def cell(column: Column, value: Any) -> str:
    """A value of a table's column as a person reads it."""
    if value is None:
        return MISSING
    form = column.form
    if form == "number":
        return number(value)
    if form == "integer":
        return integer(value)
    if form == "percent":
        return percent(value)
    if form == "share":
        return share(value)
    if form == "token":
        return quoted(value)
    if form == "json" and not isinstance(value, str):
        import msgspec

        return visible(msgspec.json.encode(value).decode())
    return visible(str(value))
