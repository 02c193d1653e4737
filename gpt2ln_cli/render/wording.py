"""Sentences that say what a record found, for terminals and pages alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpt2ln_cli.render.layout import integer, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpt2ln_cli.records import Inspection, SiteParameters, SiteSummary, Verdict, Verification

SITES = (
    "sigma divides by d. 'pos 0' is the first token of each sequence, 'later' all others: arithmetic mean over "
    "tokens (of sigma, not its root mean square), then least and greatest. xhat = (x - mu) / sqrt(sigma^2 + eps) "
    "is before gain and bias, y = gain * xhat + bias after them. Norms are L2."
)
READINGS = (
    "Each reading normalizes what entered a site, applies the learned gain and bias, and is held against what "
    "left it: the worst of all sites is shown. 'statistics' is how many (mean, sigma) pairs a site would take."
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


def verified_sentence(record: Verification) -> str:
    """Whether the checkpoint behaves as GPT-2 does."""
    return (
        "This checkpoint behaves as GPT-2 does, in all that this input could decide."
        if record.behaves_as_gpt2
        else "This checkpoint does not behave as GPT-2 does: see what came out OTHERWISE."
    )
