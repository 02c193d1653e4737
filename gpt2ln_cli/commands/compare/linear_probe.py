"""Ridge regression that is tried on tokens it was not fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Penalties tried, as multiples of the number of fitted tokens; features are standardized first.
PENALTIES = 10.0 ** np.arange(-6, 3)


def r_squared(
    features: NDArray[np.floating[Any]], targets: Floats, held_features: NDArray[np.floating[Any]], held_targets: Floats
) -> Floats:
    """R^2 on held-out tokens of a ridge regression that is fitted on others.

    Each feature is centered and divided by its standard deviation over the fitted tokens. For each target the penalty
    is the one of ``PENALTIES`` with the least generalized cross-validation error on the fitted tokens,
    n RSS / (n - 1 - df)^2 (Golub, Heath and Wahba, 1979), df being the trace of the hat matrix.
    R^2 = 1 - sum (t - prediction)^2 / sum (t - mean t)^2 over the held-out tokens: 1 is perfect, 0 no better than their
    mean, below 0 worse.

    Args:
        features: of the fitted tokens, (tokens, features).
        targets: what to read from them, (tokens, targets).
        held_features: features of the held-out tokens.
        held_targets: what should be read from those.

    Returns:
        (targets,); NaN where the features, or that target, are not finite, or where the held-out target is constant.
    """
    x, held_x = features.astype(np.float64), held_features.astype(np.float64)
    result = np.full(targets.shape[1], np.nan)
    usable = np.isfinite(targets).all(axis=0) & np.isfinite(held_targets).all(axis=0)
    if not (np.isfinite(x).all() and np.isfinite(held_x).all() and usable.any()):
        return result
    count = len(x)
    scale = x.std(axis=0)
    scale[scale == 0] = 1.0
    z = (x - x.mean(axis=0)) / scale
    mean = targets[:, usable].mean(axis=0)
    centered = targets[:, usable] - mean
    values, vectors = np.linalg.eigh(z.T @ z)
    values = np.maximum(values, 0.0)
    rotated, held = z @ vectors, (held_x - x.mean(axis=0)) / scale @ vectors
    products = rotated.T @ centered
    best = np.full(centered.shape[1], np.inf)
    predicted = np.zeros((len(held), centered.shape[1]))
    for penalty in PENALTIES * count:
        weights = products / (values + penalty)[:, None]
        freedom = count - 1 - float(np.sum(values / (values + penalty)))
        if freedom <= 0:
            continue
        error = count * np.sum((centered - rotated @ weights) ** 2, axis=0) / freedom**2
        better = error < best
        best[better] = error[better]
        predicted[:, better] = (held @ weights)[:, better]
    wanted = held_targets[:, usable]
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sum((wanted - wanted.mean(axis=0)) ** 2, axis=0)
        result[usable] = np.where(spread > 0, 1 - np.sum((wanted - mean - predicted) ** 2, axis=0) / spread, np.nan)
    return result
