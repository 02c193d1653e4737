"""Paths, and text that comes from elsewhere, made safe for a terminal and for UTF-8."""

from __future__ import annotations

import os
from pathlib import Path


def visible(text: str) -> str:
    """The text with everything that is not printable (control characters, bidirectional marks) written as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def path_text(path: str | os.PathLike[str]) -> str:
    """A path's bytes read as UTF-8, whatever the locale made of them; a byte that is none is written as an escape."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def user_path(name: str | os.PathLike[str]) -> Path:
    """A path as a user writes it, with ``~`` for a home; where there is no such user, ``~name`` is just a name."""
    return Path(os.path.expanduser(name))  # noqa: PTH111  (pathlib's raises)


def cache_folder() -> Path:
    """Where what may be lost is kept from call to call, after the XDG Base Directory Specification."""
    told = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # One that is no whole path is to be ignored.
    return (told if told.is_absolute() else Path(os.path.expanduser("~/.cache"))) / "gpt2ln"  # noqa: PTH111
