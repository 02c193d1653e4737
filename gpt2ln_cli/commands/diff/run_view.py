"""The difference of two runs as blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.diff.record import SiteShift
from gpt2ln_cli.output.blocks import Block, Column, Fact, Heading, Look, Paragraph, Row, Table, View, table_of
from gpt2ln_cli.output.claims import Says, claims_table
from gpt2ln_cli.output.header import header, nonfinite
from gpt2ln_cli.output.text import MISSING
from gpt2ln_cli.quantities import QUANTITIES

if TYPE_CHECKING:
    from gpt2ln_cli.commands.diff.record import LargestShift, PartShift, RunDifference

SHOWN = ("1", "50", "99")
PARTS = {"first": "pos 0", "rest": "later"}
SAME = {
    "corpus": "Two models on one corpus.",
    "model": "One model on two corpora.",
    "both": "One model on one corpus, twice.",
}
NOTE = (
    "Quantiles of sigma at later positions. A shift is (b - a) / spread at the quantile of sigma that moved most, less "
    "what the sketch's error may make of it; the spread is the root mean square of the two standard deviations over "
    "tokens. --json and --table quantiles have all quantities."
)


def view_of_runs(record: RunDifference, says: Mapping[str, Says]) -> View:
    """Quantiles side by side, and how far they moved.

    Args:
        record: the difference.
        says: how its claims are worded.
    """
    more = [_quantiles(record), claims_table(record.claims, says)]
    return View(record, list(_blocks(record, says)), more=more, main="quantiles")


def _blocks(record: RunDifference, says: Mapping[str, Says]) -> Iterator[Block]:
    for name, run in (("A", record.run_a), ("B", record.run_b)):
        yield Heading(name, level=3)
        first, *others = run.sources
        corpus = first if not others else f"{first} and {len(others):,} more"
        counts = f"{run.documents:,} documents, {run.windows:,} windows, {run.tokens:,} tokens"
        yield header(run.model, more=[Fact("run", run.folder), Fact("corpus", corpus), Fact("", counts)])
    yield Paragraph(SAME[record.same])
    yield from (Paragraph(says[one.id].of(one), "strong") for one in record.claims)
    yield Heading("How the quantities moved from A to B")
    yield _sites(record)
    yield Paragraph(NOTE, "note")
    yield from nonfinite(record.nonfinite)


def _sites(record: RunDifference) -> Table:
    looks = {"name": Look("site", key=True)}
    quantiles = []
    for letter in ("a", "b"):
        for percent in SHOWN:
            looks[f"{letter}_{percent}"] = Look(f"{percent}%", f"sigma in {letter.upper()}")
            quantiles.append((Column(f"{letter}_{percent}", float, data=False), _quantile(letter, percent)))
    looks["rest_sigma_shift"] = Look("later", "largest shift")
    looks["first_sigma_shift"] = Look("pos 0", "largest shift")
    looks["moved"] = Look("of all quantities", "largest shift", rank=1)
    words = {"moved": lambda site: _moved(site.largest)}
    return table_of("sites", SiteShift, record.sites, looks, also=quantiles, words=words, without=["a", "b"])


def _quantile(letter: str, percent: str) -> Callable[[SiteShift], float | None]:
    def of(site: SiteShift) -> float | None:
        found: float | None = None if site.rest is None else getattr(site.rest.sigma, letter).get(percent)
        return found

    return of


def _moved(largest: LargestShift | None) -> str:
    if largest is None:
        return MISSING
    return f"{largest.quantity}, {PARTS[largest.part]}, {largest.percent}%: {largest.shift:+.3g}"


def _quantiles(record: RunDifference) -> Table:
    """Every quantile side by side, for data."""
    columns = [
        Column("site", str, "Name of the LayerNorm."),
        Column("part", str, "``first`` (position 0) or ``rest`` (later positions)."),
        Column("quantity", str, "What is distributed."),
        Column("percent", float, "Which quantile."),
        Column("a", float, "A's."),
        Column("b", float, "B's."),
        Column("spread", float, "Root mean square of the two standard deviations over tokens."),
    ]
    columns = [replace(column, place=place) for place, column in enumerate(columns)]

    def rows() -> Iterator[Row]:
        for site in record.sites:
            for part in PARTS:
                found: PartShift | None = getattr(site, part)
                for quantity in QUANTITIES if found is not None else ():
                    one = getattr(found, quantity)
                    for percent, a in one.a.items():
                        yield [site.name, part, quantity, float(percent), a, one.b.get(percent), one.spread]

    return Table("quantiles", columns, rows)
