"""What ``compare`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.records import Claim, Flag, ModelInfo, PromptInfo, Record


class StageShape(msgspec.Struct, frozen=True, kw_only=True):
    """One token's features at one stage."""

    norm: Annotated[float | None, Meta(description="L2 norm.")]
    sigma: Annotated[float | None, Meta(description="Population standard deviation of the features.")]
    excess_kurtosis: Annotated[float | None, Meta(description="Null on a row of equal features.")]
    max_deviation: Annotated[
        float | None,
        Meta(description="max|v - mean| / sigma of the features v; null on a row of equal features."),
    ]


class TokenAtSite(msgspec.Struct, frozen=True, kw_only=True):
    """What one LayerNorm took from one token, and what it left."""

    site: str
    mean: Annotated[float | None, Meta(description="mu, discarded.")]
    sigma: Annotated[float | None, Meta(description="Population standard deviation of the features of x, discarded.")]
    mean_share: Annotated[float | None, Meta(description="d mu^2 / ||x||^2: the share of ||x||^2 that mu holds.")]
    sigma_share: Annotated[
        float | None,
        Meta(description="d sigma^2 / ||x||^2: the share of ||x||^2 that sigma holds; with ``mean_share`` it makes 1."),
    ]
    pre: StageShape
    normalized: Annotated[
        StageShape,
        Meta(description="Of xhat as the module made it: its output with gain and bias undone."),
    ]
    post: StageShape
    rebuilt_error: Annotated[
        float | None,
        Meta(
            description="||x - (sqrt(sigma^2 + eps) xhat + mu)|| / ||x||, xhat being undone from the module's output."
        ),
    ]
    rounding: Annotated[
        float | None,
        Meta(description="What ``rebuilt_error`` may be at most, where it is the rounding of y alone."),
    ]
    rebuilt: Annotated[
        bool,
        Meta(description="Whether x is rebuilt to rounding: y is what x, mu and sigma give, rounded once."),
    ]
    shape_kept: Annotated[
        bool,
        Meta(
            description=(
                "Whether x - mu and xhat differ by nothing but a factor, to rounding: then kurtosis is the same."
            )
        ),
    ]


class ComparedToken(msgspec.Struct, frozen=True, kw_only=True):
    """One of the tokens that are compared."""

    text: Annotated[
        str | None,
        Meta(description="The word or prompt that it is of; null where token ids were given."),
    ]
    stands_for: Annotated[
        str | None,
        Meta(description="The word that was asked for, where that is several tokens and another is compared for it."),
    ]
    own_tokens: Annotated[int, Meta(description="How many tokens the word or prompt is in its surroundings.")]
    sequence: int
    position: int
    token_id: int
    token: str | None
    sites: list[TokenAtSite]


class Cosines(msgspec.Struct, frozen=True, kw_only=True):
    """Cosine between two tokens at one site."""

    site: str
    pre: float | None
    normalized: float | None
    post: float | None


class TokenPair(msgspec.Struct, frozen=True, kw_only=True):
    """Two of the compared tokens, by their places in the list of tokens."""

    first: int
    second: int
    sites: list[Cosines]


class RandomWords(msgspec.Struct, frozen=True, kw_only=True):
    """What two words of the sample prompts differ by in the same place: the control for the words that are compared."""

    pairs: Annotated[int, Meta(description="Pairs of random words, each word one token.")]
    level: Annotated[float, Meta(description="Probability that two random words differ by more than is said here.")]
    sigma: Annotated[
        float | None, Meta(description="|ln(sigma of one / sigma of the other)|, x's, the median over sites.")
    ]
    kurtosis: Annotated[
        float | None, Meta(description="|excess kurtosis of one - that of the other|, x's, the median over sites.")
    ]


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens compared in one surrounding."""

    template: Annotated[str | None, Meta(description="The carrier sentence; null where each was run alone.")]
    alike: Annotated[
        bool,
        Meta(
            description=(
                "Whether each is one token, behind the same tokens, so that nothing but the words differs; position 0 "
                "is never alike."
            )
        ),
    ]
    tokens: list[ComparedToken]
    pairs: list[TokenPair]
    random: Annotated[RandomWords | None, Meta(description="Null where the tokens are not alike.")]


class LaterProbe(msgspec.Struct, frozen=True, kw_only=True):
    """How well a linear probe reads something from the residual stream at a later site."""

    site: str
    r_squared: float | None


class SiteProbe(msgspec.Struct, frozen=True, kw_only=True):
    """How well a linear probe reads log sigma of one site, on tokens it was not fitted on; R^2, at most 1."""

    site: str
    pre: Annotated[float | None, Meta(description="From x, which the LayerNorm was given.")]
    post: Annotated[float | None, Meta(description="From y, which it gave.")]
    later: Annotated[list[LaterProbe], Meta(description="From the residual stream that enters each later site.")]


class SigmaProbe(msgspec.Struct, frozen=True, kw_only=True):
    """Ridge regression of log sigma on the features.

    Each text is cut into pieces that are run as prompts of their own: the first, third, ... are fitted on, the others
    held out.
    """

    texts: Annotated[list[str], Meta(description="Files of ``sample_prompts``.")]
    piece: Annotated[int, Meta(description="Tokens of each piece, the last of a text apart.")]
    fitted_tokens: Annotated[int, Meta(description="Position 0 of each piece is left out.")]
    held_out_tokens: int
    shuffled: Annotated[
        list[float | None],
        Meta(
            description=(
                "R^2 from the residual stream at the next site, the median over sites, of probes that were fitted on "
                "the same tokens with their sigma shuffled."
            )
        ),
    ]
    gains: Annotated[
        list[float | None],
        Meta(
            description=(
                "What the residual stream at the next site tells more of log sigma than y, in R^2, the median over "
                "sites: the share of each held-out piece in it."
            )
        ),
    ]
    sites: list[SiteProbe]


class TokenInContext(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one token's xhat the direction holds that its context shares."""

    position: int
    token_id: int
    token: str | None
    real: Annotated[
        float | None,
        Meta(
            description=(
                "<xhat, m> / ||xhat||^2 under the real LayerNorm, m being the mean of xhat over the context's tokens."
            )
        ),
    ]
    across_tokens: Annotated[
        float | None,
        Meta(description="The same under normalization of each feature across the tokens, whose m is zero."),
    ]


