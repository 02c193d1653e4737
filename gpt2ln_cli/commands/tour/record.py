"""What ``tour`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.records import Flag, ModelInfo, Record


class TourTable(msgspec.Struct, frozen=True, kw_only=True):
    """The measured numbers behind an answer."""

    headings: list[str]
    rows: list[list[str | int | float | None]]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One of a learner's questions, answered from what was measured."""

    question: str
    answer: str
    table: TourTable
    more: Annotated[str, Meta(description="The command that shows more.")]


class Tour(Record, frozen=True, kw_only=True):
    """What ``tour`` returns."""

    command: Literal["tour"] = "tour"
    model: ModelInfo
    answers: list[Answer]
    warnings: Annotated[
        list[Flag],
        Meta(description="What deserves care."),
    ] = msgspec.field(default_factory=list)
    nonfinite: int = 0
