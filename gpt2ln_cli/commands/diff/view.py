"""The record of ``diff`` as blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.diff.claims import VECTORS, differing
from gpt2ln_cli.commands.diff.record import FeatureChange, RunDifference, SiteDifference
from gpt2ln_cli.commands.diff.run_view import view_of_runs
from gpt2ln_cli.commands.inspect.view import SHOWN
from gpt2ln_cli.commands.params.view import order_told
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
from gpt2ln_cli.output.text import MISSING, number
from gpt2ln_cli.quantities import QUANTITIES

if TYPE_CHECKING:
    from gpt2ln_cli.commands.diff.record import Difference, VectorChange
    from gpt2ln_cli.records import ModelInfo

TABLES = ("sites", "features", "quantiles", CLAIMS, PROMPTS, WARNINGS)
# In a table for reading; data have all.
SHOWN_SITES = 10


def _grew(vector: str, plural: str) -> Says:
    counts = f"||{vector}|| is greater in B at {{statistic:.0f}} of {{sites}} sites and smaller at {{shrank}}"
    return Says(
        f"{vector} grew",
        yes=f"From A to B the {plural} grew: {counts}, where chance makes fewer than {{threshold:.0f}}.",
        no=f"From A to B the {plural} did not grow: {counts}.",
        unsure=f"Whether the {plural} grew from A to B can't be told: {counts}.",
    )


SAYS = {
    "diff.parameters_differ": Says(
        "gain or bias differ",
        yes="Gain or bias differ at {differing} of {sites} sites, most at {site}: ||b - a|| of its {vector} is {norm}, "
        "and feature {feature} went from {a} to {b}.",
        no="Gain and bias are the same in A and B at all {sites} sites, to half a unit of the last place of {dtype}: "
        "they differ by {statistic:.2g} at most.",
        unsure="Whether gain or bias differ can't be told: neither A nor B has any at {sites} sites.",
    ),
    "diff.gain_grew": _grew("gain", "gains"),
    "diff.bias_grew": _grew("bias", "biases"),
    "diff.statistics_differ": Says(
        "sigma differs",
        yes="The same tokens get another sigma, most so at {site} and {where}: {a} in A and {b} in B on average.",
        no="The same tokens get the same sigma in A and B, bit for bit, at all {sites} sites.",
        unsure="The same tokens get another sigma, most so at {site} and {where}, {a} in A and {b} in B on average, "
        "but rounding alone may do that.",
    ),
    "diff.distributions_differ": Says(
        "sigma is distributed otherwise",
        yes="Sigma is distributed otherwise in B than in A, most so at {site} and {where}: its {percent}% quantile is "
        "{a} in A and {b} in B.",
        no="All quantities are distributed alike in A and B, bit for bit.",
        unsure="Whether sigma is distributed otherwise in B than in A can't be told: at {site} and {where}, where it "
        "differs most, its {percent}% quantile is {a} in A and {b} in B, which these runs do not tell from chance or "
        "from the sketch's error.",
    ),
}


def view(record: Difference | RunDifference) -> View:
    """What became of gains and biases, and of the statistics of the same tokens; or of two runs' distributions."""
    if isinstance(record, RunDifference):
        return view_of_runs(record, SAYS)
    changes = [
        (site.name, vector, change)
        for site in record.sites
        for vector in VECTORS
        for change in getattr(getattr(site, vector), "largest", ())
    ]
    features = table_of(
        "features",
        [Part(FeatureChange)],
        [(change, site, vector) for site, vector, change in changes],
        {
            "site": Look("site", key=True),
            "vector": Look("of", key=True),
            "index": Look("feature", key=True, form="plain"),
            "a": Look("A"),
            "b": Look("B"),
        },
        also=[
            (Column("site", str, "Name of the LayerNorm."), lambda item: item[1]),
            (Column("vector", str, "Gain or bias."), lambda item: item[2]),
        ],
    )
    prompts = [] if record.prompts is None else [prompts_table(record.prompts)]
    more = [_sites(record), features, claims_table(record.claims, SAYS), *prompts, warnings_table(record.warnings)]
    return View(record, list(_blocks(record)), more=more, main="sites")


