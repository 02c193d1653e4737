"""The record of ``params`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.params.record import SiteParameters
from gpt2ln_cli.output.blocks import Block, Column, Form, Heading, Look, Paragraph, Part, Row, Table, View, table_of
from gpt2ln_cli.output.claims import CLAIMS, Says, claims_table
from gpt2ln_cli.output.header import WARNINGS, header, nonfinite, warnings, warnings_table
from gpt2ln_cli.output.text import number
from gpt2ln_cli.records import Feature
from gpt2ln_cli.sites import KINDS, Kind

if TYPE_CHECKING:
    from gpt2ln_cli.commands.params.record import Learned, Parameters
    from gpt2ln_cli.records import Vector

FINAL_KIND: Kind = "ln_f"
TABLES = ("sites", "extremes", CLAIMS, WARNINGS)
VECTORS = ("gain", "bias")
SIX = ("mean", "std", "min", "median", "max", "norm")
HEADINGS = {"negative": "< 0", "switched_off": "off"}
STARTS = {"gain": 1, "bias": 0}
COUNTS: Mapping[str, Form] = {"negative": "plain", "switched_off": "plain"}
SAYS = {
    "params.uses_gain_and_bias": Says(
        "learned gain and bias",
        yes=(
            "Yes: this checkpoint uses a learned gain at {gains:,} of {sites:,} sites, its rms distance from 1 between "
            "{least} and {greatest}, and a learned bias at {biases:,}; tokens do not keep mean 0 and standard "
            "deviation 1."
        ),
        no=(
            "No: at all {sites:,} sites the gain is 1 and the bias 0 (or absent), so each token leaves LayerNorm with "
            "mean 0 and standard deviation 1."
        ),
        unsure=(
            "Whether this checkpoint uses a learned gain and bias can't be told: where they are finite, the gain is 1 "
            "and the bias 0, and elsewhere they are NaN or infinite."
        ),
    )
}
# Of the table of layers: what it shows, and in which order it is left out where there is no room.
SHOWN = {
    "gain_mean": Look("gain\nmean"),
    "gain_std": Look("gain\nstd"),
    "gain_min": Look("gain\nmin", rank=2),
    "gain_max": Look("gain\nmax", rank=2),
    "gain_switched_off": Look("gain\noff", form="plain", rank=1),
    "bias_norm": Look("bias\nnorm"),
    "bias_mean": Look("bias\nmean", rank=3),
    "bias_std": Look("bias\nstd", rank=3),
}


def view(record: Parameters) -> View:
    """Whether gain and bias were learned, and what they are at each site."""
    features = [
        (feature, site.name, name)
        for site in record.sites
        for name in VECTORS
        for feature in getattr(getattr(site, name), "extremes", None) or ()
    ]
    extremes = table_of(
        "extremes",
        [Part(Feature)],
        features,
        {
            "site": Look("site", key=True),
            "vector": Look("of", key=True),
            "index": Look("feature", key=True, form="plain"),
            "value": Look("value"),
        },
        also=[
            (Column("site", str, "Name of the LayerNorm."), lambda item: item[1]),
            (Column("vector", str, "Gain or bias."), lambda item: item[2]),
        ],
    )
    sites = learned(record.sites, {"gain": (*SIX, "rms_distance", *COUNTS), "bias": (*SIX, "rms_distance")})
    blocks = list(_blocks(record, sites, listed=bool(features)))
    return View(
        record,
        blocks,
        more=[sites, extremes, claims_table(record.claims, SAYS), warnings_table(record.warnings)],
        main=sites.name,
    )


def _blocks(record: Parameters, sites: Table, *, listed: bool) -> Iterator[Block]:
    yield header(record.model)
    yield from warnings(record.warnings)
    (claim,) = record.claims
    yield Paragraph(SAYS[claim.id].of(claim), "strong")
    # Where every gain is 1 and every bias 0, all has been said.
    if claim.verdict != "no":
        left_out = record.verdict.sites - len(record.sites)
        if not left_out:
            yield from (Paragraph(sentence) for sentence in (*_largest(record.sites), *switched_off(record.sites)))
        yield Heading(f"Gain and bias of each LayerNorm, {order_told(record.sort, left_out=left_out)}")
        yield brief(sites, SHOWN, sort=record.sort)
        yield Paragraph(
            "std divides by d. 'off' counts the features whose gain is at most 1% of the root mean square of their "
            "site's gains: all but switched off.",
            "note",
        )
    if listed:
        yield Heading("Features farthest from 1 (gain) and from 0 (bias), as feature:value")
        yield _farthest(record)
    yield from nonfinite(record.nonfinite)


def _largest(sites: Sequence[Learned]) -> Iterator[str]:
    gains = [(site.gain.mean, site.name) for site in sites if site.gain is not None and site.gain.mean is not None]
    biases = [(site.bias.norm, site.name) for site in sites if site.bias is not None and site.bias.norm is not None]
    if gains[1:]:
        (least, there), (greatest, here) = min(gains), max(gains)
        yield f"The mean gain is largest at {here} ({number(greatest)}) and smallest at {there} ({number(least)})."
    if biases[1:]:
        (least, there), (greatest, here) = min(biases), max(biases)
        yield f"||bias|| is largest at {here} ({number(greatest)}) and smallest at {there} ({number(least)})."


def is_learned(site: Learned) -> bool:
    """Whether a site's gain or bias is other than 1 and 0."""
    return any(vector is not None and vector.rms_distance != 0 for vector in (site.gain, site.bias))


