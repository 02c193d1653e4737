"""The axis trial: every axis that a LayerNorm could have, tried at every site."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from gpt2ln_cli.commands.verify.record import AxisFit, SiteTrial
from gpt2ln_cli.measure.axes import Axis, standardized, statistics
from gpt2ln_cli.measure.ledger import Floats
from gpt2ln_cli.measure.rounding import LEVEL, arithmetic, last_place, relative_to, reproduced, rounded
from gpt2ln_cli.model import eps_of, layer_norm, learned
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.model.instrument import Passage, watch
from gpt2ln_cli.model.subject import Subject
from gpt2ln_cli.sites import Site, all_sites

if TYPE_CHECKING:
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

Affine = Literal["gain and bias", "gain alone", "bias alone", "neither"]
# What may be applied to xhat: whether the gain, whether the bias. Of equally good ones the first is kept.
AFFINES: dict[Affine, tuple[bool, bool]] = {
    "gain and bias": (True, True),
    "gain alone": (True, False),
    "bias alone": (False, True),
    "neither": (False, False),
}


@dataclass
class Fit:
    """How well one axis, with one use of gain and bias, predicts y at one site; adds up over batches."""

    squares: float = 0.0
    largest: float = 0.0
    exact: int = 0
    reproduced: int = 0
    ulps: float = 0.0
    tried: int = 0

    def add(self, predicted: Floats, error: Floats, y: Floats, dtype: torch.dtype) -> None:
        """Hold the prediction for one batch, off by at most ``error`` before it is rounded, against y."""
        difference = np.abs(predicted - y)
        self.squares += float(np.sum(difference**2))
        self.largest = float(np.maximum(self.largest, difference.max()))
        self.exact += int(np.sum(rounded(predicted, dtype) == y))
        self.reproduced += int(np.sum(reproduced(predicted, error, y, dtype)))
        self.ulps = float(np.maximum(self.ulps, np.max(difference / last_place(y, dtype))))
        self.tried += y.size


@dataclass
class SiteFits:
    """Every axis tried at one site; adds up over batches."""

    fits: dict[Axis, dict[Affine, Fit]] = field(default_factory=dict)
    numbers: int = 0
    squares: float = 0.0
    """Sum of y^2."""
    bound: float = 0.0
    """Sum of the squares of what a right prediction may be off by."""

    def best(self, axis: Axis) -> tuple[Affine, Fit]:
        """The use of gain and bias that does best: the first that fits, or else the one that is least off."""
        fits = {affine: fit for affine, fit in self.fits[axis].items() if fit.tried == self.numbers}
        fitting = [affine for affine, fit in fits.items() if self.share(fit.reproduced) >= LEVEL]
        affine = fitting[0] if fitting else min(fits, key=lambda one: _nan_last(fits[one].squares))
        return affine, fits[affine]

    def share(self, count: int) -> float:
        """A count as a share of the numbers of y."""
        return count / self.numbers

    def relative(self, difference: float) -> float:
        """A difference over rms(y)."""
        return float(relative_to(np.asarray(difference), np.asarray(np.sqrt(self.squares / self.numbers))))

    def rms(self, squares: float) -> float:
        """Turn a sum of squares into a root mean square over that of y."""
        return self.relative(math.sqrt(squares / self.numbers))


@dataclass
class AxisTrial:
    """Every axis tried at every site, batch by batch."""

    body: GPT2Model
    lengths: Sequence[int] = ()
    """Of the sequences of the batch that runs."""
    sites: dict[Site, SiteFits] = field(default_factory=dict)

    def see(self, passage: Passage) -> None:
        """Try every axis on one site's passage."""
        module, dtype = layer_norm(self.body, passage.site), self.body.dtype
        heads, eps = self.body.config.n_head, eps_of(self.body, passage.site)
        x, y = passage.x, passage.y
        gain, bias = learned(module, "weight", x.shape[1]), learned(module, "bias", x.shape[1])
        one, none = np.ones(1), np.zeros(1)
        affines = {
            affine: (gain if use_gain and gain is not None else one, bias if use_bias and bias is not None else none)
            for affine, (use_gain, use_bias) in AFFINES.items()
            if not (use_gain and gain is None) and not (use_bias and bias is None)
        }
        own = next(iter(affines))
        at_site = self.sites.setdefault(passage.site, SiteFits({axis: {} for axis in Axis}))
        at_site.numbers += y.size
        at_site.squares += float(np.sum(y**2))
        explained = False
        for axis in Axis:  # GPT-2's own first
            xhat, scale = standardized(axis, x, self.lengths, heads=heads, eps=eps)
            for affine, (factor, offset) in affines.items():
                # Where GPT-2's own axis and all of gain and bias explain the output, no other use of them is tried.
                if explained and affine != own:
                    break
                error = arithmetic(x, xhat, scale, factor, offset)
                fit = at_site.fits[axis].setdefault(affine, Fit())
                before = fit.reproduced
                fit.add(xhat * factor + offset, error, y, dtype)
                if axis is Axis.PER_TOKEN and affine == own:
                    at_site.bound += float(np.sum((error + last_place(y, dtype) / 2) ** 2))
                    explained = fit.reproduced - before >= LEVEL * y.size


