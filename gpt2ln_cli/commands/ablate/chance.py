"""How far the mean of differences between neighbouring tokens may be from 0 by chance."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from gpt2ln_cli.measure.ledger import Floats

# Beyond so many degrees of freedom Student's t is within a thousandth of a normal distribution.
MANY = 1000


def bound(differences: Floats, level: float) -> float:
    """What the mean of differences whose true mean is 0 exceeds in either direction with probability ``level``.

    Neighbouring tokens are alike: their spread alone would make the bound too narrow, by up to a half on ``demo``. So
    the means of blocks of consecutive tokens are taken, n^(1/3) tokens each, and Student's t over the blocks.

    Args:
        differences: one for each token, in the order of the text.
        level: the probability.

    Returns:
        The bound; NaN where there are fewer than two blocks.
    """
    length = max(1, round(len(differences) ** (1 / 3)))
    whole = len(differences) // length
    if whole < 2:
        return math.nan
    blocks = np.array([block.mean() for block in np.array_split(differences, whole)])
    return student(1 - level / 2, whole - 1) * float(blocks.std(ddof=1)) / math.sqrt(whole)


def student(probability: float, freedom: int) -> float:
    """Quantile of Student's t distribution.

    With t = sqrt(v) tan(angle) its density is that of cos(angle)^(v - 1).

    Args:
        probability: to be below the quantile.
        freedom: degrees of freedom.
    """
    if freedom > MANY:
        return NormalDist().inv_cdf(probability)
    angle = np.linspace(-math.pi / 2, math.pi / 2, 100_001)
    density = np.cos(angle) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(freedom) * math.tan(np.interp(probability, below / below[-1], angle))
