"""What became of the LayerNorms from one checkpoint to the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from gpt2ln_cli.measure.chance import LEVEL, sign_test
from gpt2ln_cli.records import Claim

if TYPE_CHECKING:
    from gpt2ln_cli.commands.diff.record import SiteDifference, VectorChange
    from gpt2ln_cli.records import Verdict

VECTORS: tuple[Literal["gain", "bias"], ...] = ("gain", "bias")
# Of the last place: what is rounded once is off by half a unit at most.
ROUNDING = 0.5


def differs(change: VectorChange | None) -> bool:
    """Whether a gain or bias differs by more than rounding."""
    return change is not None and change.changed > 0 and (change.last_places is None or change.last_places > ROUNDING)


def differing(sites: Sequence[SiteDifference]) -> list[SiteDifference]:
    """The sites whose gain or bias differs by more than rounding."""
    return [site for site in sites if differs(site.gain) or differs(site.bias)]


def parameters(sites: Sequence[SiteDifference], dtype: str) -> Claim:
    """Whether gain or bias differ by more than rounding to the coarser dtype.

    Args:
        sites: what became of each.
        dtype: the coarser of the two checkpoints'.
    """
    changes = [
        (site.name, name, change)
        for site in sites
        for name in VECTORS
        if (change := site.gain if name == "gain" else site.bias) is not None
    ]
    site, vector, most = max(changes, key=lambda one: _size(one[2]), default=(None, None, None))
    feature = most.largest[0] if most is not None and most.largest else None
    units = [change.last_places for _, _, change in changes]
    found = differing(sites)
    return Claim(
        id="diff.parameters_differ",
        verdict="yes" if found else "no" if changes else "can't tell",
        statistic=max((one for one in units if one is not None), default=None) if None not in units else None,
        threshold=ROUNDING,
        figures={
            "sites": len(sites),
            "differing": len(found),
            "dtype": dtype,
            "site": site,
            "vector": vector,
            "norm": most.norm if most is not None else None,
            "feature": feature.index if feature else None,
            "a": feature.a if feature else None,
            "b": feature.b if feature else None,
        },
    )


def _size(change: VectorChange) -> float:
    return change.norm if change.norm is not None and math.isfinite(change.norm) else math.inf


def grew(sites: Sequence[SiteDifference], vector: Literal["gain", "bias"]) -> Claim:
    """Whether the norms of a vector grew at more sites than they would if each could as well have shrunk."""
    changes = [site.gain if vector == "gain" else site.bias for site in sites]
    pairs = [(one.norm_a, one.norm_b) for one in changes if one is not None and differs(one)]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    more, less = sum(a < b for a, b in known), sum(a > b for a, b in known)
    needed = sign_test(more + less, LEVEL / 2)
    verdict: Verdict = "can't tell"
    if not pairs and any(changes):
        verdict = "no"
    elif needed is not None and max(more, less) >= needed:
        verdict = "yes" if more >= needed else "no"
    return Claim(
        id=f"diff.{vector}_grew",
        verdict=verdict,
        statistic=more,
        threshold=needed,
        level=None if needed is None else LEVEL,
        figures={"sites": len(sites), "shrank": less},
    )


def statistics(sites: Sequence[SiteDifference], *, alike: bool) -> Claim:
    """Whether the same tokens get another sigma.

    Two runs of the same weights in one dtype give the same bits, so that a difference is one of the weights.

    Args:
        sites: what became of each, with activations.
        alike: whether the difference can't be one of rounding alone.
    """
    found = [
        (abs(part.sigma.relative), site.name, where, part.sigma)
        for site in sites
        for where, part in (("position 0", site.first), ("later positions", site.rest))
        if part is not None and part.sigma.relative is not None
    ]
    size, name, where, sigma = max(found, key=lambda one: one[0], default=(None, None, None, None))
    verdict: Verdict = "can't tell"
    if size is not None and (size == 0 or alike):
        verdict = "no" if size == 0 else "yes"
    return Claim(
        id="diff.statistics_differ",
        verdict=verdict,
        statistic=size,
        threshold=0,
        figures={
            "sites": len(sites),
            "site": name,
            "where": where,
            "a": sigma.a if sigma is not None else None,
            "b": sigma.b if sigma is not None else None,
        },
    )
