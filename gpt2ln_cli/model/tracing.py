"""Input and output of every LayerNorm in float64, whatever the LayerNorms are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2ln_cli.model.instrument import Batch as Batch
from gpt2ln_cli.model.instrument import Forward, watch
from gpt2ln_cli.sites import Site

if TYPE_CHECKING:
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

    from gpt2ln_cli.model.subject import Subject

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Passage:
    """What went into one LayerNorm and what came out, in one forward pass; padding is left out."""

    site: Site
    x: Floats
    """(tokens, features), the tokens of all sequences in order."""
    y: Floats
    """(tokens, features)."""


def passes(subject: Subject) -> Iterator[tuple[Batch, list[tuple[int, list[int]]]]]:
    """Each batch of the subject, with the number and the token ids of its contexts in the order of its rows."""
    for numbers in subject.batches:
        rows = [(number, subject.contexts[number].token_ids) for number in numbers]
        yield Batch.of([ids for _, ids in rows]), rows


def trace(
    body: GPT2Model,
    batch: Batch,
    sites: Sequence[Site],
    see: Callable[[Passage], None],
    replace: Mapping[Site, Forward] | None = None,
) -> torch.Tensor:
    """Run the batch and show each site's passage as it happens, so that none needs to be kept.

    Args:
        body: the model; its LayerNorm modules may be anything that maps x to y.
        batch: the sequences.
        sites: the sites to show, in forward order.
        see: called once for each site.
        replace: what is computed at some sites in the place of their modules.

    Returns:
        The last hidden state, (sequences, tokens, features).

    Raises:
        UsageError: the body is compiled, or does not run one of the sites.
    """
    real = batch.mask.bool()

    def show(site: Site, x: torch.Tensor, y: torch.Tensor) -> None:
        tokens = real.to(x.device)
        see(Passage(site, _float64(x[tokens]), _float64(y[tokens])))

    return watch(body, batch, sites, show, replace)


def _float64(tensor: torch.Tensor) -> Floats:
    values: Floats = tensor.double().cpu().numpy()
    return values
