"""A profile's figures beside published ones as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.profile.record import Held
from gpt2ln_cli.output.blocks import Block, Heading, Look, Paragraph, Table, table_of

if TYPE_CHECKING:
    from gpt2ln_cli.commands.profile.record import Profile

# For reading; data have all.
SHOWN = 10
LOOKS = {
    "site": Look("site", key=True),
    "quantity": Look("quantity", key=True),
    "value": Look("published"),
    "measured": Look("here"),
    "off": Look("off by", form="percent"),
    "tolerance": Look("tolerance", form="percent"),
    "verdict": Look("within"),
}
NOTE = (
    "What was published was taken from the sources that --table against names, and not measured here. 'can't tell' "
    "is where this run has so few windows that chance reaches across the tolerance."
)


def published(record: Profile) -> Table:
    """Every published figure beside this run's, for data."""
    return table_of("against", Held, record.against or [], LOOKS)


def against(record: Profile) -> Iterator[Block]:
    """How many published figures are met, and those that are farthest off."""
    held = record.against
    if not held:
        return
    counts = Counter(one.verdict for one in held)
    yield Heading(f"Against published figures of {held[0].name}")
    told = f"{counts['yes']} of {len(held)} are met within their tolerance, {counts['no']} are not"
    unsure = counts["can't tell"]
    yield Paragraph(f"{told}, and of {unsure} this run can't tell.", "strong")
    farthest = sorted(held, key=lambda one: -abs(one.off or 0.0) / one.tolerance)[:SHOWN]
    every = published(record)
    columns = [replace(column, data=False) for column in every.columns]
    shown = table_of("farthest", Held, farthest, LOOKS)
    yield replace(shown, columns=columns, title="" if len(held) <= SHOWN else f"the {SHOWN} that are farthest off")
    yield Paragraph(NOTE, "note")
