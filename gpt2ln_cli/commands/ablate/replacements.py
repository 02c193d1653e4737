"""What may stand in the place of a LayerNorm."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2ln_cli.measure.axes import Axis, normalized
from gpt2ln_cli.measure.ledger import Floats
from gpt2ln_cli.measure.rounding import last_place
from gpt2ln_cli.model import eps_of, layer_norm, learned
from gpt2ln_cli.sites import Site

if TYPE_CHECKING:
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model


# Of features.
WITHOUT_EFFECT, OUT_OF_SIGMA, SILENT = "without effect", "out of sigma", "silent"


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


def _as(axis: Axis, *, gain: bool = True, bias: bool = True) -> Replacement:
    def output(x: Floats, lengths: Sequence[int], place: Place) -> Floats:
        xhat = normalized(axis, x, lengths, heads=place.heads, eps=place.eps)
        return (xhat * place.gain if gain else xhat) + (place.bias if bias else 0.0)

    return output


def _fixed_sigma(x: Floats, lengths: Sequence[int], place: Place, *, pooled: bool) -> Floats:
    sigma = np.full((len(x), 1), place.sigma_pooled if pooled else place.sigma_rest)
    if not pooled:
        sigma[first_tokens(lengths)] = place.sigma_first
    xhat = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(sigma**2 + place.eps)
    y: Floats = xhat * place.gain + place.bias
    return y


REAL = Variant("real", "gain (x - mu) / sqrt(sigma^2 + eps) + bias", False, None)
VARIANTS = (
    Variant("identity", "y = x: no LayerNorm, no gain, no bias", False, _identity),
    Variant("RMSNorm", "gain x / sqrt(mean(x^2) + eps) + bias, for each token", False, _as(Axis.NOT_CENTERED)),
    Variant(
        "per feature",
        "mu and sigma of each feature over the context's tokens",
        True,
        _as(Axis.FEATURE_OVER_CONTEXT),
    ),
    Variant(
        "whole context",
        "one mu and one sigma over everything in the context",
        True,
        _as(Axis.WHOLE_CONTEXT),
    ),
    Variant("per head", "mu and sigma of each token's d / heads features", False, _as(Axis.PER_HEAD)),
    Variant(
        "fixed sigma",
        "its own mu; the real model's mean sigma, position 0 apart",
        False,
        functools.partial(_fixed_sigma, pooled=False),
    ),
    Variant(
        "fixed sigma, pooled",
        "its own mu; the real model's mean sigma of all positions",
        False,
        functools.partial(_fixed_sigma, pooled=True),
    ),
    Variant("no gain", "xhat + bias", False, _as(Axis.PER_TOKEN, gain=False)),
    Variant("no bias", "gain xhat", False, _as(Axis.PER_TOKEN, bias=False)),
    Variant("neither", "xhat", False, _as(Axis.PER_TOKEN, gain=False, bias=False)),
)


def without_features(features: Sequence[int]) -> tuple[Variant, ...]:
    """The LayerNorm without some features: in mu, sigma and y, in mu and sigma alone, and in y alone."""
    chosen = list(features)

    def apart(x: Floats) -> Floats:
        return np.delete(x, chosen, axis=1)

    def without_effect(x: Floats, lengths: Sequence[int], place: Place) -> Floats:
        changed = x.copy()
        changed[:, chosen] = apart(x).mean(axis=1, keepdims=True)
        return _as(Axis.PER_TOKEN)(changed, lengths, place)

    def out_of_sigma(x: Floats, _lengths: Sequence[int], place: Place) -> Floats:
        others = apart(x)
        sigma = np.sqrt(others.var(axis=1, keepdims=True) + place.eps)
        y: Floats = (x - others.mean(axis=1, keepdims=True)) / sigma * place.gain + place.bias
        return y

    def silent(x: Floats, lengths: Sequence[int], place: Place) -> Floats:
        y = _as(Axis.PER_TOKEN)(x, lengths, place)
        y[:, chosen] = 0.0
        return y

    return (
        Variant(WITHOUT_EFFECT, "x_j set to the mean of the other features", False, without_effect),
        Variant(OUT_OF_SIGMA, "mu and sigma of the other features, x_j passed on", False, out_of_sigma),
        Variant(SILENT, "gain and bias 0 there", False, silent),
    )


def rounded_again(dtype: torch.dtype) -> Variant:
    """The LayerNorm itself, each number of its output moved by up to half a unit of its last place, at random."""
    random, real = np.random.default_rng(0), _as(Axis.PER_TOKEN)

    def output(x: Floats, lengths: Sequence[int], place: Place) -> Floats:
        y = real(x, lengths, place)
        moved: Floats = y + (random.random(y.shape) - 0.5) * last_place(y, dtype)
        return moved

    return Variant("rounded again", "gain xhat + bias, rounded up or down at random", False, output)


def first_tokens(lengths: Sequence[int]) -> NDArray[np.int64]:
    """Where each sequence begins, among the tokens of all."""
    starts: NDArray[np.int64] = np.cumsum([0, *lengths[:-1]])
    return starts


def place_of(body: GPT2Model, site: Site, sigma: Floats, lengths: Sequence[int]) -> Place:
    """A site's place, from the real model's sigma of the tokens of all sequences."""
    module, config = layer_norm(body, site), body.config
    gain, bias = (learned(module, name, config.n_embd) for name in ("weight", "bias"))
    first = np.zeros(len(sigma), dtype=bool)
    first[first_tokens(lengths)] = True
    return Place(
        gain=1.0 if gain is None else gain,
        bias=0.0 if bias is None else bias,
        heads=config.n_head,
        eps=eps_of(body, site),
        sigma_first=float(sigma[first].mean()),
        sigma_rest=float(sigma[~first].mean()),
        sigma_pooled=float(sigma.mean()),
    )
