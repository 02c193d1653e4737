"""When a gain left 1, and when a feature became massive."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from gpt2ln_cli.commands.track.record import MassiveFeature, TrackedCheckpoint, TrackedSite
from gpt2ln_cli.records import Claim, Verdict

# What is told of features that became massive, the greatest |x| first.
MOST_FEATURES = 5


def claims(checkpoints: Sequence[TrackedCheckpoint], *, ran: bool) -> list[Claim]:
    """What the checkpoints that could be read say.

    Args:
        checkpoints: all, in the order of their steps.
        ran: whether prompts were run.
    """
    read = [one for one in checkpoints if one.error is None]
    return [_gain_left_1(read), *(_became_massive(read) if ran else ())]


def _gain_left_1(read: Sequence[TrackedCheckpoint]) -> Claim:
    left: dict[str, int] = {}
    farthest, steps = 0.0, [one.step for one in read]
    names = [site.name for site in read[-1].sites if any(one.gain for one in _through(read, site.name))]
    unknown = 0
    for name in names:
        distances = [_number(site.gain.rms_distance) if site.gain else 0.0 for site in _through(read, name)]
        unknown += any(map(math.isnan, distances))
        farthest = max([farthest, *(one for one in distances if not math.isnan(one))])
        first = next((place for place, distance in enumerate(distances) if distance > 0), None)
        if first is not None:
            left[name] = first
    verdict: Verdict = "yes" if left else "can't tell" if unknown or not names else "no"
    figures: dict[str, str | int | float | None] = {
        "sites": len(names),
        "left": len(left),
        "checkpoints": len(read),
        "first_step": steps[0],
        "last_step": steps[-1],
        "why": "some are NaN or infinite" if names else "these LayerNorms have none",
    }
    if left:
        earliest, latest = min(left, key=lambda name: left[name]), max(left, key=lambda name: left[name])
        when = _when(steps, left[earliest])
        if left[earliest] != left[latest]:
            when = f"{earliest} first, {when}, and {latest} last, {_when(steps, left[latest])}"
        figures |= {"when": when, **_halfway(read, steps)}
    return Claim(id="track.gain_left_1", verdict=verdict, statistic=farthest, threshold=0.0, figures=figures)


def _halfway(read: Sequence[TrackedCheckpoint], steps: Sequence[int]) -> dict[str, str | int | float | None]:
    """The gain that is farthest from 1 in the end, and when it was half as far."""
    ends = {site.name: _number(site.gain.rms_distance) for site in read[-1].sites if site.gain is not None}
    known = {name: distance for name, distance in ends.items() if not math.isnan(distance)}
    if not known:
        return {"site": None, "distance": None, "half": ""}
    name = max(known, key=lambda one: known[one])
    distances = [_number(site.gain.rms_distance) if site.gain else 0.0 for site in _through(read, name)]
    half = next(place for place, distance in enumerate(distances) if distance >= known[name] / 2)
    return {
        "site": name,
        "distance": known[name],
        "half": f"; it was half as far {_when(steps, half)}" if len(steps) > 1 else "",
    }


def _became_massive(read: Sequence[TrackedCheckpoint]) -> Iterator[Claim]:
    steps = [one.step for one in read]
    each = [(site, place) for place, one in enumerate(read) for site in one.sites]
    found: dict[int, list[tuple[MassiveFeature, TrackedSite, int]]] = {}
    for site, place in each:
        for feature in site.massive or ():
            found.setdefault(feature.index, []).append((feature, site, place))
    common: dict[str, str | int | float | None] = {"massive": len(found), "checkpoints": len(read)}
    if not found:
        unknown = sum(site.nearness is None for site, _ in each)
        nearest, place = max(each, key=lambda one: _number(one[0].nearness, -1.0))
        yield Claim(
            id="track.feature_became_massive",
            verdict="can't tell" if unknown else "no",
            statistic=nearest.nearness,
            threshold=1.0,
            figures={
                **common,
                "feature": nearest.nearest,
                "site": nearest.name,
                "step": steps[place],
                "unknown": unknown,
            },
        )
    greatest = {index: max(ones, key=lambda one: abs(_number(one[0].value, 0.0))) for index, ones in found.items()}
    for index in sorted(greatest, key=lambda one: -abs(_number(greatest[one][0].value, 0.0)))[:MOST_FEATURES]:
        feature, site, place = greatest[index]
        places = [one[2] for one in found[index]]
        yield Claim(
            id="track.feature_became_massive",
            verdict="yes",
            statistic=max(_number(one.nearness, 1.0) for one, _, _ in found[index]),
            threshold=1.0,
            figures={
                **common,
                "feature": index,
                "when": _when(steps, min(places)),
                "value": feature.value,
                "site": site.name,
                "step": steps[place],
                "end": "is massive" if max(places) == len(read) - 1 else "is massive no longer",
                "last_step": steps[-1],
            },
        )


def _through(read: Sequence[TrackedCheckpoint], name: str) -> list[TrackedSite]:
    return [next(site for site in one.sites if site.name == name) for one in read]


def _when(steps: Sequence[int], place: int) -> str:
    if len(steps) == 1:
        return f"at step {steps[0]:,}, the only one"
    if not place:
        return f"by step {steps[0]:,}, the first that is here"
    return f"between steps {steps[place - 1]:,} and {steps[place]:,}"


def _number(value: float | None, otherwise: float = math.nan) -> float:
    return otherwise if value is None else value
