"""What ``attribute`` returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.records import Claim, Flag, ModelInfo, PromptInfo, Record

WRITER = (
    "``wte``, ``wpe``, ``h.3.attn`` or ``h.3.mlp``; by head ``h.3.attn.head.7`` and ``h.3.attn.bias``; ``rounding`` in "
    "half precision."
)


class Through(msgspec.Struct, frozen=True, kw_only=True):
    """What a writer made through one feature."""

    index: Annotated[int, Meta(description="Which feature, from 0.")]
    share: Annotated[float | None, Meta(description="Of sigma^2; a writer's add up to its share over all features.")]


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one writer made of sigma^2 and mu, mean over tokens."""

    writer: Annotated[str, Meta(description=WRITER)]
    share: Annotated[
        float | None,
        Meta(description="<w~, x~> / ||x~||^2, the part of sigma^2 that it made; all shares add up to 1."),
    ]
    mean: Annotated[float | None, Meta(description="Mean over the features of what it wrote; all add up to mu.")]
    value: Annotated[
        float | None,
        Meta(description="What it wrote into the feature that was asked for; all add up to x_j. Null without one."),
    ]
    through: Annotated[
        list[Through],
        Meta(description="The features through which it made most, of the writers with the largest shares; else none."),
    ]

    @property
    def features(self) -> str:
        """The features through which it made a tenth of its share and more, in words; empty where none is known."""
        least = abs(self.share or 0.0) / 10
        indices = [str(one.index) for one in self.through if one.share is not None and abs(one.share) >= least > 0]
        *others, last = indices or [""]
        return f"features {', '.join(others)} and {last}" if others else f"feature {last}" if last else ""


class SiteAttribution(msgspec.Struct, frozen=True, kw_only=True):
    """Who wrote x at one site."""

    name: Annotated[str, Meta(description="Name of the LayerNorm, such as ``h.5.ln_1``.")]
    layer: Annotated[int | None, Meta(description="Counted from 0; null for ln_f.")]
    kind: Annotated[Literal["ln_1", "ln_2", "ln_f"], Meta(description="Which LayerNorm of a block, or the final one.")]
    first_sigma: Annotated[float | None, Meta(description="Mean of sigma over the positions 0.")]
    rest_sigma: Annotated[float | None, Meta(description="Mean of sigma over later positions; null without any.")]
    first_x: Annotated[
        float | None, Meta(description="Mean over the positions 0 of the feature that was asked for; null without one.")
    ]
    rest_x: Annotated[float | None, Meta(description="The same over later positions.")]
    first: Annotated[list[Share], Meta(description="Over position 0 of every sequence, in forward order.")]
    rest: Annotated[list[Share], Meta(description="Over all later positions; none where there are none.")]
    sum_error: Annotated[float | None, Meta(description="Greatest |sum of the shares - 1| of a token, as measured.")]
    mean_error: Annotated[
        float | None, Meta(description="Greatest |sum of the writers' means - mu| of a token, in units of sigma.")
    ]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one writer made of one token at one site."""

    site: Annotated[str, Meta(description="Name of the LayerNorm, such as ``h.5.ln_1``.")]
    sequence: Annotated[int, Meta(description="``index`` of the sequence in ``prompts``.")]
    position: Annotated[int, Meta(description="Position of the token in its sequence, from 0.")]
    token_id: Annotated[int, Meta(description="Its number in the vocabulary.")]
    token: Annotated[str | None, Meta(description="Text of the token; null where the checkpoint has no tokenizer.")]
    sigma: Annotated[float | None, Meta(description="Of the token at the site.")]
    writer: Annotated[str, Meta(description=WRITER)]
    share: Annotated[float | None, Meta(description="The part of sigma^2 that it made.")]
    mean: Annotated[float | None, Meta(description="Mean over the features of what it wrote.")]
    value: Annotated[float | None, Meta(description="What it wrote into the feature that was asked for.")]


class Attribution(Record, frozen=True, kw_only=True):
    """What ``attribute`` returns."""

    command: Literal["attribute"] = "attribute"
    model: Annotated[ModelInfo, Meta(description="Which model gave the numbers.")]
    bos: Annotated[bool, Meta(description="Whether <|endoftext|> was prepended to every sequence.")]
    prompts: Annotated[list[PromptInfo], Meta(description="The sequences that were run.")]
    by_head: Annotated[bool, Meta(description="Whether an attention's heads and its bias are writers of their own.")]
    feature: Annotated[int | None, Meta(description="The feature whose values were asked for.")]
    sites: Annotated[list[SiteAttribution], Meta(description="Each LayerNorm, in forward order.")]
    rows: Annotated[
        Sequence[Row] | None, Meta(description="One for each site, token and writer; null unless asked for.")
    ]
    claims: Annotated[list[Claim], Meta(description="What the numbers say.")]
    warnings: Annotated[list[Flag], Meta(description="What makes the figures mean less than they seem to.")] = (
        msgspec.field(default_factory=list)
    )
    nonfinite: Annotated[int, Meta(description="How many numbers were NaN or infinite and are null here.")] = 0
