"""What the model's predictions become when its LayerNorms compute something else."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, layer_list, prompt_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.ablate.record import Ablated, Ablation
from gpt2ln_cli.errors import PromptError
from gpt2ln_cli.measure.axes import Reading
from gpt2ln_cli.measure.normalizing import normalized
from gpt2ln_cli.measure.rounding import last_place
from gpt2ln_cli.model import Model, as_model, eps_of, head_weight, layer_norm, learned
from gpt2ln_cli.model.instrument import undisturbed
from gpt2ln_cli.model.subject import Layers, Progress, Prompts, Running, Subject, prepare
from gpt2ln_cli.model.tracing import Batch, Floats, Passage, passes, trace
from gpt2ln_cli.model.watching import Watch
from gpt2ln_cli.records import Spread, strictly
from gpt2ln_cli.sites import Site, select_sites
from gpt2ln_cli.text.prompts import HELD_OUT, long_sample

if TYPE_CHECKING:
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

FINAL = Site(None, "ln_f")
# Losses differ by rounding where they do by at most so many standard errors of what one more rounding makes of them.
STANDARD_ERRORS = 3
# Positions whose predictions are held in memory at a time: a row of float64 over the vocabulary each.
CHUNK = 128


@dataclass(frozen=True)
class Place:
    """A site where a replacement stands in, and what it may use there."""

    gain: Floats | float
    """(features,); 1 where the LayerNorm has none."""
    bias: Floats | float
    """(features,); 0 where the LayerNorm has none."""
    heads: int
    eps: float
    sigma_first: float
    """Mean over the sequences of the real model's sigma at position 0."""
    sigma_rest: float
    """Mean of the real model's sigma over all later positions."""
    sigma_pooled: float
    """Mean of the real model's sigma over all positions."""


Replacement = Callable[[Floats, Sequence[int], Place], Floats]


@dataclass(frozen=True)
class Variant:
    """What stands in the place of a LayerNorm."""

    name: str
    formula: str
    looks_ahead: bool
    output: Replacement | None
    """Maps x, (tokens, features), and the sequences' lengths to y; None leaves the LayerNorm as it is."""


def _identity(x: Floats, _lengths: Sequence[int], _place: Place) -> Floats:
    return x


def _as(reading: Reading, *, gain: bool = True, bias: bool = True) -> Replacement:
    def output(x: Floats, lengths: Sequence[int], place: Place) -> Floats:
        xhat = normalized(reading, x, lengths, heads=place.heads, eps=place.eps)
        return (xhat * place.gain if gain else xhat) + (place.bias if bias else 0.0)

    return output


def _fixed_sigma(x: Floats, lengths: Sequence[int], place: Place, *, pooled: bool) -> Floats:
    sigma = np.full((len(x), 1), place.sigma_pooled if pooled else place.sigma_rest)
    if not pooled:
        sigma[_first(lengths)] = place.sigma_first
    xhat = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(sigma**2 + place.eps)
    y: Floats = xhat * place.gain + place.bias
    return y


REAL = Variant("real", "gain (x - mu) / sqrt(sigma^2 + eps) + bias: the model as it is", False, None)
VARIANTS = (
    Variant("identity", "y = x: no LayerNorm, no gain, no bias", False, _identity),
    Variant("RMSNorm", "gain x / sqrt(mean(x^2) + eps) + bias, for each token", False, _as(Reading.NOT_CENTERED)),
    Variant(
        "per feature",
        "mu and sigma of each feature over the context's tokens; gain and bias",
        True,
        _as(Reading.FEATURE_OVER_CONTEXT),
    ),
    Variant(
        "whole context",
        "one mu and one sigma over all features of all the context's tokens; gain and bias",
        True,
        _as(Reading.WHOLE_CONTEXT),
    ),
    Variant("per head", "mu and sigma of each token's d / heads features; gain and bias", False, _as(Reading.PER_HEAD)),
    Variant(
        "fixed sigma",
        "each token's own mu, and for sigma the real model's mean over these prompts, position 0 apart; gain and bias",
        False,
        functools.partial(_fixed_sigma, pooled=False),
    ),
    Variant(
        "fixed sigma, pooled",
        "the same with one mean sigma for all positions",
        False,
        functools.partial(_fixed_sigma, pooled=True),
    ),
    Variant("no gain", "xhat + bias", False, _as(Reading.PER_TOKEN, gain=False)),
    Variant("no bias", "gain xhat", False, _as(Reading.PER_TOKEN, bias=False)),
    Variant("neither", "xhat", False, _as(Reading.PER_TOKEN, gain=False, bias=False)),
)


