"""A learner's six questions, each answered by an experiment on the loaded checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from gpt2ln_cli.readings import Reading
from gpt2ln_cli.records import (
    Ablation,
    Answer,
    Arithmetic,
    Comparison,
    Inspection,
    TourTable,
    Verdict,
    Verification,
)

WITHOUT = ("no gain", "no bias", "neither")


def count_of_pairs(run: Inspection, arithmetic: Arithmetic) -> Answer:
    """Question 1, from a run of one context and the same count by arithmetic."""
    counts = run.counts
    agrees = "That is what the formula says" if counts.formula_agrees else "The formula says otherwise"
    return Answer(
        question="For one layer, how many (mean, standard deviation) pairs are computed?",
        answer=(
            f"One for each token at each LayerNorm: of {counts.tokens:,} tokens the kernel returned "
            f"{counts.per_site:,} pairs at each site, {counts.per_block or 0:,} in a block, which has two, and "
            f"{counts.total:,} at all {counts.sites} sites. {agrees}; for {arithmetic.tokens:,} tokens in "
            f"{arithmetic.n_layer} layers it gives {arithmetic.per_site:,}, {arithmetic.per_block:,} and "
            f"{arithmetic.total:,}."
        ),
        table=TourTable(
            headings=["", "tokens", "one site", "one block", "all sites"],
            rows=[
                ["measured", counts.tokens, counts.per_site, counts.per_block, counts.total],
                ["by the formula", arithmetic.tokens, arithmetic.per_site, arithmetic.per_block, arithmetic.total],
            ],
        ),
        more="gpt2ln inspect",
    )


def which_axis(trial: Verification) -> Answer:
    """Question 2, from the axis trial."""
    statements = {check.name: check.statement for check in trial.checks}
    return Answer(
        question=(
            "Is it one normalization per token, one per feature across tokens, or one for everything together? What do "
            "the heads have to do with it?"
        ),
        answer=f"Axis: {statements['axis']} Heads: {statements['heads']}",
        table=TourTable(
            headings=["if it normalized ...", "pairs", "rms error", "reproduced", "sites that fit"],
            rows=[[fit.reading, fit.statistics, fit.rms, fit.reproduced, fit.fits] for fit in trial.readings],
        ),
        more="gpt2ln verify",
    )


def each_context(trial: Verification) -> Answer:
    """Question 3, from batch independence and causality."""
    checks = [check for check in trial.checks if check.name in ("batch independence", "causality")]
    own = next(fit for fit in trial.readings if fit.reading == Reading.PER_TOKEN.value)
    outcomes: dict[bool | None, str] = {True: "as in GPT-2", False: "otherwise", None: "undecided"}
    passed = all(check.passed for check in checks)
    verdict = "Yes, and even for each token" if passed and own.fits == len(trial.sites) else "Not as in GPT-2"
    return Answer(
        question="Is it done separately for each context in the minibatch?",
        answer=f"{verdict}: " + " ".join(check.statement[:1].upper() + check.statement[1:] for check in checks),
        table=TourTable(
            headings=["check", "came out"], rows=[[check.name, outcomes[check.passed]] for check in checks]
        ),
        more="gpt2ln verify --json | jq '.checks'",
    )


def what_is_thrown_away(comparison: Comparison, layer: int) -> Answer:
    """Question 4, from two words side by side."""
    setting = comparison.settings[-1]
    site = f"h.{layer}.ln_1"
    rows: list[list[str | int | float | None]] = []
    for token in setting.tokens:
        at = next(one for one in token.sites if one.site == site)
        rows.append([token.text, at.mean, at.pre.sigma, at.normalized.sigma, at.pre.excess_kurtosis, at.post.sigma])
    findings = {finding.name: finding.statement for finding in comparison.findings}
    return Answer(
        question=(
            'Why force a bland word ("ok") to be as spiky as a loaded one ("hatred")? What exactly is thrown away, and '
            "is it really gone from the network?"
        ),
        answer=(
            f"What is taken: {findings['discarded']} Scale: {findings['scale']} Shape: {findings['shape']} "
            f"Gone? {findings['not gone']}"
        ),
        table=TourTable(
            headings=[f"at {site}", "mu", "sigma of x", "of xhat", "excess kurtosis", "sigma of y"], rows=rows
        ),
        more='gpt2ln compare "ok" "hatred"',
    )


def across_tokens(comparison: Comparison, layers: Sequence[int]) -> Answer:
    """Question 5, from the direction that a context's tokens share."""
    wanted = {f"h.{layer}.ln_1" for layer in layers} | {"ln_f"}
    shared = comparison.contexts[0]
    return Answer(
        question='If one normalized across tokens instead, what would be lost in "war violence hate fear"?',
        answer=" ".join(finding.statement for finding in comparison.findings),
        table=TourTable(
            headings=["site", "shared, real LayerNorm", "shared, across tokens"],
            rows=[[one.site, one.real, one.across_tokens] for one in shared.sites if one.site in wanted],
        ),
        more='gpt2ln compare --context "war violence hate fear"',
    )


def gain_and_bias(verdict: Verdict, ablation: Ablation, trial: Verification) -> Answer:
    """Question 6, from the learned values and from what the model does without them."""
    check = next(check for check in trial.checks if check.name == "gain and bias")
    rows: list[list[str | int | float | None]] = [
        [one.name, one.loss, one.loss_difference]
        for one in (ablation.real, *ablation.replaced)
        if one is ablation.real or one.name in WITHOUT
    ]
    learned = (
        f"The gain is other than 1 at {verdict.learned_gain} and the bias other than 0 at {verdict.learned_bias} of "
        f"{verdict.sites} sites"
    )
    return Answer(
        question="Does GPT-2 use a learned gain and bias, or does it keep mean 0 and standard deviation 1?",
        answer=(
            f"{learned}; {check.statement} The table has the next-token loss, in nats, of this model with and without "
            "them, on text that came with gpt2ln; the weights were trained with both."
        ),
        table=TourTable(headings=["LayerNorm", "loss", "more than real"], rows=rows),
        more="gpt2ln params; gpt2ln ablate",
    )
