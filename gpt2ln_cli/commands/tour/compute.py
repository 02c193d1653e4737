"""A learner's questions, each answered by experiments on the loaded checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from gpt2ln_cli.arguments import checked, whole_number
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.count.compute import count
from gpt2ln_cli.commands.count.record import HEADS, WIDTH
from gpt2ln_cli.commands.tour.claims import (
    direction_tells,
    gain_and_bias_used,
    gradients_smaller,
    one_pair_a_token,
    one_size,
)
from gpt2ln_cli.commands.tour.experiments import Experiments
from gpt2ln_cli.commands.tour.questions import QUESTIONS
from gpt2ln_cli.commands.tour.record import Answer, Tour, TourTable
from gpt2ln_cli.errors import CheckpointError, UsageError
from gpt2ln_cli.measure.axes import Axis, statistics
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.subject import Progress
from gpt2ln_cli.output.text import quoted
from gpt2ln_cli.records import Claim, strictly

# What the asker has in mind: GPT-2 small and a full context.
ASKED = 1024
WITHOUT = ("no gain", "no bias", "neither")
# Rows of a table that has one for some of the layers.
LAYERS_SHOWN = 5
ASKING_STEPS, ASKING_GRADIENTS = 4, 7
# Of a share: float64's.
ROUNDING = 2.0**-52
Cells = list[str | int | float | None]
Answered = tuple[Answer, list[Claim]]


def count_of_pairs(made: Experiments) -> Answered:
    """Question 1, from a run of one context and the same count by arithmetic."""
    counts = made.run.counts
    asked = count(tokens=ASKED)
    return _answer(
        1,
        [one_pair_a_token(made.run)],
        ["", "tokens", "one site", "one block", "all sites"],
        [
            ["counted in this run", counts.tokens, counts.per_site, counts.per_block, counts.total],
            ["GPT-2 small, by formula", asked.tokens, asked.per_site, asked.per_block, asked.total],
        ],
        "gpt2ln inspect",
    )


def which_axis(made: Experiments) -> Answered:
    """Question 2, from the axis trial."""
    asked = {axis.value: statistics(axis, tokens=ASKED, sequences=1, features=WIDTH, heads=HEADS) for axis in Axis}
    return _answer(
        2,
        _chosen(made.trial.claims, "verify.axis", "verify.heads_play_no_part"),
        ["if it normalized ...", "pairs", "given right", "sites that fit"],
        [[fit.reading, asked[fit.reading], fit.reproduced, fit.fits] for fit in made.trial.readings],
        "gpt2ln verify",
        shares=["given right"],
    )


def each_context(made: Experiments) -> Answered:
    """Question 3, from batch independence and causality."""
    company, causal = claims = _chosen(made.trial.claims, "verify.batch_independent", "verify.causal")
    return _answer(
        3,
        claims,
        ["what is changed", "y that stay the same"],
        [
            ["the context beside it, and its padding", company.figures.get("beside_another")],
            ["its row, or whether it is alone (of tokens whose x stays)", company.figures.get("in_another_shape")],
            ["the last token (of all earlier tokens)", causal.statistic],
        ],
        "gpt2ln verify",
        shares=["y that stay the same"],
    )


def what_is_thrown_away(made: Experiments) -> Answered:
    """Question 4, from two words side by side."""
    site = made.steps.steps[0].vectors.site
    rows: list[Cells] = []
    stand_ins: list[str] = []
    for token in made.words.settings[-1].tokens:
        at = next(one for one in token.sites if one.site == site)
        stages = (at.pre, at.normalized, at.post)
        sigmas, kurtoses = [one.sigma for one in stages], [one.excess_kurtosis for one in stages]
        rows.append([quoted(token.token or ""), at.mean, *sigmas, *kurtoses])
        if token.stands_for is not None:
            stand_ins.append(f"{quoted(token.text or '')} stands for {quoted(token.stands_for)}")
    of = ("x", "xhat", "y")
    about = f"({' and '.join(stand_ins)}, which is several tokens to this model.)" if stand_ins else None
    return _answer(
        4,
        _chosen(
            made.words.claims,
            "compare.two_numbers_discarded",
            "compare.scale_equalized",
            "compare.shape_kept",
            "compare.stream_keeps_sigma",
            "compare.greater_sigma",
            "compare.greater_kurtosis",
        ),
        [f"at {site}", "mu: x", *(f"sigma: {one}" for one in of), *(f"kurtosis: {one}" for one in of)],
        rows,
        'gpt2ln compare "ok" "hatred"; what it is good for: gpt2ln tour 7',
        about=about,
    )


def across_tokens(made: Experiments) -> Answered:
    """Question 5, from the direction that a context's tokens share, and from controls."""
    shared, _, _, own = claims = _chosen(
        made.context.claims,
        "compare.tokens_share_direction",
        "compare.lost_across_tokens",
        "compare.more_than_random_tokens",
        "compare.more_of_their_own",
    )
    rows: list[Cells] = [["these words", shared.statistic, own.statistic]]
    control = made.context.contexts[0].control
    if control is not None:
        for name, reach, remaining in (
            ("function words (the, of, ...)", control.function_words, control.function_words_remaining),
            ("random tokens", control.random, control.random_remaining),
        ):
            rows.append([name, *(None if one is None else one.median for one in (reach, remaining))])
    left = [one.across_tokens for one in made.context.contexts[0].sites]
    across = max((one for one in left if one is not None), default=None)
    rows.append(["these words, normalized across tokens", _beyond(across, ROUNDING), None])
    return _answer(
        5,
        claims,
        ["tokens", "shared", "beyond all text"],
        rows,
        'gpt2ln compare --context "war violence hate fear"',
        shares=["shared", "beyond all text"],
    )


