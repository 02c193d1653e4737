"""Learned gains and biases, without torch and without a forward pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from gpt2ln_cli.arguments import checked, layer_list, one_of
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.params.claims import uses_gain_and_bias
from gpt2ln_cli.commands.params.describe import describe, judge, learned_number
from gpt2ln_cli.commands.params.record import SORT_KEYS, Parameters
from gpt2ln_cli.measure.flags import eps_flags, parameter_flags
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.records import strictly
from gpt2ln_cli.sites import ranked, select_sites


@checked
def params(
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    layers: int | str | Sequence[int | str] | None = None,
    sites: Collection[str] | None = None,
    features: int | None = None,
    sort: str | None = None,
    top: int | None = None,
) -> Parameters:
    """Summarize learned gains and biases; ``gpt2ln params``.

    Args:
        model: as for :func:`gpt2ln_cli.inspect`; of a model whose weights were read, the gains and biases it has now.
        layers: as for :func:`gpt2ln_cli.inspect`.
        sites: as for :func:`gpt2ln_cli.inspect`.
        features: how many of each vector's features to list, those farthest from 1 (gain) and 0 (bias).
        sort: the number of a gain or bias to order the sites by, such as ``gain_std``, greatest first; None keeps the
            forward order.
        top: how many sites to keep; None keeps all. Whether gain and bias are used is told of all of them.

    Raises:
        UsageError: an argument has no meaning, or there is no such layer or site.
        CheckpointError: the checkpoint can't be found, read or trusted.
    """
    if sort is not None:
        one_of("sort", sort, SORT_KEYS)
    source = as_model(model)
    vectors = source.layer_norms()
    chosen = select_sites(source.checkpoint.config.n_layer, layer_list(layers), sites)
    described = [describe(site, vectors[site.name], features=features) for site in chosen]
    info = source.info.unrun()
    verdict = judge(described)
    return strictly(
        Parameters(
            model=info,
            sites=described[:top] if sort is None else ranked(described, partial(learned_number, name=sort), top),
            sort=sort,
            verdict=verdict,
            claims=[uses_gain_and_bias(verdict, described)],
            warnings=[*parameter_flags(vectors), *eps_flags(info.eps)],
        )
    )
