"""What ``track`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.commands.inspect.record import Summary
from gpt2ln_cli.records import Claim, Feature, Flag, Gain, ModelInfo, PromptInfo, Record, Vector


class MassiveFeature(msgspec.Struct, frozen=True, kw_only=True):
    """A feature of x that is massive at some token: |x_j| above 100, and above 1,000 times the token's median |x|."""

    index: Annotated[int, Meta(description="Which feature, from 0.")]
    value: Annotated[
        float | None, Meta(description="x_j where |x_j| is greatest, of the tokens at which it is massive.")
    ]
    first: Annotated[int, Meta(description="At how many tokens of position 0 it is massive.")]
    rest: Annotated[int, Meta(description="At how many later tokens.")]
    nearness: Annotated[
        float | None,
        Meta(description="Greatest |x_j| over the greater of 100 and 1,000 times the token's median |x|: above 1."),
    ]


class TrackedSite(msgspec.Struct, frozen=True, kw_only=True):
    """One LayerNorm at one step."""

    name: str
    layer: int | None
    kind: Literal["ln_1", "ln_2", "ln_f"]
    gain: Annotated[Gain | None, Meta(description="Null where it has none.")]
    bias: Annotated[Vector | None, Meta(description="Null where it has none.")]
    gain_cosine_last: Annotated[
        float | None,
        Meta(description="Cosine of the angle to the last checkpoint's gain; null where either is 0 or not finite."),
    ]
    gain_cosine_previous: Annotated[
        float | None, Meta(description="The same to the checkpoint before, of those that could be read.")
    ]
    bias_cosine_last: Annotated[float | None, Meta(description="As of the gain.")]
    bias_cosine_previous: Annotated[float | None, Meta(description="As of the gain.")]
    gain_farthest: Annotated[
        list[Feature], Meta(description="The features farthest from the rest, which is the gain's median.")
    ]
    bias_farthest: Annotated[list[Feature], Meta(description="The same of the bias.")]
    first: Annotated[Summary | None, Meta(description="Position 0 of every sequence; null without prompts.")] = None
    rest: Annotated[
        Summary | None, Meta(description="All later positions; null without prompts, or where there are none.")
    ] = None
    massive: Annotated[
        list[MassiveFeature] | None, Meta(description="Massive features of x; null without prompts.")
    ] = None
    nearest: Annotated[
        int | None, Meta(description="The feature that is nearest to massive at some token; null without prompts.")
    ] = None
    nearness: Annotated[
        float | None,
        Meta(
            description=(
                "Its |x_j| over what would be massive there, as of a massive feature; null without prompts, or where x "
                "is not finite."
            )
        ),
    ] = None


class TrackedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a run."""

    name: Annotated[str, Meta(description="Its folder or file, or the branch or tag on the Hub.")]
    step: Annotated[int, Meta(description="By which the checkpoints are in order.")]
    step_from: Annotated[
        Literal["name", "trainer_state", "order"],
        Meta(
            description=(
                "What told the step. ``order``: nothing did, so that it stands after the last that is told and has its "
                "step; where none is told, they are counted from 0."
            )
        ),
    ]
    revision: Annotated[str | None, Meta(description="The commit of a Hub checkpoint; null elsewhere.")]
    error: Annotated[str | None, Meta(description="Why it could not be read; null where it could.")]
    loss: Annotated[
        float | None,
        Meta(
            description=(
                "Mean negative log-likelihood of the next token, in nats; null without prompts, without a next token, "
                "or without an LM head."
            )
        ),
    ] = None
    sites: Annotated[list[TrackedSite], Meta(description="In forward order; none where it could not be read.")] = []


class Track(Record, frozen=True, kw_only=True):
    """What ``track`` returns."""

    command: Literal["track"] = "track"
    model: Annotated[ModelInfo, Meta(description="The last checkpoint that could be read.")]
    prompts: Annotated[list[PromptInfo] | None, Meta(description="Null where parameters alone were read.")]
    checkpoints: Annotated[list[TrackedCheckpoint], Meta(description="In the order of their steps.")]
    claims: Annotated[list[Claim], Meta(description="What the numbers say to each claim.")]
    warnings: Annotated[list[Flag], Meta(description="What deserves care, and in which checkpoints.")] = msgspec.field(
        default_factory=list
    )
    nonfinite: int = 0
