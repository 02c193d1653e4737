"""The record of ``diff`` as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from gpt2ln_cli.render.layout import MISSING, QUANTITIES, Group, number, percent, side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from gpt2ln_cli.records import Difference, SpreadChange, VectorChange


def write_difference(console: Console, record: Difference) -> None:
    """Write what follows the headers."""
    console.print()
    console.print(Text("Learned gain and bias, from A to B", style="bold"))
    console.print()
    key = Group("", ["site"], [[site.name] for site in record.sites])
    groups = [
        _vectors("gain", [site.gain for site in record.sites]),
        _vectors("bias", [site.bias for site in record.sites]),
    ]
    for table in side_by_side(console, key, groups):
        console.print(table)
        console.print()
    if record.prompts is not None:
        console.print(Text("Means over later positions, from A to B", style="bold"))
        console.print()
        changes = []
        for title, name in QUANTITIES:
            spreads = [None if site.rest is None else getattr(site.rest, name) for site in record.sites]
            changes.append(Group(title, ["A", "B", "change"], [_spread(spread) for spread in spreads]))
        for table in side_by_side(console, key, changes):
            console.print(table)
            console.print()
    console.print(
        Text(
            "||b - a|| is an L2 norm, 'of a' that norm over ||a||, 'features' how many changed at all, 'largest' the "
            "feature that changed most, with its values in A and B."
        )
    )
    total = len(record.sites)
    console.print(Text(f"Gain or bias differ at {record.changed_sites} of {total} sites.", style="bold"))


def _vectors(title: str, changes: Sequence[VectorChange | None]) -> Group:
    rows = []
    for change in changes:
        if change is None:
            rows.append([MISSING] * 5)
            continue
        largest = MISSING
        if change.largest:
            most = change.largest[0]
            largest = f"{most.index}: {number(most.a)} to {number(most.b)}"
        rows.append(
            [number(change.norm), percent(change.relative), number(change.cosine), str(change.changed), largest]
        )
    return Group(title, ["||b - a||", "of a", "cosine", "features", "largest"], rows)


def _spread(change: SpreadChange | None) -> list[str]:
    if change is None:
        return [MISSING] * 3
    return [number(change.a), number(change.b), percent(change.relative)]
