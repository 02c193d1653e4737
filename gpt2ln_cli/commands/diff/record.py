"""What ``diff`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.quantities import SUMMARIZED, Quantities, Summarized
from gpt2ln_cli.records import Claim, Flag, ModelInfo, PromptInfo, Record

SORT_KEYS = (
    *(f"{vector}_{field}" for vector in ("gain", "bias") for field in ("norm", "relative", "cosine", "changed")),
    *SUMMARIZED,
)
"""What sites can be sorted by: a number of what became of gain or bias, or how much the mean of a quantity changed."""


class FeatureChange(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of a gain or bias in two checkpoints."""

    index: int
    a: float | None
    b: float | None


class VectorChange(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a gain or bias between checkpoint A and checkpoint B."""

    norm: Annotated[
        float | None,
        Meta(description="L2 norm of b - a over the features that differ; null where that is not finite."),
    ]
    relative: Annotated[
        float | None,
        Meta(description="That, divided by the L2 norm of a; null where a is 0 or not finite."),
    ]
    norm_a: Annotated[float | None, Meta(description="L2 norm of a; null where that is not finite.")]
    norm_b: Annotated[float | None, Meta(description="L2 norm of b; null where that is not finite.")]
    last_places: Annotated[
        float | None,
        Meta(
            description=(
                "Largest |b - a| in units of the last place of the coarser of the two checkpoints' dtypes: up to a "
                "half may be rounding. Null where one side alone is not finite."
            )
        ),
    ]
    cosine: Annotated[
        float | None,
        Meta(description="Cosine of the angle between a and b; null where either is 0 or holds NaN or infinity."),
    ]
    changed: Annotated[int, Meta(description="Features whose value differs at all; NaN in both is no difference.")]
    largest: Annotated[
        list[FeatureChange],
        Meta(
            description=(
                "The features that changed most: those that are not finite on one side, then the most changed; none "
                "that did not change."
            )
        ),
    ]


class SpreadChange(msgspec.Struct, frozen=True, kw_only=True):
    """Mean over tokens of a quantity in two checkpoints."""

    a: float | None
    b: float | None
    relative: Annotated[float | None, Meta(description="(b - a) / |a|; null where a is 0.")]


class ActivationChange(Summarized[SpreadChange], frozen=True, kw_only=True):
    """What became of a site's statistics over the same tokens; arithmetic means over tokens."""


class SiteDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One LayerNorm in two checkpoints."""

    name: str
    layer: int | None
    kind: Literal["ln_1", "ln_2", "ln_f"]
    gain: Annotated[VectorChange | None, Meta(description="Null where neither checkpoint has one.")]
    bias: VectorChange | None
    first: Annotated[ActivationChange | None, Meta(description="Position 0 of every sequence; null without prompts.")]
    rest: Annotated[
        ActivationChange | None,
        Meta(description="All later positions; null without prompts, or where there are none."),
    ]


class Difference(Record, frozen=True, kw_only=True):
    """What ``diff`` returns."""

    command: Literal["diff"] = "diff"
    model_a: ModelInfo
    model_b: ModelInfo
    prompts: Annotated[list[PromptInfo] | None, Meta(description="Null where parameters alone were compared.")]
    sites: Annotated[list[SiteDifference], Meta(description="In forward order, or sorted.")]
    sort: Annotated[
        str | None, Meta(description="What the sites are sorted by, greatest first; null in forward order.")
    ] = None
    left_out: Annotated[int, Meta(description="Sites that ``top`` left out; what follows is of these, too.")] = 0
    changed_sites: Annotated[int, Meta(description="Sites whose gain or bias differs at all.")]
    claims: list[Claim]
    warnings: Annotated[list[Flag], Meta(description="What deserves care, and in which of the two checkpoints.")] = (
        msgspec.field(default_factory=list)
    )
    nonfinite: int = 0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run of ``profile``."""

    folder: Annotated[str, Meta(description="Its folder.")]
    model: ModelInfo
    sources: Annotated[list[str], Meta(description="The files of its corpus.")]
    documents: Annotated[int, Meta(description="Documents with a token in them.")]
    windows: Annotated[int, Meta(description="Sequences that the model was run on.")]
    tokens: Annotated[int, Meta(description="Tokens of all windows.")]


class QuantityShift(msgspec.Struct, frozen=True, kw_only=True):
    """How the distribution of a quantity over tokens moved from run A to run B."""

    a: Annotated[dict[str, float | None], Meta(description="A's quantiles by percent.")]
    b: Annotated[dict[str, float | None], Meta(description="B's.")]
    spread: Annotated[float | None, Meta(description="Root mean square of the two standard deviations over tokens.")]
    shift: Annotated[
        float | None,
        Meta(
            description=(
                "(b - a) / spread at the quantile where that is largest, less what the sketch's error may make of it; "
                "null where the spread is 0."
            )
        ),
    ]
    percent: Annotated[str | None, Meta(description="Which quantile that is.")]


class PartShift(Quantities[QuantityShift], frozen=True, kw_only=True):
    """How the quantities of a site moved over position 0, or over later positions."""


class LargestShift(msgspec.Struct, frozen=True, kw_only=True):
    """The largest shift of a site."""

    part: Annotated[Literal["first", "rest"], Meta(description="Position 0, or later positions.")]
    quantity: Annotated[str, Meta(description="Which quantity.")]
    percent: Annotated[str, Meta(description="Which quantile.")]
    shift: Annotated[float, Meta(description="In units of the spread.")]


class SiteShift(msgspec.Struct, frozen=True, kw_only=True):
    """How one LayerNorm's quantities moved from run A to run B."""

    name: Annotated[str, Meta(description="Name of the LayerNorm.")]
    layer: Annotated[int | None, Meta(description="Counted from 0; null for ln_f.")]
    kind: Literal["ln_1", "ln_2", "ln_f"]
    largest: Annotated[LargestShift | None, Meta(description="Of all quantities; null where none moved.")]
    first: Annotated[PartShift | None, Meta(description="Position 0 of every window.")]
    rest: Annotated[PartShift | None, Meta(description="All later positions; null where either has none.")]


class RunDifference(Record, frozen=True, kw_only=True):
    """What ``diff`` of two runs of ``profile`` returns."""

    command: Literal["diff"] = "diff"
    run_a: Run
    run_b: Run
    same: Annotated[
        Literal["corpus", "model", "both"], Meta(description="What the two runs have in common, bit for bit.")
    ]
    sketch_error: Annotated[float, Meta(description="How far a quantile may be off, as a share of its size.")]
    sites: Annotated[list[SiteShift], Meta(description="In forward order.")]
    claims: list[Claim]
    nonfinite: int = 0
