"""The record of ``verify`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.verify.record import AxisFit, Check, SiteTrial
from gpt2ln_cli.output.blocks import Block, Fact, Facts, Heading, Look, Paragraph, Table, Tone, View, table_of
from gpt2ln_cli.output.header import header, quotes, warnings
from gpt2ln_cli.output.text import share

if TYPE_CHECKING:
    from gpt2ln_cli.commands.verify.record import Verification

DEFAULT_PROMPTS = "bundled samples, the default prompt and 'war violence hate fear'"
TABLES = ("readings", "sites", "checks")
OUTCOMES: dict[bool | None, tuple[str, Tone]] = {
    True: ("as GPT-2", "good"),
    False: ("OTHERWISE", "bad"),
    None: ("undecided", "unsure"),
}


def view(record: Verification) -> View:
    """Every axis that LayerNorm could have against what the model computed, the checks and the verdict."""
    return View(record, list(_blocks(record)), more=data(record), main="readings")


def _blocks(record: Verification) -> Iterator[Block]:
    yield header(record.model, record.prompts, bos=record.bos)
    yield quotes(record.prompts)
    yield from warnings(record.warnings)
    yield Heading("Axis trial: every axis that LayerNorm could have against what the model computed")
    yield axes(record)
    yield explained(record)
    yield checks(record)
    yield verdict(record)


def axes(record: Verification, *, title: str = "") -> Table:
    """How well each axis fits."""
    error = "|y - predicted| / rms(y)"
    return table_of(
        "readings",
        AxisFit,
        record.readings,
        {
            "reading": Look("if it normalized ...", key=True),
            "statistics": Look("statistics", "for this input"),
            "rms": Look("rms", error),
            "worst": Look("worst", error),
            "exact": Look("exactly", "reproduced numbers", "share"),
            "reproduced": Look("in all", "reproduced numbers", "share"),
            "ulps": Look("worst", "last places"),
            "fitting": Look("sites", "fits"),
        },
        words={"fitting": lambda one: f"{one.fits} of {len(record.sites)}"},
        title=title,
    )


def explained(record: Verification) -> Paragraph:
    """What the axis trial's figures are."""
    beside = len(record.companion or ())
    alone = f" One context can't tell a context from a minibatch: {beside} more tokens ran beside it." if beside else ""
    return Paragraph(
        "What entered a site is normalized over each axis, given the learned gain and bias, and held against what "
        "left it: the worst of all sites is shown. 'statistics' is how many (mean, sigma) pairs a site would take. "
        f"A number is reproduced exactly where an axis, in float64 and rounded once to {record.model.dtype}, gives "
        "the same bits; 'in all' counts also those that the kernel's float32 arithmetic can take across a rounding, "
        f"and decides: an axis fits a site with {share(record.level)} of the numbers. The largest difference in "
        f"units of y's last place decides nothing.{alone}",
        "note",
    )


def checks(record: Verification) -> Facts:
    """What came out as in GPT-2, and what did not."""
    return Facts([Fact(check.name, check.statement, *OUTCOMES[check.passed]) for check in record.checks])


def verdict(record: Verification) -> Paragraph:
    """Whether the checkpoint behaves as GPT-2 does."""
    if record.behaves_as_gpt2:
        text = "This checkpoint behaves as GPT-2 does, in all that this input could decide."
    elif any(check.passed is False for check in record.checks):
        text = "This checkpoint does not behave as GPT-2 does: see what came out OTHERWISE."
    else:
        text = "Whether this checkpoint behaves as GPT-2 does, this input could not decide: see what is undecided."
    return Paragraph(text, "strong")


def complaint(checks: Sequence[Check]) -> str | None:
    """Why the command ends with exit code 1; None where it does not."""
    otherwise = [check.name for check in checks if check.passed is False]
    if otherwise:
        return f"exit code 1: otherwise than in GPT-2 came out {', '.join(otherwise)}."
    undecided = any(check.name == "axis" and check.passed is None for check in checks)
    return "exit code 1: this input can't decide the axis." if undecided else None


def data(record: Verification) -> list[Table]:
    """The tables that nothing lays out."""
    return [table_of("sites", SiteTrial, record.sites), table_of("checks", Check, record.checks)]
