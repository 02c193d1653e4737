"""The record of ``verify`` as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from gpt2ln_cli.render.layout import Group, integer, number, side_by_side
from gpt2ln_cli.render.wording import OUTCOMES, reading_sentence, reproduced_shares, verified_sentence

if TYPE_CHECKING:
    from rich.console import Console

    from gpt2ln_cli.records import Verification


def write_verification(console: Console, record: Verification) -> None:
    """Write what follows the header."""
    console.print()
    console.print(Text("Axis trial: every reading of LayerNorm against what the model computed", style="bold"))
    console.print()
    readings = record.readings
    groups = [
        Group("for this input", ["statistics"], [[integer(one.statistics)] for one in readings]),
        Group(
            "|y - predicted| / rms(y)",
            ["rms", "worst"],
            [[number(one.rms), number(one.worst)] for one in readings],
        ),
        Group("reproduced numbers", ["exactly", "in all"], [reproduced_shares(one) for one in readings]),
        Group("last places", ["worst"], [[number(one.ulps)] for one in readings]),
        Group("fits", ["sites"], [[f"{one.fits} of {len(record.sites)}"] for one in readings]),
    ]
    for table in side_by_side(
        console, Group("", ["if it normalized ..."], [[one.reading] for one in readings]), groups
    ):
        console.print(table)
        console.print()
    console.print(Text(reading_sentence(record)))
    console.print()
    checks = Table.grid(padding=(0, 2, 0, 0))
    checks.add_column(style="bold", no_wrap=True)
    checks.add_column(no_wrap=True)
    checks.add_column(overflow="fold")
    for check in record.checks:
        style = {True: "green", False: "bold red", None: "yellow"}[check.passed]
        checks.add_row(check.name, Text(OUTCOMES[check.passed], style=style), Text(check.statement))
    console.print(checks)
    console.print()
    console.print(Text(verified_sentence(record), style="bold"))
