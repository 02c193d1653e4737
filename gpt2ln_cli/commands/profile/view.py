"""The record of ``profile`` as blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

import msgspec

from gpt2ln_cli.commands.profile.against_tables import against, published
from gpt2ln_cli.commands.profile.feature_tables import features, massive
from gpt2ln_cli.commands.profile.record import BadDocument, Band, Distribution, SiteProfile, TopToken
from gpt2ln_cli.output.blocks import Block, Column, Fact, Heading, Look, Paragraph, Part, Row, Table, View, table_of
from gpt2ln_cli.output.claims import CLAIMS, Says, claims, claims_table
from gpt2ln_cli.output.header import WARNINGS, header, nonfinite, warnings, warnings_table
from gpt2ln_cli.output.text import number
from gpt2ln_cli.quantities import QUANTITIES
from gpt2ln_cli.records import KindCount

if TYPE_CHECKING:
    from gpt2ln_cli.commands.profile.record import Profile

TABLES = ("distributions", "sites", "bands", "features", "top", "against", CLAIMS, "kinds", "bad", WARNINGS)
# Of sigma where a person reads it.
SHOWN = ("1", "50", "99")
BAD_SHOWN = 5
QUANTILES = "quantiles"
DEFINITION = "|x| above {least:g} and above 1,000 times the median |x| of its token"
SAYS = {
    "profile.massive": Says(
        "massive features",
        f"Found {{statistic:.0f}} ({DEFINITION}), at {{at_sites}} of {{sites}} LayerNorms, from {{since}} on; the "
        "largest is feature {feature}, |x| = {largest} at {site}, {where}, where it holds {share:.1%} of sigma^2.",
        f"No feature is massive ({DEFINITION}); the largest is feature {{feature}}, |x| = {{largest}} at {{site}}, "
        "{where}.",
        f"Not all numbers are finite, and no other feature is massive ({DEFINITION}).",
    ),
    "profile.published": Says(
        "a published figure",
        "{quantity} of {site} is {measured}, {statistic:.1%} from the {value} published for {name}.",
        "{quantity} of {site} is {measured}, {statistic:.1%} from the {value} published for {name}: more than "
        "{threshold:.0%}.",
        "{quantity} of {site} is {measured}, where {value} was published for {name}: so few windows do not tell "
        "whether within {threshold:.0%}.",
    ),
}
SIGMA = (
    "sigma divides by d. 'first' is position 0 of each window, 'rest' all later tokens; rms is the root mean square "
    "over tokens, std the standard deviation over tokens. Quantiles are right to {error:.1%} of their size; --json and "
    "--table distributions have all quantities, quantiles and bands of position."
)


def view(record: Profile) -> View:
    """What was run, how sigma is distributed at each site, and where it was greatest."""
    kinds = table_of("kinds", KindCount, record.counts.by_kind)
    more = [
        distributions(record),
        bands(record),
        features(record),
        top(record),
        published(record),
        claims_table(record.claims, SAYS),
        kinds,
        _bad(record),
        warnings_table(record.warnings),
    ]
    return View(record, list(_blocks(record)), more=more, main="distributions")


def _blocks(record: Profile) -> Iterator[Block]:
    yield header(record.model, more=list(_facts(record)))
    yield from warnings(record.warnings)
    shards = record.shards
    if shards.missing:
        yield Paragraph(
            f"warning: {len(shards.missing):,} of {shards.chosen:,} shards are not done yet and not in these figures.",
            "warning",
        )
    bad = record.corpus.bad
    for one in bad[:BAD_SHOWN]:
        yield Paragraph(f"left out: {one.source}{', ' if one.place else ''}{one.place}: {one.reason}.", "warning")
    if bad[BAD_SHOWN:]:
        yield Paragraph(f"left out: {len(bad) - BAD_SHOWN:,} more, which --table bad lists.", "warning")
    yield from _answers(record)
    if found := [one for one in record.claims if one.id == "profile.massive"]:
        yield claims(found, SAYS)
        yield from massive(record)
    yield from against(record)
    yield Heading("sigma at each LayerNorm, over the tokens of the corpus")
    yield sites(record)
    yield Paragraph(SIGMA.format(error=record.sketch.relative_error), "note")
    yield from nonfinite(record.nonfinite)


def _facts(record: Profile) -> Iterator[Fact]:
    corpus, counts, shards = record.corpus, record.counts, record.shards
    first, *others = corpus.sources
    yield Fact("corpus", first if not others else f"{first} and {len(others):,} more")
    how = "each from position 0" if corpus.how == "each" else "packed behind one another"
    begin = "<|endoftext|> prepended" if record.bos else "no <|endoftext|> prepended"
    yield Fact("", f"{corpus.documents:,} documents, {how}: {corpus.windows:,} windows, {begin}")
    limited = "" if corpus.limit_tokens is None else f" of {corpus.limit_tokens:,} asked for"
    of = "" if shards.chosen == shards.of else f", a sample of {shards.of:,}"
    noun = f"shard{'s' * (shards.chosen != 1)}"
    yield Fact("tokens", f"{corpus.tokens:,}{limited}, from {shards.done:,} of {shards.chosen:,} {noun}{of}")
    yield Fact("statistics", f"{counts.total:,}; padded positions apart: {counts.padding:,}")


def _answers(record: Profile) -> Iterator[Paragraph]:
    """The two or three things that one asks first."""
    known = [(site, site.rest.sigma) for site in record.sites if site.rest is not None and site.rest.sigma.rms]
    if not known:
        return
    (low, least), (high, most) = (choose(known, key=lambda pair: pair[1].rms or 0.0) for choose in (min, max))
    sentence = (
        f"At later positions sigma's root mean square runs from {number(least.rms)} at {low.name} to "
        f"{number(most.rms)} at {high.name}"
    )
    apart = [
        (site.first.sigma.rms / rest.rms, site.name)
        for site, rest in known
        if site.first is not None and site.first.sigma.rms and rest.rms
    ]
    if apart:
        ratio, name = max(apart, key=lambda pair: abs(pair[0] - 1))
        sentence += (
            f"; at position 0 it is {number(ratio)} times that of later ones at {name}, where the two differ most"
        )
    yield Paragraph(sentence + ".", "strong")


def sites(record: Profile) -> Table:
    """Sigma at each LayerNorm."""
    looks: dict[str, Look] = {"name": Look("site", key=True)}
    for part, title in (("first", "sigma: first"), ("rest", "sigma: rest")):
        looks[f"{part}_sigma_rms"] = Look("rms", title)
        if part == "rest":
            looks |= {f"{part}_sigma_{end}": Look(end, title) for end in ("mean", "std", "min")}
            looks |= {f"later_{percent}": Look(f"{percent}%", title) for percent in SHOWN}
        looks[f"{part}_sigma_max"] = Look("max", title)

    def quantile(percent: str) -> tuple[Column, Callable[[SiteProfile], float | None]]:
        def of(site: SiteProfile) -> float | None:
            return None if site.rest is None else site.rest.sigma.quantiles.get(percent)

        return Column(f"later_{percent}", float, data=False), of

    return table_of(
        "sites",
        SiteProfile,
        record.sites,
        looks,
        also=[
            *(pair for part in ("first", "rest") for pair in _quantiles(record, attrgetter(part), f"{part}_")),
            *map(quantile, SHOWN),
        ],
        without=[QUANTILES],
    )


def bands(record: Profile) -> Table:
    """Every quantity at every site, over each band of positions, for data."""
    return table_of(
        "bands",
        [Part(Band)],
        [(band, site.name) for site in record.sites for band in site.bands],
        also=[
            (Column("site", str, "Name of the LayerNorm."), itemgetter(1)),
            (Column("from", int, "The first of the positions."), lambda item: item[0].first),
            (Column("to", int, "The last of them."), lambda item: item[0].last),
            *_quantiles(record, itemgetter(0)),
        ],
        first=("site", "from", "to"),
        without=[QUANTILES, "first", "last"],
    )


def _percents(record: Profile) -> list[str]:
    parts = (part for site in record.sites for part in (site.rest, site.first) if part is not None)
    return next((list(part.sigma.quantiles) for part in parts), [])


def _quantiles(
    record: Profile, part: Callable[[Any], Any], prefix: str = ""
) -> Iterator[tuple[Column, Callable[[Any], Any]]]:
    """A column for each quantile of each quantity, of what ``part`` takes of an item."""

    def value(item: Any, quantity: str, percent: str) -> float | None:
        found = part(item)
        return None if found is None else getattr(found, quantity).quantiles.get(percent)

    for quantity in QUANTITIES:
        for percent in _percents(record):
            column = Column(
                f"{prefix}{quantity}_quantiles_{percent}", float, f"The quantile of {percent} percent of {quantity}."
            )
            yield column, partial(value, quantity=quantity, percent=percent)


def distributions(record: Profile) -> Table:
    """Every quantity at every site, over position 0, later positions, and each band of them, for data."""
    kept = [field for field in msgspec.structs.fields(Distribution) if field.name != QUANTILES]
    percents = _percents(record)
    described = {column.name: column for column in table_of("", Distribution, []).columns}
    columns = [
        Column("site", str, "Name of the LayerNorm."),
        Column("part", str, "``first`` is position 0, ``rest`` all later ones, ``band`` neighbouring positions."),
        Column("from", int, "The first of the positions."),
        Column("to", int, "The last of them."),
        Column("quantity", str, "What is distributed."),
        *(described[field.name] for field in kept),
        *(Column(f"q{percent}", float, f"The quantile of {percent} percent.") for percent in percents),
    ]

    def rows() -> Iterator[Row]:
        for site in record.sites:
            last = max((band.last for band in site.bands), default=0)
            every: list[tuple[str, int, int, Any]] = [
                *([("first", 0, 0, site.first)] if site.first is not None else []),
                *([("rest", 1, last, site.rest)] if site.rest is not None else []),
                *(("band", band.first, band.last, band) for band in site.bands),
            ]
            for part, first, end, over in every:
                for quantity in QUANTITIES:
                    found: Distribution = getattr(over, quantity)
                    figures = [getattr(found, field.name) for field in kept]
                    quantiles = [found.quantiles.get(percent) for percent in percents]
                    yield [site.name, part, first, end, quantity, *figures, *quantiles]

    return Table("distributions", [replace(column, place=place) for place, column in enumerate(columns)], rows)


def top(record: Profile) -> Table:
    """The tokens at which a quantity was greatest, for data."""
    ranked = [
        (token, site.name, quantity)
        for site in record.sites
        for quantity in ("sigma", "max_abs", "excess_kurtosis")
        for token in getattr(site.top, quantity)
    ]
    return table_of(
        "top",
        [Part(TopToken)],
        ranked,
        also=[
            (Column("site", str, "Name of the LayerNorm."), lambda item: item[1]),
            (Column("quantity", str, "What it was greatest in."), lambda item: item[2]),
        ],
        first=("site", "quantity"),
    )


def _bad(record: Profile) -> Table:
    return table_of("bad", BadDocument, record.corpus.bad)