def switched_off(sites: Sequence[Learned], *, features: int | None = None) -> Iterator[str]:
    """How many features' gains are next to nothing, and where most of them are; nothing of models without gains."""
    counts = [(site.gain.switched_off, site.name) for site in sites if site.gain is not None]
    total = sum(count for count, _ in counts)
    limit = "at most 1% of the root mean square of their site's gains"
    if not counts:
        return
    if not total:
        yield f"No gain is all but switched off: none is {limit}."
        return
    most, where = max(counts, key=lambda one: one[0])
    every = f" of {features * len(counts):,}" if features else ""
    here = f", {'all' if most == total else format(most, ',')} of them at {where}" if counts[1:] else f" at {where}"
    are = "gain is" if total == 1 else "gains are"
    yield f"{total:,}{every} {are} all but switched off ({limit}){here}."


def order_told(sort: str | None, *, left_out: int) -> str:
    """The order of a table's sites, and how many are not in it."""
    order = "in forward order" if sort is None else f"sorted by {sort}, greatest first"
    rest = f"; {left_out:,} left out" if left_out else ""
    return f"{order}{rest}"


def brief(sites: Table, shown: Mapping[str, Look], *, sort: str | None = None) -> Table:
    """A table of sites in fewer lines or columns: a row a layer, its LayerNorms side by side and ln_f below.

    Where they are sorted, a row a site, and first what they are sorted by.

    Args:
        sites: with columns ``name``, ``layer`` and ``kind``.
        shown: how its columns are laid out that stay, by name.
        sort: the column that the sites are sorted by.
    """
    if sort is None:
        return _by_layer(sites, shown)
    named = Look(sort.replace("_", "\n", 1).replace("_", " "))
    looks = {sort: replace(shown.get(sort, named), rank=0)}
    looks |= {name: look for name, look in shown.items() if name != sort}
    places = [sites.index(name) for name in ("name", *looks)]
    columns = [Column("site", str, look=Look("site", key=True), data=False)]
    columns += [_shown(sites, name, look) for name, look in looks.items()]
    return Table(
        "sorted", columns, lambda: ([row[place] for place in places] for row in sites.rows()), brief=sites.name
    )


def _shown(sites: Table, name: str, look: Look, prefix: str = "") -> Column:
    return replace(sites.columns[sites.index(name)], name=prefix + name, look=look, data=False)


def _by_layer(sites: Table, shown: Mapping[str, Look]) -> Table:
    layer, kind = sites.index("layer"), sites.index("kind")
    places = [sites.index(name) for name in shown]
    present = {row[kind] for row in sites.rows()}
    blocks: list[str] = [one for one in KINDS if one in present - {FINAL_KIND}] or [FINAL_KIND]
    final = f" ({FINAL_KIND} in its own row)" if FINAL_KIND in present.difference(blocks) else ""
    columns = [Column("layer", str, look=Look("layer", key=True), data=False)]
    for one in blocks:
        title = one + final if one == blocks[0] else one
        columns += [_shown(sites, name, replace(look, group=title), f"{one}_") for name, look in shown.items()]

    def rows() -> Iterator[Row]:
        lines: dict[str, dict[str, Row]] = {}
        for row in sites.rows():
            own = row[layer] is None
            of = lines.setdefault(FINAL_KIND if own else str(row[layer]), {})
            of[blocks[0] if own else row[kind]] = [row[place] for place in places]
        for name, found in lines.items():
            yield [name, *(value for one in blocks for value in found.get(one, [None] * len(places)))]

    return Table("layers", columns, rows, brief=sites.name)


def learned(
    sites: Sequence[Learned],
    fields: Mapping[str, Sequence[str]],
    *,
    name: str = "sites",
    title: str = "",
) -> Table:
    """Learned gain and bias of each site.

    Args:
        sites: of any record that has both.
        fields: what is shown of ``gain`` and of ``bias``.
        name: the table's.
        title: its caption.
    """
    looks = {"name": Look("site", key=True)}
    for vector, shown in fields.items():
        looks |= vector_looks(vector, shown)
    return table_of(name, SiteParameters, sites, looks, title=title)


def vector_looks(vector: str, fields: Sequence[str]) -> dict[str, Look]:
    """How the columns of a gain or bias are laid out."""
    headings = {**HEADINGS, "rms_distance": f"rms from {STARTS[vector]}"}
    return {
        f"{vector}_{name}": Look(headings.get(name, name.replace("_", " ")), f"learned {vector}", COUNTS.get(name))
        for name in fields
    }


def _farthest(record: Parameters) -> Table:
    columns = [Column(name, str, look=Look(name, key=True), data=False) for name in ("site", *VECTORS)]
    return Table(
        "farthest",
        columns,
        lambda: ([site.name, *(_listed(getattr(site, name)) for name in VECTORS)] for site in record.sites),
    )


def _listed(vector: Vector | None) -> str | None:
    if vector is None:
        return None
    return "  ".join(f"{feature.index}:{number(feature.value)}" for feature in vector.extremes or ())