def _rounded_again(dtype: torch.dtype) -> Variant:
    """The LayerNorm itself, each number of its output moved by up to half a unit of its last place, at random."""
    random, real = np.random.default_rng(0), _as(Reading.PER_TOKEN)

    def output(x: Floats, lengths: Sequence[int], place: Place) -> Floats:
        y = real(x, lengths, place)
        moved: Floats = y + (random.random(y.shape) - 0.5) * last_place(y, dtype)
        return moved

    return Variant("rounded again", "gain xhat + bias, rounded up or down at random", False, output)


@dataclass(frozen=True)
class _Outcome:
    """What a run of one batch left, for the real tokens in the order of its rows."""

    hidden: torch.Tensor
    """Output of ln_f, (tokens, features)."""
    residual: Floats
    """L2 norm of what enters ln_f, (tokens,); finite where all its features are."""


@dataclass(frozen=True)
class _Predictions:
    """Predictions of the token after each token, in float64; meaningless where there is none."""

    loss: Floats
    """Negative log-likelihood of the next token, in nats, (tokens,)."""
    kl: Floats
    """KL(real || this), in nats, (tokens,)."""
    same_top: NDArray[np.bool_]
    finite: NDArray[np.bool_]
    """Whether all logits are."""
    residual: Floats
    """As of the outcome."""

    @classmethod
    def room_for(cls, tokens: int) -> _Predictions:
        """Arrays to be filled, part by part."""
        return cls(
            loss=np.empty(tokens),
            kl=np.empty(tokens),
            same_top=np.empty(tokens, dtype=bool),
            finite=np.empty(tokens, dtype=bool),
            residual=np.empty(tokens),
        )


# A residual that has overflowed is what the experiment may find.
@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def replace_all(subject: Subject, sites: Sequence[Site]) -> Ablation:
    """Replace the chosen LayerNorms in every way of ``VARIANTS`` and compare what the model then predicts.

    Args:
        subject: the model and the contexts.
        sites: the sites to replace, in forward order.

    Raises:
        PromptError: no context has a next token.
        CheckpointError: the model has no LM head.
    """
    body = subject.model.body
    ids = [subject.contexts[number].token_ids for batch in subject.batches for number in batch]
    lengths = [len(sequence) for sequence in ids]
    has_next = np.ones(sum(lengths), dtype=bool)
    has_next[np.cumsum(lengths) - 1] = False
    if not has_next.any():
        raise PromptError("every prompt is one token long: there is no next token to predict.")
    head = head_weight(subject.model)
    tried = (_rounded_again(body.dtype), *VARIANTS)
    steps = _Steps(subject.progress, (1 + len(tried)) * sum(lengths))

    watch = Watch(subject.model)
    sigmas: dict[Site, list[Floats]] = {site: [] for site in sites}

    def see(passage: Passage) -> None:
        if passage.site in sigmas:
            sigmas[passage.site].append(passage.x.std(axis=1))
            watch.see(passage)

    watched = list(dict.fromkeys([*sites, FINAL]))
    plain = [_run(body, REAL, {}, batch, watched, steps, see) for batch, _ in passes(subject)]
    places = {site: _place(body, site, np.concatenate(sigma), lengths) for site, sigma in sigmas.items()}
    # Batch by batch, so that no more than the real model's hidden states is ever kept of all tokens.
    predictions = [_Predictions.room_for(sum(lengths)) for _ in (REAL, *tried)]
    done = 0
    for (batch, rows), outcome in zip(passes(subject), plain, strict=True):
        outcomes = [outcome, *(_run(body, variant, places, batch, [FINAL], steps) for variant in tried)]
        # The token after each; after the last of a sequence comes the next one's first, which `has_next` leaves out.
        targets = torch.tensor(np.roll(np.concatenate([own for _, own in rows]), -1), device=head.device)
        _predict(outcomes, targets, head, predictions, done)
        done += len(targets)

    first = np.zeros_like(has_next)
    first[_first(lengths)] = True
    real, _, *replaced = (
        _describe(variant, predicted, predictions[0], has_next, first)
        for variant, predicted in zip((REAL, *tried), predictions, strict=True)
    )
    assert real.loss is not None
    with np.errstate(invalid="ignore"):
        moved = (predictions[1].loss - predictions[0].loss)[has_next]
    moved = moved[np.isfinite(moved)]
    resolution = float(STANDARD_ERRORS * np.sqrt(np.sum(moved**2)) / max(1, len(moved)))
    causal = [
        (one.loss_difference, one.name) for one in replaced if not one.looks_ahead and one.loss_difference is not None
    ]
    return Ablation(
        model=subject.model.info,
        bos=subject.bos,
        prompts=subject.prompts,
        sites=[site.name for site in sites],
        predictions=int(has_next.sum()),
        real=real,
        replaced=replaced,
        resolution=resolution,
        lower=[name for difference, name in sorted(causal) if difference < -resolution],
        equal=[name for difference, name in causal if abs(difference) <= resolution],
        warnings=watch.flags(),
    )


