"""What ``ablate`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.records import Claim, Flag, ModelInfo, PromptInfo, Record, Spread


class Ablated(msgspec.Struct, frozen=True, kw_only=True):
    """The model's predictions with its LayerNorms replaced; over all positions that have a next token."""

    name: str
    formula: str
    looks_ahead: Annotated[
        bool,
        Meta(
            description=(
                "Whether a position's output depends on later tokens: then the loss is not that of a language model."
            )
        ),
    ]
    loss: Annotated[float | None, Meta(description="Mean negative log-likelihood of the next token, in nats.")]
    perplexity: Annotated[float | None, Meta(description="exp(loss).")]
    loss_difference: Annotated[float | None, Meta(description="Loss less that of the real model.")]
    standard_error: Annotated[
        float | None,
        Meta(description="Of ``loss_difference``, from its spread over tokens; null where there is but one."),
    ]
    kl: Annotated[
        float | None,
        Meta(
            description="Mean Kullback-Leibler divergence KL(real || replaced) of the next-token predictions, in nats."
        ),
    ]
    same_top: Annotated[
        float,
        Meta(description="Share of positions whose most probable next token is the real model's."),
    ]
    residual_first: Annotated[
        Spread,
        Meta(description="||x|| after the last block, where it enters ln_f, at position 0 of every sequence."),
    ]
    residual_rest: Annotated[Spread, Meta(description="The same at all later positions.")]
    overflowed: Annotated[
        int,
        Meta(description="Tokens whose residual after the last block, or whose logits, are not finite."),
    ]


class Ablation(Record, frozen=True, kw_only=True):
    """What ``ablate`` returns."""

    command: Literal["ablate"] = "ablate"
    model: ModelInfo
    bos: bool
    prompts: list[PromptInfo]
    sites: Annotated[list[str], Meta(description="The LayerNorms that were replaced; all others stayed.")]
    features: Annotated[
        list[int] | None, Meta(description="The features that the LayerNorms were to do without; null without any.")
    ] = None
    predictions: Annotated[int, Meta(description="Positions with a next token.")]
    real: Annotated[Ablated, Meta(description="The model as it is.")]
    replaced: list[Ablated]
    resolution: Annotated[
        float,
        Meta(
            description=(
                "Differences of loss up to this, in nats, are taken for rounding: three standard errors of what it "
                "makes of the loss to round the outputs of the replaced LayerNorms once more."
            )
        ),
    ]
    claims: list[Claim]
    lower: Annotated[
        list[str],
        Meta(
            description=(
                "Replacements whose loss here is below the real model's by more than rounding, be it by chance, lowest "
                "first; none of them looks ahead."
            )
        ),
    ]
    equal: Annotated[
        list[str],
        Meta(description="Replacements that do not look ahead whose loss here is the real model's, but for rounding."),
    ]
    warnings: Annotated[list[Flag], Meta(description="What deserves care in the model as it is.")] = msgspec.field(
        default_factory=list
    )
    nonfinite: int = 0
