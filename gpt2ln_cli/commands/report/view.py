"""The record of ``report`` as blocks: those of an inspection, of its gains and biases, and of a verification."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.inspect import view as inspect
from gpt2ln_cli.commands.inspect.answers import answers
from gpt2ln_cli.commands.params import view as params
from gpt2ln_cli.commands.params.view import STARTS, learned
from gpt2ln_cli.commands.verify import view as verify
from gpt2ln_cli.output.blocks import Block, Boxes, Code, Fact, Facts, Heading, Panel, Paragraph, Table, View
from gpt2ln_cli.output.claims import CLAIMS, claims_table
from gpt2ln_cli.output.header import PROMPTS, WARNINGS, nonfinite, prompts_table, warnings, warnings_table
from gpt2ln_cli.records import united

if TYPE_CHECKING:
    from gpt2ln_cli.commands.inspect.record import Inspection, SiteSummary
    from gpt2ln_cli.commands.report.record import Report
    from gpt2ln_cli.records import Vector

VERIFIED = "verified_"
LEARNED = "learned"
VERIFIES, REPRODUCES = "Does it do what GPT-2 does?", "How to reproduce it"
# The claims of the parts, whose views word them.
WORDED = {**inspect.SAYS, **params.SAYS, **verify.SAYS}
TABLES = (
    "rows",
    "kinds",
    "sites",
    LEARNED,
    "readings",
    CLAIMS,
    f"{VERIFIED}sites",
    f"{VERIFIED}prompts",
    PROMPTS,
    WARNINGS,
)
FIVE = ("min", "lower_quartile", "median", "upper_quartile", "max")


def view(record: Report) -> View:
    """Everything about a checkpoint and a few prompts on one page."""
    inspection, verification = record.inspection, record.verification
    blocks = list(_blocks(record))
    more = [
        inspect.rows(inspection),
        *([] if any(_is_learned(block) for block in blocks) else [_learned(inspection)]),
        claims_table([*inspection.claims, *record.claims, *verification.claims], WORDED),
        prompts_table(inspection.prompts),
        *(
            replace(table, name=f"{VERIFIED}{table.name}")
            for table in verify.data(verification)
            if table.name != CLAIMS
        ),
        warnings_table(united(inspection.warnings, verification.warnings)),
    ]
    name = record.inspection.model.name
    return View(record, blocks, more=more, main="rows", title=f"LayerNorms of {name}", brief=list(_in_brief(record)))


def _in_brief(record: Report) -> Iterator[Block]:
    yield from _begin(record)
    yield Heading(VERIFIES)
    yield _tried(record)
    yield verify.claims(record.verification)
    yield Heading(REPRODUCES)
    yield Code(shlex.join(record.reproduction.command))
    yield Paragraph("That writes the page, which has every token at every LayerNorm; --all shows its tables here.")


def _blocks(record: Report) -> Iterator[Block]:
    inspection = record.inspection
    yield from _begin(record)
    yield Heading("How many statistics")
    yield from inspect.counts(inspection, title=inspect.COUNTED)
    yield Heading("Every token at every LayerNorm")
    yield inspect.grid(inspection, "sigma")
    yield Heading("What each LayerNorm computed")
    yield inspect.sites(inspection, title="In forward order")
    yield Paragraph(inspect.SITES, "note")
    # Where every gain is 1 and every bias 0, all has been said.
    if any(claim.verdict != "no" for claim in record.claims):
        yield Heading("Learned gain and bias")
        yield _boxes(inspection.sites)
        yield _learned(inspection)
        yield Paragraph("std is the population standard deviation, norm the L2 norm.", "note")
    yield from _verification(record)
    yield from _reproduction(record)


def _begin(record: Report) -> Iterator[Block]:
    yield from inspect.head(record.inspection)
    yield from warnings(united(record.inspection.warnings, record.verification.warnings))
    yield from nonfinite(record.nonfinite, warn=True)
    yield from _answers(record)


def _answers(record: Report) -> Iterator[Paragraph]:
    """What the page comes to: whether it does what GPT-2 does, what it learned, and where sigma is largest."""
    yield verify.verdict(record.verification)
    yield from (Paragraph(WORDED[claim.id].of(claim), "strong") for claim in record.claims)
    yield from (Paragraph(sentence) for sentence in answers(record.inspection))


def _learned(inspection: Inspection) -> Table:
    shown = ("mean", "std", *FIVE, "norm")
    return learned(inspection.sites, {"gain": shown, "bias": shown}, name=LEARNED, title="Over the features of each")


def _is_learned(block: Block) -> bool:
    return isinstance(block, Table) and block.name == LEARNED


def _boxes(sites: list[SiteSummary]) -> Boxes:
    def five(vector: Vector | None) -> list[float | None] | None:
        return None if vector is None else [getattr(vector, name) for name in FIVE]

    return Boxes(
        "Range, quartiles and median of gain and bias at each LayerNorm; the table below has the numbers.",
        [site.name for site in sites],
        [
            Panel("learned gain", STARTS["gain"], [five(site.gain) for site in sites]),
            Panel("learned bias", STARTS["bias"], [five(site.bias) for site in sites]),
        ],
        line="where training starts, gain 1 and bias 0",
    )


def _verification(record: Report) -> Iterator[Block]:
    verification = record.verification
    yield Heading(VERIFIES)
    yield _tried(record)
    yield verify.claims(verification)
    yield verify.axes(verification, title="Every axis that LayerNorm could have")
    yield verify.explained(verification)


def _tried(record: Report) -> Paragraph:
    verification = record.verification
    tokens, every = sum(prompt.length for prompt in verification.prompts), record.inspection.counts.tokens
    what = f"all {every:,} tokens" if tokens == every else f"the first {tokens:,} of the {every:,} tokens"
    return Paragraph(f"Tried on {what}, at all {len(verification.sites)} LayerNorms of the model.")


def _reproduction(record: Report) -> Iterator[Block]:
    reproduction, model = record.reproduction, record.inspection.model
    yield Heading(REPRODUCES)
    if not reproduction.complete:
        yield Paragraph(
            "The prompts are too long for a command line: PROMPTS stands for a file that holds them, and prompts for a "
            "list of them.",
            "warning",
        )
    yield Heading("In a POSIX shell", level=3)
    yield Code(shlex.join(reproduction.command))
    yield Heading("From Python", level=3)
    yield Code(reproduction.python)
    versions = reproduction.versions
    yield Facts(
        [
            Fact(
                "versions",
                f"gpt2ln {versions.gpt2ln}, Python {versions.python}, torch {versions.torch}, transformers "
                f"{versions.transformers}",
            ),
            Fact("model", model.name + (f", revision {model.revision}" if model.revision else "")),
            Fact("run", f"{model.dtype} on {model.device}"),
        ]
    )
