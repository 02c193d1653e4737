"""gpt2ln: a microscope for the LayerNorms of GPT-2.

Everything the command line does is one call away::

    import gpt2ln_cli

    record = gpt2ln_cli.inspect(["The war was over, but the hatred was not."])
    record.counts.total
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "Model",
    "__version__",
    "ablate",
    "attribute",
    "compare",
    "count",
    "diff",
    "diff_runs",
    "features",
    "inspect",
    "load",
    "models",
    "params",
    "profile",
    "report",
    "schema",
    "stats",
    "tour",
    "track",
    "verify",
    "view",
]

if TYPE_CHECKING:
    from gpt2ln_cli.commands import view
    from gpt2ln_cli.commands.ablate.compute import ablate
    from gpt2ln_cli.commands.attribute.compute import attribute
    from gpt2ln_cli.commands.compare.compute import compare
    from gpt2ln_cli.commands.count.compute import count
    from gpt2ln_cli.commands.diff.compute import diff
    from gpt2ln_cli.commands.diff.runs import diff_runs
    from gpt2ln_cli.commands.features.compute import features
    from gpt2ln_cli.commands.inspect.compute import inspect
    from gpt2ln_cli.commands.models.compute import models
    from gpt2ln_cli.commands.params.compute import params
    from gpt2ln_cli.commands.profile.compute import profile
    from gpt2ln_cli.commands.report.compute import report
    from gpt2ln_cli.commands.schema.compute import schema
    from gpt2ln_cli.commands.stats.compute import stats
    from gpt2ln_cli.commands.tour.compute import tour
    from gpt2ln_cli.commands.track.compute import track
    from gpt2ln_cli.commands.verify.compute import verify
    from gpt2ln_cli.model import Model, load

_HOMES = {"diff_runs": "commands.diff.runs", "Model": "model", "load": "model", "view": "commands"}


def __getattr__(name: str) -> object:
    # Imported when first used: `gpt2ln --help` need not import what it does not use.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"gpt2ln_cli.{_HOMES.get(name, f'commands.{name}.compute')}"), name)


def __dir__() -> list[str]:
    return __all__
