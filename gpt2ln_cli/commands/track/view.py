"""The record of ``track`` as blocks."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gpt2ln_cli.commands.track.record import MassiveFeature, TrackedCheckpoint, TrackedSite
from gpt2ln_cli.output.blocks import Block, Column, Fact, Form, Heading, Look, Paragraph, Part, Table, View, table_of
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
from gpt2ln_cli.output.text import number
from gpt2ln_cli.records import Feature

if TYPE_CHECKING:
    from gpt2ln_cli.commands.track.record import Track

TABLES = ("sites", "checkpoints", "farthest", "massive", CLAIMS, PROMPTS, WARNINGS)
VECTORS = ("gain", "bias")
# Rows of the table by step, and steps beside each other in the table by site.
ROWS, ACROSS = 20, 4
SAYS = {
    "track.gain_left_1": Says(
        "gains",
        yes=(
            "{left} of {sites} learned gains left 1: {when}. That of {site} is farthest from it in the end, at an rms "
            "distance of {distance}{half}."
        ),
        no=(
            "No gain left 1: at {checkpoints} checkpoints, steps {first_step:,} to {last_step:,}, none of "
            "{sites} other than 1 throughout."
        ),
        unsure="Whether a gain left 1 can't be told: {why}.",
    ),
    "track.feature_became_massive": Says(
        "massive feature",
        yes=(
            "Feature {feature} became massive {when}; it is greatest at {site}, step {step:,}, with {value}, and "
            "{end} at step {last_step:,}, the last."
        ),
        no=(
            "No feature is massive at any step: nearest comes feature {feature} at {site}, step {step:,}, with "
            "{statistic:.2%} of what it takes."
        ),
        unsure="Whether a feature became massive can't be told: x is not finite in {unknown} cases.",
    ),
}


def view(record: Track) -> View:
    """When gains, biases and what enters LayerNorms became what they are."""
    more = [*_data(record), claims_table(record.claims, SAYS)]
    if record.prompts is not None:
        more.append(prompts_table(record.prompts))
    return View(record, list(_blocks(record)), more=[*more, warnings_table(record.warnings)], main="sites")


def _data(record: Track) -> Iterator[Table]:
    """The tables that hold everything."""
    sites = [(site, one) for one in record.checkpoints for site in one.sites]
    also = [
        (Column("checkpoint", str, "Its name."), lambda item: item[-1].name),
        (Column("step", int, "Its step."), lambda item: item[-1].step),
    ]
    keys = {"checkpoint": Look("checkpoint", key=True), "step": Look("step", key=True)}
    at = (Column("site", str, "Name of the LayerNorm."), lambda item: item[1].name)
    vector = (Column("vector", str, "Gain or bias."), lambda item: item[2])
    yield table_of("sites", [Part(TrackedSite)], sites, also=also, first=[*keys])
    yield table_of("checkpoints", TrackedCheckpoint, record.checkpoints)
    farthest = [
        (feature, site, name, one)
        for site, one in sites
        for name in VECTORS
        for feature in getattr(site, f"{name}_farthest")
    ]
    yield table_of("farthest", [Part(Feature)], farthest, also=[*also, at, vector], first=[*keys])
    massive = [(feature, site, one) for site, one in sites for feature in site.massive or ()]
    yield table_of("massive", [Part(MassiveFeature)], massive, also=[*also, at], first=[*keys])


def _blocks(record: Track) -> Iterator[Block]:
    read = [one for one in record.checkpoints if one.error is None]
    lost = [one for one in record.checkpoints if one.error is not None]
    steps = f"{len(read):,} read, steps {read[0].step:,} to {read[-1].step:,}" if read[1:] else f"step {read[0].step:,}"
    unread = f"; {len(lost):,} could not be" if lost else ""
    fact = Fact("checkpoints", f"{steps}{_told(read)}{unread}; the last is the one above")
    yield header(record.model, record.prompts, more=[fact])
    if record.prompts is not None:
        yield quotes(record.prompts)
    for one in lost:
        yield Paragraph(f"warning: {one.name}: {one.error}", "warning")
    yield from warnings(record.warnings)
    yield claims(record.claims, SAYS)
    yield _by_step(record)
    yield from _by_site(record, read)
    yield Paragraph(
        "rms is the root mean square distance of a gain from 1, of a bias from 0, over the features; 'off' counts "
        "features of all LayerNorms whose gain is at most 1% of the gains' root mean square. Cosines are of the gain, "
        "the least of all LayerNorms; 'farthest' are the features farthest from their vector's median.",
        "note",
    )
    yield from nonfinite(record.nonfinite)


def _told(read: Sequence[TrackedCheckpoint]) -> str:
    """How the steps are known, where it is not by the names."""
    ways = {one.step_from for one in read}
    if ways == {"order"}:
        return " (counted from 0: no name tells one)"
    return " (some by trainer_state.json)" if "trainer_state" in ways else ""


def _by_step(record: Track) -> Table:
    """One row for each step, or some of them; what could not be read is always among them."""
    shown = _chosen(record.checkpoints, ROWS)
    shown = [one for one in record.checkpoints if one.error is not None or one in shown]
    left = len(record.checkpoints) - len(shown)
    cells: list[tuple[Column, Callable[[TrackedCheckpoint], Any]]] = [
        (_column("step", int, key=True), lambda one: one.step),
        (_column("checkpoint", str, key=True), lambda one: one.name),
        (_column("median", float, "gain: rms"), lambda one: _median(_rms(one, "gain"))),
        (_column("greatest", float, "gain: rms"), lambda one: max(_rms(one, "gain"), default=None)),
        (_column("off", int, "gain", "plain"), _off),
        (_column("previous", float, "cosine to"), lambda one: _least(one, "gain_cosine_previous")),
        (_column("last", float, "cosine to"), lambda one: _least(one, "gain_cosine_last")),
        (_column("median", float, "bias: rms"), lambda one: _median(_rms(one, "bias"))),
        (_column("greatest", float, "bias: rms"), lambda one: max(_rms(one, "bias"), default=None)),
    ]
    if record.prompts is not None:
        cells += [
            (_column("loss", float, "next token"), lambda one: one.loss),
            (_column("pos 0", float, "sigma, greatest"), lambda one: max(_sigma(one, "first"), default=None)),
            (_column("later", float, "sigma, greatest"), lambda one: max(_sigma(one, "rest"), default=None)),
            (_column("massive", int, "features", "plain"), _massive),
        ]
    title = f"By step; {left:,} more with --all" if left else "By step"
    columns = [column for column, _ in cells]
    return Table(
        "by_step",
        columns,
        lambda: (
            [of(one) if one.error is None or number < 2 else None for number, (_, of) in enumerate(cells)]
            for one in shown
        ),
        title=title,
        stressed=lambda row: row[2] is None,
    )


def _by_site(record: Track, read: Sequence[TrackedCheckpoint]) -> Iterator[Block]:
    shown = _chosen(read, ACROSS)
    groups: list[tuple[str, Callable[[TrackedSite], float | None]]] = [
        ("gain: rms", lambda site: site.gain.rms_distance if site.gain else None),
        ("bias: rms", lambda site: site.bias.rms_distance if site.bias else None),
    ]
    if record.prompts is not None:
        groups += [
            ("sigma at pos 0", lambda site: site.first.sigma.mean if site.first else None),
            ("sigma later", lambda site: site.rest.sigma.mean if site.rest else None),
        ]
    names = [site.name for site in read[-1].sites]
    columns = [_column("site", str, key=True)]
    columns += [_column(f"{one.step:,}", float, group) for group, _ in groups for one in shown]
    columns += [_column(name, str, "farthest at the last") for name in VECTORS]

    def rows() -> Iterator[list[Any]]:
        for place, name in enumerate(names):
            numbers = [of(one.sites[place]) for _, of in groups for one in shown]
            last = read[-1].sites[place]
            yield [name, *numbers, _listed(last.gain_farthest), _listed(last.bias_farthest)]

    yield Heading(f"By LayerNorm, at {'steps' if shown[1:] else 'step'} {', '.join(f'{one.step:,}' for one in shown)}")
    yield Table("by_site", columns, rows)


def _column(heading: str, kind: Any, group: str = "", form: Form | None = None, *, key: bool = False) -> Column:
    """One that is for reading alone."""
    return Column(f"{group} {heading}", kind, look=Look(heading, group, form, key), data=False)


def _chosen(items: Sequence[TrackedCheckpoint], most: int) -> list[TrackedCheckpoint]:
    """The first, the last, and others as evenly between them as may be."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _rms(one: TrackedCheckpoint, vector: str) -> list[float]:
    vectors = (getattr(site, vector) for site in one.sites)
    return [each.rms_distance for each in vectors if each is not None and each.rms_distance is not None]


def _sigma(one: TrackedCheckpoint, part: str) -> list[float]:
    parts = (getattr(site, part) for site in one.sites)
    return [each.sigma.mean for each in parts if each is not None and each.sigma.mean is not None]


def _least(one: TrackedCheckpoint, name: str) -> float | None:
    return min((value for value in (getattr(site, name) for site in one.sites) if value is not None), default=None)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _off(one: TrackedCheckpoint) -> int:
    return sum(site.gain.switched_off for site in one.sites if site.gain is not None)


def _massive(one: TrackedCheckpoint) -> int:
    return len({feature.index for site in one.sites for feature in site.massive or ()})


def _listed(features: Sequence[Feature]) -> str:
    return "  ".join(f"{one.index}:{number(one.value)}" for one in features)
