"""Which axis this checkpoint's LayerNorms normalize, shown by trying every reading of "LayerNorm" on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, prompt_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.verify.record import Check, ReadingFit, SiteTrial, Verification
from gpt2ln_cli.measure.axes import Reading, statistics
from gpt2ln_cli.measure.normalizing import normalized, standardized
from gpt2ln_cli.measure.rounding import LEVEL, arithmetic, last_place, reproduced, rounded
from gpt2ln_cli.model import Model, as_model, eps_of, layer_norm, learned
from gpt2ln_cli.model.subject import Prompts, Running, Subject, prepare
from gpt2ln_cli.model.tracing import Batch, Passage, trace
from gpt2ln_cli.model.watching import Watch
from gpt2ln_cli.records import ModelInfo, strictly
from gpt2ln_cli.sites import Site, all_sites

if TYPE_CHECKING:
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model


Floats = NDArray[np.float64]
Affine = Literal["gain and bias", "gain alone", "bias alone", "neither"]
# What may be applied to xhat: whether the gain, whether the bias. Of equally good ones the first is kept.
VERIFIED = ("The war was over, but the hatred was not.", "war violence hate fear")
AFFINES: dict[Affine, tuple[bool, bool]] = {
    "gain and bias": (True, True),
    "gain alone": (True, False),
    "bias alone": (False, True),
    "neither": (False, False),
}

# Batch independence and causality are tried on so many tokens: the fewer, the more each weighs in a rival's statistics.
CHECKED = 64


@dataclass
class Fit:
    """How well one reading, with one use of gain and bias, predicts y at one site; adds up over batches."""

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
    """Every reading tried at one site; adds up over batches."""

    fits: dict[Reading, dict[Affine, Fit]] = field(default_factory=dict)
    numbers: int = 0
    squares: float = 0.0
    """Sum of y^2."""
    bound: float = 0.0
    """Sum of the squares of what a right prediction may be off by."""

    def best(self, reading: Reading) -> tuple[Affine, Fit]:
        """The use of gain and bias that does best: the first that fits, or else the one that is least off."""
        fits = {affine: fit for affine, fit in self.fits[reading].items() if fit.tried == self.numbers}
        fitting = [affine for affine, fit in fits.items() if self.share(fit.reproduced) >= LEVEL]
        affine = fitting[0] if fitting else min(fits, key=lambda one: _nan_last(fits[one].squares))
        return affine, fits[affine]

    def share(self, count: int) -> float:
        """A count as a share of the numbers of y."""
        return count / self.numbers

    def relative(self, difference: float) -> float:
        """A difference over rms(y)."""
        return float(_relative_to(np.asarray(difference), np.asarray(np.sqrt(self.squares / self.numbers))))

    def rms(self, squares: float) -> float:
        """Turn a sum of squares into a root mean square over that of y."""
        return self.relative(math.sqrt(squares / self.numbers))


@dataclass
class AxisTrial:
    """Every reading tried at every site, batch by batch."""

    body: GPT2Model
    lengths: Sequence[int] = ()
    """Of the sequences of the batch that runs."""
    sites: dict[Site, SiteFits] = field(default_factory=dict)

    def see(self, passage: Passage) -> None:
        """Try every reading on one site's passage."""
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
        at_site = self.sites.setdefault(passage.site, SiteFits({reading: {} for reading in Reading}))
        at_site.numbers += y.size
        at_site.squares += float(np.sum(y**2))
        explained = False
        for reading in Reading:  # GPT-2's own first
            xhat, scale = standardized(reading, x, self.lengths, heads=heads, eps=eps)
            for affine, (factor, offset) in affines.items():
                # Where GPT-2's own reading and all of gain and bias explain the output, no other use of them is tried.
                if explained and affine != own:
                    break
                error = arithmetic(x, xhat, scale, factor, offset)
                fit = at_site.fits[reading].setdefault(affine, Fit())
                before = fit.reproduced
                fit.add(xhat * factor + offset, error, y, dtype)
                if reading is Reading.PER_TOKEN and affine == own:
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
        vocabulary = subject.model.body.config.vocab_size
        added = [(token + 1) % vocabulary for token in reversed(ids[0])]
        return [[ids[0], added]], added
    batches = [list(batch) for batch in subject.batches]
    if all(len(batch) == 1 for batch in batches):
        batches[:2] = [[*batches[0], *batches[1]]]
    return [[ids[number] for number in batch] for batch in batches], None


