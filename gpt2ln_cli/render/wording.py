"""Sentences that say what a record found, for terminals and pages alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gpt2ln_cli.render.layout import MISSING, integer, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpt2ln_cli.records import Inspection, ReadingFit, SiteParameters, SiteSummary, Verdict, Verification

SITES = (
    "sigma divides by d. 'pos 0' is the first token of each sequence, 'later' all others: arithmetic mean over "
    "tokens (of sigma, not its root mean square), then least and greatest. xhat = (x - mu) / sqrt(sigma^2 + eps) "
    "is before gain and bias, y = gain * xhat + bias after them. Norms are L2."
)
OUTCOMES = {True: "as GPT-2", False: "OTHERWISE", None: "undecided"}


def count_sentences(record: Inspection) -> list[str]:
    """What the counts of statistics add up to."""
    counts, model = record.counts, record.model
    agrees = "agrees" if counts.formula_agrees else "DISAGREES"
    whole = counts.sites == 2 * model.n_layer + 1
    sites = f"(2 x {model.n_layer} + 1) sites" if whole else f"{counts.sites} chosen sites"
    block = f"{integer(counts.per_block)} in each block; " if counts.per_block is not None else ""
    sentences = [
        f"{integer(counts.per_site)} at each site; {block}"
        f"formula: {sites} x {counts.tokens:,} tokens = {counts.formula:,}, {agrees}."
    ]
    if counts.padding:
        sentences.append(
            f"Padding apart: the kernel also returned {counts.padding_statistics:,} statistics at {counts.padding:,} "
            "padded positions, which count nowhere here."
        )
    sentences.append(
        f"One statistic is one (mean, sigma) pair of one token at one site, over its {counts.features} features. The "
        f"{model.n_head} heads and the width do not enter the count: LayerNorm runs before the split into heads."
    )
    return sentences


def learned_sentence(verdict: Verdict, sites: Sequence[SiteParameters | SiteSummary]) -> str:
    """Whether the checkpoint uses a learned gain and bias."""
    distances = [
        site.gain.rms_distance for site in sites if site.gain is not None and site.gain.rms_distance is not None
    ]
    spread = (
        f", its rms distance from 1 between {number(min(distances))} and {number(max(distances))}" if distances else ""
    )
    if not verdict.uses_gain_and_bias:
        return (
            f"No: at all {verdict.sites} sites the gain is 1 and the bias 0 (or absent), so each token leaves "
            "LayerNorm with mean 0 and standard deviation 1."
        )
    return (
        f"Yes: this checkpoint uses a learned gain at {verdict.learned_gain} of {verdict.sites} sites{spread}, and a "
        f"learned bias at {verdict.learned_bias}; tokens do not keep mean 0 and standard deviation 1."
    )


def reading_sentence(record: Verification) -> str:
    """What the axis trial's figures are."""
    sentence = (
        "Each reading normalizes what entered a site, applies the learned gain and bias, and is held against what "
        "left it: the worst of all sites is shown. 'statistics' is how many (mean, sigma) pairs a site would take. "
        f"A number is reproduced exactly where the reading, in float64 and rounded once to {record.model.dtype}, gives "
        "the same bits; 'in all' counts also those that the kernel's float32 arithmetic can take across a rounding, "
        f"and decides: a reading fits a site with {share(record.level)} of the numbers. The largest difference in "
        "units of y's last place decides nothing."
    )
    if record.companion:
        sentence += (
            f" One context can't tell a context from a minibatch: {len(record.companion)} more tokens ran beside it."
        )
    return sentence


def reproduced_shares(fit: ReadingFit) -> list[str]:
    """The share of the numbers that a reading reproduces, exactly and in all."""
    return [share(fit.exact), share(fit.reproduced)]


def share(value: float | None) -> str:
    """A share of one in per cent, rounded down, so that only what is all is called 100%."""
    return MISSING if value is None else f"{math.floor(round(value * 1e4, 6)) / 100:.2f}%"


def verified_sentence(record: Verification) -> str:
    """Whether the checkpoint behaves as GPT-2 does."""
    if record.behaves_as_gpt2:
        return "This checkpoint behaves as GPT-2 does, in all that this input could decide."
    if any(check.passed is False for check in record.checks):
        return "This checkpoint does not behave as GPT-2 does: see what came out OTHERWISE."
    return "Whether this checkpoint behaves as GPT-2 does, this input could not decide: see what is undecided."
