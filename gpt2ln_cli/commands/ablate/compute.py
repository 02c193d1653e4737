"""What the model's predictions become when its LayerNorms compute something else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, feature_list, layer_list, prompt_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.ablate.claims import Trial, claims
from gpt2ln_cli.commands.ablate.predictions import Outcome, Predictions, predict
from gpt2ln_cli.commands.ablate.record import Ablated, Ablation
from gpt2ln_cli.commands.ablate.replacements import (
    REAL,
    VARIANTS,
    Place,
    Replacement,
    Variant,
    first_tokens,
    place_of,
    rounded_again,
    without_features,
)
from gpt2ln_cli.errors import PromptError
from gpt2ln_cli.measure.ledger import Floats
from gpt2ln_cli.measure.watching import Watch
from gpt2ln_cli.model import Model, as_model, head_weight
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.model.instrument import Passage, watch
from gpt2ln_cli.model.subject import Layers, Prompts, Running, Steps, Subject, prepare
from gpt2ln_cli.records import Spread, strictly
from gpt2ln_cli.sites import Site, select_sites
from gpt2ln_cli.text.prompts import HELD_OUT, long_sample

if TYPE_CHECKING:
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

FINAL = Site(None, "ln_f")
# Losses differ by rounding where they do by at most so many standard errors of what one more rounding makes of them.
STANDARD_ERRORS = 3


# A residual that has overflowed is what the experiment may find.
@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def replace_all(subject: Subject, sites: Sequence[Site], features: Sequence[int] | None = None) -> Ablation:
    """Replace the chosen LayerNorms in every way of ``VARIANTS`` and compare what the model then predicts.

    Args:
        subject: the model and the contexts.
        sites: the sites to replace, in forward order.
        features: replace them by what they are without these instead.

    Raises:
        PromptError: no context has a next token.
        CheckpointError: the model has no LM head.
    """
    body = subject.model.lazy_body
    ids = [subject.contexts[number].token_ids for batch in subject.batches for number in batch]
    lengths = [len(sequence) for sequence in ids]
    has_next = np.ones(sum(lengths), dtype=bool)
    has_next[np.cumsum(lengths) - 1] = False
    if not has_next.any():
        raise PromptError("every prompt is one token long: there is no next token to predict.")
    head = head_weight(subject.model)
    tried = (rounded_again(body.dtype), *(VARIANTS if features is None else without_features(features)))
    steps = subject.steps(1 + len(tried))

    care = Watch(subject.model)
    sigmas: dict[Site, list[Floats]] = {site: [] for site in sites}

    def see(passage: Passage) -> None:
        if passage.site in sigmas:
            sigmas[passage.site].append(passage.x.std(axis=1))
            care.see(passage)

    watched = list(dict.fromkeys([*sites, FINAL]))
    plain = [_run(body, REAL, {}, batch, watched, steps, see) for batch, _ in subject.passes()]
    places = {site: place_of(body, site, np.concatenate(sigma), lengths) for site, sigma in sigmas.items()}
    # Batch by batch, so that no more than the real model's hidden states is ever kept of all tokens.
    predictions = [Predictions.room_for(sum(lengths)) for _ in (REAL, *tried)]
    done = 0
    for (batch, rows), outcome in zip(subject.passes(), plain, strict=True):
        outcomes = [outcome, *(_run(body, variant, places, batch, [FINAL], steps) for variant in tried)]
        # The token after each; after the last of a sequence comes the next one's first, which `has_next` leaves out.
        targets = torch.tensor(
            np.roll(np.concatenate([context.token_ids for _, context in rows]), -1), device=head.device
        )
        predict(outcomes, targets, head, predictions, done)
        done += len(targets)

    first = np.zeros_like(has_next)
    first[first_tokens(lengths)] = True
    differences = [(predicted.loss - predictions[0].loss)[has_next] for predicted in predictions]
    real, _, *replaced = (
        _describe(variant, predicted, difference, has_next, first)
        for variant, predicted, difference in zip((REAL, *tried), predictions, differences, strict=True)
    )
    moved = differences[1][np.isfinite(differences[1])]
    resolution = float(STANDARD_ERRORS * np.sqrt(np.sum(moved**2)) / max(1, len(moved)))
    causal = [
        (one.loss_difference, one.name) for one in replaced if not one.looks_ahead and one.loss_difference is not None
    ]
    return Ablation(
        model=subject.model.info,
        bos=subject.bos,
        prompts=subject.prompts,
        sites=[site.name for site in sites],
        features=None if features is None else list(features),
        predictions=int(has_next.sum()),
        real=real,
        replaced=replaced,
        resolution=resolution,
        claims=claims(
            real, [Trial(one, each, resolution) for one, each in zip(replaced, differences[2:], strict=True)]
        ),
        lower=[name for difference, name in sorted(causal) if difference < -resolution],
        equal=[name for difference, name in causal if abs(difference) <= resolution],
        warnings=care.flags(),
    )


def _run(
    body: GPT2Model,
    variant: Variant,
    places: Mapping[Site, Place],
    batch: Batch,
    watched: Sequence[Site],
    steps: Steps,
    also: Callable[[Passage], None] = lambda _: None,
) -> Outcome:
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
    output = watch(body, batch, watched, see, replace)
    steps.add(sum(lengths))
    return Outcome(output[real.to(output.device)], residual)


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


def _describe(
    variant: Variant,
    predicted: Predictions,
    difference: Floats,
    has_next: NDArray[np.bool_],
    first: NDArray[np.bool_],
) -> Ablated:
    loss = float(predicted.loss[has_next].mean())
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
    ablated_features: int | str | Sequence[int] | None = None,
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
        ablated_features: features of x, such as 447, or ``"447,138"``, which the LayerNorms are to do without instead:
            in mu, sigma and y; in mu and sigma alone; and in y alone.
        **running: see :class:`gpt2ln_cli.model.subject.Running`; every replacement's passes count as progress.

    Raises:
        UsageError: as for :func:`gpt2ln_cli.inspect`.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`; or there is no LM head.
        PromptError: as for :func:`gpt2ln_cli.inspect`; or every prompt is one token long.
    """
    source = as_model(model)
    chosen = select_sites(source.checkpoint.config.n_layer, layer_list(layers), sites)
    features = feature_list(ablated_features, source.checkpoint.config.n_embd)
    subject = prepare(prompt_list(long_sample(HELD_OUT) if prompts is None else prompts), source, **running)
    return strictly(replace_all(subject, chosen, features))
