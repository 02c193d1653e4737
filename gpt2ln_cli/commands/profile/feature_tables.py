"""The features of a profile as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.profile.record import FeatureProfile
from gpt2ln_cli.output.blocks import Block, Column, Heading, Look, Paragraph, Part, Row, Table, table_of
from gpt2ln_cli.output.text import quoted

if TYPE_CHECKING:
    from gpt2ln_cli.commands.profile.record import FeaturesOver, Profile

PARTS = {"first": "pos 0", "rest": "later"}
MASSIVE = (
    "'largest |x|' is that of all LayerNorms, and the share the mean over those tokens there at which the feature is "
    "massive, of its share of sigma^2, (x_j - mu)^2 / (d sigma^2). --json and --table features have every feature of x "
    "and y at every LayerNorm."
)


def _parts(record: Profile) -> Iterator[tuple[str, str, FeaturesOver]]:
    for site in record.sites:
        for part in PARTS:
            found: FeaturesOver | None = getattr(site.features, part, None)
            if found is not None:
                yield site.name, part, found


def features(record: Profile) -> Table:
    """Every feature at every site, for data."""

    def listed() -> Iterator[tuple[FeatureProfile, str, str, str]]:
        for site, part, found in _parts(record):
            for stage in ("pre", "post"):
                for one in getattr(found, stage):
                    yield one, site, part, stage

    return table_of(
        "features",
        [Part(FeatureProfile)],
        listed,
        also=[
            (Column("site", str, "Name of the LayerNorm."), lambda item: item[1]),
            (Column("part", str, "``first`` (position 0) or ``rest`` (later positions)."), lambda item: item[2]),
            (Column("stage", str, "``pre`` (x) or ``post`` (y)."), lambda item: item[3]),
        ],
        first=("site", "part", "stage"),
    )


def massive(record: Profile) -> Iterator[Block]:
    """The massive features, one row each for position 0 and later, at the LayerNorm where each is largest."""
    found: dict[tuple[str, int], list[tuple[str, FeatureProfile, int]]] = {}
    for site, part, of_part in _parts(record):
        for index in of_part.massive:
            found.setdefault((part, index), []).append((site, of_part.pre[index], of_part.tokens))
    if not found:
        return

    def rows() -> Iterator[Row]:
        for (part, index), at in found.items():
            site, one, tokens = max(at, key=lambda each: each[1].max_abs or 0.0)
            sites = f"{at[0][0]} to {at[-1][0]}" if len(at) > 1 else site
            often = f"{one.massive:,} of {tokens:,} {PARTS[part]}"
            document = f"{quoted(one.token)} {one.source}:{one.offset}"
            yield [index, sites, often, one.max_abs, site, one.position, one.massive_share, document]

    looks = {
        "index": (int, Look("feature", form="plain", key=True)),
        "sites": (str, Look("massive at")),
        "often": (str, Look("of tokens")),
        "max_abs": (float, Look("largest |x|")),
        "site": (str, Look("at")),
        "position": (int, Look("pos", form="plain")),
        "massive_share": (float, Look("of sigma^2", form="percent")),
        "document": (str, Look("token, document", rank=1)),
    }
    columns = [Column(name, kind, look=look, data=False) for name, (kind, look) in looks.items()]
    yield Heading("Massive features")
    yield Table("massive", columns, rows)
    yield Paragraph(MASSIVE, "note")
