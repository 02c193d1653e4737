"""What ``params`` returns."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta

from gpt2ln_cli.records import Flag, Gain, ModelInfo, Record, Vector


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
    sites: list[SiteParameters]
    verdict: Verdict
    warnings: list[Flag] = msgspec.field(default_factory=list)
    nonfinite: int = 0
