"""What ``inspect`` returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.records import Counts, Flag, Gain, ModelInfo, PromptInfo, Record, Spread, Vector


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The quantities of a site over a set of tokens."""

    tokens: Annotated[int, Meta(description="How many tokens were summarized.")]
    mean: Annotated[Spread, Meta(description="mu, the mean of the features of x.")]
    sigma: Annotated[
        Spread,
        Meta(
            description=(
                "Population standard deviation of the features of x; ``sigma.mean`` is the mean of sigma over tokens."
            )
        ),
    ]
    pre_norm: Annotated[Spread, Meta(description="||x||.")]
    normalized_norm: Annotated[Spread, Meta(description="||xhat||.")]
    post_norm: Annotated[Spread, Meta(description="||y||.")]


class SiteSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one LayerNorm computed, and its learned gain and bias."""

    name: Annotated[str, Meta(description="Name of the LayerNorm, such as ``h.5.ln_1``.")]
    layer: Annotated[int | None, Meta(description="Counted from 0; null for ln_f.")]
    kind: Annotated[
        Literal["ln_1", "ln_2", "ln_f"],
        Meta(description="Which LayerNorm of the block, or the final one."),
    ]
    statistics: Annotated[int, Meta(description="(mu, sigma) pairs that the kernel returned for real tokens.")]
    first: Annotated[Summary | None, Meta(description="Position 0 of every sequence.")]
    rest: Annotated[Summary | None, Meta(description="All later positions; null where there are none.")]
    gain: Annotated[Gain | None, Meta(description="Null in a model whose LayerNorms have none.")]
    bias: Annotated[Vector | None, Meta(description="Null in a model whose LayerNorms have none.")]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One statistic: one token of one sequence at one site."""

    site: Annotated[str, Meta(description="Name of the LayerNorm, such as ``h.5.ln_1``.")]
    sequence: Annotated[int, Meta(description="``index`` of the sequence in ``prompts``.")]
    position: Annotated[int, Meta(description="Position of the token in its sequence, from 0.")]
    token_id: Annotated[int, Meta(description="Its number in the vocabulary.")]
    token: Annotated[str | None, Meta(description="Text of the token; null where the checkpoint has no tokenizer.")]
    mean: Annotated[
        float | None,
        Meta(description="mu, the mean of the features of x, in units of the residual stream."),
    ]
    sigma: Annotated[
        float | None,
        Meta(
            description=(
                "Population standard deviation of the features of x (it divides by d), in units of the residual stream."
            )
        ),
    ]
    pre_norm: Annotated[
        float | None,
        Meta(description="||x||, the L2 norm of what enters the LayerNorm, in units of the residual stream."),
    ]
    normalized_norm: Annotated[
        float | None,
        Meta(description="||xhat||, the L2 norm before gain and bias; without unit."),
    ]
    post_norm: Annotated[
        float | None,
        Meta(description="||y||, the L2 norm of what leaves the LayerNorm, after gain and bias; without unit."),
    ]
    max_deviation: Annotated[
        float | None,
        Meta(description="max|x - mu| / sigma, in units of sigma; null on a row of equal features."),
    ]
    excess_kurtosis: Annotated[
        float | None,
        Meta(
            description=(
                "m4 / sigma^4 - 3, m4 being the fourth central moment of x over the features; a pure number; null on "
                "a row of equal features."
            )
        ),
    ]
    mean_share: Annotated[
        float | None,
        Meta(description="d mu^2 / ||x||^2: the share of ||x||^2 that the mean direction held, 0 to 1."),
    ]


class Inspection(Record, frozen=True, kw_only=True):
    """What ``inspect`` and ``stats`` return."""

    command: Annotated[Literal["inspect", "stats"], Meta(description="Which of the two it was.")]
    model: Annotated[ModelInfo, Meta(description="Which model gave the numbers.")]
    bos: Annotated[bool, Meta(description="Whether <|endoftext|> was prepended to every sequence.")]
    prompts: Annotated[list[PromptInfo], Meta(description="The sequences, by ``index``.")]
    counts: Annotated[Counts, Meta(description="How many statistics were computed.")]
    sites: Annotated[list[SiteSummary], Meta(description="One for each probed LayerNorm, in forward order.")]
    rows: Annotated[Sequence[Row] | None, Meta(description="In ``stats``, and in ``inspect`` where asked for.")]
    warnings: Annotated[
        list[Flag],
        Meta(description="What deserves care."),
    ] = msgspec.field(default_factory=list)
    nonfinite: Annotated[int, Meta(description="Numbers in this record that were NaN or infinite and are null.")] = 0
