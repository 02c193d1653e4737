"""The record of ``report`` as blocks: those of an inspection, of its gains and biases, and of a verification."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.inspect import view as inspect
from gpt2ln_cli.commands.params.view import STARTS, learned, learned_sentence
from gpt2ln_cli.commands.verify import view as verify
from gpt2ln_cli.output.blocks import Block, Code, Fact, Facts, Heading, Paragraph, View
from gpt2ln_cli.output.claims import CLAIMS
from gpt2ln_cli.output.header import PROMPTS, WARNINGS, nonfinite, prompts_table, warnings, warnings_table
from gpt2ln_cli.output.pictures import Boxes, Panel
from gpt2ln_cli.records import united

if TYPE_CHECKING:
    from gpt2ln_cli.commands.inspect.record import SiteSummary
    from gpt2ln_cli.commands.report.record import Report
    from gpt2ln_cli.records import Vector

VERIFIED = "verified_"
TABLES = (
    "rows",
    "kinds",
    "sites",
    "learned",
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
    more = [
        inspect.rows(inspection),
        prompts_table(inspection.prompts),
        *(
            table if table.name == CLAIMS else replace(table, name=f"{VERIFIED}{table.name}")
            for table in verify.data(verification)
        ),
        warnings_table(united(inspection.warnings, verification.warnings)),
    ]
    name = record.inspection.model.name
    return View(record, list(_blocks(record)), more=more, main="rows", title=f"LayerNorms of {name}")


def _blocks(record: Report) -> Iterator[Block]:
    inspection = record.inspection
    yield from inspect.head(inspection)
    yield from warnings(united(inspection.warnings, record.verification.warnings))
    yield from nonfinite(record.nonfinite, warn=True)
    yield Heading("How many statistics")
    yield from inspect.counts(inspection, title=inspect.COUNTED)
    yield Heading("Every token at every LayerNorm")
    yield inspect.grid(inspection, "sigma")
    yield Heading("What each LayerNorm computed")
    yield inspect.sites(inspection, title="In forward order")
    yield Paragraph(inspect.SITES, "note")
    yield Heading("Learned gain and bias")
    yield Paragraph(learned_sentence(record.verdict, inspection.sites), "strong")
    yield _boxes(inspection.sites)
    shown = ("mean", "std", *FIVE, "norm")
    yield learned(inspection.sites, {"gain": shown, "bias": shown}, name="learned", title="Over the features of each")
    yield Paragraph("std is the population standard deviation, norm the L2 norm.", "note")
    yield from _verification(record)
    yield from _reproduction(record)


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
    yield Heading("Does it do what GPT-2 does?")
    yield verify.verdict(verification)
    tokens, every = sum(prompt.length for prompt in verification.prompts), record.inspection.counts.tokens
    what = f"all {every:,} tokens" if tokens == every else f"the first {tokens:,} of the {every:,} tokens"
    yield Paragraph(f"Tried on {what}, at all {len(verification.sites)} LayerNorms of the model.")
    yield verify.claims(verification)
    yield verify.axes(verification, title="Every axis that LayerNorm could have")
    yield verify.explained(verification)


def _reproduction(record: Report) -> Iterator[Block]:
    reproduction, model = record.reproduction, record.inspection.model
    yield Heading("How to reproduce it")
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
