"""The record of ``ablate`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.ablate.record import Ablated
from gpt2ln_cli.output.blocks import Block, Fact, Facts, Heading, Look, Paragraph, View, table_of
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
from gpt2ln_cli.output.text import number

if TYPE_CHECKING:
    from gpt2ln_cli.commands.ablate.record import Ablation

DEFAULT_PROMPTS = "held_out.txt of the sample prompts (from Treasure Island), which 'demo' was not trained on"
TABLES = ("ladder", PROMPTS, WARNINGS)
AHEAD = " *"
SITES_NAMED = 6
NEXT, AGAINST, RESIDUAL = "next token", "against real", "||x|| after the last block"
EXPLAINED = (
    "loss is the mean negative log-likelihood of the next token and KL the mean KL(real || replaced), both in nats; '- "
    "real' is loss less the real model's, with the standard error of that difference over tokens; 'same top' is the "
    "share of positions whose most probable next token is the real model's. ||x|| is the mean L2 norm of the residual "
    "that enters ln_f, 'pos 0' over the first tokens, 'later' over all others; 'overflowed' counts tokens with a "
    "number that is not finite there or in the logits.",
    "* looks at future tokens: its loss is not a fair language-model loss, since the context's statistics tell of "
    "the token to be predicted.",
    "The weights were trained with the real LayerNorm: a replacement shows what this model depends on, not what "
    "another model could have learned with it.",
)


def view(record: Ablation) -> View:
    """The ladder of replacements, with their formulas and the verdict."""
    more = [prompts_table(record.prompts), warnings_table(record.warnings)]
    return View(record, list(_blocks(record)), more=more)


def _blocks(record: Ablation) -> Iterator[Block]:
    every = len(record.sites) == 2 * record.model.n_layer + 1
    named = ", ".join(record.sites) if len(record.sites) <= SITES_NAMED else f"{len(record.sites)} LayerNorms"
    replaced = Fact("replaced", f"all {len(record.sites)} LayerNorms" if every else named)
    yield header(record.model, record.prompts, bos=record.bos, more=[replaced])
    yield quotes(record.prompts)
    yield from warnings(record.warnings)
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
            "perplexity": Look("perplexity", NEXT),
            "kl": Look("KL", AGAINST),
            "same_top": Look("same top", AGAINST, "percent"),
            "residual_first_mean": Look("pos 0", RESIDUAL),
            "residual_rest_mean": Look("later", RESIDUAL),
            "overflowed": Look("overflowed", RESIDUAL),
        },
        words={"called": _called},
    )
    yield Facts([Fact(_called(one), one.formula) for one in rows])
    yield from (Paragraph(text) for text in EXPLAINED)
    yield from nonfinite(record.nonfinite)
    yield Paragraph(_verdict(record), "strong")


def _called(one: Ablated) -> str:
    return one.name + (AHEAD if one.looks_ahead else "")


def _verdict(record: Ablation) -> str:
    if record.real.loss is None:
        return "Undecided: the real model's own loss is not finite."
    by_name = {one.name: one for one in record.replaced}
    same = f" Equal to rounding: {', '.join(record.equal)}." if record.equal else ""
    if record.lower:
        found = ", ".join(
            f"{name} (by {number(-(by_name[name].loss_difference or 0.0))}, standard error "
            f"{number(by_name[name].standard_error)})"
            for name in record.lower
        )
        return (
            f"The real LayerNorm has not the lowest loss of those that look at no future token; lower: {found}.{same}"
        )
    return f"The real LayerNorm has the lowest loss of those that look at no future token.{same}"
