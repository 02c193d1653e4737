"""The record of ``stats`` as blocks: that of ``inspect``, of which rows alone are laid out."""

from __future__ import annotations

from gpt2ln_cli.commands.inspect import view as inspect
from gpt2ln_cli.commands.inspect.view import VECTORS, view

TABLES = (*inspect.TABLES, VECTORS)
__all__ = ["TABLES", "VECTORS", "view"]
