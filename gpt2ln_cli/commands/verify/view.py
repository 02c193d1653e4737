"""The record of ``verify`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.verify.record import AxisFit, SiteTrial
from gpt2ln_cli.output.blocks import Block, Facts, Heading, Look, Paragraph, Table, View, table_of
from gpt2ln_cli.output.claims import CLAIMS, Says, claims_table
from gpt2ln_cli.output.claims import claims as claims_facts
from gpt2ln_cli.output.header import (
    PROMPTS,
    WARNINGS,
    header,
    prompts_table,
    quotes,
    warnings,
    warnings_table,
)
from gpt2ln_cli.output.text import share

if TYPE_CHECKING:
    from gpt2ln_cli.commands.verify.record import Verification
    from gpt2ln_cli.records import Claim

DEFAULT_PROMPTS = "bundled samples, the default prompt and 'war violence hate fear'"
TABLES = ("readings", "sites", CLAIMS, PROMPTS, WARNINGS)
SAYS = {
    "verify.behaves_as_gpt2": Says(
        "as GPT-2",
        yes="This checkpoint behaves as GPT-2 does, in all that this input could decide: {told} of {claims} claims "
        "came out as in GPT-2, and none otherwise.",
        no="This checkpoint does not behave as GPT-2 does: of {claims} claims {statistic:.0f} came out otherwise.",
        unsure="Whether this checkpoint behaves as GPT-2 does, this input can't tell: the axis is undecided.",
    ),
    "verify.axis": Says(
        "axis",
        yes="'{axis}' reproduces {statistic:share} of the numbers at the worst of all {sites} sites, where "
        "{threshold:share} are needed; the next axis, '{next}', {next_reproduced:share} at its best.",
        no="{otherwise} of {sites} sites follow {followed}. At the first, {first}, '{first_best}' comes nearest, with "
        "{first_reproduced:share} of the numbers, where {threshold:share} are needed.",
        unsure="At {doubtful} of {sites} sites {rivals} fits as well as '{axis}': more tokens may tell them apart, or "
        "a finer dtype than {dtype}.",
    ),
    "verify.batch_independent": Says(
        "batch independence",
        yes="With another context and other padding beside it, {beside_another:share} of a context's y are the same "
        "bits at every site; alone and in another row {in_another_shape:share} are wherever x is. (Padded on the left "
        "with naive positions they would differ by {naively_padded:.2g}.)",
        no="With another context and other padding beside it, {beside_another:share} of a context's y are the same "
        "bits at the worst site; alone and in another row {in_another_shape:share} are wherever x is; mu, sigma and y "
        "differ by up to {largest_difference:.1e}.",
        unsure="No context of this model is longer than a token: there is no padding to try.",
    ),
    "verify.causal": Says(
        "causality",
        yes="With another last token, {statistic:share} of the earlier ones' y are the same bits at every site; "
        "normalized per feature over the context, their xhat would differ by {rival:.2g}.",
        no="With another last token, {statistic:share} of the earlier ones' y are the same bits at the worst site, and "
        "mu, sigma and y differ by up to {largest_difference:.1e}.",
        unsure="One token has no earlier ones.",
    ),
    "verify.heads_play_no_part": Says(
        "heads",
        yes="What enters and leaves each site is (tokens, {features}), without an axis for the {heads} heads; the axis "
        "'{axis}' fits none of {sites} sites, with differences of up to {rms:.2g} of the output.",
        no="At {alone} of {sites} sites '{axis}' fits and what GPT-2 does fits not, with {heads} heads.",
        unsure="With {heads} heads '{axis}' is the same here as what GPT-2 does.",
    ),
    "verify.gain_and_bias": Says(
        "gain and bias",
        yes="y = gain * xhat + bias reproduces the output at all {sites} sites, to {rms:.1e}; gain or bias are other "
        "than 1 and 0 at {trained} of them.",
        no="At {statistic:.0f} of {sites} sites the output comes from {used}; the first is {first}.",
        unsure="y = gain * xhat + bias reproduces the output at all {sites} sites, but so does xhat alone: every gain "
        "is 1 and every bias 0.",
    ),
}


def view(record: Verification) -> View:
    """Whether it does what GPT-2 does, and every axis that LayerNorm could have against what the model computed."""
    return View(record, list(_blocks(record)), more=[*data(record), warnings_table(record.warnings)], main="readings")


def _blocks(record: Verification) -> Iterator[Block]:
    yield header(record.model, record.prompts, bos=record.bos)
    yield quotes(record.prompts)
    yield from warnings(record.warnings)
    yield verdict(record)
    yield claims(record)
    yield Heading("Axis trial: every axis that LayerNorm could have against what the model computed")
    yield axes(record)
    yield explained(record)


def axes(record: Verification, *, title: str = "") -> Table:
    """How well each axis fits."""
    return table_of(
        "readings",
        AxisFit,
        record.readings,
        {
            "reading": Look("if it normalized ...", key=True),
            "statistics": Look("statistics"),
            "rms": Look("off by"),
            "reproduced": Look("reproduced", form="share"),
            "fitting": Look("fits"),
        },
        words={"fitting": lambda one: f"{one.fits} of {len(record.sites)}"},
        title=title,
    )


def explained(record: Verification) -> Paragraph:
    """What the axis trial's figures are."""
    beside = len(record.companion or ())
    alone = f" One context can't tell a context from a minibatch: {beside} more tokens ran beside it." if beside else ""
    return Paragraph(
        "What entered a site is normalized over each axis, given the learned gain and bias, and held against what left "
        "it; the worst of all sites is shown. 'statistics' is how many (mean, sigma) pairs a site would take, 'off by' "
        f"rms(y - predicted) / rms(y), 'reproduced' the share of the numbers that the axis gives in "
        f"{record.model.dtype} to the last bit, but for what float32 arithmetic can take across a rounding: with "
        f"{share(record.level)} it fits a site.{alone}",
        "note",
    )


def verdict(record: Verification) -> Paragraph:
    """Whether the checkpoint behaves as GPT-2 does."""
    whole = record.claims[0]
    return Paragraph(SAYS[whole.id].of(whole), "strong")


def claims(record: Verification) -> Facts:
    """What that follows from."""
    return claims_facts(record.claims[1:], SAYS)


def complaint(found: Sequence[Claim]) -> str | None:
    """Why the command ends with exit code 1; None where it does not."""
    whole, *parts = found
    if whole.verdict == "yes":
        return None
    otherwise = [SAYS[one.id].name for one in parts if one.verdict == "no"]
    if otherwise:
        return f"exit code 1: otherwise than in GPT-2 came out {', '.join(otherwise)}."
    return "exit code 1: this input can't decide the axis."


def data(record: Verification) -> list[Table]:
    """The tables that nothing lays out."""
    return [
        table_of("sites", SiteTrial, record.sites),
        claims_table(record.claims, SAYS),
        prompts_table(record.prompts),
    ]
