"""What the tour itself claims, beside what the commands do that it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gpt2ln_cli.commands.inspect.record import Inspection
from gpt2ln_cli.commands.params.describe import judge
from gpt2ln_cli.commands.tour.record import Gradients
from gpt2ln_cli.measure.chance import LEVEL, sign_test
from gpt2ln_cli.records import Claim, Verdict

# sigma of xhat where eps is as large as the variance: below, eps and not sigma is what x is divided by.
HALF_EPS = math.sqrt(0.5)


def one_pair_a_token(run: Inspection) -> Claim:
    """Whether what the kernel returned at each site is one pair for each token."""
    counts = run.counts
    return Claim(
        id="tour.one_pair_a_token",
        verdict="yes" if counts.formula_agrees and counts.per_site == counts.tokens else "no",
        statistic=counts.total,
        threshold=counts.formula,
        figures={
            "tokens": counts.tokens,
            "per_site": counts.per_site,
            "per_block": counts.per_block,
            "total": counts.total,
            "formula": counts.formula,
            "sites": counts.sites,
            "blocks": run.model.n_layer,
            "heads": run.model.n_head,
            "features": counts.features,
        },
    )


def gain_and_bias_used(run: Inspection) -> Claim:
    """Whether any gain is other than 1, or any bias other than 0."""
    found = judge(run.sites)
    gains = [site.gain.mean for site in run.sites if site.gain is not None and site.gain.mean is not None]
    sizes = [
        site.rest.post_norm.mean / math.sqrt(run.counts.features)
        for site in run.sites
        if site.rest is not None and site.rest.post_norm.mean is not None
    ]
    return Claim(
        id="tour.gain_and_bias_used",
        verdict="yes" if found.uses_gain_and_bias else "no",
        statistic=max(found.learned_gain, found.learned_bias),
        threshold=1,
        figures={
            "gains": found.learned_gain,
            "biases": found.learned_bias,
            "sites": found.sites,
            "least_gain": min(gains, default=None),
            "most_gain": max(gains, default=None),
            "least": min(sizes, default=None),
            "most": max(sizes, default=None),
        },
    )


def one_size(run: Inspection) -> Claim:
    """Whether every token leaves normalization with a sigma near 1, however large it came."""
    blocks = [site for site in run.sites if site.kind == "ln_1"]
    sigmas = [site.rest.sigma.mean for site in blocks if site.rest is not None and site.rest.sigma.mean is not None]
    every = [part for site in run.sites for part in (site.first, site.rest) if part is not None]
    norms = [part.normalized_norm.min for part in every]
    least = None if None in norms else min(one for one in norms if one is not None) / math.sqrt(run.counts.features)
    return Claim(
        id="tour.one_size",
        verdict=_passes(least, HALF_EPS),
        statistic=least,
        threshold=HALF_EPS,
        figures={
            "smallest": min(sigmas, default=None),
            "largest": max(sigmas, default=None),
            "ratio": max(sigmas) / min(sigmas) if sigmas and min(sigmas) > 0 else None,
            "blocks": len(blocks),
        },
    )


def direction_tells(found: Gradients, tokens: int) -> Claim:
    """Whether the model, whose parts are given directions of one size, predicts better than a guess of any token."""
    guess = math.log(tokens)
    return _by_signs(
        "tour.direction_tells",
        [None if loss is None else guess - loss for loss in found.losses],
        {"loss": _mean(found.losses), "guess": guess, "vocabulary": tokens, "contexts": found.contexts},
    )


def gradients_smaller(found: Gradients) -> Claim:
    """Whether the loss turns less on the first block's input with LayerNorm than with a fixed sigma."""
    ratios = [one.fixed_sigma / one.real if one.real and one.fixed_sigma is not None else None for one in found.blocks]
    later = [ratio for ratio in ratios[1:] if ratio is not None]
    greater = found.blocks[0].greater
    return Claim(
        id="tour.gradients_smaller",
        verdict="can't tell" if ratios[0] is None else _told(greater, found.contexts),
        statistic=greater,
        threshold=_needed(found.contexts),
        level=LEVEL,
        figures={
            "contexts": found.contexts,
            "tokens": found.tokens,
            "ratio": ratios[0],
            "least": min(later, default=None),
            "most": max(later, default=None),
        },
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _by_signs(name: str, differences: Sequence[float | None], figures: dict[str, str | int | float | None]) -> Claim:
    """A claim that contexts are above 0 more often than the toss of a coin makes them."""
    above = sum(one is not None and one > 0 for one in differences)
    return Claim(
        id=name,
        verdict=_told(above, len(differences)) if None not in differences else "can't tell",
        statistic=above,
        threshold=_needed(len(differences)),
        level=LEVEL,
        figures=figures,
    )


def _needed(contexts: int) -> int | None:
    # Chance may take it there, or as far to the other side.
    return sign_test(contexts, LEVEL / 2)


def _told(above: int, contexts: int) -> Verdict:
    needed = _needed(contexts)
    if needed is None or contexts - needed < above < needed:
        return "can't tell"
    return "yes" if above >= needed else "no"


def _passes(value: float | None, threshold: float) -> Verdict:
    return "can't tell" if value is None else "yes" if value >= threshold else "no"
