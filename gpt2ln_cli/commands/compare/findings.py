"""What the numbers of a comparison tell, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gpt2ln_cli.commands.compare.record import ComparedToken, Finding, Setting, SharedDirection, SigmaProbe


def find_discarded(tokens: Sequence[ComparedToken], features: int) -> Finding:
    """Whether LayerNorm takes two numbers of each token, mu and sigma, and no more."""
    each = [one for token in tokens for one in token.sites]
    lost = [one for one in each if not one.rebuilt]
    if not lost:
        return Finding(
            name="discarded",
            holds=True,
            statement=(
                f"x is rebuilt from xhat, mu and sigma to rounding in all {len(each)} cases (off by at most "
                f"{max(_number(one.rebuilt_error) for one in each):.1e} of ||x||): of a token's {features} numbers "
                f"LayerNorm takes two, mu and sigma. mu held at most "
                f"{100 * max(_number(one.mean_share) for one in each):.3g}% of ||x||^2, sigma the rest."
            ),
        )
    worst = max(lost, key=lambda one: _number(one.rebuilt_error))
    return Finding(
        name="discarded",
        holds=False,
        statement=(
            f"in {len(lost)} of {len(each)} cases x is not rebuilt from xhat, mu and sigma (at {worst.site} it is off "
            f"by {_number(worst.rebuilt_error):.2g} of ||x||): more, or something else, is taken there."
        ),
    )


def find_scale(settings: Sequence[Setting], eps: Mapping[str, float]) -> Finding:
    """Whether it brings every token to sigma 1, up to eps."""
    before = after = 1.0
    off = 0.0
    where = ""
    holds = True
    for setting in settings:
        for at_site in zip(*(token.sites for token in setting.tokens), strict=True):
            ratio = _ratio([_number(one.pre.sigma) for one in at_site])
            if ratio > before:
                before, where = ratio, f" (at {at_site[0].site})"
            after = max(after, _ratio([_number(one.normalized.sigma) for one in at_site]))
            for one in at_site:
                sigma = _number(one.sigma)
                scale = np.sqrt(sigma**2 + eps[one.site])
                distance = abs(_number(one.normalized.sigma) - sigma / scale)
                # Of errors of y's features no more can reach sigma of xhat than their root mean square.
                limit = _number(one.rounding) * np.sqrt(sigma**2 + _number(one.mean) ** 2) / scale
                off, holds = max(off, distance), bool(holds and distance <= limit)
    verb = "it is sigma / sqrt(sigma^2 + eps), 1 but for eps" if holds else f"it is off by {off:.2g} from 1 up to eps"
    return Finding(
        name="scale",
        holds=holds,
        statement=(
            f"sigma differs between the tokens by a factor of up to {before:.4g}{where} before, and of {after:.4g} "
            f"after normalization, where {verb}."
        ),
    )


def find_shape(tokens: Sequence[ComparedToken]) -> Finding:
    """Whether it leaves the shape of a token as it is."""
    each = [one for token in tokens for one in token.sites]
    changed = [one for one in each if not one.shape_kept]
    by_normalizing = max(
        abs(_number(one.normalized.excess_kurtosis) - _number(one.pre.excess_kurtosis)) for one in each
    )
    by_gain = max(abs(_number(one.post.excess_kurtosis) - _number(one.pre.excess_kurtosis)) for one in each)
    kept = f"keeps its shape in all {len(each)} cases" if not changed else f"changes its shape in {len(changed)} cases"
    return Finding(
        name="shape",
        holds=not changed,
        statement=(
            f"normalizing a token {kept}: excess kurtosis of x and of xhat differ by at most {by_normalizing:.1e}. "
            f"Gain and bias then change it by up to {by_gain:.3g}."
        ),
    )


def find_gone(probe: SigmaProbe | None, *, asked: bool) -> Finding:
    """Whether what was taken can no longer be read from the network."""
    if probe is None or not any(reading.later for reading in probe.sites):
        missing = "one site alone has no later one"
        if probe is None:
            missing = "no text to try it on" if asked else "the linear probe was left out"
        return Finding(name="not gone", holds=None, statement=f"whether sigma is gone can't be told: {missing}.")
    reads = [reading for reading in probe.sites if reading.later]
    next_better = [one for one in reads if _number(one.later[0].r_squared) > _number(one.post)]
    medians = [
        float(np.median([_number(value) for value in values]))
        for values in (
            [one.post for one in reads],
            [one.later[0].r_squared for one in reads],
            [one.later[-1].r_squared for one in reads],
        )
    ]
    holds = len(next_better) > len(reads) / 2
    answer = "the residual stream keeps sigma" if holds else "the residual stream keeps sigma no better than y"
    return Finding(
        name="not gone",
        holds=holds,
        statement=(
            f"{answer}: on held-out tokens a linear probe reads a site's log sigma from y with R^2 {medians[0]:.3f}, "
            f"from the residual at the next site with {medians[1]:.3f}, at {reads[0].later[-1].site} with "
            f"{medians[2]:.3f} (medians over {len(reads)} sites); at {len(next_better)} of them the next residual "
            "tells more than y."
        ),
    )


def find_shared(context: SharedDirection) -> Finding:
    """Whether the tokens of a context share a direction that normalizing across them would lose."""
    real = [_number(one.real) for one in context.sites]
    # Where all tokens are alike, nothing at all is left across them.
    across = float(np.nanmax([0.0, *(_number(one.across_tokens) for one in context.sites)]))
    middle = float(np.median(real))
    holds = middle > context.unrelated and across < middle
    return Finding(
        name="shared direction",
        holds=holds,
        statement=(
            f"in sequence {context.sequence} the direction that its tokens share holds {100 * middle:.3g}% of their "
            f"||xhat||^2 under the real LayerNorm (median over {len(real)} sites, {100 * min(real):.3g}% to "
            f"{100 * max(real):.3g}%; tokens at right angles would have {100 * context.unrelated:.3g}%), and at most "
            f"{100 * across:.1e}% with each feature normalized across the tokens: what they have in common would be "
            "lost."
        ),
    )


def _ratio(values: Sequence[float]) -> float:
    return float(np.divide(max(values), min(values)))


def _number(value: float | None) -> float:
    return np.nan if value is None else value
