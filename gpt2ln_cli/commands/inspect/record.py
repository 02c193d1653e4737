"""What ``inspect`` returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.commands.params.record import SORT_KEYS as LEARNED_KEYS
from gpt2ln_cli.quantities import QUANTITIES, Quantities, Summarized
from gpt2ln_cli.records import Claim, Counts, Flag, Gain, ModelInfo, PromptInfo, Record, Spread, Vector

SORT_KEYS = (*QUANTITIES, *LEARNED_KEYS)
"""What ``inspect`` can sort sites by: the mean of a quantity over later tokens, or a number of the gain or bias."""


class Summary(Summarized[Spread], frozen=True, kw_only=True):
    """The quantities of a site over a set of tokens; ``sigma.mean`` is the mean of sigma over them."""

    tokens: Annotated[int, Meta(description="How many tokens were summarized.")]


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
    sorted_by: Annotated[
        float | None,
        Meta(
            description=(
                "What ``inspect`` sorted the sites by: of a quantity the arithmetic mean over later tokens, or over "
                "position 0 where there are none; null where it did not sort."
            )
        ),
    ] = None


class Row(Quantities[float | None], frozen=True, kw_only=True):
    """One statistic: one token of one sequence at one site."""

    site: Annotated[str, Meta(description="Name of the LayerNorm, such as ``h.5.ln_1``.")]
    sequence: Annotated[int, Meta(description="``index`` of the sequence in ``prompts``.")]
    position: Annotated[int, Meta(description="Position of the token in its sequence, from 0.")]
    token_id: Annotated[int, Meta(description="Its number in the vocabulary.")]
    token: Annotated[str | None, Meta(description="Text of the token; null where the checkpoint has no tokenizer.")]


class Inspection(Record, frozen=True, kw_only=True):
    """What ``inspect`` and ``stats`` return."""

    command: Annotated[Literal["inspect", "stats"], Meta(description="Which of the two it was.")]
    model: Annotated[ModelInfo, Meta(description="Which model gave the numbers.")]
    bos: Annotated[bool, Meta(description="Whether <|endoftext|> was prepended to every sequence.")]
    prompts: Annotated[list[PromptInfo], Meta(description="The sequences, by ``index``.")]
    counts: Annotated[Counts, Meta(description="How many statistics were computed.")]
    sites: Annotated[
        list[SiteSummary],
        Meta(description="The probed LayerNorms, in forward order, or sorted; with ``top`` the first of them."),
    ]
    sort: Annotated[
        str | None,
        Meta(
            description=(
                "What ``inspect`` sorted the sites by, and ``stats`` the rows of each site, greatest first; null where "
                "they stand in the order of the run."
            )
        ),
    ] = None
    claims: Annotated[list[Claim], Meta(description="What was held against a threshold, by id.")]
    rows: Annotated[
        Sequence[Row] | None,
        Meta(description="In ``stats``, and in ``inspect`` where asked for; of ``sites``, in their order."),
    ]
    warnings: Annotated[
        list[Flag],
        Meta(description="What deserves care."),
    ] = msgspec.field(default_factory=list)
    nonfinite: Annotated[int, Meta(description="Numbers in this record that were NaN or infinite and are null.")] = 0
