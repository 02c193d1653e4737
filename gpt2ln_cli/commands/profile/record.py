"""What ``profile`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.quantities import Quantities
from gpt2ln_cli.records import Claim, Counts, Flag, ModelInfo, Record, Verdict


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """How a quantity is distributed over tokens; what is not finite enters nothing but its count."""

    tokens: Annotated[int, Meta(description="Tokens whose number is finite, which the rest is over.")]
    nonfinite: Annotated[int, Meta(description="Tokens whose number is NaN or infinite.")]
    mean: Annotated[float | None, Meta(description="Arithmetic mean.")]
    std: Annotated[float | None, Meta(description="Population standard deviation over tokens.")]
    rms: Annotated[float | None, Meta(description="Root mean square.")]
    min: Annotated[float | None, Meta(description="Least.")]
    max: Annotated[float | None, Meta(description="Greatest.")]
    quantiles: Annotated[
        dict[str, float | None],
        Meta(
            description=(
                "By percent: the order statistic at floor(percent / 100 x (tokens - 1)), to ``sketch.relative_error``."
            )
        ),
    ]


class Distributions(Quantities[Distribution], frozen=True, kw_only=True):
    """The quantities of a site over a set of tokens."""

    tokens: Annotated[int, Meta(description="How many tokens those are.")]


class Band(Quantities[Distribution], frozen=True, kw_only=True):
    """The quantities of a site over the tokens at some neighbouring positions."""

    first: Annotated[int, Meta(description="The first of the positions.")] = msgspec.field(name="from")
    last: Annotated[int, Meta(description="The last of them.")] = msgspec.field(name="to")
    tokens: Annotated[int, Meta(description="How many tokens those are.")]


class TopToken(msgspec.Struct, frozen=True, kw_only=True):
    """One token, and where it stands in the corpus."""

    value: Annotated[float, Meta(description="Of the quantity.")]
    source: Annotated[str, Meta(description="The file.")]
    offset: Annotated[
        int,
        Meta(
            description=(
                "Where its document begins: a byte of the unpacked file, a row of a table, the number of a text that "
                "was handed over."
            )
        ),
    ]
    position: Annotated[int, Meta(description="In its window, from 0.")]
    token: Annotated[str, Meta(description="Its text.")]
    around: Annotated[str, Meta(description="It, and a few tokens before and after it in its window.")]


class Top(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens at which a quantity was greatest: ``--top`` at position 0 and as many later ones, greatest first."""

    sigma: list[TopToken]
    max_abs: list[TopToken]
    excess_kurtosis: list[TopToken]


class FeatureProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of x or y over some tokens of a corpus."""

    index: Annotated[int, Meta(description="Which feature, from 0.")]
    mean: Annotated[float | None, Meta(description="Arithmetic mean over the tokens.")]
    std: Annotated[float | None, Meta(description="Population standard deviation over the tokens.")]
    max_abs: Annotated[float | None, Meta(description="Greatest absolute value.")]
    source: Annotated[str, Meta(description="The file where that stands.")]
    offset: Annotated[int, Meta(description="Where its document begins there, as that of a listed token does.")]
    position: Annotated[int, Meta(description="Position of its token in the window, from 0.")]
    token: Annotated[str, Meta(description="Text of the token.")]
    share: Annotated[
        float | None,
        Meta(description="Mean over the tokens of (x_j - mu)^2 / (d sigma^2), or of y_j^2 / ||y||^2."),
    ]
    massive: Annotated[
        int | None,
        Meta(
            description=(
                "At how many of the tokens |x_j| is above 100 and above 1,000 times the median |x| of the token; null "
                "of y, which that is not defined of."
            )
        ),
    ]
    massive_share: Annotated[
        float | None, Meta(description="Mean over these tokens alone of its share of sigma^2; null where none is.")
    ]


class FeaturesOver(msgspec.Struct, frozen=True, kw_only=True):
    """The features of one LayerNorm's x and y over position 0, or over later positions."""

    tokens: Annotated[int, Meta(description="How many tokens those are.")]
    massive: Annotated[list[int], Meta(description="The features of x that are massive at any of them.")]
    massive_share: Annotated[
        float | None, Meta(description="Share of sigma^2 that these hold together: mean over all of the tokens.")
    ]
    pre: Annotated[list[FeatureProfile], Meta(description="All features of x.")]
    post: Annotated[list[FeatureProfile], Meta(description="All features of y.")]


class ProfiledFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """The features of one LayerNorm's x and y."""

    first: Annotated[FeaturesOver | None, Meta(description="Position 0 of every window.")]
    rest: Annotated[FeaturesOver | None, Meta(description="All later positions; null where there are none.")]


class SiteProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What one LayerNorm computed over a corpus."""

    name: Annotated[str, Meta(description="Name of the LayerNorm, such as ``h.5.ln_1``.")]
    layer: Annotated[int | None, Meta(description="Counted from 0; null for ln_f.")]
    kind: Annotated[
        Literal["ln_1", "ln_2", "ln_f"], Meta(description="Which LayerNorm of the block, or the final one.")
    ]
    statistics: Annotated[int, Meta(description="(mu, sigma) pairs that the kernel returned for real tokens.")]
    first: Annotated[Distributions | None, Meta(description="Position 0 of every window.")]
    rest: Annotated[Distributions | None, Meta(description="All later positions; null where there are none.")]
    bands: Annotated[
        list[Band], Meta(description="Positions in bands, 0, 1, 2-3, 4-7 and so on, where there are any tokens.")
    ]
    top: Annotated[Top, Meta(description="Where sigma, max|x| and excess kurtosis were greatest.")]
    features: Annotated[
        ProfiledFeatures | None, Meta(description="Each feature of x and y; null where they were not measured.")
    ] = None


class BadDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be used, and was left out."""

    source: Annotated[str, Meta(description="The file.")]
    place: Annotated[str, Meta(description="Such as ``line 3`` or ``row 5``; empty where it is the whole file.")]
    reason: Annotated[str, Meta(description="What is wrong with it.")]


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """What the model was run on."""

    sources: Annotated[list[str], Meta(description="The files.")]
    documents: Annotated[int, Meta(description="Documents with a token in them.")]
    empty: Annotated[int, Meta(description="Documents without one.")]
    windows: Annotated[int, Meta(description="Sequences that the model was run on.")]
    tokens: Annotated[
        int, Meta(description="Tokens of the documents; ``counts.tokens`` has what stands before or between them, too.")
    ]
    how: Annotated[
        Literal["each", "packed"],
        Meta(description="Whether each document has windows of its own, or they are packed behind one another."),
    ]
    separator: Annotated[
        Literal["line", "blank", "endoftext", "file"], Meta(description="What ends a document of text.")
    ]
    limit_tokens: Annotated[int | None, Meta(description="How many tokens were asked for; null is all.")]
    bad: Annotated[list[BadDocument], Meta(description="What could not be used, and was left out.")]


class Shards(msgspec.Struct, frozen=True, kw_only=True):
    """How the corpus is cut, and what of it is done."""

    of: Annotated[int, Meta(description="Shards of the whole corpus.")]
    chosen: Annotated[int, Meta(description="How many of them the run is of: all, unless tokens are limited.")]
    done: Annotated[int, Meta(description="How many of these are in the figures.")]
    missing: Annotated[list[int], Meta(description="The numbers of those that are not.")]


class Sketch(msgspec.Struct, frozen=True, kw_only=True):
    """What the quantiles are read from."""

    relative_error: Annotated[float, Meta(description="How far a quantile may be off, as a share of its size.")]


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """How long it took, which has no part in the figures."""

    seconds: Annotated[float, Meta(description="Of all workers together, for what is done.")]
    tokens_a_second: Annotated[float | None, Meta(description="Of a worker.")]


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure that somebody else published."""

    name: Annotated[str, Meta(description="Of the model, as the last part of its path or Hub id.")]
    site: Annotated[str, Meta(description="Name of the LayerNorm.")]
    quantity: Annotated[str, Meta(description="Where it stands in a site of this record, such as ``rest.sigma.rms``.")]
    value: Annotated[float, Meta(description="The figure.")]
    tolerance: Annotated[float, Meta(description="How far this run's may be off, as a share of it.", gt=0)]
    source: Annotated[str, Meta(description="Where it was published.")]


class Held(Published, frozen=True, kw_only=True):
    """A published figure beside that of this run."""

    measured: Annotated[float | None, Meta(description="This run's.")]
    off: Annotated[float | None, Meta(description="(measured - value) / |value|.")]
    verdict: Annotated[Verdict, Meta(description="Whether that is within the tolerance; as its entry in ``claims``.")]


class Profile(Record, frozen=True, kw_only=True):
    """What ``profile`` returns."""

    command: Literal["profile"] = "profile"
    model: Annotated[ModelInfo, Meta(description="Which model gave the numbers.")]
    bos: Annotated[bool, Meta(description="Whether <|endoftext|> was prepended to every window.")]
    corpus: Annotated[Corpus, Meta(description="What it was run on.")]
    shards: Annotated[Shards, Meta(description="What of it is done.")]
    counts: Annotated[Counts, Meta(description="How many statistics were computed.")]
    sketch: Annotated[Sketch, Meta(description="How right quantiles are.")]
    sites: Annotated[list[SiteProfile], Meta(description="One for each LayerNorm, in forward order.")]
    claims: Annotated[list[Claim], Meta(description="What the numbers say.")]
    against: Annotated[
        list[Held] | None, Meta(description="Published figures beside this run's; null where none were given.")
    ] = None
    speed: Annotated[Speed, Meta(description="How long it took; the rest does not depend on it.")]
    warnings: Annotated[list[Flag], Meta(description="What deserves care.")] = msgspec.field(default_factory=list)
    nonfinite: Annotated[int, Meta(description="Numbers in this record that were NaN or infinite and are null.")] = 0
