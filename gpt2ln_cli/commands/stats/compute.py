"""A run up to a layer, and every token's statistics there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, one_of
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.inspect.compute import run
from gpt2ln_cli.commands.inspect.record import Inspection
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.subject import Layers, Prompts, Running
from gpt2ln_cli.quantities import POSITION, SORT_KEYS


@checked
def stats(
    prompts: Prompts | None = None,
    *,
    layers: Layers,
    model: str | Path | Model = DEFAULT_MODEL,
    sites: Collection[str] | None = None,
    sort: str = POSITION,
    top: int | None = None,
    **running: Unpack[Running],
) -> Inspection:
    """Run prompts up to a layer and list every token's statistics there; ``gpt2ln stats``.

    Args:
        prompts: as for :func:`gpt2ln_cli.inspect`.
        layers: as for :func:`gpt2ln_cli.inspect`. The forward pass stops after the last wanted site.
        model: as for :func:`gpt2ln_cli.inspect`.
        sites: as for :func:`gpt2ln_cli.inspect`.
        sort: the quantity to order each site's rows by, greatest first; ``position`` keeps the text's order.
        top: how many rows of each site to keep; None keeps all.
        **running: see :class:`gpt2ln_cli.model.subject.Running`.

    Raises:
        UsageError: an argument has no meaning, or there is no such layer, site or quantity.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`.
        PromptError: as for :func:`gpt2ln_cli.inspect`.
    """
    one_of("sort", sort, SORT_KEYS)
    done = run(prompts, model=as_model(model), layers=layers, kinds=sites, per_token=True, **running)
    return done.record("stats", sort=None if sort == POSITION else sort, top=top)
