"""What chance alone reaches: null distributions, and the thresholds that they give.

What is drawn is drawn by a generator with a fixed seed, so that a run gives the same verdicts again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from math import comb
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from gpt2ln_cli.measure.ledger import Floats

# Of a claim, unless the draws are too few for it.
LEVEL = 0.01
# Draws of a null distribution: of 199, two lie above the threshold at the level of 1%.
DRAWS = 199
SEED = 20
# Up to so many pairs all their signs are tried, beyond it some.
ALL_SIGNS = 12
# Beyond so many degrees of freedom Student's t is within two thousandths of a normal distribution.
MANY = 1000


def generator() -> np.random.Generator:
    """What the draws of one null distribution come from."""
    return np.random.default_rng(SEED)


def least_level(draws: int) -> float:
    """The least level that so many draws can give, or ``LEVEL`` where that is more."""
    return max(LEVEL, 1 / (draws + 1))


def upper_threshold(draws: NDArray[np.floating], level: float = LEVEL) -> float:
    """What a further draw of the same distribution exceeds with a probability of at most ``level``, whatever it is.

    The rank of a further draw among n + 1 is uniform, so the threshold is the ceil((1 - level) (n + 1))-th least of the
    n; infinity where they are too few.
    """
    ranked = np.sort(np.asarray(draws, dtype=np.float64))
    if np.isnan(ranked).any():
        return float("nan")
    # A rounding error must not become a rank.
    rank = int(np.ceil(round((1 - level) * (len(ranked) + 1), 9)))
    return float(ranked[rank - 1]) if rank <= len(ranked) else float("inf")


def lower_threshold(draws: NDArray[np.floating], level: float = LEVEL) -> float:
    """What a further draw of the same distribution falls below with a probability of at most ``level``."""
    return -upper_threshold(-np.asarray(draws, dtype=np.float64), level)


def permutations(size: int, draws: int = DRAWS) -> Iterator[NDArray[np.int64]]:
    """Orders of ``size`` things, each as likely as any other."""
    random = generator()
    return (random.permutation(size) for _ in range(draws))


def sign_flips(differences: Floats, draws: int = 999) -> Floats:
    """Means of the differences with signs at random: what they come to where neither of each pair is the greater.

    All other combinations of signs where the pairs are few, so that the level is exact; or else ``draws`` of them.
    """
    count = len(differences)
    if count <= ALL_SIGNS:
        # The first has all signs as they are, which is what was measured and no draw.
        signs = 1 - 2 * ((np.arange(1, 2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = generator().choice([-1, 1], size=(draws, count))
    means: Floats = signs @ differences / count
    return means


def bootstrap_interval(
    values: Floats,
    statistic: Callable[[Floats], float] = lambda drawn: float(np.mean(drawn)),
    *,
    level: float = LEVEL,
    draws: int = 1999,
) -> tuple[float, float]:
    """The percentile interval of a statistic, which misses it with a probability of about ``level``, both sides in all.

    Args:
        values: one for each independent unit, such as a sequence; those that depend on one another go in together as
            a row.
        statistic: of as many values, drawn with replacement.
        level: the probability.
        draws: how many samples are drawn.
    """
    random = generator()
    found = [statistic(values[random.integers(len(values), size=len(values))]) for _ in range(draws)]
    low, high = np.quantile(found, [level / 2, 1 - level / 2])
    return float(low), float(high)


def sign_test(trials: int, level: float = LEVEL) -> int | None:
    """The least number of wins that a fair coin reaches in so many trials with a probability of at most ``level``.

    None where even all of them are more likely than that.
    """
    tail, wins = 0, trials + 1
    while wins and tail + comb(trials, wins - 1) <= level * 2**trials:
        wins -= 1
        tail += comb(trials, wins)
    return wins if wins <= trials else None


def two_samples(first: int, second: int, level: float = LEVEL) -> float:
    """What the largest distance between the distribution functions of two samples of one thing exceeds by chance.

    That of Kolmogorov and Smirnov, at sizes where its limit holds (from about ten each).

    Args:
        first: independent values in one sample.
        second: in the other.
        level: the probability.
    """
    return math.sqrt(-math.log(level / 2) / 2 * (first + second) / (first * second))


def mean_bound(values: Floats, level: float) -> float:
    """What the mean over tokens of something that is 0 in the long run exceeds, in either direction, by chance.

    Neighbouring tokens are alike: their spread alone would make the bound too narrow, by up to a half on ``demo``. So
    the means of blocks of consecutive tokens are taken, n^(1/3) tokens each, and Student's t over the blocks.

    Args:
        values: one for each token, in the order of the text.
        level: the probability.

    Returns:
        The bound; NaN where there are fewer than two blocks.
    """
    length = max(1, round(len(values) ** (1 / 3)))
    whole = len(values) // length
    if whole < 2:
        return math.nan
    blocks = np.array([block.mean() for block in np.array_split(values, whole)])
    return student(1 - level / 2, whole - 1) * float(blocks.std(ddof=1)) / math.sqrt(whole)


@cache
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