def try_axes(
    body: GPT2Model, batches: Sequence[Sequence[Sequence[int]]], also: Callable[[Passage], None] | None = None
) -> tuple[list[ReadingFit], list[SiteTrial], float]:
    """Hold every reading against what every LayerNorm of the model computed.

    Args:
        body: the model.
        batches: token ids of the contexts of each batch.
        also: is shown what the readings are tried on.

    Returns:
        The readings over all sites, GPT-2's own first; the sites in forward order; and what rounding may make of
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
        trace(body, Batch.of(sequences), sites, see)
    readings = []
    for reading in Reading:
        fits = [(trial.sites[site], trial.sites[site].best(reading)[1]) for site in sites]
        readings.append(
            ReadingFit(
                reading=reading.value,
                is_gpt2=reading is Reading.PER_TOKEN,
                statistics=sum(_statistics(reading, body, sequences) for sequences in batches),
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
    return readings, [_judge(site, trial.sites[site], body) for site in sites], rounding


def _statistics(reading: Reading, body: GPT2Model, sequences: Sequence[Sequence[int]]) -> int:
    config = body.config
    return statistics(
        reading,
        tokens=sum(map(len, sequences)),
        sequences=len(sequences),
        features=config.n_embd,
        heads=config.n_head,
    )


def _judge(site: Site, at_site: SiteFits, body: GPT2Model) -> SiteTrial:
    best = {reading: at_site.best(reading) for reading in Reading}
    shares = {reading: at_site.share(fit.reproduced) for reading, (_, fit) in best.items()}
    rms = {reading: at_site.rms(fit.squares) for reading, (_, fit) in best.items()}
    # With one head, "per token and head" is GPT-2's own reading in other words.
    own_again = {Reading.PER_HEAD} if body.config.n_head == 1 else set()
    ranked = sorted(set(Reading) - own_again, key=lambda reading: (-shares[reading], _nan_last(rms[reading])))
    candidates = [reading for reading in ranked if shares[reading] >= LEVEL]
    first, runner_up = ranked[0], ranked[min(max(1, len(candidates)), len(ranked) - 1)]
    affine, fit = best[first]
    # A perfect fit can't be told from one at rounding: no ratio is taken to less than that.
    floor = max(rms[first], torch.finfo(body.dtype).eps / 16)
    return SiteTrial(
        name=site.name,
        layer=site.layer,
        kind=site.kind,
        verdict=candidates[0].value if len(candidates) == 1 else None,
        candidates=[reading.value for reading in candidates],
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


def check_axis(trials: Sequence[SiteTrial], model: ModelInfo) -> Check:
    """Whether every site normalizes each token over its features, and nothing else fits."""
    own = Reading.PER_TOKEN.value
    nearest = max(trials, key=lambda trial: trial.runner_up_reproduced)
    if {trial.verdict for trial in trials} == {own}:
        return Check(
            name="axis",
            passed=True,
            statement=(
                f"'{own}' reproduces {_percent(min(trial.reproduced for trial in trials))} of the numbers at the worst "
                f"of all {len(trials)} sites, where {_percent(LEVEL)} are needed; the next reading, "
                f"'{nearest.runner_up}', {_percent(nearest.runner_up_reproduced)} at its best."
            ),
        )
    others = [trial for trial in trials if own not in trial.candidates]
    if not others:
        doubtful = [trial for trial in trials if trial.verdict is None]
        names = sorted({name for trial in doubtful for name in trial.candidates} - {own})
        together = " and ".join(f"'{name}'" for name in names)
        remedy = (
            f"at width {model.n_embd} in {model.dtype} this input can't tell them apart"
            if names == [Reading.SAMPLE_VARIANCE.value]
            else "this input can't tell them apart; give more tokens"
        )
        return Check(
            name="axis",
            passed=None,
            statement=(
                f"undecided: at {len(doubtful)} of {len(trials)} sites {together} fits as well as '{own}': {remedy}."
            ),
        )
    named = sorted({" or ".join(trial.candidates) or "no reading that was tried" for trial in others})
    lost = [trial for trial in others if not trial.candidates]
    lost_at = f" At {lost[0].name} '{lost[0].best}' comes nearest, with {_percent(lost[0].reproduced)}." if lost else ""
    return Check(
        name="axis",
        passed=False,
        statement=(
            f"{len(others)} of {len(trials)} sites follow {' and '.join(named)}; the first is {others[0].name}."
            f"{lost_at}"
        ),
    )


def _percent(share: float) -> str:
    """Rounded down, so that only what is all is called 100%."""
    return f"{math.floor(share * 1e4) / 100:g}%"


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

    trace(body, batch, list(before), see)
    return sameness


def _passages(body: GPT2Model, batch: Batch, tokens: slice) -> dict[Site, Passage]:
    seen: dict[Site, Passage] = {}

    def see(passage: Passage) -> None:
        seen[passage.site] = _of(passage, tokens)

    trace(body, batch, all_sites(body.config.n_layer), see)
    return seen


def _of(passage: Passage, tokens: slice) -> Passage:
    return Passage(passage.site, passage.x[tokens].copy(), passage.y[tokens].copy())


def check_batch_independence(body: GPT2Model, sequence: Sequence[int]) -> Check:
    """Whether a context's statistics are its own, whatever else is in the minibatch and however it is padded.

    Two batches of one shape, with another context and other padding beside it, leave a context's numbers the same bits.
    Alone and in another row the shape is another, and matrix products round otherwise: there the same x must give the
    same y.
    """
    room, vocabulary = body.config.n_positions, body.config.vocab_size
    if room == 1:
        return Check(name="batch independence", passed=None, statement="undecided: no context is longer than a token.")
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
    return Check(
        name="batch independence",
        passed=min(company.same, from_same) >= LEVEL,
        statement=(
            f"with another context and other padding beside it, {_percent(company.same)} of a context's y are the same "
            f"bits at every site; alone and in another row {_percent(from_same)} are wherever x is, and mu, sigma and "
            f"y differ by at most {max(alone.largest, row.largest):.1e}. (Padded on the left with naive positions they "
            f"would differ by {left.largest:.1e}.)"
        ),
    )


def check_causality(body: GPT2Model, sequence: Sequence[int]) -> Check:
    """Whether the last token leaves the statistics of all earlier ones alone."""
    if len(sequence) == 1:
        return Check(name="causality", passed=None, statement="undecided: one token has no earlier ones.")
    sequence = sequence[:CHECKED]
    changed = [*sequence[:-1], (sequence[-1] + 1) % body.config.vocab_size]

    def across(passage: Passage) -> Floats:
        eps = eps_of(body, passage.site)
        return normalized(Reading.FEATURE_OVER_CONTEXT, passage.x, [len(sequence)], heads=1, eps=eps)[:-1]

    before = _passages(body, Batch.of([sequence]), slice(None))
    earlier = Sameness()
    rival = 0.0

    def see(passage: Passage) -> None:
        nonlocal rival
        one = before[passage.site]
        earlier.add(_of(one, slice(None, -1)), _of(passage, slice(None, -1)))
        rival = max(rival, _relative(across(one), across(passage)))

    trace(body, Batch.of([changed]), list(before), see)
    return Check(
        name="causality",
        passed=earlier.same >= LEVEL,
        statement=(
            f"with another last token, {_percent(earlier.same)} of the earlier ones' y are the same bits at "
            f"every site, and mu, sigma and y differ by at most {earlier.largest:.1e}; normalized per feature over the "
            f"context, their xhat would differ by {rival:.2g}."
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
    trained = 0
    width = body.config.n_embd
    for site, trial in zip(all_sites(body.config.n_layer), trials, strict=True):
        module = layer_norm(body, site)
        gain, bias = learned(module, "weight", width), learned(module, "bias", width)
        has[trial.name] = {
            (True, True): "gain and bias",
            (True, False): "gain alone",
            (False, True): "bias alone",
            (False, False): "neither",
        }[gain is not None, bias is not None]
        trained += bool((gain is not None and (gain != 1).any()) or (bias is not None and (bias != 0).any()))
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
            f"y = gain * xhat + bias reproduces every output to {worst:.1e}; gain or bias are learned at {trained} of "
            f"{len(trials)} sites."
        ),
    )


def _relative(one: Floats, other: Floats) -> float:
    return _most(one - other, np.sqrt(np.mean(one**2)))


def _most(difference: Floats, size: Floats) -> float:
    """The largest of the differences, each relative to its size."""
    return float(np.max(_relative_to(np.abs(difference), size)))


def _relative_to(difference: Floats, size: Floats) -> Floats:
    """Each difference relative to its size; none is none, of nothing too."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / size)


