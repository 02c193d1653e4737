"""What ``models`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.records import Record


class AvailableModel(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that can be used without a download."""

    name: Annotated[str, Meta(description="What ``--model`` takes.")]
    source: Literal["bundled", "hub"]
    location: Annotated[str, Meta(description="The folder that holds it.")]
    revision: Annotated[
        str | None,
        Meta(description="The commit, which ``--revision`` takes; null for a bundled checkpoint."),
    ]
    n_layer: int
    n_head: int
    n_embd: Annotated[int, Meta(description="Width d: features of the residual stream.")]
    n_positions: Annotated[int, Meta(description="Longest context, in tokens.")]
    vocab_size: int
    size: Annotated[int, Meta(description="Bytes that the folder's files take on disk.")]


class Models(Record, frozen=True, kw_only=True):
    """What ``models`` returns."""

    command: Literal["models"] = "models"
    cache: Annotated[str, Meta(description="The Hugging Face cache that was looked through.")]
    models: Annotated[
        list[AvailableModel],
        Meta(description="The bundled ones, then those in the cache by name and commit."),
    ]
