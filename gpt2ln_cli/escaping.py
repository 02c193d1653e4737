"""Text that comes from elsewhere, made safe for a terminal and for UTF-8."""

from __future__ import annotations

import os


def visible(text: str) -> str:
    """The text with everything that is not printable (control characters, bidirectional marks) written as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def path_text(path: str | os.PathLike[str]) -> str:
    """A path's bytes read as UTF-8, whatever the locale made of them; a byte that is none is written as an escape."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")
