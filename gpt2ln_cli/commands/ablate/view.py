"""The record of ``ablate`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.ablate.record import Ablated
from gpt2ln_cli.output.blocks import Block, Fact, Facts, Heading, Look, Paragraph, View, table_of
from gpt2ln_cli.output.claims import CLAIMS, Says, claims, claims_table
from gpt2ln_cli.output.header import (
    PROMPTS,
    WARNINGS,
    header,
    nonfinite,
    prompts_table,
    quotes,
    warnings,
    warnings_table,
)

if TYPE_CHECKING:
    from gpt2ln_cli.commands.ablate.record import Ablation

DEFAULT_PROMPTS = "held_out.txt of the sample prompts (from Treasure Island), which 'demo' was not trained on"
TABLES = ("ladder", CLAIMS, PROMPTS, WARNINGS)
AHEAD = " *"
SITES_NAMED = 6
NEXT, AGAINST = "next token", "against real"
EXPLAINED = (
    "loss is the mean negative log-likelihood of the next token, KL the mean KL(real || replaced), both in nats; '- "
    "real' is loss less the real model's, with its standard error; 'same top' is how often the most probable next "
    "token is the real model's. 'chance' is exceeded with a probability of 1% where there is no difference. It is "
    "about what these weights depend on, not about what others could learn.",
    "* looks at future tokens: its loss is not a fair one.",
)


def _needed(name: str, without: str) -> Says:
    return Says(
        name,
        yes=f"Needed: {without} the loss rises by {{statistic}} to {{loss}} (chance makes {{threshold}}).",
        no=f"Not needed: {without} the loss is {{loss}}, and {{real_loss}} with it (chance makes {{threshold}}).",
        unsure=f"Undecided: {without} the loss changes by {{statistic}} (chance makes {{threshold}}).",
    )


def _acts(name: str, without: str) -> Says:
    return Says(
        name,
        yes=f"They act: {without} the loss rises by {{statistic}} to {{loss}} (chance makes {{threshold}}).",
        no=f"Not needed: {without} the loss is {{loss}}, and {{real_loss}} with them (chance makes {{threshold}}).",
        unsure=f"Undecided: {without} the loss changes by {{statistic}} (chance makes {{threshold}}).",
    )


SAYS = {
    "ablate.real_has_lowest_loss": Says(
        "lowest loss",
        yes="The real LayerNorm has the lowest loss, {real_loss}, of all that look at no future token; the nearest, "
        "{nearest}, has {statistic} more.",
        no="The real LayerNorm, with a loss of {real_loss}, has not the lowest of all that look at no future token: "
        "lower are {lower}.",
        unsure="Whether the real LayerNorm, with a loss of {real_loss}, has the lowest of all that look at no future "
        "token, this run can't tell: {nearest} differs by {statistic}, where chance makes {threshold}.",
    ),
    "ablate.scale_needed": _needed("a scale", "with nothing in the LayerNorms' place (identity)"),
    "ablate.own_scale_needed": _needed("each token's own", "with one sigma for all tokens (fixed sigma)"),
    "ablate.centering_needed": _needed("centering", "without subtracting mu (RMSNorm)"),
    "ablate.gain_needed": _needed("the gain", "with a gain of 1 (no gain)"),
    "ablate.bias_needed": _needed("the bias", "with a bias of 0 (no bias)"),
    "ablate.feature_matters": _acts("at all", "set to the mean of the others (without effect)"),
    "ablate.feature_through_sigma": _acts("through sigma", "left out of mu and sigma alone (out of sigma)"),
    "ablate.feature_through_y": _acts("through y", "with a gain and bias of 0 there (silent)"),
}


def view(record: Ablation) -> View:
    """What the model needs of its LayerNorms, and the ladder of replacements with their formulas."""
    more = [claims_table(record.claims, SAYS), prompts_table(record.prompts), warnings_table(record.warnings)]
    return View(record, list(_blocks(record)), more=more)


def _blocks(record: Ablation) -> Iterator[Block]:
    every = len(record.sites) == 2 * record.model.n_layer + 1
    named = ", ".join(record.sites) if len(record.sites) <= SITES_NAMED else f"{len(record.sites)} LayerNorms"
    replaced = Fact("replaced", f"all {len(record.sites)} LayerNorms" if every else named)
    without = [] if record.features is None else [Fact("features", ", ".join(map(str, record.features)))]
    yield header(record.model, record.prompts, bos=record.bos, more=[replaced, *without])
    yield quotes(record.prompts)
    yield from warnings(record.warnings)
    needed = record.claims
    if record.features is None:
        lowest, *needed = record.claims
        yield Paragraph(SAYS[lowest.id].of(lowest), "strong")
    yield claims(needed, SAYS)
    yield Heading(f"Predictions of the next token, over {record.predictions:,} positions")
    rows = [record.real, *record.replaced]
    yield table_of(
        "ladder",
        Ablated,
        rows,
        {
            "called": Look("LayerNorm", key=True),
            "loss": Look("loss", NEXT),
            "loss_difference": Look("- real", NEXT),
            "standard_error": Look("std. err.", NEXT),
            "kl": Look("KL", AGAINST),
            "same_top": Look("same top", AGAINST, "percent"),
        },
        words={"called": _called},
    )
    yield from _overflows(rows)
    yield Facts([Fact(_called(one), one.formula) for one in rows])
    explained, ahead = EXPLAINED
    yield Paragraph(explained, "note")
    if any(one.looks_ahead for one in rows):
        yield Paragraph(ahead, "note")
    if any(value is None for one in rows for value in (one.loss, one.loss_difference, one.kl, one.same_top)):
        yield from nonfinite(record.nonfinite)
    elif record.nonfinite:
        yield Paragraph("A perplexity, exp(loss), is beyond a float: --all and data have a dash or null.", "note")


def _overflows(rows: Sequence[Ablated]) -> Iterator[Paragraph]:
    """Which replacements lead to numbers beyond the dtype; said where any does."""
    found = [f"{_called(one)} {one.overflowed:,}" for one in rows if one.overflowed]
    if found:
        yield Paragraph(
            f"Tokens with a number that is not finite after the last block or in a logit: {', '.join(found)}."
        )


def _called(one: Ablated) -> str:
    return one.name + (AHEAD if one.looks_ahead else "")
