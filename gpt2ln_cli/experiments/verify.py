"""Which axis this checkpoint's LayerNorms normalize, shown by trying every reading of "LayerNorm" on it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2ln_cli.experiments.normalizing import normalized
from gpt2ln_cli.experiments.tracing import Batch, Passage, trace, vector
from gpt2ln_cli.experiments.watching import watched
from gpt2ln_cli.model import layer_norm
from gpt2ln_cli.readings import Reading, statistics
from gpt2ln_cli.records import Check, ReadingFit, SiteTrial, Verification
from gpt2ln_cli.sites import Site, all_sites

if TYPE_CHECKING:
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

    from gpt2ln_cli.subject import Subject

Floats = NDArray[np.float64]
Affine = Literal["gain and bias", "gain alone", "bias alone", "neither"]

# A reading fits to rounding where rms(y - predicted) / rms(y) is at most this many times the dtype's epsilon ...
ROUNDING = 32
# ... and statistics or outputs are the same where they differ relatively by at most this many.
SAME = 256


@dataclass(frozen=True)
class Fit:
    """How well one reading predicts y at one site."""

    rms: float
    worst: float
    affine: Affine


@dataclass
class AxisTrial:
    """Every reading tried at every site of one batch."""

    body: GPT2Model
    lengths: Sequence[int]
    fits: dict[Site, dict[Reading, Fit]] = field(default_factory=dict)
    shapes: set[tuple[int, ...]] = field(default_factory=set)

    def see(self, passage: Passage) -> None:
        """Try every reading on one site's passage."""
        module = layer_norm(self.body, passage.site)
        gain, bias = vector(module, "weight"), vector(module, "bias")
        config = self.body.config
        self.fits[passage.site] = {
            reading: _fit(
                normalized(reading, passage.x, self.lengths, heads=config.n_head, eps=config.layer_norm_epsilon),
                passage.y,
                gain,
                bias,
            )
            for reading in Reading
        }


def _fit(xhat: Floats, y: Floats, gain: Floats | None, bias: Floats | None) -> Fit:
    """The best that this xhat does with gain, bias, both or neither."""
    size = np.sqrt(np.mean(y**2))
    fits = []
    # Both first: of equally good ones the first is kept.
    for use_gain, use_bias in itertools.product((True, False), repeat=2):
        if (use_gain and gain is None) or (use_bias and bias is None):
            continue
        predicted = (xhat * gain if use_gain and gain is not None else xhat) + (
            bias if use_bias and bias is not None else 0
        )
        difference = predicted - y
        affine: Affine = (
            ("gain and bias" if use_bias else "gain alone") if use_gain else ("bias alone" if use_bias else "neither")
        )
        fits.append(Fit(_most(np.sqrt(np.mean(difference**2)), size), _most(difference, size), affine))
    return min(fits, key=lambda fit: math.inf if math.isnan(fit.rms) else fit.rms)


def try_axes(
    body: GPT2Model, sequences: Sequence[Sequence[int]], epsilon: float
) -> tuple[list[ReadingFit], list[SiteTrial]]:
    """Hold every reading against what every LayerNorm of the model computed.

    Args:
        body: the model.
        sequences: token ids of the contexts, run as one batch.
        epsilon: machine epsilon of the model's dtype.

    Returns:
        The readings over all sites, GPT-2's own first; and the sites in forward order.
    """
    lengths = [len(sequence) for sequence in sequences]
    trial = AxisTrial(body, lengths)
    sites = all_sites(body.config.n_layer)
    trace(body, Batch.of(sequences), sites, trial.see)
    config = body.config
    limit = ROUNDING * epsilon
    readings = [
        ReadingFit(
            reading=reading.value,
            is_gpt2=reading is Reading.PER_TOKEN,
            statistics=statistics(
                reading, tokens=sum(lengths), sequences=len(lengths), features=config.n_embd, heads=config.n_head
            ),
            worst=max(trial.fits[site][reading].worst for site in sites),
            rms=max(trial.fits[site][reading].rms for site in sites),
            fits=sum(trial.fits[site][reading].rms <= limit for site in sites),
        )
        for reading in Reading
    ]
    return readings, [_judge(site, trial.fits[site], limit) for site in sites]


def _judge(site: Site, fits: dict[Reading, Fit], limit: float) -> SiteTrial:
    ranked = sorted(fits, key=lambda reading: math.inf if math.isnan(fits[reading].rms) else fits[reading].rms)
    candidates = [reading for reading in ranked if fits[reading].rms <= limit]
    best = ranked[0]
    runner_up = ranked[min(max(1, len(candidates)), len(ranked) - 1)]
    # A perfect fit can't be told from one at rounding: no ratio is taken to less than that.
    floor = max(fits[best].rms, limit / ROUNDING / 16)
    return SiteTrial(
        name=site.name,
        layer=site.layer,
        kind=site.kind,
        verdict=candidates[0].value if len(candidates) == 1 else None,
        candidates=[reading.value for reading in candidates],
        rms=fits[best].rms,
        runner_up=runner_up.value,
        orders=math.log10(max(fits[runner_up].rms, floor) / floor),
        affine=fits[best].affine,
    )


