"""The record of ``params`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.params.record import SiteParameters
from gpt2ln_cli.output.blocks import Block, Column, Form, Heading, Look, Paragraph, Part, Table, View, table_of
from gpt2ln_cli.output.header import header, nonfinite, warnings
from gpt2ln_cli.output.text import number
from gpt2ln_cli.records import Feature

if TYPE_CHECKING:
    from gpt2ln_cli.commands.params.record import Learned, Parameters, Verdict
    from gpt2ln_cli.records import Vector

TABLES = ("sites", "extremes")
VECTORS = ("gain", "bias")
SIX = ("mean", "std", "min", "median", "max", "norm")
HEADINGS = {"negative": "< 0", "switched_off": "off"}
STARTS = {"gain": 1, "bias": 0}
COUNTS: Mapping[str, Form] = {"negative": "plain", "switched_off": "plain"}


def view(record: Parameters) -> View:
    """Gain and bias of each site, and whether they were learned."""
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
        also=[
            (Column("site", str, "Name of the LayerNorm."), lambda item: item[1]),
            (Column("vector", str, "Gain or bias."), lambda item: item[2]),
        ],
    )
    return View(record, list(_blocks(record, listed=bool(features))), more=[extremes], main="sites")


def _blocks(record: Parameters, *, listed: bool) -> Iterator[Block]:
    yield header(record.model)
    yield from warnings(record.warnings)
    yield learned(record.sites, {"gain": (*SIX, "rms_distance", *COUNTS), "bias": (*SIX, "rms_distance")})
    if listed:
        yield Heading("Features farthest from 1 (gain) and from 0 (bias), as feature:value")
        yield _farthest(record)
    yield Paragraph(
        "std divides by d. '< 0' counts negative gains, 'off' features whose gain is at most 1% of the gains' root "
        "mean square: all but switched off.",
        "note",
    )
    yield from nonfinite(record.nonfinite)
    yield Paragraph(learned_sentence(record.verdict, record.sites), "strong")


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


def learned_sentence(verdict: Verdict, sites: Sequence[Learned]) -> str:
    """Whether the checkpoint uses a learned gain and bias."""
    distances = [
        site.gain.rms_distance for site in sites if site.gain is not None and site.gain.rms_distance is not None
    ]
    spread = (
        f", its rms distance from 1 between {number(min(distances))} and {number(max(distances))}" if distances else ""
    )
    if not verdict.uses_gain_and_bias:
        return (
            f"No: at all {verdict.sites} sites the gain is 1 and the bias 0 (or absent), so each token leaves "
            "LayerNorm with mean 0 and standard deviation 1."
        )
    return (
        f"Yes: this checkpoint uses a learned gain at {verdict.learned_gain} of {verdict.sites} sites{spread}, and a "
        f"learned bias at {verdict.learned_bias}; tokens do not keep mean 0 and standard deviation 1."
    )


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
