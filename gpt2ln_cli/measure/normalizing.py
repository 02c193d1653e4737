"""xhat under every reading of "LayerNorm", in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2ln_cli.measure.axes import Reading

Floats = NDArray[np.float64]


def normalized(reading: Reading, x: Floats, lengths: Sequence[int], *, heads: int, eps: float) -> Floats:
    """Normalize x as the reading would have it; :func:`standardized` without the scale."""
    xhat, _ = standardized(reading, x, lengths, heads=heads, eps=eps)
    return xhat


def standardized(
    reading: Reading, x: Floats, lengths: Sequence[int], *, heads: int, eps: float
) -> tuple[Floats, Floats]:
    """Normalize x as the reading would have it.

    Args:
        reading: what each mean and variance is taken over.
        x: (tokens, features), the tokens of all sequences in order.
        lengths: tokens of each sequence; they add up to x's.
        heads: attention heads; they divide the features.
        eps: what is added to the variance.

    Returns:
        xhat, (tokens, features), and what x - mu was divided by, which broadcasts with it.
    """
    tokens, features = x.shape
    if reading is Reading.PER_TOKEN:
        return _standardized(x, (1,), eps)
    if reading is Reading.SAMPLE_VARIANCE:
        return _standardized(x, (1,), eps, correction=1)
    if reading is Reading.NOT_CENTERED:
        scale = np.sqrt(np.mean(x**2, axis=1, keepdims=True) + eps)
        return x / scale, scale
    if reading is Reading.PER_HEAD:
        xhat, scale = _standardized(x.reshape(tokens, heads, features // heads), (2,), eps)
        return xhat.reshape(tokens, features), np.repeat(scale[:, :, 0], features // heads, axis=1)
    if reading is Reading.FEATURE_OVER_BATCH:
        return _standardized(x, (0,), eps)
    if reading is Reading.WHOLE_BATCH:
        return _standardized(x, (0, 1), eps)
    axes = (0,) if reading is Reading.FEATURE_OVER_CONTEXT else (0, 1)
    xhat, scale = np.empty_like(x), np.empty((tokens, features if axes == (0,) else 1))
    for end, length in zip(np.cumsum(lengths), lengths, strict=True):
        part = slice(end - length, end)
        xhat[part], scale[part] = _standardized(x[part], axes, eps)
    return xhat, scale


def _standardized(x: Floats, axes: tuple[int, ...], eps: float, *, correction: int = 0) -> tuple[Floats, Floats]:
    centered = x - x.mean(axis=axes, keepdims=True)
    if correction and x.shape[axes[0]] == 1:
        return np.full_like(x, np.nan), np.full_like(x, np.nan)  # one feature has no sample variance
    scale = np.sqrt(x.var(axis=axes, keepdims=True, ddof=correction) + eps)
    return centered / scale, scale
