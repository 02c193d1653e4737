"""What ``plot steps`` draws."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.commands.inspect.record import VectorRow
from gpt2ln_cli.records import ModelInfo, PromptInfo, Record


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One token through the LayerNorm."""

    prompt: Annotated[str | None, Meta(description="The prompt as it was given; null where it was token ids.")]
    vectors: Annotated[VectorRow, Meta(description="x, mu, sigma, xhat and y.")]


class Steps(Record, frozen=True, kw_only=True):
    """Tokens through one LayerNorm, step by step."""

    command: Literal["plot"] = "plot"
    model: Annotated[ModelInfo, Meta(description="Which model gave the numbers.")]
    template: Annotated[str | None, Meta(description="The sentence that carried the prompts; null where none did.")]
    prompts: Annotated[list[PromptInfo], Meta(description="The sequences that were run.")]
    steps: Annotated[list[Step], Meta(description="A token of each prompt.")]
    nonfinite: Annotated[int, Meta(description="Numbers in this record that were NaN or infinite and are null.")] = 0