# Infinity minus infinity and the like: the record says what is not finite.
@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def try_all(subject: Subject) -> Verification:
    """Try every reading and run every check on one model.

    Args:
        subject: the model and the contexts; the first context stands for all in batch independence and causality.
    """
    body, info = subject.model.body, subject.model.info
    batches, added = minibatches(subject)
    first = subject.contexts[0].token_ids
    watch = Watch(subject.model)
    # Of the contexts that were given: one that was added comes after the only one of them.
    given = slice(None if added is None else len(first))

    def see(passage: Passage) -> None:
        watch.see(Passage(passage.site, passage.x[given], passage.y[given]))

    readings, trials, rounding = try_axes(body, batches, see)
    axis = check_axis(trials, info)
    checks = [
        axis,
        check_batch_independence(body, first),
        check_causality(body, first),
        check_heads(body, readings, trials),
        check_gain_and_bias(body, trials),
    ]
    return Verification(
        model=info,
        bos=subject.bos,
        prompts=subject.prompts,
        companion=added,
        readings=readings,
        rounding=rounding,
        level=LEVEL,
        sites=trials,
        checks=checks,
        behaves_as_gpt2=bool(axis.passed) and all(check.passed is not False for check in checks),
        warnings=watch.flags(),
    )


@checked
def verify(
    prompts: Prompts | None = None,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    **running: Unpack[Running],
) -> Verification:
    """Try every axis that LayerNorm could have on what the model computes; ``gpt2ln verify``.

    Args:
        prompts: as for :func:`gpt2ln_cli.inspect`; None is the bundled sample and a second line.
        model: as for :func:`gpt2ln_cli.inspect`.
        **running: see :class:`gpt2ln_cli.model.subject.Running`.

    Raises:
        UsageError: an argument has no meaning, or the device is not there.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`.
        PromptError: as for :func:`gpt2ln_cli.inspect`.
    """
    subject = prepare(prompt_list(VERIFIED if prompts is None else prompts), as_model(model), **running)
    return strictly(try_all(subject))