def _blocks(record: Difference) -> Iterator[Block]:
    for name, model in (("A", record.model_a), ("B", record.model_b)):
        yield from _model(name, model)
    if record.prompts is not None:
        yield quotes(record.prompts)
    yield from warnings(record.warnings)
    parameters, *others = record.claims
    yield Paragraph(SAYS[parameters.id].of(parameters), "strong")
    # What did not change at all neither grew nor shrank.
    if parameters.verdict == "no":
        others = [one for one in others if one.id == "diff.statistics_differ"]
    if others:
        yield claims(others, SAYS)
    if changed := _most(record, differing(record.sites), _change_of_parameters):
        yield Heading(_titled(record, "Learned gain and bias, from A to B", changed, differing(record.sites)))
        yield _parameters(changed)
        yield Paragraph(
            "||b - a|| is an L2 norm, 'of a' that norm over ||a||, 'features' how many changed at all.", "note"
        )
    moved = [site for site in record.sites if _change_of_statistics(site)]
    if most := _most(record, moved, _change_of_statistics):
        yield Heading(_titled(record, "The same tokens, from A to B", most, moved))
        yield _statistics(most)
        yield Paragraph("A and B are means over the same tokens, position 0 of the sequences left out.", "note")
    yield from nonfinite(record.nonfinite)


def _most(
    record: Difference, sites: Sequence[SiteDifference], size: Callable[[SiteDifference], float]
) -> list[SiteDifference]:
    """Those that changed most, in forward order; all where it was said which."""
    if _is_chosen(record):
        return list(sites)
    least = sorted(map(size, sites), reverse=True)[:SHOWN_SITES][-1:]
    return [site for site in sites if size(site) >= least[0]][:SHOWN_SITES]


def _is_chosen(record: Difference) -> bool:
    return record.sort is not None or record.left_out > 0


def _titled(record: Difference, title: str, shown: Sequence[SiteDifference], every: Sequence[SiteDifference]) -> str:
    if _is_chosen(record):
        return f"{title}, {order_told(record.sort, left_out=record.left_out)}"
    return title if len(shown) == len(every) else f"{title}: the {len(shown)} of {len(every)} that changed most"


def _change_of_parameters(site: SiteDifference) -> float:
    return max(
        math.inf if change.norm is None else change.norm for change in (site.gain, site.bias) if change is not None
    )


def _change_of_statistics(site: SiteDifference) -> float:
    relative = site.rest.sigma.relative if site.rest is not None else None
    return abs(relative or 0.0)


def _model(name: str, model: ModelInfo) -> Iterator[Block]:
    yield Heading(name, level=3)
    yield header(model)


def _parameters(sites: Sequence[SiteDifference]) -> Table:
    looks: dict[str, Look] = {"name": Look("site", key=True)}
    for vector in VECTORS:
        looks |= {
            f"{vector}_norm": Look("||b - a||", vector),
            f"{vector}_relative": Look("of a", vector, "percent"),
            f"{vector}_cosine": Look("cosine", vector),
            f"{vector}_changed": Look("features", vector, "plain"),
        }
    return _for_reading("changed", sites, looks)


def _statistics(sites: Sequence[SiteDifference]) -> Table:
    looks: dict[str, Look] = {"name": Look("site", key=True)}
    for quantity in (QUANTITIES["sigma"], QUANTITIES["post_norm"]):
        looks |= {
            f"rest_{quantity.name}_a": Look("A", quantity.symbol),
            f"rest_{quantity.name}_b": Look("B", quantity.symbol),
            f"rest_{quantity.name}_relative": Look("change", quantity.symbol, "percent"),
        }
    return _for_reading("moved", sites, looks)


def _for_reading(name: str, sites: Sequence[SiteDifference], looks: Mapping[str, Look]) -> Table:
    """Some columns of some sites, which data have all of."""
    table = table_of(name, SiteDifference, sites, looks)
    places = [table.index(column) for column in looks]
    columns = [replace(table.columns[place], data=False) for place in places]
    return Table(name, columns, lambda: ([row[place] for place in places] for row in table.rows()))


def _sites(record: Difference) -> Table:
    looks: dict[str, Look] = {"name": Look("site", key=True)}
    for vector in VECTORS:
        looks |= {
            f"{vector}_norm": Look("||b - a||", vector),
            f"{vector}_relative": Look("of a", vector, "percent"),
            f"{vector}_cosine": Look("cosine", vector),
            f"{vector}_changed": Look("features", vector, "plain"),
            f"{vector}_most": Look("largest", vector),
        }
    if record.prompts is not None:
        for part in ("first", "rest"):
            for quantity in SHOWN:
                name, group = f"{part}_{quantity.name}", f"{part}: {quantity.symbol}"
                looks |= {
                    f"{name}_a": Look("A", group),
                    f"{name}_b": Look("B", group),
                    f"{name}_relative": Look("change", group, "percent"),
                }
    return table_of(
        "sites",
        SiteDifference,
        record.sites,
        looks,
        words={"gain_most": lambda site: _largest(site.gain), "bias_most": lambda site: _largest(site.bias)},
    )


def _largest(change: VectorChange | None) -> str:
    if change is None or not change.largest:
        return MISSING
    most = change.largest[0]
    return f"{most.index}: {number(most.a)} to {number(most.b)}"
