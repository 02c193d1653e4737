"""A folder without ``config.json`` that has a single file of weights, which is read as that file alone is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpt2ln_cli.checkpoint import single
from gpt2ln_cli.checkpoint.huggingface import only, weights_in

if TYPE_CHECKING:
    from pathlib import Path

    from gpt2ln_cli.checkpoint.base import Contents


def matches(path: Path) -> bool:
    """Whether the path is such a folder."""
    return path.is_dir() and len(weights_in(path)) == 1


def read(path: Path, heads: int | None, prefix: str | None) -> Contents:
    """As :func:`gpt2ln_cli.checkpoint.single.read` does of the file."""
    (file,) = weights_in(path)
    contents = single.read(file, heads, prefix)
    return replace(contents, inferred=[only(file), *contents.inferred])
