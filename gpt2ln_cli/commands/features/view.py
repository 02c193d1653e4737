"""The record of ``features`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.features.record import Across, FeatureAt, SiteFeatures
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
from gpt2ln_cli.output.text import MISSING, number, percent, quoted

if TYPE_CHECKING:
    from gpt2ln_cli.commands.features.record import Features, PartFeatures

TABLES = (CLAIMS, "sites", "features", "across", PROMPTS, WARNINGS)
# Listed features that are laid out where nobody asked for all.
LISTED = 40
PARTS = {"first": "pos 0", "rest": "later"}
DEFINITION = "|x| above {least:g} and above 1,000 times the median |x| of its token"
SAYS = {
    "features.massive": Says(
        "massive features",
        f"There are {{statistic:.0f}} ({DEFINITION}), at {{at_sites}} of {{sites}} LayerNorms, from {{since}} on; the "
        "largest is feature {feature}, |x| = {largest} at {site}, {where}.",
        f"No feature is massive ({DEFINITION}); the largest is feature {{feature}}, |x| = {{largest}} at {{site}}, "
        "{where}.",
        f"Not all numbers are finite, and no other feature is massive ({DEFINITION}).",
    )
}
SITES = (
    "'largest |x|' is the feature with the greatest |x| over the tokens, its x_j there, and the mean over tokens of "
    "its share of sigma^2, (x_j - mu)^2 / (d sigma^2); * is massive. '50%' is how many features, those with the "
    "largest mean shares, hold half of sigma^2, and after gain and bias half of ||y||^2, where feature j has the share "
    "y_j^2 / ||y||^2."
)
LIST = (
    "x is the value at the token where |x| is greatest, y what became of it there; shares are means over tokens, of "
    "sigma^2 and of ||y||^2."
)
FOLLOWED = "Percent of sigma^2, mean over tokens, of the features with the largest shares: {where}"


def view(record: Features) -> View:
    """What holds sigma^2, site by site, and the features that do."""
    listed = _listed(record)
    short = sum(1 for _ in listed.rows()) <= LISTED
    more = [
        *([] if short else [listed]),
        _across(record.across),
        claims_table(record.claims, SAYS),
        prompts_table(record.prompts),
        warnings_table(record.warnings),
    ]
    return View(record, list(_blocks(record, listed if short else None)), more=more, main="features")


def _blocks(record: Features, listed: Table | None) -> Iterator[Block]:
    yield header(record.model, record.prompts, bos=record.bos)
    yield quotes(record.prompts)
    yield from warnings(record.warnings)
    yield claims(record.claims, SAYS)
    yield from (Paragraph(sentence) for sentence in _held(record.sites))
    yield Heading("What holds sigma^2 at each LayerNorm, in forward order")
    yield _sites(record)
    yield Paragraph(SITES, "note")
    if listed is not None:
        yield Heading("The features with the greatest |x|")
        yield listed
        yield Paragraph(LIST, "note")
    yield Heading("The features that matter, through the layers")
    yield from matrices(record)
    yield from nonfinite(record.nonfinite)


def _held(sites: Sequence[SiteFeatures]) -> Iterator[str]:
    """How few features hold half of sigma^2, and where, and how many then hold half of ||y||^2."""
    for part, where in (("first", "At position 0"), ("rest", "At later positions")):
        found = [
            (one.holding.half, one.post_holding.half, site.name)
            for site in sites
            if (one := getattr(site, part)) is not None and one.holding.half is not None
        ]
        if found:
            half, post, name = min(found, key=lambda one: one[0])
            most = max(one[0] for one in found)
            few = f"{half} feature{'s' * (half != 1)}"
            held = f"held by {few} at {name}"
            if most > half:
                held = f"held by {half} to {most} features; by the fewest, {few}, at {name}"
            after = "" if post is None else f", where after the gain half of ||y||^2 is held by {post}"
            yield f"{where}, half of sigma^2 is {held}{after}."


def _sites(record: Features) -> Table:
    looks = {"name": Look("site", key=True)}
    for part, where in PARTS.items():
        looks |= {
            f"{part}_top": Look("largest |x|", where),
            f"{part}_holding_50": Look("50%", f"{where}: sigma^2"),
            f"{part}_holding_90": Look("90%", f"{where}: sigma^2"),
            f"{part}_holding_99": Look("99%", f"{where}: sigma^2"),
            f"{part}_post_holding_50": Look("50%", f"{where}: ||y||^2"),
            f"{part}_post_holding_90": Look("90%", f"{where}: ||y||^2"),
            f"{part}_post_holding_99": Look("99%", f"{where}: ||y||^2"),
        }
    words = {"first_top": lambda site: _top(site.first), "rest_top": lambda site: _top(site.rest)}
    return table_of("sites", SiteFeatures, record.sites, looks, words=words)


def _top(part: PartFeatures | None) -> str:
    if part is None or not part.features:
        return MISSING
    one = part.features[0]
    return f"{one.index}{'*' * one.massive}: {number(one.value)} ({percent(one.share)})"


def _listed(record: Features) -> Table:
    features = [
        (feature, site.name, part)
        for site in record.sites
        for part in PARTS
        for feature in getattr(getattr(site, part), "features", ())
    ]
    looks = {
        "site": Look("site", key=True),
        "where": Look("where", key=True),
        "index": Look("feature", form="plain", key=True),
        "value": Look("x"),
        "share": Look("of sigma^2", form="percent"),
        "gain": Look("gain"),
        "bias": Look("bias"),
        "post": Look("y"),
        "post_share": Look("of ||y||^2", form="percent"),
        "massive_tokens": Look("massive at"),
        "at": Look("token"),
    }
    return table_of(
        "features",
        [Part(FeatureAt)],
        features,
        looks,
        also=[
            (Column("site", str, "Name of the LayerNorm."), lambda item: item[1]),
            (Column("part", str, "``first`` (position 0) or ``rest`` (later positions)."), lambda item: item[2]),
        ],
        words={"where": lambda item: PARTS[item[2]], "at": lambda item: _place(item[0])},
        by="site",
        first=("site", "part"),
    )


def _place(feature: FeatureAt) -> str:
    text = f"id {feature.token_id}" if feature.token is None else quoted(feature.token)
    return f"{feature.sequence}:{feature.position} {text}"


def _across(across: Sequence[Across]) -> Table:
    return table_of("across", Across, across, {})


def matrices(record: Features) -> Iterator[Matrix]:
    """Sites x features, the mean shares of sigma^2 at position 0 and later."""
    followed = sorted({one.index for one in record.across})
    by_site: dict[str, list[Across]] = {}
    for one in record.across:
        by_site.setdefault(one.site, []).append(one)
    for part in PARTS:
        if any(getattr(site, part) is not None for site in record.sites):
            yield Matrix(
                FOLLOWED.format(where={"first": "position 0", "rest": "later positions"}[part]),
                list(by_site),
                [str(index) for index in followed],
                [[getattr(one, f"{part}_share") for one in ones] for ones in by_site.values()],
            )
