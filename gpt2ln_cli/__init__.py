"""gpt2ln: a microscope for the LayerNorms of GPT-2.

Everything the command line does is one call away::

    import gpt2ln_cli

    record = gpt2ln_cli.inspect(["The war was over, but the hatred was not."])
    record.counts.total
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "ablate",
    "compare",
    "count",
    "diff",
    "inspect",
    "load",
    "models",
    "params",
    "report",
    "schema",
    "stats",
    "tour",
    "verify",
]

if TYPE_CHECKING:
    from gpt2ln_cli.api import (
        ablate,
        compare,
        count,
        diff,
        inspect,
        models,
        params,
        report,
        schema,
        stats,
        tour,
        verify,
    )
    from gpt2ln_cli.model import load


def __getattr__(name: str) -> object:
    # Deferred, so that `gpt2ln --help` need not import what it does not use.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "load":
        from gpt2ln_cli import model as home
    else:
        from gpt2ln_cli import api as home  # type: ignore[no-redef]
    return getattr(home, name)
