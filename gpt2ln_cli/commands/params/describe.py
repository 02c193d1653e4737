"""Summaries of learned gains and biases, by NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gpt2ln_cli.checkpoint import LayerNormParameters
from gpt2ln_cli.commands.params.record import Learned, SiteParameters, Verdict
from gpt2ln_cli.measure.flags import BIAS_START, GAIN_START
from gpt2ln_cli.records import Feature, Gain, Vector
from gpt2ln_cli.sites import Site

if TYPE_CHECKING:
    from numpy.typing import NDArray

SWITCHED_OFF = 0.01


def describe(site: Site, parameters: LayerNormParameters, *, features: int | None = None) -> SiteParameters:
    """Summarize one site's gain and bias.

    Args:
        site: the site.
        parameters: its gain and bias.
        features: how many of those farthest from 1 (gain) and 0 (bias) to list; None lists none.
    """
    gain, bias = parameters.gain, parameters.bias
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, as it should be
        return SiteParameters(
            name=site.name,
            layer=site.layer,
            kind=site.kind,
            gain=None if gain is None else describe_gain(gain, features=features),
            bias=None if bias is None else Vector(**_common(bias, BIAS_START, features)),
        )


def describe_gain(gain: NDArray[np.float64], *, features: int | None = None) -> Gain:
    """Summarize a gain of shape (features,)."""
    limit = SWITCHED_OFF * np.sqrt(np.mean(gain**2))
    return Gain(
        **_common(gain, GAIN_START, features),
        negative=int((gain < 0).sum()),
        switched_off=int((np.abs(gain) <= limit).sum()),
    )


def _common(values: NDArray[np.float64], start: float, features: int | None) -> dict[str, Any]:
    distance = np.abs(values - start)
    ordered = np.sort(values)
    extremes = None
    if features is not None:
        farthest = np.argsort(-distance, kind="stable")[:features]
        extremes = [Feature(index=int(index), value=float(values[index])) for index in farthest]
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "lower_quartile": _quantile(ordered, 0.25),
        "median": _quantile(ordered, 0.5),
        "upper_quartile": _quantile(ordered, 0.75),
        "max": float(values.max()),
        "norm": float(np.linalg.norm(values)),
        "rms_distance": float(np.sqrt(np.mean(distance**2))),
        "extremes": extremes,
    }


def _quantile(ordered: NDArray[np.float64], share: float) -> float:
    # np.quantile and np.median import numpy.ma, which takes a tenth of the time of the whole `gpt2ln params`.
    if np.isnan(ordered[-1]):
        return float("nan")
    place = share * (len(ordered) - 1)
    below = int(place)
    rest = place - below
    if rest == 0:
        return float(ordered[below])
    return float((1 - rest) * ordered[below] + rest * ordered[below + 1])


def learned_number(site: Learned, name: str) -> float | None:
    """A number of a site's gain or bias, such as ``gain_std``; None where it has none."""
    vector, _, field = name.partition("_")
    found: float | None = getattr(getattr(site, vector), field, None)
    return found


def judge(sites: Sequence[Learned]) -> Verdict:
    """Decide from the summaries whether gains and biases were learned: whether they are other than training begins."""

    def learned(vector: Vector | None) -> bool:
        # A NaN is no start either.
        return vector is not None and vector.rms_distance != 0

    gains = sum(learned(site.gain) for site in sites)
    biases = sum(learned(site.bias) for site in sites)
    return Verdict(
        sites=len(sites), learned_gain=gains, learned_bias=biases, uses_gain_and_bias=gains > 0 or biases > 0
    )
