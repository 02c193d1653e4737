"""The record of ``ablate`` as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from gpt2ln_cli.render.layout import Group, integer, number, percent, side_by_side

if TYPE_CHECKING:
    from rich.console import Console

    from gpt2ln_cli.records import Ablated, Ablation

AHEAD = " *"
SITES_NAMED = 6


def ablation_lines(record: Ablation) -> list[tuple[str, str]]:
    """What the header says beside the model."""
    every = len(record.sites) == 2 * record.model.n_layer + 1
    named = ", ".join(record.sites) if len(record.sites) <= SITES_NAMED else f"{len(record.sites)} LayerNorms"
    return [("replaced", f"all {len(record.sites)} LayerNorms" if every else named)]


def write_ablation(console: Console, record: Ablation) -> None:
    """Write what follows the header."""
    rows = [record.real, *record.replaced]
    console.print()
    console.print(Text(f"Predictions of the next token, over {record.predictions:,} positions", style="bold"))
    console.print()
    groups = [
        Group(
            "next token",
            ["loss", "- real", "std. err.", "perplexity"],
            [
                [number(one.loss), number(one.loss_difference), number(one.standard_error), number(one.perplexity)]
                for one in rows
            ],
        ),
        Group("against real", ["KL", "same top"], [[number(one.kl), percent(one.same_top)] for one in rows]),
        Group(
            "||x|| after the last block",
            ["pos 0", "later", "overflowed"],
            [
                [number(one.residual_first.mean), number(one.residual_rest.mean), integer(one.overflowed)]
                for one in rows
            ],
        ),
    ]
    for table in side_by_side(console, Group("", ["LayerNorm"], [[_name(one)] for one in rows]), groups):
        console.print(table)
        console.print()
    formulas = Table.grid(padding=(0, 2, 0, 0))
    formulas.add_column(no_wrap=True)
    formulas.add_column(overflow="fold")
    for one in rows:
        formulas.add_row(_name(one), Text(one.formula))
    console.print(formulas)
    console.print()
    for text in (
        "loss is the mean negative log-likelihood of the next token and KL the mean KL(real || replaced), both in "
        "nats; '- real' is loss less the real model's, with the standard error of that difference over tokens; 'same "
        "top' is the share of positions whose most probable next token is the real model's. ||x|| is the mean L2 norm "
        "of the residual that enters ln_f, 'pos 0' over the first tokens, 'later' over all others; 'overflowed' counts "
        "tokens with a number that is not finite there or in the logits.",
        "* looks at future tokens: its loss is not a fair language-model loss, since the context's statistics tell of "
        "the token to be predicted.",
        "The weights were trained with the real LayerNorm: a replacement shows what this model depends on, not what "
        "another model could have learned with it.",
    ):
        console.print(Text(text))
    if record.nonfinite:
        console.print(Text(f"{record.nonfinite:,} numbers were NaN or infinite and are shown as a dash."))
    console.print(Text(_verdict(record), style="bold"))


def _name(one: Ablated) -> str:
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
