"""The record of ``features`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from gpt2ln_cli.output.text import MISSING, number, quoted

if TYPE_CHECKING:
    from gpt2ln_cli.commands.features.record import Features, PartFeatures

TABLES = (CLAIMS, "sites", "features", "across", PROMPTS, WARNINGS)
# Listed features that are laid out where nobody asked for all.
LISTED = 40
PARTS = {"first": "position 0", "rest": "later positions"}
# About as many sites, where not all is asked for.
BRIEF_SITES = 50
DEFINITION = "|x| above {least:g} and above 1,000 times the median |x| of its token"
SAYS = {
    "features.massive": Says(
        "massive features",
        f"{{statistic:.0f}} found ({DEFINITION}), at {{at_sites}} of {{sites}} LayerNorms, from {{since}} on; the "
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
BRIEF = (
    "'largest |x|' is the feature with the greatest |x| over the tokens, its x_j there, and the mean over tokens of "
    "its share of sigma^2; * is massive. 'sigma^2' and '||y||^2' are how many features hold half of each, before and "
    "after gain and bias{sites}. What holds 90% and 99%{and_sites}, and the shares through the layers: --all."
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
    shown = listed if short else None
    return View(
        record,
        list(_blocks(record, shown)),
        more=more,
        main="features",
        brief=list(_in_brief(record, shown)),
    )


def _in_brief(record: Features, listed: Table | None) -> Iterator[Block]:
    yield from _beginning(record)
    # Blocks have the same sites each, of which the first stays.
    step, count = -(-len(record.sites) // BRIEF_SITES), len(record.sites)
    chosen = [site for index, site in enumerate(record.sites) if index % step == 0 or index == count - 1]
    sites, and_sites = (f"; {len(chosen)} of {count} sites", ", all sites") if len(chosen) < count else ("", "")
    yield replace(_sites(chosen, (50,)), name="some_sites")
    yield Paragraph(BRIEF.format(sites=sites, and_sites=and_sites), "note")
    yield from _features(listed)
    yield from nonfinite(record.nonfinite)


def _beginning(record: Features) -> Iterator[Block]:
    yield header(record.model, record.prompts, bos=record.bos)
    yield quotes(record.prompts)
    yield from warnings(record.warnings)
    yield claims(record.claims, SAYS)
    yield from (Paragraph(sentence) for sentence in _held(record.sites))
    yield Heading("What holds sigma^2 at each LayerNorm, in forward order")


def _blocks(record: Features, listed: Table | None) -> Iterator[Block]:
    yield from _beginning(record)
    yield _sites(record.sites, (50, 90, 99))
    yield Paragraph(SITES, "note")
    yield from _features(listed)
    yield Heading("The features that matter, through the layers")
    yield from matrices(record)
    yield from nonfinite(record.nonfinite)


def _features(listed: Table | None) -> Iterator[Block]:
    if listed is not None:
        yield Heading("The features with the greatest |x|")
        yield listed
        yield Paragraph(LIST, "note")


def _held(sites: Sequence[SiteFeatures]) -> Iterator[str]:
    """How few features hold half of sigma^2, and where, and how many then hold half of ||y||^2."""
    for part, where in PARTS.items():
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
            yield f"At {where}, half of sigma^2 is {held}{after}."


def _sites(sites: Sequence[SiteFeatures], percents: Sequence[int]) -> Table:
    """A site a row: at each part that has tokens, the largest |x| and how many features hold these percents."""
    looks = {"name": Look("site", key=True)}
    several = len(percents) > 1
    for part, where in PARTS.items():
        if any(getattr(site, part) is not None for site in sites):
            looks[f"{part}_top"] = Look("largest |x|", part if several else where)
            for stage, of in (("", "sigma^2"), ("post_", "||y||^2")):
                for percent_ in percents:
                    name = f"{part}_{stage}holding_{percent_}"
                    looks[name] = Look(f"{percent_}%", f"{part}: {of}") if several else Look(of, where)
    words = {"first_top": lambda site: _top(site.first), "rest_top": lambda site: _top(site.rest)}
    return table_of("sites", SiteFeatures, sites, looks, words=words)


def _top(part: PartFeatures | None) -> str:
    if part is None or not part.features:
        return MISSING
    one = part.features[0]
    held = MISSING if one.share is None else f"{one.share:.0%}"
    return f"{one.index}{'*' * one.massive}: {number(one.value)} ({held})"


def _listed(record: Features) -> Table:
    features = [
        (feature, site.name, part)
        for site in record.sites
        for part in PARTS
        for feature in getattr(getattr(site, part), "features", ())
    ]
    looks = {
        "site": Look("site", key=True),
        "part": Look("where", key=True),
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
        words={"at": lambda item: _place(item[0])},
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
    for part, where in PARTS.items():
        if any(getattr(site, part) is not None for site in record.sites):
            yield Matrix(
                FOLLOWED.format(where=where),
                list(by_site),
                [str(index) for index in followed],
                [[getattr(one, f"{part}_share") for one in ones] for ones in by_site.values()],
            )
