"""Text that comes from elsewhere, made safe for a terminal."""

from __future__ import annotations


def visible(text: str) -> str:
    """The text with everything that is not printable (control characters, bidirectional marks) written as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