def minibatches(subject: Subject) -> tuple[list[list[list[int]]], list[int] | None]:
    """The contexts as they are run: in the subject's batches, at least one of which has two of them.

    One batch of one context can't tell what is over a context from what is over a minibatch.

    Args:
        subject: the model and the contexts.

    Returns:
        The token ids of each batch's contexts, and of the context that was added where there is but one.
    """
    ids = [list(context.token_ids) for context in subject.contexts]
    if len(ids) == 1:
        # As long as the other, so that a rival whose statistics take in the padding is known for what it is.
        vocabulary = subject.model.lazy_body.config.vocab_size
        added = [(token + 1) % vocabulary for token in reversed(ids[0])]
        return [[ids[0], added]], added
    batches = [list(batch) for batch in subject.batches]
    if all(len(batch) == 1 for batch in batches):
        batches[:2] = [[*batches[0], *batches[1]]]
    return [[ids[number] for number in batch] for batch in batches], None


def try_axes(
    body: GPT2Model, batches: Sequence[Sequence[Sequence[int]]], also: Callable[[Passage], None] | None = None
) -> tuple[list[AxisFit], list[SiteTrial], float]:
    """Hold every axis against what every LayerNorm of the model computed.

    Args:
        body: the model.
        batches: token ids of the contexts of each batch.
        also: is shown what the axes are tried on.

    Returns:
        The axes over all sites, GPT-2's own first; the sites in forward order; and what rounding may make of
        rms(y - predicted) / rms(y) where the prediction is right.
    """
    trial = AxisTrial(body)
    sites = all_sites(body.config.n_layer)

    def see(passage: Passage) -> None:
        trial.see(passage)
        if also is not None:
            also(passage)

    for sequences in batches:
        trial.lengths = [len(sequence) for sequence in sequences]
        watch(body, Batch.of(sequences), sites, see)
    axes = []
    for axis in Axis:
        fits = [(trial.sites[site], trial.sites[site].best(axis)[1]) for site in sites]
        axes.append(
            AxisFit(
                reading=axis.value,
                is_gpt2=axis is Axis.PER_TOKEN,
                statistics=sum(_statistics(axis, body, sequences) for sequences in batches),
                worst=_largest([at_site.relative(fit.largest) for at_site, fit in fits]),
                rms=_largest([at_site.rms(fit.squares) for at_site, fit in fits]),
                fits=sum(at_site.share(fit.reproduced) >= LEVEL for at_site, fit in fits),
                exact=min(at_site.share(fit.exact) for at_site, fit in fits),
                reproduced=min(at_site.share(fit.reproduced) for at_site, fit in fits),
                ulps=_largest([fit.ulps for _, fit in fits]),
            )
        )
    bounds = (at_site.rms(at_site.bound) for at_site in trial.sites.values() if at_site.squares > 0)
    rounding = max(bounds, default=float(torch.finfo(body.dtype).eps))
    return axes, [_judge(site, trial.sites[site], body) for site in sites], rounding


def _statistics(axis: Axis, body: GPT2Model, sequences: Sequence[Sequence[int]]) -> int:
    config = body.config
    return statistics(
        axis,
        tokens=sum(map(len, sequences)),
        sequences=len(sequences),
        features=config.n_embd,
        heads=config.n_head,
    )


def _judge(site: Site, at_site: SiteFits, body: GPT2Model) -> SiteTrial:
    best = {axis: at_site.best(axis) for axis in Axis}
    shares = {axis: at_site.share(fit.reproduced) for axis, (_, fit) in best.items()}
    rms = {axis: at_site.rms(fit.squares) for axis, (_, fit) in best.items()}
    # With one head, "per token and head" is GPT-2's own axis in other words.
    own_again = {Axis.PER_HEAD} if body.config.n_head == 1 else set()
    ranked = sorted(set(Axis) - own_again, key=lambda axis: (-shares[axis], _nan_last(rms[axis])))
    candidates = [axis for axis in ranked if shares[axis] >= LEVEL]
    first, runner_up = ranked[0], ranked[min(max(1, len(candidates)), len(ranked) - 1)]
    affine, fit = best[first]
    # A perfect fit can't be told from one at rounding: no ratio is taken to less than that.
    floor = max(rms[first], torch.finfo(body.dtype).eps / 16)
    return SiteTrial(
        name=site.name,
        layer=site.layer,
        kind=site.kind,
        verdict=candidates[0].value if len(candidates) == 1 else None,
        candidates=[axis.value for axis in candidates],
        rms=rms[first],
        runner_up=runner_up.value,
        orders=math.log10(max(rms[runner_up], floor) / floor),
        affine=affine,
        best=first.value,
        exact=at_site.share(fit.exact),
        reproduced=shares[first],
        ulps=fit.ulps,
        runner_up_reproduced=shares[runner_up],
    )


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _largest(values: Sequence[float]) -> float:
    return float(np.max(values))
