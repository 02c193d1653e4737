"""A run up to a layer, and every token's statistics there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, one_of
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.inspect.compute import run
from gpt2ln_cli.commands.inspect.record import Inspection
from gpt2ln_cli.commands.inspect.vectors import check_room
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.subject import Layers, Prompts, Running, Subject
from gpt2ln_cli.quantities import POSITION, SORT_KEYS
from gpt2ln_cli.sites import Site


@checked
def stats(
    prompts: Prompts | None = None,
    *,
    layers: Layers,
    model: str | Path | Model = DEFAULT_MODEL,
    sites: Collection[str] | None = None,
    sort: str = POSITION,
    top: int | None = None,
    position: int | None = None,
    vectors: bool = False,
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
        position: list this token of every sequence alone, negative from its end; None lists all.
        vectors: also x, xhat and y of the listed tokens, feature by feature: 2**25 features in all at most.
        **running: see :class:`gpt2ln_cli.model.subject.Running`.

    Raises:
        UsageError: an argument has no meaning, or there is no such layer, site, quantity or position, or the
            vectors do not fit.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`.
        PromptError: as for :func:`gpt2ln_cli.inspect`.
    """
    one_of("sort", sort, SORT_KEYS)

    def check(subject: Subject, chosen: Sequence[Site]) -> None:
        lengths = [len(context.token_ids) for context in subject.contexts]
        for number, length in enumerate(lengths):
            if position is not None and not -length <= position < length:
                raise UsageError(f"position {position}: sequence {number} has 0 to {length - 1} (or -1 to -{length}).")
        if vectors:
            tokens = sum(lengths) if position is None else len(lengths)
            check_room(min(tokens, top or tokens), len(chosen), subject.model.checkpoint.config.n_embd)

    done = run(prompts, model=as_model(model), layers=layers, kinds=sites, per_token=True, ready=check, **running)
    return done.record("stats", position=position, sort=None if sort == POSITION else sort, top=top, vectors=vectors)
