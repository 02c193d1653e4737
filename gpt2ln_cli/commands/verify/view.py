"""The record of ``verify`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt2ln_cli.output.blocks import Block, Fact, Facts, Heading, Look, Paragraph, Table, Tone, View, table_of
from gpt2ln_cli.output.header import header, quotes
from gpt2ln_cli.records import Check, ReadingFit, SiteTrial

if TYPE_CHECKING:
    from gpt2ln_cli.records import Verification

TABLES = ("readings", "sites", "checks")
EXPLAINED = (
    "Each reading normalizes what entered a site, applies the learned gain and bias, and is held against what "
    "left it: the worst of all sites is shown. 'statistics' is how many (mean, sigma) pairs a site would take."
)
OUTCOMES: dict[bool | None, tuple[str, Tone]] = {
    True: ("as GPT-2", "good"),
    False: ("OTHERWISE", "bad"),
    None: ("undecided", "unsure"),
}


def view(record: Verification) -> View:
    """Every reading of LayerNorm against what the model computed, the checks and the verdict."""
    return View(record, list(_blocks(record)), more=data(record), main="readings")


def _blocks(record: Verification) -> Iterator[Block]:
    yield header(record.model, record.prompts, bos=record.bos)
    yield quotes(record.prompts)
    yield Heading("Axis trial: every reading of LayerNorm against what the model computed")
    yield readings(record)
    yield Paragraph(EXPLAINED, "note")
    yield checks(record)
    yield verdict(record)


def readings(record: Verification, *, title: str = "") -> Table:
    """How well each reading of LayerNorm fits."""
    error = "|y - predicted| / rms(y)"
    return table_of(
        "readings",
        ReadingFit,
        record.readings,
        {
            "reading": Look("if it normalized ...", key=True),
            "statistics": Look("statistics", "for this input"),
            "rms": Look("rms", error),
            "worst": Look("worst", error),
            "fitting": Look("sites", "to rounding"),
        },
        words={"fitting": lambda one: f"{one.fits} of {len(record.sites)}"},
        title=title,
    )


def checks(record: Verification) -> Facts:
    """What came out as in GPT-2, and what did not."""
    return Facts([Fact(check.name, check.statement, *OUTCOMES[check.passed]) for check in record.checks])


def verdict(record: Verification) -> Paragraph:
    """Whether the checkpoint behaves as GPT-2 does."""
    return Paragraph(
        "This checkpoint behaves as GPT-2 does, in all that this input could decide."
        if record.behaves_as_gpt2
        else "This checkpoint does not behave as GPT-2 does: see what came out OTHERWISE.",
        "strong",
    )


def data(record: Verification) -> list[Table]:
    """The tables that nothing lays out."""
    return [table_of("sites", SiteTrial, record.sites), table_of("checks", Check, record.checks)]
