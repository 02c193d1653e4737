"""The axes that a LayerNorm could normalize over, in float64: GPT-2's own, and the rivals that it is taken for."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class Axis(Enum):
    """What one (mean, standard deviation) pair is taken over. The value says it in words."""

    PER_TOKEN = "per token, over its features"
    FEATURE_OVER_CONTEXT = "per feature, over a context's tokens"
    FEATURE_OVER_BATCH = "per feature, over the minibatch"
    WHOLE_CONTEXT = "per context, everything in it"
    WHOLE_BATCH = "once, over the whole minibatch"
    PER_HEAD = "per token and head"
    NOT_CENTERED = "per token, without centering (RMSNorm)"
    SAMPLE_VARIANCE = "per token, dividing by d - 1"


def statistics(axis: Axis, *, tokens: int, sequences: int, features: int, heads: int) -> int:
    """How many statistics one LayerNorm would take, for ``sequences`` contexts of ``tokens`` tokens in all."""
    return {
        Axis.PER_TOKEN: tokens,
        Axis.FEATURE_OVER_CONTEXT: sequences * features,
        Axis.FEATURE_OVER_BATCH: features,
        Axis.WHOLE_CONTEXT: sequences,
        Axis.WHOLE_BATCH: 1,
        Axis.PER_HEAD: tokens * heads,
        Axis.NOT_CENTERED: tokens,
        Axis.SAMPLE_VARIANCE: tokens,
    }[axis]


def normalized(axis: Axis, x: Floats, lengths: Sequence[int], *, heads: int, eps: float) -> Floats:
    """Normalize x over an axis; :func:`standardized` without the scale."""
    xhat, _ = standardized(axis, x, lengths, heads=heads, eps=eps)
    return xhat


def standardized(axis: Axis, x: Floats, lengths: Sequence[int], *, heads: int, eps: float) -> tuple[Floats, Floats]:
    """Normalize x over an axis.

    Args:
        axis: what each mean and variance is taken over.
        x: (tokens, features), the tokens of all sequences in order.
        lengths: tokens of each sequence; they add up to x's.
        heads: attention heads; they divide the features.
        eps: what is added to the variance.

    Returns:
        xhat, (tokens, features), and what x - mu was divided by, which broadcasts with it.
    """
    import numpy as np  # which `count` needs not

    tokens, features = x.shape
    if axis is Axis.PER_TOKEN:
        return _standardized(x, (1,), eps)
    if axis is Axis.SAMPLE_VARIANCE:
        return _standardized(x, (1,), eps, correction=1)
    if axis is Axis.NOT_CENTERED:
        scale = np.sqrt(np.mean(x**2, axis=1, keepdims=True) + eps)
        return x / scale, scale
    if axis is Axis.PER_HEAD:
        xhat, scale = _standardized(x.reshape(tokens, heads, features // heads), (2,), eps)
        return xhat.reshape(tokens, features), np.repeat(scale[:, :, 0], features // heads, axis=1)
    if axis is Axis.FEATURE_OVER_BATCH:
        return _standardized(x, (0,), eps)
    if axis is Axis.WHOLE_BATCH:
        return _standardized(x, (0, 1), eps)
    over = (0,) if axis is Axis.FEATURE_OVER_CONTEXT else (0, 1)
    xhat, scale = np.empty_like(x), np.empty((tokens, features if over == (0,) else 1))
    for end, length in zip(np.cumsum(lengths), lengths, strict=True):
        part = slice(end - length, end)
        xhat[part], scale[part] = _standardized(x[part], over, eps)
    return xhat, scale


def _standardized(x: Floats, axes: tuple[int, ...], eps: float, *, correction: int = 0) -> tuple[Floats, Floats]:
    import numpy as np

    centered = x - x.mean(axis=axes, keepdims=True)
    if correction and x.shape[axes[0]] == 1:
        return np.full_like(x, np.nan), np.full_like(x, np.nan)  # one feature has no sample variance
    scale = np.sqrt(x.var(axis=axes, keepdims=True, ddof=correction) + eps)
    return centered / scale, scale
