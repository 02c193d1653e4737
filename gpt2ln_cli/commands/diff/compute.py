"""Two checkpoints of one shape, LayerNorm by LayerNorm; parameters by NumPy alone."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from gpt2ln_cli.arguments import SHARED, checked, layer_list, one_of, refuse_without_effect
from gpt2ln_cli.checkpoint import Checkpoint, LayerNormParameters
from gpt2ln_cli.commands.diff import claims
from gpt2ln_cli.commands.diff.record import (
    SORT_KEYS,
    ActivationChange,
    Difference,
    FeatureChange,
    SiteDifference,
    SpreadChange,
    VectorChange,
)
from gpt2ln_cli.commands.inspect.record import Inspection, Summary
from gpt2ln_cli.errors import CheckpointError
from gpt2ln_cli.measure.flags import BIAS_START, GAIN_START, eps_flags, of_both, parameter_flags
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.quantities import SUMMARIZED
from gpt2ln_cli.records import Spread, strictly
from gpt2ln_cli.sites import Site, ranked, select_sites

if TYPE_CHECKING:
    from gpt2ln_cli.model.subject import Layers, Prompts, Running

Floats = NDArray[np.float64]
# Of each dtype the unit of the last place of 1, and the least normal number.
PRECISIONS = {
    "float64": (2.0**-52, 2.0**-1022),
    "float32": (2.0**-23, 2.0**-126),
    "float16": (2.0**-10, 2.0**-14),
    "bfloat16": (2.0**-7, 2.0**-126),
}


@checked
def diff(
    model_a: str | Path | Model,
    model_b: str | Path | Model,
    prompts: Prompts | None = None,
    *,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    features: int = 3,
    sort: str | None = None,
    top: int | None = None,
    **running: Unpack[Running],
) -> Difference:
    """Compare two checkpoints of one shape, LayerNorm by LayerNorm; ``gpt2ln diff``.

    Args:
        model_a: as ``model`` of :func:`gpt2ln_cli.inspect`.
        model_b: the same; what changed is told as from A to B.
        prompts: texts or token ids to compare activations on, tokenized by A's tokenizer; None compares parameters
            alone, without torch where the files allow it.
        layers: as for :func:`gpt2ln_cli.inspect`.
        sites: as for :func:`gpt2ln_cli.inspect`.
        features: how many of each vector's most changed features to list.
        sort: what to order the sites by, greatest first: a number of what became of gain or bias, such as
            ``gain_relative``, or a quantity, by the size of the relative change of its mean over later tokens (over
            position 0 where there are none); None keeps the forward order.
        top: how many sites to keep; None keeps all. The claims are of all.
        **running: see :class:`gpt2ln_cli.model.subject.Running`; for each model in turn.

    Raises:
        UsageError: an argument has no meaning, or without prompts no effect; or there is no such layer or site.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`, or the two differ in layers or width.
        PromptError: as for :func:`gpt2ln_cli.inspect`.
    """
    if prompts is None:
        given: dict[str, object] = {**running}
        refuse_without_effect(
            "without prompts, when gains and biases alone are compared",
            sort=(sort if sort in SUMMARIZED else None, None),
            **{name: (given[name], SHARED[name]) for name in SHARED if name in given and name != "progress"},
        )
    if sort is not None:
        one_of("sort", sort, SORT_KEYS)
    models = as_model(model_a, "model_a"), as_model(model_b, "model_b")
    check_same_shape(*(model.checkpoint for model in models))
    chosen = select_sites(models[0].checkpoint.config.n_layer, layer_list(layers), sites)
    runs = None if prompts is None else _runs(models, prompts, layers, sites, running)
    learned = [model.layer_norms() for model in models]
    if runs:
        flags = [run.warnings for run in runs]
    else:
        flags = [
            [*parameter_flags(vectors), *eps_flags(model.info.eps)]
            for model, vectors in zip(models, learned, strict=True)
        ]
    infos = [model.info if runs else model.info.unrun() for model in models]
    dtype = max((info.dtype for info in infos), key=lambda name: precision(name)[0])
    compared = [
        compare_site(site, learned[0][site.name], learned[1][site.name], features=features, dtype=dtype, runs=runs)
        for site in chosen
    ]
    found = [claims.parameters(compared, dtype), *(claims.grew(compared, vector) for vector in claims.VECTORS)]
    if runs:
        stored = {model.checkpoint.stored_dtype() for model in models}
        one_dtype = len(stored) == len({info.dtype for info in infos}) == 1
        found.append(claims.statistics(compared, alike=one_dtype or found[0].verdict == "yes"))
    kept = compared[:top] if sort is None else ranked(compared, partial(_change_of, sort=sort), top)
    return strictly(
        Difference(
            model_a=infos[0],
            model_b=infos[1],
            prompts=runs[0].prompts if runs else None,
            sites=kept,
            sort=sort,
            left_out=len(compared) - len(kept),
            changed_sites=sum(
                any(vector is not None and vector.changed for vector in (site.gain, site.bias)) for site in compared
            ),
            claims=found,
            warnings=of_both(*flags),
        )
    )


def _runs(
    models: tuple[Model, Model],
    prompts: Prompts,
    layers: Layers | None,
    sites: Collection[str] | None,
    running: Running,
) -> tuple[Inspection, Inspection]:
    """The very same tokens through both, whatever B's own tokenizer would make of the text."""
    from gpt2ln_cli.commands.inspect.compute import inspect  # which needs torch

    first = inspect(prompts, model=models[0], layers=layers, sites=sites, **running)
    same: Running = {**running, "bos": False}
    ids = [prompt.token_ids for prompt in first.prompts]
    return first, inspect(ids, model=models[1], layers=layers, sites=sites, **same)


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
    features: int,
    dtype: str,
    runs: tuple[Inspection, Inspection] | None = None,
) -> SiteDifference:
    """Compare one site of two checkpoints.

    Args:
        site: the site.
        a: gain and bias in checkpoint A, each (features,).
        b: the same in checkpoint B.
        features: how many of the most changed to list.
        dtype: the coarser of the checkpoints'.
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
        gain=_change(a.gain, b.gain, GAIN_START, features, dtype),
        bias=_change(a.bias, b.bias, BIAS_START, features, dtype),
        first=first,
        rest=rest,
    )


def _change(a: Floats | None, b: Floats | None, start: float, features: int, dtype: str) -> VectorChange | None:
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
    order = np.argsort(-size, kind="stable")[:features]
    return VectorChange(
        norm=norm,
        relative=(norm / norms[0] if np.isfinite(norms[0]) else np.nan) if norms[0] else None,
        norm_a=_known(norms[0]),
        norm_b=_known(norms[1]),
        last_places=_known(float(np.max(size / _last_place(a, b, dtype)))),
        cosine=cosine,
        changed=int(np.count_nonzero(~same)),
        largest=[FeatureChange(index=int(i), a=float(a[i]), b=float(b[i])) for i in order if not same[i]],
    )


def _change_of(site: SiteDifference, sort: str) -> float | None:
    """What a site is sorted by."""
    if sort in SUMMARIZED:
        part = site.rest or site.first
        relative = None if part is None else getattr(part, sort).relative
        return None if relative is None else abs(relative)
    vector, _, field = sort.partition("_")
    found: float | None = getattr(getattr(site, vector), field, None)
    return found


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def precision(dtype: str) -> tuple[float, float]:
    """The unit of the last place of 1, and the least normal number."""
    return PRECISIONS.get(dtype, PRECISIONS["float32"])


def _last_place(a: Floats, b: Floats, dtype: str) -> Floats:
    """The unit of the last place of the smaller of each pair: that of what the larger was rounded to, or less."""
    eps, least = precision(dtype)
    smaller = np.minimum(np.abs(a), np.abs(b))
    _, exponent = np.frexp(np.maximum(np.where(np.isfinite(smaller), smaller, 0.0), least))
    unit: Floats = np.ldexp(eps, exponent - 1)
    return unit


def _activations(a: Summary | None, b: Summary | None) -> ActivationChange | None:
    if a is None or b is None:
        return None

    def change(one: Spread, other: Spread) -> SpreadChange:
        known = one.mean is not None and other.mean is not None and one.mean != 0
        relative = (other.mean - one.mean) / abs(one.mean) if known else None  # type: ignore[operator, arg-type]
        return SpreadChange(a=one.mean, b=other.mean, relative=relative)

    return ActivationChange(**{name: change(getattr(a, name), getattr(b, name)) for name in SUMMARIZED})
