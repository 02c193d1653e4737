"""What ``params`` returns."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta

from gpt2ln_cli.records import Claim, Flag, Gain, ModelInfo, Record, Vector

SORT_KEYS = tuple(
    f"{name}_{field.name}"
    for name, kind in (("gain", Gain), ("bias", Vector))
    for field in msgspec.structs.fields(kind)
    if field.name != "extremes"
)
"""What sites can be sorted by: the numbers of a gain or bias."""


class SiteParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Learned gain and bias of one site."""

    name: str
    layer: int | None
    kind: Literal["ln_1", "ln_2", "ln_f"]
    gain: Gain | None
    bias: Vector | None


class Learned(Protocol):
    """What any record has that tells of a site's gain and bias."""

    @property
    def name(self) -> str:
        """The site's."""

    @property
    def gain(self) -> Gain | None:
        """Null where it has none."""

    @property
    def bias(self) -> Vector | None:
        """Null where it has none."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether gains and biases were learned: counts of sites that moved from where LayerNorm starts."""

    sites: int
    learned_gain: Annotated[int, Meta(description="Sites whose gain is not 1 throughout.")]
    learned_bias: Annotated[int, Meta(description="Sites whose bias is not 0 throughout.")]
    uses_gain_and_bias: Annotated[bool, Meta(description="Whether any site has either.")]


class Parameters(Record, frozen=True, kw_only=True):
    """What ``params`` returns."""

    command: Literal["params"] = "params"
    model: ModelInfo
    sites: Annotated[
        list[SiteParameters],
        Meta(description="In forward order, or sorted; with ``top`` fewer than ``verdict.sites``."),
    ]
    sort: Annotated[
        str | None, Meta(description="What the sites are sorted by, greatest first; null in forward order.")
    ] = None
    verdict: Verdict
    claims: Annotated[list[Claim], Meta(description="What the gains and biases say, by id.")]
    warnings: list[Flag] = msgspec.field(default_factory=list)
    nonfinite: int = 0
