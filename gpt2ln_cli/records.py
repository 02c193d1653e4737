"""The contract between computing and rendering: typed records, and their JSON.

Every record is a :class:`msgspec.Struct`. Its JSON, which :func:`gpt2ln_cli.output.write` writes, is the struct,
encoded: strict JSON, where a number that is not finite is null and is counted in the record's ``nonfinite`` field.
Field names never change within a ``schema_version``.

Three names for three stages, everywhere: *pre* is x, the residual stream that enters a LayerNorm; *normalized* is
xhat = (x - mu) / sqrt(sigma^2 + eps), before gain and bias; *post* is y = gain * xhat + bias. Norm means L2 norm, and
sigma is the population standard deviation (it divides by the number of features).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RowT = TypeVar("RowT", covariant=True)
SCHEMA_VERSION = "1.0"
Source = Literal["bundled", "hub", "folder", "file"]
Verdict = Literal["yes", "no", "can't tell"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a command returns."""

    schema_version: str = SCHEMA_VERSION
    command: Annotated[str, Meta(description="The command.")]


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which model gave the numbers, and from where."""

    name: Annotated[str, Meta(description="What was asked for: a bundled name, a Hub id or a path.")]
    source: Annotated[
        Source,
        Meta(description="Whether it is bundled, of the Hugging Face Hub, a folder or a single file."),
    ]
    location: Annotated[str, Meta(description="The folder or file that was read.")]
    revision: Annotated[str | None, Meta(description="The commit of a Hub checkpoint; null elsewhere.")]
    n_layer: Annotated[int, Meta(description="L, the number of blocks.")]
    n_head: Annotated[int, Meta(description="Attention heads of each block.")]
    n_embd: Annotated[int, Meta(description="Width d: features of the residual stream.")]
    n_positions: Annotated[int, Meta(description="Longest context, in tokens.")]
    vocab_size: Annotated[int, Meta(description="Tokens of the vocabulary.")]
    eps: Annotated[float, Meta(description="What LayerNorm adds to the variance.")]
    dtype: Annotated[str, Meta(description="Type of the weights: as computed with in a run, as stored in ``params``.")]
    device: Annotated[str | None, Meta(description="Where the forward pass ran; null where none did.")]
    inferred: Annotated[
        list[str],
        Meta(
            description=(
                "What the checkpoint does not say outright and how it was concluded, such as ``n_head 12 from width /"
                " 64``."
            )
        ),
    ] = []

    def unrun(self) -> ModelInfo:
        """The same for a record that no forward pass led to."""
        return msgspec.structs.replace(self, device=None)


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the checkpoint or the run that makes its figures mean less than they seem to."""

    code: Annotated[
        Literal["nonfinite_parameter", "nonfinite_activation", "eps_dominates", "eps_differs", "identity"],
        Meta(
            description=(
                "``nonfinite_*``: NaN or infinity in a gain or bias, or first met in the run; ``eps_dominates``: "
                "LayerNorm divides by a constant instead of by sigma; ``eps_differs``: a module's eps is not the "
                "configuration's; ``identity``: the gain is 1 and the bias 0 or absent."
            )
        ),
    ]
    site: Annotated[str | None, Meta(description="Null where it concerns the whole model.")]
    message: Annotated[str, Meta(description="What was found, in words.")]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Something that could be so or not, and what the numbers say; the sentence is made of it where it is shown."""

    id: Annotated[
        str,
        Meta(
            description="Which claim, such as ``compare.stream_keeps_sigma``: the command whose view words it, a dot."
        ),
    ]
    verdict: Annotated[
        Verdict, Meta(description="What the statistic says; ``can't tell`` where this run can't decide.")
    ]
    statistic: Annotated[float | None, Meta(description="What was measured; null where nothing could be.")]
    threshold: Annotated[
        float | None,
        Meta(description="What the statistic was held against; null where this run gave nothing to hold it against."),
    ]
    level: Annotated[
        float | None,
        Meta(
            description=(
                "Probability that chance alone takes the statistic past the threshold; null where the threshold is a "
                "bound of rounding or of counting, which chance plays no part in."
            )
        ),
    ] = None
    figures: Annotated[
        dict[str, str | int | float | None], Meta(description="Further numbers and names that the sentence shows.")
    ] = {}


class PromptInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One sequence as the model saw it."""

    index: Annotated[int, Meta(description="Number of the sequence, which rows refer to.")]
    prompt: Annotated[
        int,
        Meta(
            description=(
                "Number of the prompt it came from: several sequences share one where a long prompt was split into "
                "windows."
            )
        ),
    ]
    offset: Annotated[int, Meta(description="Where in its prompt the sequence begins, in tokens.")]
    dropped: Annotated[int, Meta(description="Tokens of the prompt that ``truncate`` cut off.")]
    unread: Annotated[
        int,
        Meta(
            description=(
                "Characters behind those tokens, cut off before they were encoded: a very long prompt is read only as"
                " far as the context could need."
            )
        ),
    ]
    text: Annotated[
        str | None,
        Meta(
            description=(
                "The prompt's whole text; null where token ids were given, and in all but the first of a prompt's "
                "windows."
            )
        ),
    ]
    token_ids: Annotated[list[int], Meta(description="Of the sequence, as the model saw them.")]
    tokens: Annotated[
        list[str] | None,
        Meta(
            description=(
                "Text of each token, with a byte that is no whole character as ``\\xf0``; null where the checkpoint "
                "has no tokenizer."
            )
        ),
    ]
    length: Annotated[int, Meta(description="Tokens of the sequence, the prepended <|endoftext|> included.")]


