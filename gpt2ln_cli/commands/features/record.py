"""What ``features`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.records import Claim, Flag, ModelInfo, PromptInfo, Record


class FeatureAt(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of x at one site, at the token where its absolute value is greatest."""

    index: Annotated[int, Meta(description="Which feature, from 0.")]
    value: Annotated[float | None, Meta(description="x_j there, in units of the residual stream.")]
    sequence: Annotated[int, Meta(description="``index`` of the sequence in ``prompts``.")]
    position: Annotated[int, Meta(description="Position of the token in its sequence, from 0.")]
    token_id: Annotated[int, Meta(description="Its number in the vocabulary.")]
    token: Annotated[str | None, Meta(description="Text of the token; null where the checkpoint has no tokenizer.")]
    share: Annotated[float | None, Meta(description="Mean over tokens of (x_j - mu)^2 / (d sigma^2).")]
    massive: Annotated[
        bool,
        Meta(
            description=(
                "Whether |x_j| is above 100 and above 1,000 times the median |x| of the token, at one token or more."
            )
        ),
    ]
    massive_tokens: Annotated[int, Meta(description="At how many tokens.")]
    gain: Annotated[float | None, Meta(description="The learned gain of the feature; null where there is none.")]
    bias: Annotated[float | None, Meta(description="The learned bias of the feature; null where there is none.")]
    post: Annotated[float | None, Meta(description="y_j at the token: what the LayerNorm made of the value.")]
    post_share: Annotated[float | None, Meta(description="Mean over tokens of y_j^2 / ||y||^2.")]


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """How many features, those with the largest mean shares, hold a part of the whole."""

    half: Annotated[int | None, Meta(description="How many hold 50%; null where a share is not finite.")] = (
        msgspec.field(name="50")
    )
    most: Annotated[int | None, Meta(description="How many hold 90%.")] = msgspec.field(name="90")
    nearly_all: Annotated[int | None, Meta(description="How many hold 99%.")] = msgspec.field(name="99")


class PartFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """The features of some tokens at one site."""

    tokens: Annotated[int, Meta(description="How many tokens these are.")]
    features: Annotated[list[FeatureAt], Meta(description="Those with the greatest |x|, the greatest first.")]
    holding: Annotated[Holding, Meta(description="Of sigma^2, before the gain.")]
    post_holding: Annotated[Holding, Meta(description="Of ||y||^2, after gain and bias.")]


class SiteFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """The features of x at one site."""

    name: Annotated[str, Meta(description="Name of the LayerNorm, such as ``h.5.ln_1``.")]
    layer: Annotated[int | None, Meta(description="Counted from 0; null for ln_f.")]
    kind: Annotated[Literal["ln_1", "ln_2", "ln_f"], Meta(description="Which LayerNorm of a block, or the final one.")]
    first: Annotated[PartFeatures | None, Meta(description="Position 0 of every sequence.")]
    rest: Annotated[PartFeatures | None, Meta(description="All later positions; null where there are none.")]


class Across(msgspec.Struct, frozen=True, kw_only=True):
    """The shares at one site of a feature that matters at some site."""

    site: Annotated[str, Meta(description="Name of the LayerNorm.")]
    index: Annotated[int, Meta(description="Which feature, from 0.")]
    first_share: Annotated[float | None, Meta(description="Mean share of sigma^2 over the positions 0.")]
    rest_share: Annotated[float | None, Meta(description="Mean share of sigma^2 over later positions.")]
    first_post_share: Annotated[float | None, Meta(description="Mean share of ||y||^2 over the positions 0.")]
    rest_post_share: Annotated[float | None, Meta(description="Mean share of ||y||^2 over later positions.")]


class Features(Record, frozen=True, kw_only=True):
    """What ``features`` returns."""

    command: Literal["features"] = "features"
    model: Annotated[ModelInfo, Meta(description="Which model gave the numbers.")]
    bos: Annotated[bool, Meta(description="Whether <|endoftext|> was prepended to every sequence.")]
    prompts: Annotated[list[PromptInfo], Meta(description="The sequences that were run.")]
    sites: Annotated[list[SiteFeatures], Meta(description="Each LayerNorm, in forward order.")]
    across: Annotated[
        list[Across],
        Meta(
            description=(
                "At every site, the features that are massive somewhere or have the largest share of sigma^2 of some "
                "site, by index."
            )
        ),
    ]
    claims: Annotated[list[Claim], Meta(description="What the numbers say.")]
    warnings: Annotated[list[Flag], Meta(description="What makes the figures mean less than they seem to.")] = (
        msgspec.field(default_factory=list)
    )
    nonfinite: Annotated[int, Meta(description="How many numbers were NaN or infinite and are null here.")] = 0
