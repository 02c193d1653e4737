"""What ``tour`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.commands.plot.record import Steps
from gpt2ln_cli.records import Claim, Flag, ModelInfo, Record


class TourTable(msgspec.Struct, frozen=True, kw_only=True):
    """The measured numbers behind an answer."""

    headings: list[str]
    shares: Annotated[list[str], Meta(description="Headings of columns that are shares, 0 to 1.")] = []
    rows: list[list[str | int | float | None]]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One question, and what was measured for it: the sentences of the answer are made of its claims."""

    number: Annotated[int, Meta(description="Of the question, from 1.")]
    question: str
    claims: Annotated[list[str], Meta(description="Ids of what it says, in its order.")]
    about: Annotated[str | None, Meta(description="What was run, where it is not what the question names.")] = None
    table: TourTable
    more: Annotated[str, Meta(description="The command that shows more.")]


class BlockGradient(msgspec.Struct, frozen=True, kw_only=True):
    """How much the loss turns on what enters one block: the L2 norm of its gradient, over all tokens of a context."""

    site: Annotated[str, Meta(description="The block's first LayerNorm, where its input enters.")]
    real: Annotated[float | None, Meta(description="Of the model as it is; geometric mean over the contexts.")]
    fixed_sigma: Annotated[
        float | None,
        Meta(description="The same with ``ablate``'s ``fixed sigma`` in the place of every LayerNorm."),
    ]
    greater: Annotated[int, Meta(description="Contexts in which the norm is greater with the fixed sigma.")]


class Gradients(msgspec.Struct, frozen=True, kw_only=True):
    """The gradient of the mean next-token loss at every block's input, with LayerNorm and with a fixed sigma."""

    contexts: Annotated[int, Meta(description="Contexts that were run, cut from one text.")]
    tokens: Annotated[int, Meta(description="Tokens of each.")]
    losses: Annotated[list[float | None], Meta(description="Of each, in nats, of the model as it is.")]
    blocks: list[BlockGradient]


class Tour(Record, frozen=True, kw_only=True):
    """What ``tour`` returns."""

    command: Literal["tour"] = "tour"
    model: ModelInfo
    answers: Annotated[list[Answer], Meta(description="Of the questions that were asked.")]
    claims: Annotated[
        list[Claim], Meta(description="What the answers say: the tour's own claims and those of other commands.")
    ]
    steps: Annotated[Steps | None, Meta(description="The two words of question 4 through one LayerNorm, if asked.")]
    gradients: Annotated[Gradients | None, Meta(description="Null where no question that was asked needs them.")]
    warnings: Annotated[
        list[Flag],
        Meta(description="What deserves care."),
    ] = msgspec.field(default_factory=list)
    nonfinite: int = 0
