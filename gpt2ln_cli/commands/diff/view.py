"""The record of ``diff`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.diff.record import FeatureChange, SiteDifference
from gpt2ln_cli.commands.inspect.view import SHOWN
from gpt2ln_cli.output.blocks import Block, Column, Heading, Look, Paragraph, Part, Table, View, table_of
from gpt2ln_cli.output.header import header, nonfinite, quotes, warnings
from gpt2ln_cli.output.text import MISSING, number

if TYPE_CHECKING:
    from gpt2ln_cli.commands.diff.record import Difference, VectorChange
    from gpt2ln_cli.records import ModelInfo

TABLES = ("sites", "features")
VECTORS = ("gain", "bias")


def view(record: Difference) -> View:
    """What became of gains and biases, and of the statistics of the same tokens."""
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
        also=[
            (Column("site", str, "Name of the LayerNorm."), lambda item: item[1]),
            (Column("vector", str, "Gain or bias."), lambda item: item[2]),
        ],
    )
    return View(record, list(_blocks(record)), more=[features])


def _blocks(record: Difference) -> Iterator[Block]:
    for name, model in (("A", record.model_a), ("B", record.model_b)):
        yield from _model(name, model)
    if record.prompts is not None:
        yield quotes(record.prompts)
    yield from warnings(record.warnings)
    yield Heading("Learned gain and bias, from A to B")
    yield _sites(record)
    yield Paragraph(
        "||b - a|| is an L2 norm, 'of a' that norm over ||a||, 'features' how many changed at all, 'largest' the "
        "feature that changed most, with its values in A and B; --json lists --top of them."
    )
    if record.prompts is not None:
        yield Paragraph(
            "A and B are means over the same tokens, position 0 of the sequences and later positions apart."
        )
    yield from nonfinite(record.nonfinite)
    yield Paragraph(f"Gain or bias differ at {record.changed_sites} of {len(record.sites)} sites.", "strong")


def _model(name: str, model: ModelInfo) -> Iterator[Block]:
    yield Heading(name, level=3)
    yield header(model)


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
        for part, title in (("first", "position 0"), ("rest", "later")):
            for quantity in SHOWN:
                name, group = f"{part}_{quantity.name}", f"{title}: {quantity.symbol}"
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
        words={"gain_most": lambda site: _most(site.gain), "bias_most": lambda site: _most(site.bias)},
    )


def _most(change: VectorChange | None) -> str:
    if change is None or not change.largest:
        return MISSING
    most = change.largest[0]
    return f"{most.index}: {number(most.a)} to {number(most.b)}"