@dataclass
class _Steps:
    progress: Progress | None
    total: int
    done: int = 0

    def add(self, tokens: int) -> None:
        self.done += tokens
        if self.progress is not None:
            self.progress(self.done, self.total)


def _first(lengths: Sequence[int]) -> NDArray[np.int64]:
    """Where each sequence begins, among the tokens of all."""
    starts: NDArray[np.int64] = np.cumsum([0, *lengths[:-1]])
    return starts


def _place(body: GPT2Model, site: Site, sigma: Floats, lengths: Sequence[int]) -> Place:
    module, config = layer_norm(body, site), body.config
    gain, bias = (learned(module, name, config.n_embd) for name in ("weight", "bias"))
    first = np.zeros(len(sigma), dtype=bool)
    first[_first(lengths)] = True
    return Place(
        gain=1.0 if gain is None else gain,
        bias=0.0 if bias is None else bias,
        heads=config.n_head,
        eps=eps_of(body, site),
        sigma_first=float(sigma[first].mean()),
        sigma_rest=float(sigma[~first].mean()),
        sigma_pooled=float(sigma.mean()),
    )


def _run(
    body: GPT2Model,
    variant: Variant,
    places: Mapping[Site, Place],
    batch: Batch,
    watched: Sequence[Site],
    steps: _Steps,
    also: Callable[[Passage], None] = lambda _: None,
) -> _Outcome:
    """Run a batch with the variant in its places; ``also`` is shown the watched sites' passages."""
    residual = np.empty(0)

    def see(passage: Passage) -> None:
        nonlocal residual
        if passage.site == FINAL:
            residual = np.linalg.norm(passage.x, axis=1)
        also(passage)

    real = batch.mask.bool()
    lengths = real.sum(dim=1).tolist()
    replace = {
        site: _forward(variant.output, place, real, lengths)
        for site, place in places.items()
        if variant.output is not None
    }
    output = trace(body, batch, watched, see, replace)
    steps.add(sum(lengths))
    return _Outcome(output[real.to(output.device)], residual)


def _forward(
    replacement: Replacement, place: Place, real: torch.Tensor, lengths: Sequence[int]
) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        tokens = real.to(x.device)
        y = replacement(x[tokens].double().cpu().numpy(), lengths, place)
        output = torch.zeros_like(x)
        output[tokens] = torch.from_numpy(y).to(x)
        return output

    return forward


