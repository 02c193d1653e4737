"""Learned gains and biases, without torch and without a forward pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from gpt2ln_cli.arguments import checked, layer_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.params.describe import describe, judge
from gpt2ln_cli.commands.params.record import Parameters
from gpt2ln_cli.measure.flags import eps_flags, parameter_flags
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.records import strictly
from gpt2ln_cli.sites import select_sites


@checked
def params(
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    layers: int | str | Sequence[int | str] | None = None,
    sites: Collection[str] | None = None,
    top: int | None = None,
) -> Parameters:
    """Summarize learned gains and biases; ``gpt2ln params``.

    Args:
        model: as for :func:`gpt2ln_cli.inspect`; of a model whose weights were read, the gains and biases it has now.
        layers: as for :func:`gpt2ln_cli.inspect`.
        sites: as for :func:`gpt2ln_cli.inspect`.
        top: how many of each vector's features to list, those farthest from 1 (gain) and 0 (bias).

    Raises:
        UsageError: an argument has no meaning, or there is no such layer or site.
        CheckpointError: the checkpoint can't be found, read or trusted.
    """
    source = as_model(model)
    vectors = source.layer_norms()
    chosen = select_sites(source.checkpoint.config.n_layer, layer_list(layers), sites)
    described = [describe(site, vectors[site.name], top=top) for site in chosen]
    info = source.info
    flags = [*parameter_flags(vectors), *eps_flags(info.eps)]
    return strictly(Parameters(model=info, sites=described, verdict=judge(described), warnings=flags))
