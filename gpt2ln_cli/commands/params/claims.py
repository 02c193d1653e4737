"""What a checkpoint's gains and biases say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.records import Claim

if TYPE_CHECKING:
    from typing import TypeGuard

    from gpt2ln_cli.commands.params.record import Learned, Verdict


def uses_gain_and_bias(verdict: Verdict, sites: Sequence[Learned]) -> Claim:
    """Whether the checkpoint uses a learned gain and bias: a matter of counting those that moved from 1 and 0.

    Args:
        verdict: that of the sites.
        sites: what their gains and biases are.
    """
    vectors = [vector for site in sites for vector in (site.gain, site.bias) if vector is not None]
    known = list(filter(_is_finite, (vector.rms_distance for vector in vectors)))
    gains = list(filter(_is_finite, (site.gain.rms_distance for site in sites if site.gain is not None)))
    moved = any(known)
    told = moved or len(known) == len(vectors)
    return Claim(
        id="params.uses_gain_and_bias",
        verdict=("yes" if moved else "no") if told else "can't tell",
        statistic=float(verdict.learned_gain + verdict.learned_bias) if told else None,
        threshold=0.0,
        figures={
            "sites": verdict.sites,
            "gains": verdict.learned_gain,
            "biases": verdict.learned_bias,
            "least": min(gains, default=None),
            "greatest": max(gains, default=None),
        },
    )


def _is_finite(distance: float | None) -> TypeGuard[float]:
    return distance is not None and math.isfinite(distance)
