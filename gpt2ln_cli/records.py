"""The contract between computing and rendering: typed records, and their JSON.

Every record is a :class:`msgspec.Struct`. Its JSON, which :func:`gpt2ln_cli.render.write` writes, is the struct,
encoded: strict JSON, where a number that is not finite is null and is counted in the record's ``nonfinite`` field.
Field names never change within a ``schema_version``.

Three names for three stages, everywhere: *pre* is x, the residual stream that enters a LayerNorm; *normalized* is
xhat = (x - mu) / sqrt(sigma^2 + eps), before gain and bias; *post* is y = gain * xhat + bias. Norm means L2 norm, and
sigma is the population standard deviation (it divides by the number of features).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

SCHEMA_VERSION = "1.0"
Source = Literal["bundled", "hub", "folder", "file"]


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which model gave the numbers, and from where."""

    name: str
    """What was asked for: a bundled name, a Hub id or a path."""
    source: Source
    """Whether it is bundled, of the Hugging Face Hub, a folder or a single file."""
    location: str
    """The folder or file that was read."""
    revision: str | None
    """The commit of a Hub checkpoint; null elsewhere."""
    n_layer: int
    """L, the number of blocks."""
    n_head: int
    """Attention heads of each block."""
    n_embd: int
    """Width d: features of the residual stream."""
    n_positions: int
    """Longest context, in tokens."""
    vocab_size: int
    """Tokens of the vocabulary."""
    eps: float
    """What LayerNorm adds to the variance."""
    dtype: str
    """Type of the weights: as computed with in a run, as stored in ``params``."""
    device: str | None
    """Where the forward pass ran; null where none did."""
    inferred: list[str] = []
    """What the checkpoint does not say outright and how it was concluded, such as ``n_head 12 from width / 64``."""


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the checkpoint or the run that makes its figures mean less than they seem to."""

    code: Literal["nonfinite_parameter", "nonfinite_activation", "eps_dominates", "eps_differs", "identity"]
    """``nonfinite_*``: NaN or infinity in a gain or bias, or first met in the run; ``eps_dominates``: LayerNorm divides
    by a constant instead of by sigma; ``eps_differs``: a module's eps is not the configuration's;
    ``identity``: the gain is 1 and the bias 0 or absent."""
    site: str | None
    """Null where it concerns the whole model."""
    message: str
    """What was found, in words."""


class PromptInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One sequence as the model saw it."""

    index: int
    """Number of the sequence, which rows refer to."""
    prompt: int
    """Number of the prompt it came from: several sequences share one where a long prompt was split into windows."""
    offset: int
    """Where in its prompt the sequence begins, in tokens."""
    dropped: int
    """Tokens of the prompt that ``truncate`` cut off."""
    unread: int
    """Characters behind those tokens, cut off before they were encoded: a very long prompt is read only as far as the
    context could need."""
    text: str | None
    """The prompt's whole text; null where token ids were given, and in all but the first of a prompt's windows."""
    token_ids: list[int]
    """Of the sequence, as the model saw them."""
    tokens: list[str] | None
    """Text of each token; null where the checkpoint has no tokenizer."""
    length: int
    """Tokens of the sequence, the prepended <|endoftext|> included."""