def gain_and_bias(made: Experiments) -> Answered:
    """Question 6, from the learned values and from what the model does without them."""
    ablation = made.ablation
    return _answer(
        6,
        [
            gain_and_bias_used(made.run),
            *_chosen(made.trial.claims, "verify.gain_and_bias"),
            *_chosen(ablation.claims, "ablate.gain_needed", "ablate.bias_needed"),
        ],
        ["LayerNorm", "loss", "more than real"],
        [
            [one.name, one.loss, _beyond(one.loss_difference, ablation.resolution)]
            for one in (ablation.real, *ablation.replaced)
            if one is ablation.real or one.name in WITHOUT
        ],
        "gpt2ln params; gpt2ln ablate",
    )


def what_for(made: Experiments) -> Answered:
    """Question 7: what each block is given, what the model is without LayerNorm, and what it does to gradients."""
    sites = {site.name: site for site in made.run.sites}
    width = made.run.counts.features
    rows: list[Cells] = []
    layers = len(made.gradients.blocks)
    shown = {*range(0, layers, max(1, layers // (LAYERS_SHOWN - 1))), layers - 1}
    for block in (made.gradients.blocks[layer] for layer in sorted(shown)):
        at = sites[block.site].rest
        sigma, norm = (None, None) if at is None else (at.sigma.mean, at.normalized_norm.mean)
        rows.append([block.site, sigma, None if norm is None else norm / width**0.5, block.real, block.fixed_sigma])
    return _answer(
        7,
        [
            one_size(made.run),
            *_chosen(made.ablation.claims, "ablate.scale_needed", "ablate.own_scale_needed"),
            direction_tells(made.gradients, made.model.checkpoint.config.vocab_size),
            gradients_smaller(made.gradients),
        ],
        ["block's first site", "sigma of x", "of xhat", "gradient", "with a fixed sigma"],
        rows,
        "gpt2ln ablate; of OpenAI's GPT-2: gpt2ln help why",
    )


ANSWERS: tuple[Callable[[Experiments], Answered], ...] = (
    count_of_pairs,
    which_axis,
    each_context,
    what_is_thrown_away,
    across_tokens,
    gain_and_bias,
    what_for,
)


def _answer(
    number: int,
    claims: Sequence[Claim],
    headings: list[str],
    rows: list[Cells],
    more: str,
    *,
    shares: Sequence[str] = (),
    about: str | None = None,
) -> Answered:
    answer = Answer(
        number=number,
        question=QUESTIONS[number - 1],
        claims=[claim.id for claim in claims],
        about=about,
        table=TourTable(headings=headings, shares=list(shares), rows=rows),
        more=more,
    )
    return answer, list(claims)


def _beyond(value: float | None, rounding: float) -> float | None:
    """The value, or 0 where it is no more than rounding makes."""
    return 0.0 if value is not None and abs(value) <= rounding else value


def _chosen(claims: Sequence[Claim], *names: str) -> list[Claim]:
    by_id = {claim.id: claim for claim in claims}
    return [by_id[name] for name in names]


@checked
def tour(
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    questions: Collection[int] | None = None,
    progress: Progress | None = None,
) -> Tour:
    """Answer a learner's questions by experiments on the checkpoint; ``gpt2ln tour``.

    Args:
        model: as for :func:`gpt2ln_cli.inspect`; it needs a tokenizer.
        questions: which of them, by number from 1; None is all. Only the experiments that these need are made.
        progress: as in :class:`gpt2ln_cli.model.subject.Running`; each experiment is a phase.

    Raises:
        UsageError: no such device, or no such question.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`, or the checkpoint has no tokenizer or no LM head.
    """
    asked = sorted({_number(one) for one in (range(1, len(ANSWERS) + 1) if questions is None else questions)})
    source = as_model(model)
    if source.tokenizer is None:
        raise CheckpointError(f"'{source.info.name}' has no tokenizer, and the tour is made of words.")
    made = Experiments(source, progress)
    answered = [ANSWERS[number - 1](made) for number in asked]
    record = strictly(
        Tour(
            model=source.info,
            answers=[answer for answer, _ in answered],
            claims=[claim for _, claims in answered for claim in claims],
            steps=made.steps if ASKING_STEPS in asked else None,
            gradients=made.gradients if ASKING_GRADIENTS in asked else None,
            warnings=made.warnings(),
        )
    )
    # The figures are of records in which what is not finite is null already.
    cells = [cell for answer in record.answers for row in answer.table.rows for cell in row]
    return msgspec.structs.replace(record, nonfinite=cells.count(None))


def _number(question: object) -> int:
    number = whole_number("questions", question, least=1)
    if number > len(ANSWERS):
        raise UsageError(f"question {number}: there are {len(ANSWERS)}; 'gpt2ln tour --list' shows them.")
    return number