def check_axis(trials: Sequence[SiteTrial]) -> Check:
    """Whether every site normalizes each token over its features, and nothing else fits."""
    own = Reading.PER_TOKEN.value
    followed = {trial.verdict for trial in trials}
    nearest = min(trials, key=lambda trial: trial.orders if trial.orders is not None else math.inf)
    if followed == {own}:
        # The best fit is rounding itself, of which one digit is all that lasts from machine to machine.
        factor = 10 ** (nearest.orders or 0)
        unit = 10 ** math.floor(math.log10(factor))
        return Check(
            name="axis",
            passed=True,
            statement=(
                f"'{own}' reproduces the output at all {len(trials)} sites to rounding, over "
                f"{factor // unit * unit:,.0f} times better than the next reading, '{nearest.runner_up}'."
            ),
        )
    doubtful = [trial for trial in trials if own in trial.candidates]
    if len(doubtful) == len(trials):
        together = ", ".join(f"'{name}'" for name in max((trial.candidates for trial in trials), key=len))
        return Check(
            name="axis", passed=None, statement=f"undecided: this input can't tell apart {together}; give more tokens."
        )
    others = [trial for trial in trials if own not in trial.candidates]
    named = sorted({trial.verdict or "no reading that was tried" for trial in others})
    return Check(
        name="axis",
        passed=False,
        statement=f"{len(others)} of {len(trials)} sites follow {' and '.join(named)}; the first is {others[0].name}.",
    )


def check_batch_independence(body: GPT2Model, sequence: Sequence[int], epsilon: float) -> Check:
    """Whether a context's statistics are its own, whatever else is in the minibatch and however it is padded."""
    room = body.config.n_positions
    if room == 1:
        return Check(name="batch independence", passed=None, statement="undecided: no context is longer than a token.")
    sequence = sequence[: room - 1]  # a companion must be longer, so that the context is padded
    companion = [*reversed(sequence), *sequence[:7], sequence[-1]][:room]
    alone = _passages(body, Batch.of([sequence]))
    count = len(sequence)
    first = _difference(alone, _passages(body, Batch.of([sequence, companion])), slice(None, count))
    second = _difference(alone, _passages(body, Batch.of([companion, sequence])), slice(-count, None))
    largest = max(first, second)
    left = _difference(alone, _passages(body, Batch.left_padded([sequence, companion])), slice(None, count))
    passed = largest <= SAME * epsilon
    kind = "rounding" if passed else "more than rounding"
    return Check(
        name="batch independence",
        passed=passed,
        statement=(
            f"alone, padded on the right beside a longer context, and in another row, mu, sigma and y differ by at "
            f"most {largest:.1e}: {kind}. (Padded on the left with naive positions they would differ by {left:.1e}.)"
        ),
    )


def check_causality(body: GPT2Model, sequence: Sequence[int], epsilon: float) -> Check:
    """Whether the last token leaves the statistics of all earlier ones alone."""
    if len(sequence) == 1:
        return Check(name="causality", passed=None, statement="undecided: one token has no earlier ones.")
    changed = [*sequence[:-1], (sequence[-1] + 1) % body.config.vocab_size]
    before, after = _passages(body, Batch.of([sequence])), _passages(body, Batch.of([changed]))
    earlier = slice(None, -1)
    largest = _difference(before, after, earlier, earlier)
    eps = body.config.layer_norm_epsilon

    def across(x: Floats) -> Floats:
        return normalized(Reading.FEATURE_OVER_CONTEXT, x, [len(sequence)], heads=1, eps=eps)

    rival = max(_relative(across(before[site].x)[earlier], across(after[site].x)[earlier]) for site in before)
    passed = largest <= SAME * epsilon
    return Check(
        name="causality",
        passed=passed,
        statement=(
            f"with another last token, mu, sigma and y of the earlier ones differ by at most {largest:.1e}; normalized "
            f"per feature over the context, their xhat would differ by {rival:.2g}."
        ),
    )


