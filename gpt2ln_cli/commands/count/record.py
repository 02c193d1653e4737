"""What ``count`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.records import Record

# GPT-2 small's shape.
LAYERS, WIDTH, HEADS = 12, 768, 12


class AxisCount(msgspec.Struct, frozen=True, kw_only=True):
    """One axis that LayerNorm could have, and how many statistics it would take."""

    name: str
    description: str
    is_gpt2: bool
    per_site: int
    per_block: int
    total: int


class Arithmetic(Record, frozen=True, kw_only=True):
    """What ``count`` returns: the arithmetic alone, of a batch of equally long contexts."""

    command: Literal["count"] = "count"
    model: Annotated[
        str | None,
        Meta(description="The checkpoint whose shape was used; null where the shape was given."),
    ]
    n_layer: int
    n_head: int
    n_embd: int
    tokens: Annotated[int, Meta(description="Tokens of one context.")]
    batch: Annotated[int, Meta(description="Contexts in the minibatch.")]
    sites: int
    per_site: int
    per_block: int
    total: int
    features: Annotated[int, Meta(description="Features that each statistic averages over.")]
    readings: Annotated[list[AxisCount], Meta(description="GPT-2's own axis first, then its rivals.")]
