"""The record of ``attribute`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.attribute.record import Row, Share, SiteAttribution, Through
from gpt2ln_cli.output.blocks import Block, Column, Heading, Look, Paragraph, Part, Table, View, table_of
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
from gpt2ln_cli.output.matrix import Matrix
from gpt2ln_cli.output.text import MISSING, number, quoted

if TYPE_CHECKING:
    from gpt2ln_cli.commands.attribute.record import Attribution

TABLES = ("writers", "rows", CLAIMS, "sites", "through", PROMPTS, WARNINGS)
PARTS = ("first", "rest")
# Writers with less are left out where a person reads.
LEAST = 0.01
# Writers of a picture.
DRAWN = 40
# Writers of a site, and about as many sites, where not all is asked for.
LARGEST = 2
BRIEF_SITES = 50
ONE = Says(
    "one writer",
    "At {site}, {where}, where sigma is greatest ({sigma}), {writer} wrote {statistic:.0%} of sigma^2{through}.",
    "At {site}, {where}, where sigma is greatest ({sigma}), no writer made half of sigma^2: {writer} wrote most, "
    "{statistic:.0%}{through}.",
    "At {site}, {where}, the shares are not finite.",
)
FEATURE = Says(
    "feature",
    "At {site}, {where}, where it is largest, x[{feature}] is {x}; {writer} wrote {value} of it.",
    "At {site}, {where}, where it is largest, x[{feature}] is {x}; no writer wrote half of it: {writer} most, {value}.",
    "x[{feature}] is 0 or not finite at {site}, {where}.",
)
SAYS = {
    **{f"attribute.one_writer_{part}": ONE for part in PARTS},
    **{f"attribute.feature_{part}": FEATURE for part in PARTS},
    "attribute.shares_add_up": Says(
        "shares add up",
        "The shares of each token at {sites} LayerNorms add up to 1 within {statistic:.1e}, and the means to mu within "
        "{mean_error:.1e} of sigma.",
        "The shares of a token miss 1 by {statistic:.1e}, more than {threshold:.0e}: something else writes to the "
        "residual stream, or what is written cancels.",
        "The shares of some token are not finite.",
    ),
}
SITES = (
    "Each LayerNorm's writers of 1% of sigma^2 or more, the largest share first, mean over tokens; a negative share "
    "made sigma smaller. In brackets the features through which a writer with a large share made a tenth of it or "
    "more."
)
BRIEF = (
    "Each LayerNorm's {largest} writers with the largest shares of sigma^2, of 1% or more (mean over tokens; a "
    "negative share made sigma smaller){sites}. All writers{and_sites}, the features they wrote through, and the "
    "shares through the layers: --all."
)
VALUES = "Each LayerNorm's writers of 1% of x[{feature}] or more, mean over tokens; the values add up to x[{feature}]."
TOKENS = "Of each token the writers of 1% of sigma^2 or more; --json and --table rows have all."


def view(record: Attribution) -> View:
    """Who wrote sigma^2 of each site, and of each token where that was asked for."""
    more = [
        _writers(record),
        _rows(record),
        _described(record),
        _through(record),
        claims_table(record.claims, SAYS),
        prompts_table(record.prompts),
        warnings_table(record.warnings),
    ]
    asked = record.rows is not None or record.feature is not None
    return View(
        record,
        list(_blocks(record)),
        more=more,
        main="writers" if record.rows is None else "rows",
        brief=None if asked else list(_in_brief(record)),
    )


def _beginning(record: Attribution) -> Iterator[Block]:
    yield header(record.model, record.prompts, bos=record.bos)
    yield quotes(record.prompts)
    yield from warnings(record.warnings)
    yield claims(record.claims, SAYS)


def _in_brief(record: Attribution) -> Iterator[Block]:
    yield from _beginning(record)
    yield Heading("Who wrote most of sigma^2 at each LayerNorm, in forward order")
    yield (table := _largest(record))
    shown, count = sum(1 for _ in table.rows()), len(record.sites)
    sites, and_sites = (f"; {shown} of {count} sites", " and sites") if shown < count else ("", "")
    yield Paragraph(BRIEF.format(largest=LARGEST, sites=sites, and_sites=and_sites), "note")
    yield from nonfinite(record.nonfinite)


def _largest(record: Attribution) -> Table:
    """A site a row, with the writers that made most of its sigma^2."""
    parts = [
        (part, group)
        for part, group in (("first", "position 0"), ("rest", "later positions"))
        if any(getattr(site, part) for site in record.sites)
    ]
    looks = [Look("site", key=True), *(Look(name, group) for _, group in parts for name in ("sigma", "writers"))]
    names = ["site", *(f"{part}_{name}" for part, _ in parts for name in ("sigma", "writers"))]
    columns = [Column(name, str, look=look, data=False) for name, look in zip(names, looks, strict=True)]
    # Blocks have the same sites each, of which the first stays.
    step = -(-len(record.sites) // BRIEF_SITES)
    last = len(record.sites) - 1
    chosen = [site for index, site in enumerate(record.sites) if index % step == 0 or index == last]

    def rows() -> Iterator[Sequence[str]]:
        for site in chosen:
            values = ((number(getattr(site, f"{part}_sigma")), _most(getattr(site, part) or ())) for part, _ in parts)
            yield [site.name, *(value for pair in values for value in pair)]

    return Table("largest", columns, rows)


def _most(shares: Sequence[Share]) -> str:
    known = [one for one in shares if one.share is not None and abs(one.share) >= LEAST]
    known.sort(key=lambda one: -abs(one.share or 0.0))
    return ", ".join(f"{one.writer} {one.share:.0%}" for one in known[:LARGEST]) or MISSING


def _blocks(record: Attribution) -> Iterator[Block]:
    yield from _beginning(record)
    valued = record.feature is not None
    of = f"feature {record.feature} of x" if valued else "sigma^2"
    yield Heading(f"Who wrote {of} at each LayerNorm, in forward order")
    for part, where in (("first", "position 0"), ("rest", "later positions")):
        if any(getattr(site, part) for site in record.sites):
            yield _listed(record, part, where)
    yield Paragraph(VALUES.format(feature=record.feature) if valued else SITES, "note")
    if record.rows is not None:
        yield Heading("Each token")
        yield _tokens(record)
        yield Paragraph(TOKENS, "note")
    yield Heading("Who wrote sigma^2, through the layers")
    yield from matrices(record)
    yield from nonfinite(record.nonfinite)


def _listed(record: Attribution, part: str, where: str) -> Table:
    """A site a row, its writers as text."""
    x = f"x[{record.feature}]" if record.feature is not None else None
    names = ("site", "sigma", *([x] if x else []), "writers")
    looks = [Look(name, key=name != "writers") for name in names]
    columns = [Column(name, str, look=look, data=False) for name, look in zip(names, looks, strict=True)]

    def rows() -> Iterator[Sequence[str]]:
        for site in record.sites:
            shares: list[Share] = getattr(site, part)
            if shares:
                values = [number(getattr(site, f"{part}_x"))] if x else []
                texts = _shares(shares) if x is None else _values(shares, getattr(site, f"{part}_x"))
                yield [site.name, number(getattr(site, f"{part}_sigma")), *values, texts]

    return Table(f"listed_{part}", columns, rows, title=where)


def _shares(shares: Sequence[Share] | Sequence[Row]) -> str:
    chosen = [one for one in shares if one.share is not None and abs(one.share) >= LEAST]
    chosen.sort(key=lambda one: -abs(one.share or 0.0))
    return ", ".join(f"{one.writer} {one.share:.0%}{_bracketed(one)}" for one in chosen) or MISSING


def _bracketed(one: Share | Row) -> str:
    return f" ({one.features})" if isinstance(one, Share) and one.features else ""


def _values(shares: Sequence[Share], x: float | None) -> str:
    chosen = [one for one in shares if one.value is not None and abs(one.value) >= LEAST * abs(x or 0.0)]
    chosen.sort(key=lambda one: -abs(one.value or 0.0))
    return ", ".join(f"{one.writer} {number(one.value)}" for one in chosen) or MISSING


def _tokens(record: Attribution) -> Table:
    """A token a row, its writers as text."""
    names = ("site", "seq", "pos", "token", "sigma", "writers")
    columns = [Column(name, str, look=Look(name, key=name != "writers"), data=False) for name in names]

    def rows() -> Iterator[Sequence[str]]:
        for _, of_token in groupby(record.rows or (), lambda row: (row.site, row.sequence, row.position)):
            told = list(of_token)
            one = told[0]
            token = f"id {one.token_id}" if one.token is None else quoted(one.token)
            yield [one.site, str(one.sequence), str(one.position), token, number(one.sigma), _shares(told)]

    return Table("tokens", columns, rows, by="site")


def _each(record: Attribution) -> list[tuple[Share, str, str]]:
    return [(share, site.name, part) for site in record.sites for part in PARTS for share in getattr(site, part)]


_SITE = Column("site", str, "Name of the LayerNorm.")
_PART = Column("part", str, "``first`` (position 0) or ``rest`` (later positions).")


def _writers(record: Attribution) -> Table:
    return table_of(
        "writers",
        [Part(Share)],
        _each(record),
        {},
        also=[(_SITE, lambda item: item[1]), (_PART, lambda item: item[2])],
        first=("site", "part"),
    )


def _through(record: Attribution) -> Table:
    return table_of(
        "through",
        [Part(Through)],
        [(one, site, part, share.writer) for share, site, part in _each(record) for one in share.through],
        {},
        also=[
            (_SITE, lambda item: item[1]),
            (_PART, lambda item: item[2]),
            (Column("writer", str, "Who wrote."), lambda item: item[3]),
        ],
        first=("site", "part", "writer"),
    )


def _described(record: Attribution) -> Table:
    return table_of("sites", SiteAttribution, record.sites, {})


def _rows(record: Attribution) -> Table:
    return table_of("rows", Row, record.rows or (), {})


def matrices(record: Attribution) -> Iterator[Matrix]:
    """Sites x writers: the mean shares of sigma^2 at position 0 and later."""
    for part, where in (("first", "position 0"), ("rest", "later positions")):
        shares = {site.name: {one.writer: one.share for one in getattr(site, part)} for site in record.sites}
        names = list(dict.fromkeys(name for of_site in shares.values() for name in of_site))
        reach = {name: max(abs(of_site.get(name) or 0.0) for of_site in shares.values()) for name in names}
        drawn = sorted(names, key=lambda name: -reach[name])[:DRAWN]
        if drawn:
            left_out = f"; the {DRAWN} of {len(names)} with the largest" if len(names) > DRAWN else ""
            chosen = [name for name in names if name in drawn]
            yield Matrix(
                f"Percent of sigma^2 that each writer made, mean over tokens: {where}{left_out}",
                list(shares),
                [_heading(name) for name in chosen],
                [[of_site.get(name) for name in chosen] for of_site in shares.values()],
            )


def _heading(writer: str) -> str:
    """A writer's name on two lines."""
    block, _, rest = writer.removeprefix("h.").partition(".")
    return f"{block}\n{rest.replace('attn.head.', 'head ').replace('attn.bias', 'bias')}" if rest else writer
