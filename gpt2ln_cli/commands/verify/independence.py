"""Whether what a LayerNorm makes of a token depends on anything but that token's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpt2ln_cli.measure.axes import Axis, normalized
from gpt2ln_cli.measure.ledger import Floats
from gpt2ln_cli.measure.rounding import LEVEL, relative_to
from gpt2ln_cli.model import eps_of
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.model.instrument import Passage, watch
from gpt2ln_cli.records import Claim
from gpt2ln_cli.sites import Site, all_sites

if TYPE_CHECKING:
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

# Batch independence and causality are tried on so many tokens: the fewer, the more each weighs in a rival's statistics.
CHECKED = 64


@dataclass
class Sameness:
    """How far the tokens of one run are the same in another."""

    same: float = 1.0
    """Least share over sites of the numbers of y that are the same bits."""
    same_from_same: float = 1.0
    """The same, of tokens whose x is the same bits."""
    largest: float = 0.0
    """Largest relative difference of mu, sigma and y."""

    def add(self, one: Passage, other: Passage) -> None:
        """Hold the same tokens of two runs against each other at one site."""
        equal = (one.y == other.y) | (np.isnan(one.y) & np.isnan(other.y))
        from_same = (one.x == other.x).all(axis=1)
        self.same = min(self.same, float(equal.mean()))
        if from_same.any():
            self.same_from_same = min(self.same_from_same, float(equal[from_same].mean()))
        size = np.sqrt(np.mean(one.x**2, axis=1))
        self.largest = max(
            self.largest,
            _most(one.x.mean(axis=1) - other.x.mean(axis=1), size),
            _most(one.x.std(axis=1) - other.x.std(axis=1), size),
            _relative(one.y, other.y),
        )


def _same(body: GPT2Model, before: dict[Site, Passage], batch: Batch, tokens: slice) -> Sameness:
    """Run the batch, and hold its ``tokens`` against those that were seen before."""
    sameness = Sameness()

    def see(passage: Passage) -> None:
        sameness.add(before[passage.site], _of(passage, tokens))

    watch(body, batch, list(before), see)
    return sameness


def _passages(body: GPT2Model, batch: Batch, tokens: slice) -> dict[Site, Passage]:
    seen: dict[Site, Passage] = {}

    def see(passage: Passage) -> None:
        seen[passage.site] = _of(passage, tokens)

    watch(body, batch, all_sites(body.config.n_layer), see)
    return seen


def _of(passage: Passage, tokens: slice) -> Passage:
    return Passage(passage.site, passage.x[tokens].copy(), passage.y[tokens].copy())


def batch_independent(body: GPT2Model, sequence: Sequence[int]) -> Claim:
    """Whether a context's statistics are its own, whatever else is in the minibatch and however it is padded.

    Two batches of one shape, with another context and other padding beside it, leave a context's numbers the same bits.
    Alone and in another row the shape is another, and matrix products round otherwise: there the same x must give the
    same y.
    """
    room, vocabulary = body.config.n_positions, body.config.vocab_size
    if room == 1:
        return _untold("verify.batch_independent")
    sequence = sequence[: min(room - 1, CHECKED)]  # a companion must be longer, so that the context is padded
    beside = [*reversed(sequence), *sequence[:7], sequence[-1]][:room]
    other = [(token + 1) % vocabulary for token in beside]
    first, last = slice(None, len(sequence)), slice(-len(sequence), None)
    batch = Batch.of([sequence, beside])
    before = _passages(body, batch, first)
    changed = Batch.of([sequence, other])
    padded = changed.mask == 0
    changed.ids[padded] = sequence[-1] or vocabulary - 1
    company = _same(body, before, changed, first)
    alone = _same(body, before, Batch.of([sequence]), first)
    row = _same(body, before, Batch.of([beside, sequence]), last)
    left = _same(body, before, Batch.left_padded([sequence, beside]), first)
    from_same = min(alone.same_from_same, row.same_from_same)
    return Claim(
        id="verify.batch_independent",
        verdict="yes" if min(company.same, from_same) >= LEVEL else "no",
        statistic=min(company.same, from_same),
        threshold=LEVEL,
        figures={
            "beside_another": company.same,
            "in_another_shape": from_same,
            "largest_difference": max(alone.largest, row.largest),
            "naively_padded": left.largest,
        },
    )


def causal(body: GPT2Model, sequence: Sequence[int]) -> Claim:
    """Whether the last token leaves the statistics of all earlier ones alone."""
    if len(sequence) == 1:
        return _untold("verify.causal")
    sequence = sequence[:CHECKED]
    changed = [*sequence[:-1], (sequence[-1] + 1) % body.config.vocab_size]

    def across(passage: Passage) -> Floats:
        eps = eps_of(body, passage.site)
        return normalized(Axis.FEATURE_OVER_CONTEXT, passage.x, [len(sequence)], heads=1, eps=eps)[:-1]

    before = _passages(body, Batch.of([sequence]), slice(None))
    earlier = Sameness()
    rival = 0.0

    def see(passage: Passage) -> None:
        nonlocal rival
        one = before[passage.site]
        earlier.add(_of(one, slice(None, -1)), _of(passage, slice(None, -1)))
        rival = max(rival, _relative(across(one), across(passage)))

    watch(body, Batch.of([changed]), list(before), see)
    return Claim(
        id="verify.causal",
        verdict="yes" if earlier.same >= LEVEL else "no",
        statistic=earlier.same,
        threshold=LEVEL,
        figures={"largest_difference": earlier.largest, "rival": rival},
    )


def _untold(name: str) -> Claim:
    return Claim(id=name, verdict="can't tell", statistic=None, threshold=LEVEL)


def _relative(one: Floats, other: Floats) -> float:
    return _most(one - other, np.sqrt(np.mean(one**2)))


def _most(difference: Floats, size: Floats) -> float:
    """The largest of the differences, each relative to its size."""
    return float(np.max(relative_to(np.abs(difference), size)))
