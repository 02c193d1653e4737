"""A learner's six questions, each answered by an experiment on the loaded checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.ablate.compute import ablate
from gpt2ln_cli.commands.ablate.record import Ablation
from gpt2ln_cli.commands.compare.compute import compare
from gpt2ln_cli.commands.compare.record import Comparison
from gpt2ln_cli.commands.count.compute import count
from gpt2ln_cli.commands.count.record import Arithmetic
from gpt2ln_cli.commands.inspect.compute import inspect
from gpt2ln_cli.commands.inspect.record import Inspection
from gpt2ln_cli.commands.params.describe import judge
from gpt2ln_cli.commands.params.record import Verdict
from gpt2ln_cli.commands.tour.record import Answer, Tour, TourTable
from gpt2ln_cli.commands.verify.compute import verify
from gpt2ln_cli.commands.verify.record import Verification
from gpt2ln_cli.commands.verify.view import SAYS
from gpt2ln_cli.errors import CheckpointError
from gpt2ln_cli.measure.axes import Axis
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.records import strictly, united
from gpt2ln_cli.text.prompts import LONG_SAMPLE, long_sample

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
    statements = {claim.id: SAYS[claim.id].of(claim) for claim in trial.claims}
    return Answer(
        question=(
            "Is it one normalization per token, one per feature across tokens, or one for everything together? What do "
            "the heads have to do with it?"
        ),
        answer=f"Axis: {statements['verify.axis']} Heads: {statements['verify.heads_play_no_part']}",
        table=TourTable(
            headings=["if it normalized ...", "pairs", "rms error", "reproduced", "sites that fit"],
            rows=[[fit.reading, fit.statistics, fit.rms, fit.reproduced, fit.fits] for fit in trial.readings],
        ),
        more="gpt2ln verify",
    )


def each_context(trial: Verification) -> Answer:
    """Question 3, from batch independence and causality."""
    claims = [claim for claim in trial.claims if claim.id in ("verify.batch_independent", "verify.causal")]
    own = next(fit for fit in trial.readings if fit.reading == Axis.PER_TOKEN.value)
    passed = all(claim.verdict == "yes" for claim in claims)
    verdict = "Yes, and even for each token" if passed and own.fits == len(trial.sites) else "Not as in GPT-2"
    return Answer(
        question="Is it done separately for each context in the minibatch?",
        answer=f"{verdict}: " + " ".join(SAYS[claim.id].of(claim) for claim in claims),
        table=TourTable(
            headings=["claim", "came out"], rows=[[SAYS[claim.id].name, claim.verdict] for claim in claims]
        ),
        more="gpt2ln verify --json | jq '.claims'",
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
    applied = next(claim for claim in trial.claims if claim.id == "verify.gain_and_bias")
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
            f"{learned}; {SAYS[applied.id].of(applied)} The table has the next-token loss, in nats, of this model with "
            "and without them, on text that came with gpt2ln; the weights were trained with both."
        ),
        table=TourTable(headings=["LayerNorm", "loss", "more than real"], rows=rows),
        more="gpt2ln params; gpt2ln ablate",
    )


def tour(*, model: str | Path | Model = DEFAULT_MODEL) -> Tour:
    """Answer a learner's six questions by experiments on the checkpoint; ``gpt2ln tour``.

    Args:
        model: as for :func:`gpt2ln_cli.inspect`; it needs a tokenizer.

    Raises:
        UsageError: no such device.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`, or the checkpoint has no tokenizer.
    """
    source = as_model(model)
    if source.tokenizer is None:
        raise CheckpointError(f"'{source.info.name}' has no tokenizer, and the tour is made of words.")
    config = source.checkpoint.config
    run = inspect(long_sample(LONG_SAMPLE), model=source, overflow="truncate")
    trial = verify(model=source)
    learners = count(tokens=1024, layers=config.n_layer, width=config.n_embd, heads=config.n_head)
    some_layers = range(0, config.n_layer, max(1, config.n_layer // 4))
    words, shared, ablation = compare(model=source), compare(model=source, context=True), ablate(model=source)
    record = strictly(
        Tour(
            model=source.info,
            answers=[
                count_of_pairs(run, learners),
                which_axis(trial),
                each_context(trial),
                what_is_thrown_away(words, config.n_layer // 2),
                across_tokens(shared, some_layers),
                gain_and_bias(judge(run.sites), ablation, trial),
            ],
            warnings=united(*(record.warnings for record in (run, trial, words, shared, ablation))),
        )
    )
    # The figures are of records in which what is not finite is null already.
    cells = [cell for answer in record.answers for row in answer.table.rows for cell in row]
    return msgspec.structs.replace(record, nonfinite=cells.count(None))
