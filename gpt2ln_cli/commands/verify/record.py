"""What ``verify`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.records import Claim, Flag, ModelInfo, PromptInfo, Record


class AxisFit(msgspec.Struct, frozen=True, kw_only=True):
    """How well normalizing over one axis reproduces what the model computed, over all tried sites."""

    reading: str
    is_gpt2: bool
    statistics: Annotated[
        int,
        Meta(description="Statistics that each site would take for this input, over the batches it was run in."),
    ]
    worst: Annotated[
        float | None,
        Meta(description="Largest |y - predicted y| / rms(y) over sites, tokens and features."),
    ]
    rms: Annotated[float | None, Meta(description="Largest rms(y - predicted y) / rms(y) over sites.")]
    fits: Annotated[int, Meta(description="Sites whose output it reproduces: at least ``level`` of the numbers.")]
    exact: Annotated[
        float | None,
        Meta(
            description=(
                "Least share over sites of the numbers of y that it gives exactly, from float64 rounded once to the "
                "dtype."
            )
        ),
    ]
    reproduced: Annotated[
        float | None,
        Meta(
            description=(
                "The same, allowing for what the kernel's float32 arithmetic may change before that rounding: what "
                "decides."
            )
        ),
    ]
    ulps: Annotated[
        float | None,
        Meta(
            description=(
                "Largest |y - predicted y| in units of y's last place; cancellation makes it large, and it decides "
                "nothing."
            )
        ),
    ]


class SiteTrial(msgspec.Struct, frozen=True, kw_only=True):
    """Which axis one LayerNorm normalizes over."""

    name: str
    layer: int | None
    kind: Literal["ln_1", "ln_2", "ln_f"]
    verdict: Annotated[str | None, Meta(description="The only axis that fits; null where none does, or several do.")]
    candidates: Annotated[
        list[str],
        Meta(
            description=(
                "All axes that reproduce at least ``level`` of the numbers: several where the input can't tell "
                "them apart."
            )
        ),
    ]
    rms: Annotated[float | None, Meta(description="rms(y - predicted y) / rms(y) of the best axis.")]
    runner_up: Annotated[str, Meta(description="The best of the axes that do not fit.")]
    orders: Annotated[
        float | None,
        Meta(description="By how many powers of ten the best fits better than the runner-up."),
    ]
    affine: Annotated[
        Literal["gain and bias", "gain alone", "bias alone", "neither"],
        Meta(description="What, applied to the best axis's xhat, reproduces y."),
    ]
    best: Annotated[str, Meta(description="The axis that reproduces most, whether it fits or not.")]
    exact: Annotated[
        float,
        Meta(description="Share of the numbers of y that the best axis gives exactly, rounded once to the dtype."),
    ]
    reproduced: Annotated[
        float,
        Meta(
            description="The same, allowing for what the kernel's float32 arithmetic may change before that rounding."
        ),
    ]
    ulps: Annotated[
        float | None,
        Meta(description="Largest |y - predicted y| of the best axis in units of y's last place."),
    ]
    runner_up_reproduced: Annotated[float, Meta(description="Share of the numbers that the runner-up reproduces.")]


class Verification(Record, frozen=True, kw_only=True):
    """What ``verify`` returns."""

    command: Literal["verify"] = "verify"
    model: ModelInfo
    bos: bool
    prompts: list[PromptInfo]
    readings: Annotated[list[AxisFit], Meta(description="GPT-2's own first.")]
    rounding: Annotated[
        float | None,
        Meta(
            description=(
                "What rounding to the dtype may make of rms(y - predicted y) / rms(y) over the right axis, at the "
                "worst site."
            )
        ),
    ]
    level: Annotated[float, Meta(description="Share of the numbers that an axis must reproduce at a site to fit it.")]
    companion: Annotated[
        list[int] | None,
        Meta(
            description=(
                "Token ids of a context that ran beside the only one: alone it can't tell a context from a minibatch."
            )
        ),
    ]
    sites: list[SiteTrial]
    claims: Annotated[
        list[Claim],
        Meta(description="Whether it behaves as GPT-2 does, and the claims that this follows from."),
    ]
    behaves_as_gpt2: Annotated[bool, Meta(description="Whether the first of the claims is a yes.")]
    warnings: Annotated[
        list[Flag],
        Meta(description="What deserves care."),
    ] = msgspec.field(default_factory=list)
    nonfinite: int = 0
