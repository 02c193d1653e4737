"""The linear probe: whether the sigma that a LayerNorm took from a token can be read from the network again.

Ridge regression of log sigma on the features, tried on tokens that it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gpt2ln_cli.checkpoint.encoding import encode
from gpt2ln_cli.commands.compare.record import LaterProbe, SigmaProbe, SiteProbe
from gpt2ln_cli.commands.compare.undone import see_all
from gpt2ln_cli.measure.ledger import Floats
from gpt2ln_cli.model import Model
from gpt2ln_cli.model.instrument import Passage
from gpt2ln_cli.model.subject import prepare
from gpt2ln_cli.sites import Site
from gpt2ln_cli.text.prompts import HELD_OUT, LONG_SAMPLE, long_sample

# What it is tried on: sample prompts, in pieces of so many tokens.
PROBED, PIECE = (LONG_SAMPLE, HELD_OUT), 128
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


@dataclass(frozen=True)
class _Sample:
    """One site in some prompts, without position 0 of each: its residual is far larger than any other's."""

    x: NDArray[np.float32]
    """(tokens, features); float32 holds what the model computed, in half the memory."""
    y: NDArray[np.float32]
    log_sigma: Floats
    """(tokens,)."""


def probe_sigma(loaded: Model, tokenizer: Tokenizer, sites: Sequence[Site]) -> SigmaProbe | None:
    """Read log sigma of each site back from y there, and from the residual stream there and at later sites."""
    size = min(PIECE, loaded.body.config.n_positions)
    pieces: list[list[int]] = []
    for name in PROBED:
        ids, _ = encode(tokenizer, long_sample(name), f"the passage {name}")
        pieces += [ids[start : start + size] for start in range(0, len(ids), size)]
    fitted, held = (_sample(loaded, sites, pieces[start::2]) for start in (0, 1))
    counts = [len(sample[sites[0]].x) for sample in (fitted, held)]
    if min(counts) < 2:
        return None
    log_sigma, held_log_sigma = (
        np.stack([sample[site].log_sigma for site in sites], axis=1) for sample in (fitted, held)
    )
    # One regression on each site's x reads the sigma of that site and of all before it.
    from_x = [
        r_squared(fitted[site].x, log_sigma[:, : n + 1], held[site].x, held_log_sigma[:, : n + 1])
        for n, site in enumerate(sites)
    ]
    from_y = [
        r_squared(fitted[site].y, log_sigma[:, n : n + 1], held[site].y, held_log_sigma[:, n : n + 1])
        for n, site in enumerate(sites)
    ]
    return SigmaProbe(
        texts=list(PROBED),
        piece=size,
        fitted_tokens=counts[0],
        held_out_tokens=counts[1],
        sites=[
            SiteProbe(
                site=site.name,
                pre=float(from_x[n][n]),
                post=float(from_y[n][0]),
                later=[LaterProbe(site=sites[m].name, r_squared=float(from_x[m][n])) for m in range(n + 1, len(sites))],
            )
            for n, site in enumerate(sites)
        ],
    )


def _sample(loaded: Model, sites: Sequence[Site], prompts: Sequence[Sequence[int]]) -> dict[Site, _Sample]:
    subject = prepare(prompts, loaded)
    tokens, width = sum(len(prompt) - 1 for prompt in prompts), loaded.body.config.n_embd
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
