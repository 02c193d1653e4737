"""The record of ``diff`` as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from gpt2ln_cli.quantities import LABELS, SUMMARIZED
from gpt2ln_cli.render.layout import MISSING, Group, number, percent, side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from gpt2ln_cli.records import ActivationChange, Difference, SpreadChange, VectorChange


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
        for title, tokens in (
            ("Means over position 0 of the sequences", [site.first for site in record.sites]),
            ("Means over later positions", [site.rest for site in record.sites]),
        ):
            console.print(Text(f"{title}, from A to B", style="bold"))
            console.print()
            for table in side_by_side(console, key, _activations(tokens)):
                console.print(table)
                console.print()
    console.print(
        Text(
            "||b - a|| is an L2 norm, 'of a' that norm over ||a||, 'features' how many changed at all, 'largest' the "
            "feature that changed most, with its values in A and B; --json lists --top of them."
        )
    )
    if record.nonfinite:
        console.print(Text(f"{record.nonfinite:,} numbers were NaN or infinite and are shown as a dash."))
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


def _activations(changes: Sequence[ActivationChange | None]) -> list[Group]:
    return [
        Group(
            LABELS[name],
            ["A", "B", "change"],
            [_spread(None if change is None else getattr(change, name)) for change in changes],
        )
        for name in SUMMARIZED
    ]


def _spread(change: SpreadChange | None) -> list[str]:
    if change is None:
        return [MISSING] * 3
    return [number(change.a), number(change.b), percent(change.relative)]
