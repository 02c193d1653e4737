"""The linear probe: whether the sigma that a LayerNorm took from a token can be read from the network again.

Ridge regression of log sigma on the features, tried on tokens that it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2ln_cli.commands.compare.record import LaterProbe, SigmaProbe, SiteProbe
from gpt2ln_cli.commands.compare.sample import TEXTS, Sample
from gpt2ln_cli.commands.compare.undone import see_all
from gpt2ln_cli.measure.chance import permutations
from gpt2ln_cli.measure.ledger import Floats
from gpt2ln_cli.model import Model
from gpt2ln_cli.model.instrument import Passage
from gpt2ln_cli.model.subject import prepare
from gpt2ln_cli.sites import Site

# Penalties tried, as multiples of the number of fitted tokens; features are standardized first.
PENALTIES = 10.0 ** np.arange(-6, 3)
# How often the targets are shuffled, which is a regression each: as many as the level of 1% takes.
SHUFFLED = 99


def r_squared(
    features: NDArray[np.floating[Any]], targets: Floats, held_features: NDArray[np.floating[Any]], held_targets: Floats
) -> Floats:
    """R^2 of :func:`predicted` on the held-out tokens.

    R^2 = 1 - sum (t - prediction)^2 / sum (t - mean t)^2 over the held-out tokens: 1 is perfect, 0 no better than their
    mean, below 0 worse; NaN where there is no prediction, or where the held-out target is not finite or constant.

    Args:
        features: as for :func:`predicted`.
        targets: as for :func:`predicted`.
        held_features: as for :func:`predicted`.
        held_targets: what should be read from those.

    Returns:
        (targets,).
    """
    result: Floats = 1 - _errors(predicted(features, targets, held_features), held_targets).sum(axis=0)
    return result


def predicted(features: NDArray[np.floating[Any]], targets: Floats, held_features: NDArray[np.floating[Any]]) -> Floats:
    """What a ridge regression, fitted on some tokens, says of others.

    Each feature is centered and divided by its standard deviation over the fitted tokens. For each target the penalty
    is the one of ``PENALTIES`` with the least generalized cross-validation error on the fitted tokens,
    n RSS / (n - 1 - df)^2 (Golub, Heath and Wahba, 1979), df being the trace of the hat matrix.

    Args:
        features: of the fitted tokens, (tokens, features).
        targets: what to read from them, (tokens, targets).
        held_features: features of the held-out tokens.

    Returns:
        (held-out tokens, targets); NaN where the features, or that target, are not finite.
    """
    x, held_x = features.astype(np.float64), held_features.astype(np.float64)
    result = np.full((len(held_x), targets.shape[1]), np.nan)
    usable = np.isfinite(targets).all(axis=0)
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
    found = np.zeros((len(held), centered.shape[1]))
    for penalty in PENALTIES * count:
        weights = products / (values + penalty)[:, None]
        freedom = count - 1 - float(np.sum(values / (values + penalty)))
        if freedom <= 0:
            continue
        error = count * np.sum((centered - rotated @ weights) ** 2, axis=0) / freedom**2
        better = error < best
        best[better] = error[better]
        found[:, better] = held @ weights[:, better]
    result[:, usable] = mean + found
    return result


def _errors(predictions: Floats, held: Floats) -> Floats:
    """Squared errors in units of the target's sum of squares about its mean, (tokens, targets)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sum((held - held.mean(axis=0)) ** 2, axis=0)
        errors: Floats = np.where(spread > 0, (held - predictions) ** 2 / spread, np.nan)
    return errors


@dataclass(frozen=True)
class _Sample:
    """One site in some prompts, without position 0 of each: its residual is far larger than any other's."""

    x: NDArray[np.float32]
    """(tokens, features); float32 holds what the model computed, in half the memory."""
    y: NDArray[np.float32]
    log_sigma: Floats
    """(tokens,)."""


def probe_sigma(loaded: Model, sample: Sample, sites: Sequence[Site]) -> SigmaProbe | None:
    """Read log sigma of each site back from y there, and from the residual stream there and at later sites."""
    pieces = sample.pieces
    fitted, held = (_sample(loaded, sites, pieces[start::2]) for start in (0, 1))
    counts = [len(part[sites[0]].x) for part in (fitted, held)]
    if min(counts) < 2:
        return None
    log_sigma, held_log_sigma = (np.stack([part[site].log_sigma for site in sites], axis=1) for part in (fitted, held))
    orders = list(permutations(counts[0], SHUFFLED))
    starts = np.cumsum([0, *(len(piece) - 1 for piece in pieces[1::2])])[:-1]
    read: list[SiteProbe] = []
    # One regression on each site's x reads the sigma of that site and of all before it; and, shuffled, the one before.
    from_x, shuffled, gains = [], [], []
    errors_of_y = np.empty(0)
    for n, site in enumerate(sites):
        targets, wanted = log_sigma[:, : n + 1], held_log_sigma[:, : n + 1]
        if n:
            nulls = np.stack([log_sigma[order, n - 1] for order in orders], axis=1)
            targets = np.concatenate([targets, nulls], axis=1)
            wanted = np.concatenate([wanted, np.repeat(wanted[:, n - 1 : n], SHUFFLED, axis=1)], axis=1)
        errors = _errors(predicted(fitted[site].x, targets, held[site].x), wanted)
        found = 1 - errors.sum(axis=0)
        from_x.append(found[: n + 1])
        if n:
            shuffled.append(found[n + 1 :])
            gains.append(np.add.reduceat(errors_of_y - errors[:, n - 1], starts))
        prediction = predicted(fitted[site].y, log_sigma[:, n : n + 1], held[site].y)
        errors_of_y = _errors(prediction, held_log_sigma[:, n : n + 1])[:, 0]
        read.append(SiteProbe(site=site.name, pre=float(found[n]), post=float(1 - errors_of_y.sum()), later=[]))
    for n, one in enumerate(read):
        one.later.extend(
            LaterProbe(site=sites[m].name, r_squared=float(from_x[m][n])) for m in range(n + 1, len(sites))
        )
    return SigmaProbe(
        texts=list(TEXTS),
        piece=sample.size,
        fitted_tokens=counts[0],
        held_out_tokens=counts[1],
        shuffled=np.median(shuffled, axis=0).tolist() if shuffled else [],
        gains=np.median(gains, axis=0).tolist() if gains else [],
        sites=read,
    )


def _sample(loaded: Model, sites: Sequence[Site], prompts: Sequence[Sequence[int]]) -> dict[Site, _Sample]:
    subject = prepare(prompts, loaded)
    tokens, width = sum(len(prompt) - 1 for prompt in prompts), loaded.lazy_body.config.n_embd
    samples = {
        site: _Sample(np.empty((tokens, width), np.float32), np.empty((tokens, width), np.float32), np.empty(tokens))
        for site in sites
    }
    filled = dict.fromkeys(sites, 0)

    def keep(starts: dict[int, int], passage: Passage) -> None:
        later = np.ones(len(passage.x), dtype=bool)
        later[list(starts.values())] = False
        sample, x = samples[passage.site], passage.x[later]
        part = slice(filled[passage.site], filled[passage.site] + len(x))
        sample.x[part], sample.y[part], sample.log_sigma[part] = x, passage.y[later], np.log(x.std(axis=1))
        filled[passage.site] = part.stop

    see_all(subject, sites, keep)
    return samples