class SharedByOthers(msgspec.Struct, frozen=True, kw_only=True):
    """What other tokens share in as many positions: medians over the draws."""

    random: Annotated[float | None, Meta(description="Random tokens of the sample prompts.")]
    function_words: Annotated[float | None, Meta(description="Random function words.")]
    random_remaining: Annotated[float | None, Meta(description="``remaining`` of the random tokens.")]
    function_words_remaining: Annotated[float | None, Meta(description="``remaining`` of the function words.")]


class SharedAtSite(msgspec.Struct, frozen=True, kw_only=True):
    """The direction that the tokens of a context share at one site."""

    site: str
    real: Annotated[
        float | None,
        Meta(description="||m||^2 / (mean over tokens of ||xhat||^2) under the real LayerNorm."),
    ]
    across_tokens: Annotated[
        float | None,
        Meta(
            description=(
                "The same under normalization of each feature across the tokens: zero but for rounding, and null "
                "where all tokens are alike, of which it leaves nothing."
            )
        ),
    ]
    remaining: Annotated[
        float | None,
        Meta(
            description=(
                "``real`` once the direction that all tokens of the sample prompts share there, that of their mean "
                "xhat, is taken out of each token."
            )
        ),
    ]
    others: SharedByOthers | None
    tokens: list[TokenInContext]


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What chance makes of a share, the median over sites, in some draws."""

    draws: int
    median: float | None
    level: Annotated[float, Meta(description="Probability that a further draw exceeds ``upper``.")]
    upper: float | None


class SharedControl(msgspec.Struct, frozen=True, kw_only=True):
    """The same figures for other tokens, as many and in the same positions."""

    random: Annotated[Reach, Meta(description="Share of random tokens of the sample prompts, no two of a draw alike.")]
    random_remaining: Annotated[
        Reach, Meta(description="Of these, once what all tokens of the sample prompts share is taken out.")
    ]
    function_words: Annotated[
        Reach | None, Meta(description="Share of function words; null where the tokenizer has too few as one token.")
    ]
    function_words_remaining: Reach | None


class SharedDirection(msgspec.Struct, frozen=True, kw_only=True):
    """What the tokens of one context have in common."""

    sequence: int
    unrelated: Annotated[
        float,
        Meta(description="1 / tokens: the share that tokens at right angles to each other would have."),
    ]
    shuffled: Annotated[Reach, Meta(description="Share of the same tokens with the features of each shuffled.")]
    control: Annotated[
        SharedControl | None,
        Meta(description="Null for a context of more than 128 tokens, or where the checkpoint has no tokenizer."),
    ]
    sites: list[SharedAtSite]


class Comparison(Record, frozen=True, kw_only=True):
    """What ``compare`` returns."""

    command: Literal["compare"] = "compare"
    model: ModelInfo
    bos: bool
    prompts: list[PromptInfo]
    settings: Annotated[
        list[Setting],
        Meta(description="One: in the carrier sentence, or alone; none where whole contexts were looked at."),
    ]
    probe: Annotated[
        SigmaProbe | None,
        Meta(
            description=(
                "Null where it was left out, where whole contexts were looked at, or where the checkpoint has no "
                "tokenizer for the sample prompts."
            )
        ),
    ]
    contexts: Annotated[list[SharedDirection], Meta(description="Only where whole contexts were looked at.")]
    claims: list[Claim]
    warnings: Annotated[
        list[Flag],
        Meta(description="What deserves care."),
    ] = msgspec.field(default_factory=list)
    nonfinite: int = 0