def check_heads(body: GPT2Model, readings: Sequence[ReadingFit], trials: Sequence[SiteTrial]) -> Check:
    """Whether the heads play no part."""
    heads, width = body.config.n_head, body.config.n_embd
    if heads == 1:
        return Check(name="heads", passed=None, statement="undecided: with one head there is nothing to tell apart.")
    reading = next(fit for fit in readings if fit.reading == Reading.PER_HEAD.value)
    followed = [trial for trial in trials if Reading.PER_HEAD.value in trial.candidates]
    alone = [trial for trial in followed if Reading.PER_TOKEN.value not in trial.candidates]
    passed = None if followed and not alone else not alone
    verb = f"fits at {len(followed)} sites{'' if alone else ', but so does what GPT-2 does'}" if followed else "fails"
    return Check(
        name="heads",
        passed=passed,
        statement=(
            f"what enters and leaves each site is (tokens, {width}), without an axis for the {heads} heads; the "
            f"reading '{reading.reading}' {verb}, with differences of up to {reading.rms:.2g} of the output."
        ),
    )


def check_gain_and_bias(body: GPT2Model, trials: Sequence[SiteTrial]) -> Check:
    """Whether y = gain * xhat + bias, with the gain and bias that the checkpoint has."""
    has: dict[str, str] = {}
    learned = 0
    for site, trial in zip(all_sites(body.config.n_layer), trials, strict=True):
        module = layer_norm(body, site)
        gain, bias = vector(module, "weight"), vector(module, "bias")
        has[trial.name] = {
            (True, True): "gain and bias",
            (True, False): "gain alone",
            (False, True): "bias alone",
            (False, False): "neither",
        }[gain is not None, bias is not None]
        learned += bool((gain is not None and (gain != 1).any()) or (bias is not None and (bias != 0).any()))
    off = [trial for trial in trials if not trial.candidates or trial.affine != has[trial.name]]
    if off:
        used = sorted({trial.affine if trial.candidates else "no use of them that was tried" for trial in off})
        return Check(
            name="gain and bias",
            passed=False,
            statement=(
                f"at {len(off)} of {len(trials)} sites the output comes from {' or '.join(used)}; the first is "
                f"{off[0].name}."
            ),
        )
    worst = max(trial.rms or 0.0 for trial in trials)
    return Check(
        name="gain and bias",
        passed=True,
        statement=(
            f"y = gain * xhat + bias reproduces every output to {worst:.1e}; gain or bias are learned at {learned} of "
            f"{len(trials)} sites."
        ),
    )


def _passages(body: GPT2Model, batch: Batch) -> dict[Site, Passage]:
    seen: dict[Site, Passage] = {}

    def see(passage: Passage) -> None:
        seen[passage.site] = passage

    trace(body, batch, all_sites(body.config.n_layer), see)
    return seen


def _difference(
    one: dict[Site, Passage], other: dict[Site, Passage], of_other: slice, of_one: slice = slice(None)
) -> float:
    """Largest relative difference of mu, sigma and y between the same tokens of two runs."""
    largest = 0.0
    for site, passage in one.items():
        x, y = passage.x[of_one], passage.y[of_one]
        again, after = other[site].x[of_other], other[site].y[of_other]
        size = np.sqrt(np.mean(x**2, axis=1))
        largest = max(
            largest,
            _most(x.mean(axis=1) - again.mean(axis=1), size),
            _most(x.std(axis=1) - again.std(axis=1), size),
            _relative(y, after),
        )
    return largest


def _relative(one: Floats, other: Floats) -> float:
    return _most(one - other, np.sqrt(np.mean(one**2)))


def _most(difference: Floats, size: Floats) -> float:
    """The largest of the differences, each relative to its size; none is none, of nothing too."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.max(np.where(difference == 0, 0.0, np.abs(difference) / size)))


# Infinity minus infinity and the like: the record says what is not finite.
@np.errstate(invalid="ignore", over="ignore")
def verify(subject: Subject, *, bos: bool) -> Verification:
    """Try every reading and run every check on one model, the prompts as one batch.

    Args:
        subject: the model and the contexts; the first context stands for all in batch independence and causality.
        bos: whether ``<|endoftext|>`` begins every context, for the record.
    """
    body = subject.loaded.body
    sequences = [context.token_ids for context in subject.contexts]
    epsilon = float(torch.finfo(body.dtype).eps)
    readings, trials = try_axes(body, sequences, epsilon)
    checks = [
        check_axis(trials),
        check_batch_independence(body, sequences[0], epsilon),
        check_causality(body, sequences[0], epsilon),
        check_heads(body, readings, trials),
        check_gain_and_bias(body, trials),
    ]
    return Verification(
        model=subject.loaded.info,
        bos=bos,
        prompts=subject.prompts,
        readings=readings,
        rounding=ROUNDING * epsilon,
        sites=trials,
        checks=checks,
        behaves_as_gpt2=all(check.passed is not False for check in checks),
        warnings=watched(subject, all_sites(body.config.n_layer)),
    )
