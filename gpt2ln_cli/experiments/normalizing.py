"""xhat under every reading of "LayerNorm", in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2ln_cli.readings import Reading

Floats = NDArray[np.float64]


def normalized(reading: Reading, x: Floats, lengths: Sequence[int], *, heads: int, eps: float) -> Floats:
    """Normalize x as the reading would have it.

    Args:
        reading: what each mean and variance is taken over.
        x: (tokens, features), the tokens of all sequences in order.
        lengths: tokens of each sequence; they add up to x's.
        heads: attention heads; they divide the features.
        eps: what is added to the variance.

    Returns:
        xhat, (tokens, features).
    """
    tokens, features = x.shape
    if reading is Reading.PER_TOKEN:
        return _standardized(x, (1,), eps)
    if reading is Reading.SAMPLE_VARIANCE:
        return _standardized(x, (1,), eps, correction=1)
    if reading is Reading.NOT_CENTERED:
        scaled: Floats = x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + eps)
        return scaled
    if reading is Reading.PER_HEAD:
        split = x.reshape(tokens, heads, features // heads)
        return _standardized(split, (2,), eps).reshape(tokens, features)
    if reading is Reading.FEATURE_OVER_BATCH:
        return _standardized(x, (0,), eps)
    if reading is Reading.WHOLE_BATCH:
        return _standardized(x, (0, 1), eps)
    axes = (0,) if reading is Reading.FEATURE_OVER_CONTEXT else (0, 1)
    ends = np.cumsum(lengths)[:-1]
    return np.concatenate([_standardized(part, axes, eps) for part in np.split(x, ends)])


def _standardized(x: Floats, axes: tuple[int, ...], eps: float, *, correction: int = 0) -> Floats:
    centered = x - x.mean(axis=axes, keepdims=True)
    if correction and x.shape[axes[0]] == 1:
        return np.full_like(x, np.nan)  # one feature has no sample variance
    variance = x.var(axis=axes, keepdims=True, ddof=correction)
    standardized: Floats = centered / np.sqrt(variance + eps)
    return standardized