def _predict(
    outcomes: Sequence[_Outcome],
    targets: torch.Tensor,
    head: torch.Tensor,
    predictions: Sequence[_Predictions],
    first: int,
) -> None:
    """Predict from every outcome of a batch, and hold it against the first's.

    Args:
        outcomes: of the batch.
        targets: the token after each.
        head: (vocabulary, features).
        predictions: of each outcome, to be filled. What is kept must not be made between tensors over the vocabulary:
            it would stand between them on the heap, and nothing large would fit where something large was.
        first: where in them the batch's tokens begin.
    """
    with undisturbed(head.device):
        for start in range(0, len(targets), CHUNK):
            chunk = slice(start, start + CHUNK)
            real: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
            for outcome, predicted in zip(outcomes, predictions, strict=True):
                logits = torch.nn.functional.linear(outcome.hidden[chunk], head)
                finite, top = logits.isfinite().all(dim=-1), logits.argmax(dim=-1)
                log_probability = logits.log_softmax(dim=-1, dtype=torch.float64)
                del logits
                loss = -log_probability.gather(1, targets[chunk, None])[:, 0]
                real = (log_probability, log_probability.exp(), top) if real is None else real
                # In place: a row over the vocabulary is what takes the memory here.
                kl = (real[0] - log_probability).mul_(real[1]).sum(dim=-1)
                part = slice(first + start, first + start + len(top))
                predicted.loss[part] = loss.cpu().numpy()
                predicted.kl[part] = kl.cpu().numpy()
                predicted.same_top[part] = ((top == real[2]) & finite).cpu().numpy()
                predicted.finite[part] = finite.cpu().numpy()
                predicted.residual[part] = outcome.residual[chunk]


def _describe(
    variant: Variant,
    predicted: _Predictions,
    real: _Predictions,
    has_next: NDArray[np.bool_],
    first: NDArray[np.bool_],
) -> Ablated:
    loss = float(predicted.loss[has_next].mean())
    difference = (predicted.loss - real.loss)[has_next]
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else np.nan
    return Ablated(
        name=variant.name,
        formula=variant.formula,
        looks_ahead=variant.looks_ahead,
        loss=loss,
        perplexity=float(np.exp(loss)),
        loss_difference=float(difference.mean()),
        standard_error=float(error),
        kl=float(predicted.kl[has_next].mean()),
        same_top=float(predicted.same_top[has_next].mean()),
        residual_first=_spread(predicted.residual[first]),
        residual_rest=_spread(predicted.residual[~first]),
        overflowed=int((~(np.isfinite(predicted.residual) & predicted.finite)).sum()),
    )


def _spread(values: Floats) -> Spread:
    return Spread(mean=float(values.mean()), min=float(values.min()), max=float(values.max()))


@checked
def ablate(
    prompts: Prompts | None = None,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    **running: Unpack[Running],
) -> Ablation:
    """Replace LayerNorms by something else and measure what the model then predicts; ``gpt2ln ablate``.

    The weights were trained with the real LayerNorm: a replacement shows what this model depends on, not what a model
    trained with it could have learned.

    Args:
        prompts: as for :func:`gpt2ln_cli.inspect`; None is a bundled passage that the bundled model was not trained on.
        model: as for :func:`gpt2ln_cli.inspect`.
        layers: the layers whose LayerNorms are replaced, as for :func:`gpt2ln_cli.inspect`.
        sites: the kinds that are replaced, as for :func:`gpt2ln_cli.inspect`.
        **running: see :class:`gpt2ln_cli.model.subject.Running`; every replacement's passes count as progress.

    Raises:
        UsageError: as for :func:`gpt2ln_cli.inspect`.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`; or there is no LM head.
        PromptError: as for :func:`gpt2ln_cli.inspect`; or every prompt is one token long.
    """
    source = as_model(model)
    chosen = select_sites(source.checkpoint.config.n_layer, layer_list(layers), sites)
    subject = prepare(prompt_list(long_sample(HELD_OUT) if prompts is None else prompts), source, **running)
    return strictly(replace_all(subject, chosen))
