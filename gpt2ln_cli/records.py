"""The contract between computing and rendering: typed records, and their JSON.

Every record is a :class:`msgspec.Struct`. Its JSON is the struct, encoded: strict JSON, where a number that is not
finite is null and is counted in the record's ``nonfinite`` field. Field names never change within a ``schema_version``.

Three names for three stages, everywhere: *pre* is x, the residual stream that enters a LayerNorm; *normalized* is
xhat = (x - mu) / sqrt(sigma^2 + eps), before gain and bias; *post* is y = gain * xhat + bias. Norm means L2 norm, and
sigma is the population standard deviation (it divides by the number of features).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

SCHEMA_VERSION = "1.0"


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which model gave the numbers, and from where."""

    name: str
    """What was asked for: a bundled name, a Hub id or a path."""
    source: Literal["bundled", "hub", "folder"]
    location: str
    """The folder that was read."""
    revision: str | None
    """The commit of a Hub checkpoint; null elsewhere."""
    n_layer: int
    n_head: int
    n_embd: int
    """Width d: features of the residual stream."""
    n_positions: int
    """Longest context, in tokens."""
    vocab_size: int
    eps: float
    """What LayerNorm adds to the variance."""
    dtype: str
    """Type of the weights: as computed with in a run, as stored in ``params``."""
    device: str | None
    """Where the forward pass ran; null where none did."""


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
    text: str | None
    """The prompt's whole text; null where token ids were given."""
    token_ids: list[int]
    tokens: list[str] | None
    """Text of each token; null where the checkpoint has no tokenizer."""
    length: int
    """Tokens of the sequence, the prepended <|endoftext|> included."""


class KindCount(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of all sites of one kind."""

    kind: Literal["ln_1", "ln_2", "ln_f"]
    sites: int
    statistics: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many (mu, sigma) pairs the kernel returned, counted on its own tensors.

    Where only some sites were probed, the counts are those of the probed sites.
    """

    sites: int
    sequences: int
    tokens: int
    """Sum of the sequences' lengths."""
    per_site: int
    per_block: int | None
    """Statistics of one block's probed sites; null where none was probed or the blocks differ."""
    total: int
    by_kind: list[KindCount]
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


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity over tokens: arithmetic mean, least and greatest."""

    mean: float | None
    min: float | None
    max: float | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The quantities of a site over a set of tokens."""

    tokens: int
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
    value: float | None


class Vector(msgspec.Struct, frozen=True, kw_only=True):
    """A learned gain or bias over its features; ``std`` is the population standard deviation."""

    mean: float | None
    std: float | None
    min: float | None
    median: float | None
    max: float | None
    norm: float | None
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
    layer: int | None
    """Counted from 0; null for ln_f."""
    kind: Literal["ln_1", "ln_2", "ln_f"]
    statistics: int
    """(mu, sigma) pairs that the kernel returned for real tokens."""
    first: Summary | None
    """Position 0 of every sequence."""
    rest: Summary | None
    """All later positions; null where there are none."""
    gain: Gain | None
    """Null in a model whose LayerNorms have none."""
    bias: Vector | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One statistic: one token of one sequence at one site."""

    site: str
    sequence: int
    position: int
    token_id: int
    token: str | None
    mean: float | None
    """mu, the mean of the features of x."""
    sigma: float | None
    """Population standard deviation of the features of x."""
    pre_norm: float | None
    """||x||."""
    normalized_norm: float | None
    """||xhat||."""
    post_norm: float | None
    """||y||."""
    max_deviation: float | None
    """max|x - mu| / sigma; null on a row of equal features."""
    excess_kurtosis: float | None
    """m4 / sigma^4 - 3, m4 being the fourth central moment of x over the features; null on a row of equal features."""
    mean_share: float | None
    """d mu^2 / ||x||^2: the share of ||x||^2 that the mean direction held."""


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What ``inspect`` and ``stats`` return."""

    schema_version: str = SCHEMA_VERSION
    command: Literal["inspect", "stats"]
    model: ModelInfo
    bos: bool
    """Whether <|endoftext|> was prepended to every sequence."""
    prompts: list[PromptInfo]
    counts: Counts
    sites: list[SiteSummary]
    rows: list[Row] | None
    """In ``stats``, and in ``inspect`` where asked for."""
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


class ReadingFit(msgspec.Struct, frozen=True, kw_only=True):
    """How well one reading of "LayerNorm" reproduces what the model computed, over all tried sites."""

    reading: str
    is_gpt2: bool
    statistics: int
    """Statistics that each site would take for this input."""
    worst: float | None
    """Largest |y - predicted y| / rms(y) over sites, tokens and features."""
    rms: float | None
    """Largest rms(y - predicted y) / rms(y) over sites."""
    fits: int
    """Sites whose output it reproduces to rounding."""


class SiteTrial(msgspec.Struct, frozen=True, kw_only=True):
    """Which reading one LayerNorm follows."""

    name: str
    layer: int | None
    kind: Literal["ln_1", "ln_2", "ln_f"]
    verdict: str | None
    """The only reading that fits to rounding; null where none does, or several do."""
    candidates: list[str]
    """All readings that fit to rounding: several where the input can't tell them apart."""
    rms: float | None
    """rms(y - predicted y) / rms(y) of the best reading."""
    runner_up: str
    """The best of the readings that do not fit."""
    orders: float | None
    """By how many powers of ten the best fits better than the runner-up."""
    affine: Literal["gain and bias", "gain alone", "bias alone", "neither"]
    """What, applied to the best reading's xhat, reproduces y."""


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
    sites: list[SiteTrial]
    checks: list[Check]
    behaves_as_gpt2: bool
    """No check came out otherwise."""
    nonfinite: int = 0


Record = Inspection | Parameters | Arithmetic | Verification


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
    if isinstance(value, list):
        pairs = [strict(item) for item in value]
        count = sum(found for _, found in pairs)
        return ([item for item, _ in pairs], count) if count else (value, 0)
    return value, 0
