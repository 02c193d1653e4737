"""How numbers and foreign text read, in every format that a person reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from unicodedata import bidirectional

if TYPE_CHECKING:
    from gpt2ln_cli.output.blocks import Column

MISSING = "-"
# Unicode's own marks, which `visible` leaves in nobody else's text.
ISOLATE, END_ISOLATE = "\u2068", "\u2069"
RIGHT_TO_LEFT = ("R", "AL")


def visible(text: str) -> str:
    """The text with everything that is not printable (control characters, bidirectional marks) written as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def isolated(text: str) -> str:
    """The text, kept apart from what stands beside it where it has letters that are written from right to left.

    Else a terminal that knows of the direction would set the numbers of the next column before it.
    """
    return f"{ISOLATE}{text}{END_ISOLATE}" if any(bidirectional(char) in RIGHT_TO_LEFT for char in text) else text


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
