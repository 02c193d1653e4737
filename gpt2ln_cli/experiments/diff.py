"""Two checkpoints of one shape, LayerNorm by LayerNorm; parameters by NumPy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpt2ln_cli.checkpoint import Checkpoint, LayerNormParameters
from gpt2ln_cli.errors import CheckpointError
from gpt2ln_cli.parameters import BIAS_START, GAIN_START
from gpt2ln_cli.records import (
    ActivationChange,
    FeatureChange,
    Inspection,
    SiteDifference,
    Spread,
    SpreadChange,
    Summary,
    VectorChange,
)
from gpt2ln_cli.sites import Site

Floats = NDArray[np.float64]


def check_same_shape(a: Checkpoint, b: Checkpoint) -> None:
    """Refuse to compare what has no common features.

    Raises:
        CheckpointError: the two differ in layers or in width.
    """
    for words, one, other in (
        ("layers", a.config.n_layer, b.config.n_layer),
        ("features of width", a.config.n_embd, b.config.n_embd),
    ):
        if one != other:
            raise CheckpointError(
                f"'{a.name}' has {one} {words} and '{b.name}' has {other}: their LayerNorms do not correspond; "
                "give two checkpoints of one shape."
            )


def compare_site(
    site: Site,
    a: LayerNormParameters,
    b: LayerNormParameters,
    *,
    top: int,
    runs: tuple[Inspection, Inspection] | None = None,
) -> SiteDifference:
    """Compare one site of two checkpoints.

    Args:
        site: the site.
        a: gain and bias in checkpoint A, each (features,).
        b: the same in checkpoint B.
        top: how many of the most changed features to list.
        runs: the same tokens through both, if activations are compared.
    """
    first = rest = None
    if runs is not None:
        summaries = [next(one for one in run.sites if one.name == site.name) for run in runs]
        first = _activations(summaries[0].first, summaries[1].first)
        rest = _activations(summaries[0].rest, summaries[1].rest)
    return SiteDifference(
        name=site.name,
        layer=site.layer,
        kind=site.kind,
        gain=_change(a.gain, b.gain, GAIN_START, top),
        bias=_change(a.bias, b.bias, BIAS_START, top),
        first=first,
        rest=rest,
    )


def _change(a: Floats | None, b: Floats | None, start: float, top: int) -> VectorChange | None:
    if a is None and b is None:
        return None
    # A LayerNorm without a gain or bias computes as one whose gain is 1 or bias 0.
    present = a if a is not None else b
    assert present is not None
    a = np.full_like(present, start) if a is None else a
    b = np.full_like(present, start) if b is None else b
    # NaN is NaN whatever its bits, and what is equal differs by nothing: infinity less infinity is NaN.
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(same, 0.0, b - a)
        norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        norm = float(np.linalg.norm(difference))
        cosine = float(np.clip(a @ b / (norms[0] * norms[1]), -1.0, 1.0)) if all(norms) else None
    # What is not finite on one side is no further off than any other such.
    size = np.where(np.isfinite(difference), np.abs(difference), np.inf)
    order = np.argsort(-size, kind="stable")[:top]
    return VectorChange(
        norm=norm,
        relative=(norm / norms[0] if np.isfinite(norms[0]) else np.nan) if norms[0] else None,
        cosine=cosine,
        changed=int(np.count_nonzero(~same)),
        largest=[FeatureChange(index=int(i), a=float(a[i]), b=float(b[i])) for i in order if not same[i]],
    )


def _activations(a: Summary | None, b: Summary | None) -> ActivationChange | None:
    if a is None or b is None:
        return None

    def change(one: Spread, other: Spread) -> SpreadChange:
        known = one.mean is not None and other.mean is not None and one.mean != 0
        relative = (other.mean - one.mean) / abs(one.mean) if known else None  # type: ignore[operator, arg-type]
        return SpreadChange(a=one.mean, b=other.mean, relative=relative)

    return ActivationChange(
        sigma=change(a.sigma, b.sigma),
        pre_norm=change(a.pre_norm, b.pre_norm),
        normalized_norm=change(a.normalized_norm, b.normalized_norm),
        post_norm=change(a.post_norm, b.post_norm),
    )
