"""What the numbers of a comparison say to each claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gpt2ln_cli.commands.compare.record import ComparedToken, Setting, SharedDirection, SigmaProbe, TokenAtSite
from gpt2ln_cli.measure.chance import least_level, lower_threshold, sign_flips, upper_threshold
from gpt2ln_cli.measure.ledger import Floats
from gpt2ln_cli.records import Claim, Verdict

# A stream keeps sigma where a linear reader finds more than half of its variance there.
MOST = 0.5


def discarded(tokens: Sequence[ComparedToken], features: int) -> Claim:
    """Whether LayerNorm takes two numbers of each token, mu and sigma, and no more."""
    each = [one for token in tokens for one in token.sites]
    lost = [one for one in each if not one.rebuilt]
    worst = max(each, key=lambda one: (not one.rebuilt, _number(one.rebuilt_error)))
    return Claim(
        id="compare.two_numbers_discarded",
        verdict="no" if lost else "yes",
        statistic=len(lost),
        threshold=0,
        figures={
            "cases": len(each),
            "features": features,
            "worst": worst.site,
            "error": worst.rebuilt_error,
            "mean_share": max(_number(one.mean_share) for one in each),
        },
    )


def equalized(settings: Sequence[Setting], eps: Mapping[str, float]) -> Claim:
    """Whether it brings every token to sigma 1, up to eps."""
    before = after = 1.0
    furthest, where, off = 0.0, "", 0.0
    for at_site in (each for one in settings for each in zip(*(token.sites for token in one.tokens), strict=True)):
        ratio = _ratio([_number(one.pre.sigma) for one in at_site])
        if ratio > before or not where:
            before, where = ratio, at_site[0].site
        after = max(after, _ratio([_number(one.normalized.sigma) for one in at_site]))
        for one in at_site:
            sigma = _number(one.sigma)
            scale = np.sqrt(sigma**2 + eps[one.site])
            distance = abs(_number(one.normalized.sigma) - sigma / scale)
            # Of errors of y's features no more can reach sigma of xhat than their root mean square.
            limit = _number(one.rounding) * np.sqrt(sigma**2 + _number(one.mean) ** 2) / scale
            furthest, off = max(furthest, _of(distance, limit)), max(off, float(distance))
    return Claim(
        id="compare.scale_equalized",
        verdict=_verdict(furthest, furthest <= 1),
        statistic=furthest,
        threshold=1,
        figures={"before": before, "where": where, "after": after, "off": off},
    )


def shape_kept(tokens: Sequence[ComparedToken]) -> Claim:
    """Whether it leaves the shape of a token as it is."""
    each = [one for token in tokens for one in token.sites]
    changed = sum(not one.shape_kept for one in each)
    return Claim(
        id="compare.shape_kept",
        verdict="no" if changed else "yes",
        statistic=changed,
        threshold=0,
        figures={
            "cases": len(each),
            "by_normalizing": max(abs(_kurtosis(one, "normalized") - _kurtosis(one, "pre")) for one in each),
            "by_gain": max(abs(_kurtosis(one, "post") - _kurtosis(one, "pre")) for one in each),
        },
    )


def stream_keeps_sigma(probe: SigmaProbe | None, *, asked: bool) -> Claim:
    """Whether a linear reader finds what was taken in the residual stream, more than chance gives it and than in y."""
    reads = [reading for reading in probe.sites if reading.later] if probe is not None else []
    if probe is None or not reads:
        why = "one site alone has no later one"
        if probe is None:
            why = "there is no text to try it on" if asked else "the linear probe was left out"
        return Claim(
            id="compare.stream_keeps_sigma", verdict="can't tell", statistic=None, threshold=None, figures={"why": why}
        )
    following = [_number(one.later[0].r_squared) for one in reads]
    level = least_level(len(probe.shuffled))
    chance = upper_threshold(_numbers(probe.shuffled), level)
    gains = _numbers(probe.gains)
    flips = sign_flips(gains)
    gain, sure = float(gains.mean()), least_level(len(flips))
    statistic, threshold = float(np.median(following)), max(MOST, chance)
    verdict: Verdict = "can't tell"
    if statistic <= threshold or gain < lower_threshold(flips, sure):
        verdict = "no"
    elif statistic > threshold and gain > upper_threshold(flips, sure):
        verdict = "yes"
    return Claim(
        id="compare.stream_keeps_sigma",
        verdict=verdict,
        statistic=statistic,
        threshold=threshold,
        level=max(level, sure),
        figures={
            "why": "the difference to what y tells of it is no greater than chance gives",
            "sites": len(reads),
            "chance": chance,
            "post": float(np.median([_number(one.post) for one in reads])),
            "last": float(np.median([_number(one.later[-1].r_squared) for one in reads])),
            "last_site": reads[0].later[-1].site,
            "better": sum(one > _number(read.post) for one, read in zip(following, reads, strict=True)),
            "gain": gain,
            "gain_chance": upper_threshold(flips, sure),
        },
    )


def greater(setting: Setting) -> Iterable[Claim]:
    """Whether each further word has the greater sigma, and the greater kurtosis, than the first; all alike but it."""
    first = setting.tokens[0]
    random = setting.random
    for token in setting.tokens[1:]:
        pairs = list(zip(first.sites, token.sites, strict=True))
        ratios = [np.log(np.divide(_number(b.pre.sigma), _number(a.pre.sigma))) for a, b in pairs]
        differences = [_kurtosis(b, "pre") - _kurtosis(a, "pre") for a, b in pairs]
        for name, each, reach in (
            ("sigma", ratios, None if random is None else random.sigma),
            ("kurtosis", differences, None if random is None else random.kurtosis),
        ):
            middle = float(np.median(each))
            threshold = reach
            verdict: Verdict = "can't tell"
            why = "they are not one token each in the same place"
            if threshold is not None:
                verdict = "yes" if middle > threshold else "no" if middle < -threshold else "can't tell"
                why = "two random words in that place differ by as much"
            elif setting.alike:
                why = "there are no other words to hold it against"
            yield Claim(
                id=f"compare.greater_{name}",
                verdict=verdict,
                statistic=middle,
                threshold=threshold,
                level=None if random is None else random.level,
                figures={
                    "first": _named(first),
                    "second": _named(token),
                    "sites": len(each),
                    "greater": sum(bool(one > 0) for one in each),
                    "difference": float(np.exp(middle)) if name == "sigma" else middle,
                    "reach": float(np.exp(threshold)) if name == "sigma" and threshold is not None else threshold,
                    "why": why,
                },
            )


def shared(context: SharedDirection) -> Iterable[Claim]:
    """Whether the tokens of a context share a direction, more of it than any tokens, and what is left across them."""
    real = [_number(one.real) for one in context.sites]
    # Where all tokens are alike, nothing at all is left across them.
    across = max([0.0, *(_number(one.across_tokens) for one in context.sites if one.across_tokens is not None)])
    middle, reach = float(np.median(real)), _number(context.shuffled.upper)
    least = max(reach, context.unrelated)
    figures: dict[str, str | int | float | None] = {
        "sequence": context.sequence,
        "sites": len(real),
        "lowest": min(real),
        "highest": max(real),
        "unrelated": context.unrelated,
        "shuffled": context.shuffled.upper,
    }
    yield Claim(
        id="compare.tokens_share_direction",
        verdict=_verdict(middle - least, middle > least),
        statistic=middle,
        threshold=least,
        level=context.shuffled.level,
        figures=figures,
    )
    yield Claim(
        id="compare.lost_across_tokens",
        verdict=_verdict(middle - least, middle > least and across < middle),
        statistic=middle - across,
        threshold=least,
        level=context.shuffled.level,
        figures={"sequence": context.sequence, "real": middle, "across": across},
    )
    remaining = float(np.median([_number(one.remaining) for one in context.sites]))
    others = context.control
    for name, statistic, random, words in (
        ("more_than_random_tokens", middle, *((others.random, others.function_words) if others else (None, None))),
        (
            "more_of_their_own",
            remaining,
            *((others.random_remaining, others.function_words_remaining) if others else (None, None)),
        ),
    ):
        upper, usual = (np.nan, np.nan) if random is None else (_number(random.upper), _number(random.median))
        yield Claim(
            id=f"compare.{name}",
            verdict=_verdict(statistic - upper, statistic > upper),
            statistic=statistic,
            threshold=upper,
            level=None if random is None else random.level,
            figures={
                "sequence": context.sequence,
                "draws": 0 if random is None else random.draws,
                "random": usual,
                "function_words": None if words is None else words.median,
                "own": statistic - usual,
            },
        )


def _verdict(statistic: float, holds: bool | np.bool_) -> Verdict:
    if np.isnan(statistic):
        return "can't tell"
    return "yes" if holds else "no"


def _named(token: ComparedToken) -> str:
    return f"id {token.token_id}" if token.text is None else token.text


def _kurtosis(one: TokenAtSite, stage: str) -> float:
    return _number(getattr(one, stage).excess_kurtosis)


def _ratio(values: Sequence[float]) -> float:
    return float(np.divide(max(values), min(values)))


def _of(distance: float, limit: float) -> float:
    return float(distance / limit) if limit else (0.0 if distance == 0 else float("inf"))


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _numbers(values: Sequence[float | None]) -> Floats:
    return np.array([_number(value) for value in values])