class KindCount(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of all sites of one kind."""

    kind: Annotated[Literal["ln_1", "ln_2", "ln_f"], Meta(description="Which LayerNorm of a block, or the final one.")]
    sites: Annotated[int, Meta(description="LayerNorms of this kind that were probed.")]
    statistics: Annotated[int, Meta(description="(mu, sigma) pairs at all of them.")]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many (mu, sigma) pairs the kernel returned, counted on its own tensors.

    Where only some sites were probed, the counts are those of the probed sites.
    """

    sites: Annotated[int, Meta(description="LayerNorms that were probed.")]
    sequences: Annotated[int, Meta(description="Contexts of the minibatch.")]
    tokens: Annotated[int, Meta(description="Sum of the sequences' lengths.")]
    per_site: Annotated[int, Meta(description="Statistics of each site: one for each token.")]
    per_block: Annotated[
        int | None,
        Meta(description="Statistics of one block's probed sites; null where none was probed or the blocks differ."),
    ]
    total: Annotated[int, Meta(description="Statistics of all probed sites.")]
    by_kind: Annotated[list[KindCount], Meta(description="The total by kind of LayerNorm.")]
    padding: Annotated[
        int,
        Meta(
            description="Padded positions, which the kernel normalizes too; they are in no other count and no summary."
        ),
    ]
    padding_statistics: Annotated[int, Meta(description="Statistics that the kernel returned at padded positions.")]
    features: Annotated[int, Meta(description="Features that each statistic averages over: the width.")]
    batches: Annotated[int, Meta(description="Forward passes that the sequences were run in.")]
    formula: Annotated[int, Meta(description="sites x tokens; with every site probed, (2L + 1) x tokens.")]
    formula_agrees: Annotated[
        bool,
        Meta(description="Whether the total is that of ``formula``, and all sites have equally many."),
    ]


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity over tokens: arithmetic mean, least and greatest."""

    mean: Annotated[float | None, Meta(description="Arithmetic mean over tokens.")]
    min: Annotated[float | None, Meta(description="Least over tokens.")]
    max: Annotated[float | None, Meta(description="Greatest over tokens.")]


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of a gain or bias."""

    index: Annotated[int, Meta(description="Which feature, from 0.")]
    value: Annotated[float | None, Meta(description="Its gain or bias.")]


class Vector(msgspec.Struct, frozen=True, kw_only=True):
    """A learned gain or bias over its features; ``std`` is the population standard deviation.

    The quartiles interpolate linearly between neighbouring values, as NumPy's do.
    """

    mean: Annotated[float | None, Meta(description="Over the features, as are the following.")]
    std: Annotated[float | None, Meta(description="Population standard deviation.")]
    min: Annotated[float | None, Meta(description="Least.")]
    lower_quartile: Annotated[float | None, Meta(description="A quarter of the features are at most this.")]
    median: Annotated[float | None, Meta(description="Half of the features are at most this.")]
    upper_quartile: Annotated[float | None, Meta(description="Three quarters of the features are at most this.")]
    max: Annotated[float | None, Meta(description="Greatest.")]
    norm: Annotated[float | None, Meta(description="L2 norm.")]
    rms_distance: Annotated[
        float | None,
        Meta(description="Root mean square distance from what LayerNorm starts with: 1 for a gain, 0 for a bias."),
    ]
    extremes: Annotated[
        list[Feature] | None,
        Meta(description="The features farthest from that start, farthest first; only where asked for."),
    ] = None


class Gain(Vector, frozen=True, kw_only=True):
    """A learned gain."""

    negative: Annotated[int, Meta(description="Features whose gain is below 0.")]
    switched_off: Annotated[
        int,
        Meta(description="Features whose gain is at most a hundredth of the gains' root mean square."),
    ]


class Rows(Sequence[RowT]):
    """Rows that are made while they are read, so that a million of them take no memory.

    Numbers that are not finite are null in them already.
    """

    nonfinite: int
    """How many those are."""

    @abstractmethod
    def column(self, site: int, quantity: str) -> NDArray[np.float64]:
        """One quantity of all tokens at the numbered site, in the order of the run; not finite where it was not."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def united(*lists: Sequence[Flag]) -> list[Flag]:
    """The flags of several runs of one model, each code of a site once."""
    found: dict[tuple[str, str | None], Flag] = {}
    for flag in (flag for flags in lists for flag in flags):
        found.setdefault((flag.code, flag.site), flag)
    return list(found.values())


RecordT = TypeVar("RecordT", bound=Any)


def strictly(record: RecordT) -> RecordT:
    """The record with every number that is not finite null, and how many those were in its ``nonfinite``."""
    cleaned, nonfinite = strict(record)
    complete: RecordT = msgspec.structs.replace(cleaned, nonfinite=nonfinite)
    return complete


def strict(value: Any) -> tuple[Any, int]:
    """Return ``value`` with every non-finite float replaced by None, and how many there were."""
    if isinstance(value, float):
        return (value, 0) if math.isfinite(value) else (None, 1)
    if isinstance(value, msgspec.Struct):
        changed: dict[str, Any] = {}
        count = 0
        for name in value.__struct_fields__:
            new, found = strict(getattr(value, name))
            if found:
                changed[name] = new
                count += found
        return (msgspec.structs.replace(value, **changed), count) if changed else (value, 0)
    if isinstance(value, Rows):
        return value, value.nonfinite
    if isinstance(value, list):
        pairs = [strict(item) for item in value]
        count = sum(found for _, found in pairs)
        return ([item for item, _ in pairs], count) if count else (value, 0)
    if isinstance(value, dict):
        cleaned, count = strict(list(value.values()))
        return (dict(zip(value, cleaned, strict=True)), count) if count else (value, 0)
    return value, 0
