"""The record of ``tour`` as blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.plot.record import Step
from gpt2ln_cli.commands.plot.view import bars
from gpt2ln_cli.commands.tour.questions import QUESTIONS
from gpt2ln_cli.commands.tour.record import Answer, BlockGradient
from gpt2ln_cli.commands.tour.words import LEADS, OTHERS, SAYS
from gpt2ln_cli.output.blocks import Block, Code, Column, Heading, Look, Paragraph, Table, View, table_of
from gpt2ln_cli.output.claims import CLAIMS, claims_table
from gpt2ln_cli.output.header import PROMPTS, WARNINGS, header, prompts_table, warnings, warnings_table

if TYPE_CHECKING:
    from gpt2ln_cli.commands.tour.record import Tour, TourTable
    from gpt2ln_cli.records import ModelInfo

__all__ = ["SAYS", "TABLES", "view"]

ANSWERS, STEPS, GRADIENTS = "answers", "steps", "gradients"
NUMBERS = tuple(f"answer_{number}" for number in range(1, len(QUESTIONS) + 1))
TABLES = (ANSWERS, *NUMBERS, CLAIMS, STEPS, PROMPTS, GRADIENTS, WARNINGS)
WORDS = {**SAYS, **OTHERS}
# After this answer two tokens are drawn.
SEEN = 4
# By hand: 3 is the mean, 5 the standard deviation, and ten times the vector gives the same xhat.
BY_HAND = (
    "By hand: x = (-4, 2, 4, 10) has mu = 12 / 4 = 3 and sigma = sqrt((49 + 1 + 1 + 49) / 4) = 5, so that "
    "xhat = (-1.4, -0.2, 0.2, 1.4). With gain (1, 1, 2, 0) and bias (0, 0, 0, 1), y = (-1.4, -0.2, 0.4, 1). Of x ten "
    "times as large the same xhat comes: size is taken, shape is kept."
)


def view(record: Tour) -> View:
    """Every question with its answer, the numbers behind it, and the command that shows more."""
    whole = len(record.answers) == len(QUESTIONS)
    blocks = [
        header(record.model),
        *warnings(record.warnings),
        *(_opening(record.model) if whole else _elsewhere()),
        *(block for answer in record.answers for block in _shown(answer, record)),
    ]
    sentence = Column("answer", str, "The answer in words.")
    answers = table_of(
        ANSWERS, Answer, record.answers, also=[(sentence, lambda answer: " ".join(_sentences(answer, record)))]
    )
    gradients = table_of(GRADIENTS, BlockGradient, record.gradients.blocks if record.gradients else [])
    seen = record.steps
    steps = [table_of(STEPS, Step, seen.steps if seen else []), prompts_table(seen.prompts if seen else [])]
    more = [answers, claims_table(record.claims, WORDS), *steps, gradients, warnings_table(record.warnings)]
    return View(record, blocks, more=more, main=ANSWERS)


def _opening(model: ModelInfo) -> Iterator[Block]:
    last = model.n_layer - 1
    yield Paragraph("LayerNorm:  y = gain * xhat + bias,  xhat = (x - mu) / sqrt(sigma^2 + eps)", "strong")
    yield Paragraph(
        f"x is a token's vector: a token is a word or a piece of one, a feature one of the d = {model.n_embd} numbers "
        f"in x. mu is their mean, sigma their standard deviation; eps, {model.eps:g}, keeps from dividing by 0. The "
        f"residual stream is x on its way through the blocks: attention, which looks at other tokens, and MLP, which "
        f"does not, each read it and add to it. A site is one LayerNorm, before one of them: h.{last}.ln_1 before "
        f"attention in block {last}, h.{last}.ln_2 before its MLP, ln_f at the end. Each site has a gain and a bias: "
        f"a factor and an offset for each feature."
    )
    yield Paragraph(BY_HAND)


def _elsewhere() -> Iterator[Block]:
    yield Paragraph("(Its words are explained where 'gpt2ln tour' begins, and by 'gpt2ln help definitions'.)", "note")


def _shown(answer: Answer, record: Tour) -> Iterator[Block]:
    lead, evidence = _sentences(answer, record)
    yield Heading(f"{answer.number}. {answer.question}")
    yield Paragraph(lead, "strong")
    yield Paragraph(evidence)
    yield _numbers(answer.table, f"answer_{answer.number}")
    yield Code(answer.more, lead="more: ")
    if answer.number == SEEN and record.steps is not None:
        drawn = bars(record.steps)
        yield Heading("See it happen", 3)
        yield replace(drawn, bands=[drawn.bands[0], drawn.bands[2]])


def _sentences(answer: Answer, record: Tour) -> tuple[str, str]:
    """The plain ones, and the evidence."""
    by_id = {claim.id: claim for claim in record.claims}
    lead = (says.of(by_id[name]) for name, says in LEADS[answer.number].items())
    about = [] if answer.about is None else [answer.about]
    return " ".join(lead), " ".join([*about, *(WORDS[name].of(by_id[name]) for name in answer.claims)])


def _numbers(table: TourTable, name: str) -> Table:
    kinds = [{type(value) for value in values if value is not None} for values in zip(*table.rows, strict=True)]
    columns = [
        # A column holds texts, counts or figures, and no two of them.
        Column(
            _column_name(heading),
            kind.pop() if len(kind) == 1 else str,
            look=Look(*_split(heading), key=place == 0, form="share" if heading in table.shares else None),
        )
        for place, (heading, kind) in enumerate(zip(table.headings, kinds, strict=True))
    ]
    return Table(name, columns, lambda: iter(table.rows))


def _split(heading: str) -> tuple[str, str]:
    """What heads a column, and the group that it stands in: "sigma: x" is x, under sigma."""
    group, _, own = heading.rpartition(": ")
    return own, group


def _column_name(heading: str) -> str:
    return re.sub(r"\W+", "_", heading).strip("_").lower() or "what"