class KindCount(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of all sites of one kind."""

    kind: Literal["ln_1", "ln_2", "ln_f"]
    """Which LayerNorm of a block, or the final one."""
    sites: int
    """LayerNorms of this kind that were probed."""
    statistics: int
    """(mu, sigma) pairs at all of them."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many (mu, sigma) pairs the kernel returned, counted on its own tensors.

    Where only some sites were probed, the counts are those of the probed sites.
    """

    sites: int
    """LayerNorms that were probed."""
    sequences: int
    """Contexts of the minibatch."""
    tokens: int
    """Sum of the sequences' lengths."""
    per_site: int
    """Statistics of each site: one for each token."""
    per_block: int | None
    """Statistics of one block's probed sites; null where none was probed or the blocks differ."""
    total: int
    """Statistics of all probed sites."""
    by_kind: list[KindCount]
    """The total by kind of LayerNorm."""
    padding: int
    """Padded positions, which the kernel normalizes too; they are in no other count and no summary."""
    padding_statistics: int
    """Statistics that the kernel returned at padded positions."""
    features: int
    """Features that each statistic averages over: the width."""
    batches: int
    """Forward passes that the sequences were run in."""
    formula: int
    """sites x tokens; with every site probed, (2L + 1) x tokens."""
    formula_agrees: bool
    """Whether the total is that of ``formula``, and all sites have equally many."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity over tokens: arithmetic mean, least and greatest."""

    mean: float | None
    """Arithmetic mean over tokens."""
    min: float | None
    """Least over tokens."""
    max: float | None
    """Greatest over tokens."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The quantities of a site over a set of tokens."""

    tokens: int
    """How many tokens were summarized."""
    mean: Spread
    """mu, the mean of the features of x."""
    sigma: Spread
    """Population standard deviation of the features of x; ``sigma.mean`` is the mean of sigma over tokens."""
    pre_norm: Spread
    """||x||."""
    normalized_norm: Spread
    """||xhat||."""
    post_norm: Spread
    """||y||."""


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of a gain or bias."""

    index: int
    """Which feature, from 0."""
    value: float | None
    """Its gain or bias."""


class Vector(msgspec.Struct, frozen=True, kw_only=True):
    """A learned gain or bias over its features; ``std`` is the population standard deviation.

    The quartiles interpolate linearly between neighbouring values, as NumPy's do.
    """

    mean: float | None
    """Over the features, as are the following."""
    std: float | None
    """Population standard deviation."""
    min: float | None
    """Least."""
    lower_quartile: float | None
    """A quarter of the features are at most this."""
    median: float | None
    """Half of the features are at most this."""
    upper_quartile: float | None
    """Three quarters of the features are at most this."""
    max: float | None
    """Greatest."""
    norm: float | None
    """L2 norm."""
    rms_distance: float | None
    """Root mean square distance from what LayerNorm starts with: 1 for a gain, 0 for a bias."""
    extremes: list[Feature] | None = None
    """The features farthest from that start, farthest first; only where asked for."""


class Gain(Vector, frozen=True, kw_only=True):
    """A learned gain."""

    negative: int
    """Features whose gain is below 0."""
    switched_off: int
    """Features whose gain is at most a hundredth of the gains' root mean square."""


class SiteSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one LayerNorm computed, and its learned gain and bias."""

    name: str
    """Name of the LayerNorm, such as ``h.5.ln_1``."""
    layer: int | None
    """Counted from 0; null for ln_f."""
    kind: Literal["ln_1", "ln_2", "ln_f"]
    """Which LayerNorm of the block, or the final one."""
    statistics: int
    """(mu, sigma) pairs that the kernel returned for real tokens."""
    first: Summary | None
    """Position 0 of every sequence."""
    rest: Summary | None
    """All later positions; null where there are none."""
    gain: Gain | None
    """Null in a model whose LayerNorms have none."""
    bias: Vector | None
    """Null in a model whose LayerNorms have none."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One statistic: one token of one sequence at one site."""

    site: str
    """Name of the LayerNorm, such as ``h.5.ln_1``."""
    sequence: int
    """``index`` of the sequence in ``prompts``."""
    position: int
    """Position of the token in its sequence, from 0."""
    token_id: int
    """Its number in the vocabulary."""
    token: str | None
    """Text of the token; null where the checkpoint has no tokenizer."""
    mean: float | None
    """mu, the mean of the features of x, in units of the residual stream."""
    sigma: float | None
    """Population standard deviation of the features of x (it divides by d), in units of the residual stream."""
    pre_norm: float | None
    """||x||, the L2 norm of what enters the LayerNorm, in units of the residual stream."""
    normalized_norm: float | None
    """||xhat||, the L2 norm before gain and bias; without unit."""
    post_norm: float | None
    """||y||, the L2 norm of what leaves the LayerNorm, after gain and bias; without unit."""
    max_deviation: float | None
    """max|x - mu| / sigma, in units of sigma; null on a row of equal features."""
    excess_kurtosis: float | None
    """m4 / sigma^4 - 3, m4 being the fourth central moment of x over the features; a pure number; null on a row of
    equal features."""
    mean_share: float | None
    """d mu^2 / ||x||^2: the share of ||x||^2 that the mean direction held, 0 to 1."""


class Rows(Sequence[Row]):
    """Rows that are made while they are read, so that a million of them take no memory.

    Numbers that are not finite are null in them already.
    """

    nonfinite: int
    """How many those are."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What ``inspect`` and ``stats`` return."""

    schema_version: str = SCHEMA_VERSION
    command: Literal["inspect", "stats"]
    """Which of the two it was."""
    model: ModelInfo
    """Which model gave the numbers."""
    bos: bool
    """Whether <|endoftext|> was prepended to every sequence."""
    prompts: list[PromptInfo]
    """The sequences, by ``index``."""
    counts: Counts
    """How many statistics were computed."""
    sites: list[SiteSummary]
    """One for each probed LayerNorm, in forward order."""
    rows: Sequence[Row] | None
    """In ``stats``, and in ``inspect`` where asked for."""
    warnings: list[Flag] = []
    """What deserves care."""
    nonfinite: int = 0
    """Numbers in this record that were NaN or infinite and are null."""


class SiteParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Learned gain and bias of one site."""

    name: str
    layer: int | None
    kind: Literal["ln_1", "ln_2", "ln_f"]
    gain: Gain | None
    bias: Vector | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether gains and biases were learned: counts of sites that moved from where LayerNorm starts."""

    sites: int
    learned_gain: int
    """Sites whose gain is not 1 throughout."""
    learned_bias: int
    """Sites whose bias is not 0 throughout."""
    uses_gain_and_bias: bool
    """Whether any site has either."""


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What ``params`` returns."""

    schema_version: str = SCHEMA_VERSION
    command: Literal["params"] = "params"
    model: ModelInfo
    sites: list[SiteParameters]
    verdict: Verdict
    warnings: list[Flag] = []
    nonfinite: int = 0


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One way to read "LayerNorm", and how many statistics it would take."""

    name: str
    description: str
    is_gpt2: bool
    per_site: int
    per_block: int
    total: int


class Arithmetic(msgspec.Struct, frozen=True, kw_only=True):
    """What ``count`` returns: the arithmetic alone, of a batch of equally long contexts."""

    schema_version: str = SCHEMA_VERSION
    command: Literal["count"] = "count"
    model: str | None
    """The checkpoint whose shape was used; null where the shape was given."""
    n_layer: int
    n_head: int
    n_embd: int
    tokens: int
    """Tokens of one context."""
    batch: int
    """Contexts in the minibatch."""
    sites: int
    per_site: int
    per_block: int
    total: int
    features: int
    """Features that each statistic averages over."""
    readings: list[Reading]
    """GPT-2's own reading first, then its rivals."""


class AvailableModel(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that can be used without a download."""

    name: str
    """What ``--model`` takes."""
    source: Literal["bundled", "hub"]
    location: str
    """The folder that holds it."""
    revision: str | None
    """The commit, which ``--revision`` takes; null for a bundled checkpoint."""
    n_layer: int
    n_head: int
    n_embd: int
    """Width d: features of the residual stream."""
    n_positions: int
    """Longest context, in tokens."""
    vocab_size: int
    size: int
    """Bytes that the folder's files take on disk."""


class Models(msgspec.Struct, frozen=True, kw_only=True):
    """What ``models`` returns."""

    schema_version: str = SCHEMA_VERSION
    command: Literal["models"] = "models"
    cache: str
    """The Hugging Face cache that was looked through."""
    models: list[AvailableModel]
    """The bundled ones, then those in the cache by name and commit."""


class ReadingFit(msgspec.Struct, frozen=True, kw_only=True):
    """How well one reading of "LayerNorm" reproduces what the model computed, over all tried sites."""

    reading: str
    is_gpt2: bool
    statistics: int
    """Statistics that each site would take for this input, over the batches it was run in."""
    worst: float | None
    """Largest |y - predicted y| / rms(y) over sites, tokens and features."""
    rms: float | None
    """Largest rms(y - predicted y) / rms(y) over sites."""
    fits: int
    """Sites whose output it reproduces: at least ``level`` of the numbers."""
    exact: float | None
    """Least share over sites of the numbers of y that it gives exactly, from float64 rounded once to the dtype."""
    reproduced: float | None
    """The same, allowing for what the kernel's float32 arithmetic may change before that rounding: what decides."""
    ulps: float | None
    """Largest |y - predicted y| in units of y's last place; cancellation makes it large, and it decides nothing."""


class SiteTrial(msgspec.Struct, frozen=True, kw_only=True):
    """Which reading one LayerNorm follows."""

    name: str
    layer: int | None
    kind: Literal["ln_1", "ln_2", "ln_f"]
    verdict: str | None
    """The only reading that fits; null where none does, or several do."""
    candidates: list[str]
    """All readings that reproduce at least ``level`` of the numbers: several where the input can't tell them apart."""
    rms: float | None
    """rms(y - predicted y) / rms(y) of the best reading."""
    runner_up: str
    """The best of the readings that do not fit."""
    orders: float | None
    """By how many powers of ten the best fits better than the runner-up."""
    affine: Literal["gain and bias", "gain alone", "bias alone", "neither"]
    """What, applied to the best reading's xhat, reproduces y."""
    best: str
    """The reading that reproduces most, whether it fits or not."""
    exact: float
    """Share of the numbers of y that the best reading gives exactly, rounded once to the dtype."""
    reproduced: float
    """The same, allowing for what the kernel's float32 arithmetic may change before that rounding."""
    ulps: float | None
    """Largest |y - predicted y| of the best reading in units of y's last place."""
    runner_up_reproduced: float
    """Share of the numbers that the runner-up reproduces."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that GPT-2 does, tried on this checkpoint."""

    name: Literal["axis", "batch independence", "causality", "heads", "gain and bias"]
    passed: bool | None
    """Null where the input can't tell."""
    statement: str
    """What was measured, in words and numbers."""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What ``verify`` returns."""

    schema_version: str = SCHEMA_VERSION
    command: Literal["verify"] = "verify"
    model: ModelInfo
    bos: bool
    prompts: list[PromptInfo]
    readings: list[ReadingFit]
    """GPT-2's own first."""
    rounding: float | None
    """What rounding to the dtype may make of rms(y - predicted y) / rms(y) of a right reading, at the worst site."""
    level: float
    """Share of the numbers that a reading must reproduce at a site to fit it."""
    companion: list[int] | None
    """Token ids of a context that ran beside the only one: alone it can't tell a context from a minibatch."""
    sites: list[SiteTrial]
    checks: list[Check]
    behaves_as_gpt2: bool
    """The axis is GPT-2's, and no other check came out otherwise."""
    warnings: list[Flag] = []
    """What deserves care."""
    nonfinite: int = 0


class StageShape(msgspec.Struct, frozen=True, kw_only=True):
    """One token's features at one stage."""

    norm: float | None
    """L2 norm."""
    sigma: float | None
    """Population standard deviation of the features."""
    excess_kurtosis: float | None
    """Null on a row of equal features."""
    max_deviation: float | None
    """max|v - mean| / sigma of the features v; null on a row of equal features."""


class TokenAtSite(msgspec.Struct, frozen=True, kw_only=True):
    """What one LayerNorm took from one token, and what it left."""

    site: str
    mean: float | None
    """mu, discarded."""
    sigma: float | None
    """Population standard deviation of the features of x, discarded."""
    mean_share: float | None
    """d mu^2 / ||x||^2: the share of ||x||^2 that mu holds."""
    sigma_share: float | None
    """d sigma^2 / ||x||^2: the share of ||x||^2 that sigma holds; with ``mean_share`` it makes 1."""
    pre: StageShape
    normalized: StageShape
    """Of xhat as the module made it: its output with gain and bias undone."""
    post: StageShape
    rebuilt_error: float | None
    """||x - (sqrt(sigma^2 + eps) xhat + mu)|| / ||x||, xhat being undone from the module's output."""
    rounding: float | None
    """What ``rebuilt_error`` may be at most, where it is the rounding of y alone."""
    rebuilt: bool
    """Whether x is rebuilt to rounding: y is what x, mu and sigma give, rounded once."""
    shape_kept: bool
    """Whether x - mu and xhat differ by nothing but a factor, to rounding: then kurtosis is the same."""


class ComparedToken(msgspec.Struct, frozen=True, kw_only=True):
    """One of the tokens that are compared."""

    text: str | None
    """The word or prompt it was asked for by; null where token ids were given."""
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


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens compared in one surrounding."""

    template: str | None
    """The carrier sentence; null where each was run alone."""
    tokens: list[ComparedToken]
    pairs: list[TokenPair]


class LaterReading(msgspec.Struct, frozen=True, kw_only=True):
    """How well a linear probe reads something from the residual stream at a later site."""

    site: str
    r_squared: float | None


class SigmaReading(msgspec.Struct, frozen=True, kw_only=True):
    """How well a linear probe reads log sigma of one site, on tokens it was not fitted on; R^2, at most 1."""

    site: str
    pre: float | None
    """From x, which the LayerNorm was given."""
    post: float | None
    """From y, which it gave."""
    later: list[LaterReading]
    """From the residual stream that enters each later site."""


class SigmaProbe(msgspec.Struct, frozen=True, kw_only=True):
    """Ridge regression of log sigma on the features.

    Each text is cut into pieces that are run as prompts of their own: the first, third, ... are fitted on, the others
    held out.
    """

    texts: list[str]
    """Files of ``sample_prompts``."""
    piece: int
    """Tokens of each piece, the last of a text apart."""
    fitted_tokens: int
    """Position 0 of each piece is left out."""
    held_out_tokens: int
    sites: list[SigmaReading]


class TokenInContext(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one token's xhat the direction holds that its context shares."""

    position: int
    token_id: int
    token: str | None
    real: float | None
    """<xhat, m> / ||xhat||^2 under the real LayerNorm, m being the mean of xhat over the context's tokens."""
    across_tokens: float | None
    """The same under normalization of each feature across the tokens, whose m is zero."""


class SharedAtSite(msgspec.Struct, frozen=True, kw_only=True):
    """The direction that the tokens of a context share at one site."""

    site: str
    real: float | None
    """||m||^2 / (mean over tokens of ||xhat||^2) under the real LayerNorm."""
    across_tokens: float | None
    """The same under normalization of each feature across the tokens: zero but for rounding, and null where all tokens
    are alike, of which it leaves nothing."""
    tokens: list[TokenInContext]


class SharedDirection(msgspec.Struct, frozen=True, kw_only=True):
    """What the tokens of one context have in common."""

    sequence: int
    unrelated: float
    """1 / tokens: the share that tokens at right angles to each other would have."""
    sites: list[SharedAtSite]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that the measured numbers give."""

    name: Literal["discarded", "scale", "shape", "not gone", "shared direction"]
    holds: bool | None
    """Whether it came out as in GPT-2; null where the input can't tell."""
    statement: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What ``compare`` returns."""

    schema_version: str = SCHEMA_VERSION
    command: Literal["compare"] = "compare"
    model: ModelInfo
    bos: bool
    prompts: list[PromptInfo]
    settings: list[Setting]
    """Alone, and in the carrier sentence; empty where whole contexts were looked at."""
    probe: SigmaProbe | None
    """Null where whole contexts were looked at, or where the checkpoint has no tokenizer for the sample prompts."""
    contexts: list[SharedDirection]
    """Only where whole contexts were looked at."""
    findings: list[Finding]
    warnings: list[Flag] = []
    """What deserves care."""
    nonfinite: int = 0


class Ablated(msgspec.Struct, frozen=True, kw_only=True):
    """The model's predictions with its LayerNorms replaced; over all positions that have a next token."""

    name: str
    formula: str
    looks_ahead: bool
    """Whether a position's output depends on later tokens: then the loss is not that of a language model."""
    loss: float | None
    """Mean negative log-likelihood of the next token, in nats."""
    perplexity: float | None
    """exp(loss)."""
    loss_difference: float | None
    """Loss less that of the real model."""
    standard_error: float | None
    """Of ``loss_difference``, from its spread over tokens; null where there is but one."""
    kl: float | None
    """Mean Kullback-Leibler divergence KL(real || replaced) of the next-token predictions, in nats."""
    same_top: float
    """Share of positions whose most probable next token is the real model's."""
    residual_first: Spread
    """||x|| after the last block, where it enters ln_f, at position 0 of every sequence."""
    residual_rest: Spread
    """The same at all later positions."""
    overflowed: int
    """Tokens whose residual after the last block, or whose logits, are not finite."""


class Ablation(msgspec.Struct, frozen=True, kw_only=True):
    """What ``ablate`` returns."""

    schema_version: str = SCHEMA_VERSION
    command: Literal["ablate"] = "ablate"
    model: ModelInfo
    bos: bool
    prompts: list[PromptInfo]
    sites: list[str]
    """The LayerNorms that were replaced; all others stayed."""
    predictions: int
    """Positions with a next token."""
    real: Ablated
    """The model as it is."""
    replaced: list[Ablated]
    resolution: float
    """Differences of loss up to this, in nats, are taken for rounding: three standard errors of what it makes of the
    loss to round the outputs of the replaced LayerNorms once more."""
    lower: list[str]
    """Replacements with a lower loss than the real model's, lowest first; none of them looks ahead."""
    equal: list[str]
    """Replacements that do not look ahead whose loss is the real model's."""
    warnings: list[Flag] = []
    """What deserves care in the model as it is."""
    nonfinite: int = 0


class FeatureChange(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of a gain or bias in two checkpoints."""

    index: int
    a: float | None
    b: float | None


class VectorChange(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a gain or bias between checkpoint A and checkpoint B."""

    norm: float | None
    """L2 norm of b - a over the features that differ; null where that is not finite."""
    relative: float | None
    """That, divided by the L2 norm of a; null where a is 0 or not finite."""
    cosine: float | None
    """Cosine of the angle between a and b; null where either is 0 or holds NaN or infinity."""
    changed: int
    """Features whose value differs at all; NaN in both is no difference."""
    largest: list[FeatureChange]
    """The features that changed most: those that are not finite on one side, then the most changed; none that did not
    change."""


class SpreadChange(msgspec.Struct, frozen=True, kw_only=True):
    """Mean over tokens of a quantity in two checkpoints."""

    a: float | None
    b: float | None
    relative: float | None
    """(b - a) / |a|; null where a is 0."""


class ActivationChange(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a site's statistics over the same tokens; arithmetic means over tokens."""

    sigma: SpreadChange
    pre_norm: SpreadChange
    normalized_norm: SpreadChange
    post_norm: SpreadChange


class SiteDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One LayerNorm in two checkpoints."""

    name: str
    layer: int | None
    kind: Literal["ln_1", "ln_2", "ln_f"]
    gain: VectorChange | None
    """Null where neither checkpoint has one."""
    bias: VectorChange | None
    first: ActivationChange | None
    """Position 0 of every sequence; null without prompts."""
    rest: ActivationChange | None
    """All later positions; null without prompts, or where there are none."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What ``diff`` returns."""

    schema_version: str = SCHEMA_VERSION
    command: Literal["diff"] = "diff"
    model_a: ModelInfo
    model_b: ModelInfo
    prompts: list[PromptInfo] | None
    """Null where parameters alone were compared."""
    sites: list[SiteDifference]
    changed_sites: int
    """Sites whose gain or bias differs at all."""
    warnings: list[Flag] = []
    """What deserves care, and in which of the two checkpoints."""
    nonfinite: int = 0


class TourTable(msgspec.Struct, frozen=True, kw_only=True):
    """The measured numbers behind an answer."""

    headings: list[str]
    rows: list[list[str | int | float | None]]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One of a learner's questions, answered from what was measured."""

    question: str
    answer: str
    table: TourTable
    more: str
    """The command that shows more."""


class Tour(msgspec.Struct, frozen=True, kw_only=True):
    """What ``tour`` returns."""

    schema_version: str = SCHEMA_VERSION
    command: Literal["tour"] = "tour"
    model: ModelInfo
    answers: list[Answer]
    warnings: list[Flag] = []
    """What deserves care."""
    nonfinite: int = 0


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """What computed the numbers."""

    gpt2ln: str
    python: str
    torch: str
    transformers: str


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """The calls that give the same numbers again."""

    command: list[str]
    """The words of the command line, ``gpt2ln`` first. A prompt that can't be shown as it is comes as token ids."""
    python: str
    """The same as a call of the library."""
    complete: bool
    """Whether the prompts are in it: false where they are too long for a command line, and a file's name stands for
    them."""
    versions: Versions


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``report`` returns."""

    schema_version: str = SCHEMA_VERSION
    command: Literal["report"] = "report"
    inspection: Inspection
    """With its rows."""
    verdict: Verdict
    """Whether the inspected sites use a learned gain and bias."""
    verification: Verification
    """Of the first tokens; its own ``prompts`` are those that were tried, and ``dropped`` counts what was not."""
    reproduction: Reproduction
    nonfinite: int = 0


Record = (
    Inspection | Parameters | Arithmetic | Models | Verification | Comparison | Ablation | Difference | Tour | Report
)


def united(*lists: Sequence[Flag]) -> list[Flag]:
    """The flags of several runs of one model, each code of a site once."""
    found: dict[tuple[str, str | None], Flag] = {}
    for flag in (flag for flags in lists for flag in flags):
        found.setdefault((flag.code, flag.site), flag)
    return list(found.values())


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
    return value, 0
