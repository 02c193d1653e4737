"""The record of ``inspect`` and ``stats`` as blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from gpt2ln_cli.commands.inspect.record import Row, SiteSummary, VectorRow
from gpt2ln_cli.commands.params.view import vector_looks
from gpt2ln_cli.output.blocks import Block, Column, Form, Grid, Heading, Look, Paragraph, Strip, Table, View, table_of
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
from gpt2ln_cli.output.pictures import Vectors
from gpt2ln_cli.output.text import integer, quoted
from gpt2ln_cli.quantities import QUANTITIES, SUMMARIZED, Quantity
from gpt2ln_cli.records import KindCount, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpt2ln_cli.commands.inspect.record import Inspection
    from gpt2ln_cli.records import Counts, PromptInfo

TABLES = ("rows", "sites", "kinds", PROMPTS, WARNINGS)
VECTORS = "vectors"
COUNTED = "Statistics, as counted in the kernel's own tensors"
# Of mu, which takes both signs, the mean over tokens says little.
SHOWN = [QUANTITIES[name] for name in SUMMARIZED if not QUANTITIES[name].signed]
SITES = (
    "sigma divides by d. 'pos 0' is the first token of each sequence, 'later' all others: arithmetic mean over "
    "tokens (of sigma, not its root mean square), then least and greatest. xhat = (x - mu) / sqrt(sigma^2 + eps) "
    "is before gain and bias, y = gain * xhat + bias after them. Norms are L2."
)
ROWS = (
    "mu and sigma are over the features of x (sigma divides by d); {shorter}. ||x|| is pre, ||xhat|| normalized "
    "(before gain and bias), ||y|| post. Norms are L2."
)


def view(record: Inspection, *, heatmap: str | None = None) -> View:
    """Counts, sites and rows; or one quantity of every token as a picture.

    Args:
        record: what was inspected.
        heatmap: the quantity; the record must have rows.
    """
    shown = list(_blocks(record, heatmap))
    laid_out = {block.name for block in shown if isinstance(block, Table)}
    every = [
        rows(record),
        sites(record),
        _kinds(record),
        *([] if record.vectors is None else [table_of(VECTORS, VectorRow, record.vectors)]),
        prompts_table(record.prompts),
        warnings_table(record.warnings),
    ]
    more = [table for table in every if table.name not in laid_out]
    return View(record, shown, more=more, main="sites" if record.rows is None else "rows")


def _blocks(record: Inspection, heatmap: str | None) -> Iterator[Block]:
    yield from head(record)
    yield from warnings(record.warnings)
    if heatmap is not None:
        yield grid(record, heatmap)
        return
    if record.command == "inspect":
        yield Heading(COUNTED)
        yield from counts(record)
        yield Heading("What each LayerNorm computed, in forward order")
        yield sites(record, learned=True)
        yield Paragraph(SITES, "note")
    if record.rows is not None:
        yield Heading("Each token at each LayerNorm")
        yield rows(record)
        yield Paragraph(ROWS.format(shorter="; ".join(_shorter())), "note")
    yield from nonfinite(record.nonfinite)


def head(record: Inspection) -> Iterator[Block]:
    """The model, how it was run and on what."""
    yield header(record.model, record.prompts, bos=record.bos, padding=record.counts.padding)
    yield quotes(record.prompts)


def counts(record: Inspection, *, title: str = "") -> Iterator[Block]:
    """How many statistics there were, and what they add up to."""
    yield _kinds(record, title)
    yield from (Paragraph(sentence) for sentence in _count_sentences(record))


def _kinds(record: Inspection, title: str = "") -> Table:
    counts = record.counts
    return table_of(
        "kinds",
        KindCount,
        counts.by_kind,
        {
            "kind": Look("kind", key=True),
            "sites": Look("sites"),
            "sequences": Look("sequences"),
            "tokens": Look("tokens in all"),
            "statistics": Look("statistics"),
        },
        words={"sequences": lambda _: integer(counts.sequences), "tokens": lambda _: integer(counts.tokens)},
        title=title,
        totals=_total(counts),
    )


def _total(counts: Counts) -> KindCount:
    return msgspec.structs.replace(counts.by_kind[0], kind="total", sites=counts.sites, statistics=counts.total)


def _count_sentences(record: Inspection) -> Iterator[str]:
    counts, model = record.counts, record.model
    agrees = "agrees" if counts.formula_agrees else "DISAGREES"
    whole = counts.sites == 2 * model.n_layer + 1
    sites = f"(2 x {model.n_layer} + 1) sites" if whole else f"{counts.sites} chosen sites"
    block = f"{integer(counts.per_block)} in each block; " if counts.per_block is not None else ""
    yield (
        f"{integer(counts.per_site)} at each site; {block}"
        f"formula: {sites} x {counts.tokens:,} tokens = {counts.formula:,}, {agrees}."
    )
    if counts.padding:
        yield (
            f"Padding apart: the kernel also returned {counts.padding_statistics:,} statistics at {counts.padding:,} "
            "padded positions, which count nowhere here."
        )
    yield (
        f"One statistic is one (mean, sigma) pair of one token at one site, over its {counts.features} features. The "
        f"{model.n_head} heads and the width do not enter the count: LayerNorm runs before the split into heads."
    )


def sites(record: Inspection, *, learned: bool = False, title: str = "") -> Table:
    """What each LayerNorm computed.

    Args:
        record: what was inspected.
        learned: whether gain and bias are shown beside it.
        title: the table's caption.
    """
    looks = {"name": Look("site", key=True)}
    several = record.counts.sequences > 1
    for quantity in SHOWN:
        for part, heading in (("first", "pos 0"), ("rest", "later")):
            name = f"{part}_{quantity.name}"
            looks[f"{name}_mean"] = Look(heading, quantity.symbol)
            if several or part == "rest":
                looks |= {f"{name}_{end}": Look(end, quantity.symbol) for end in ("min", "max")}
    if learned:
        looks |= vector_looks("gain", ("mean", "std", "min", "max"))
        looks |= vector_looks("bias", ("mean", "std", "min", "max", "norm"))
    return table_of("sites", SiteSummary, record.sites, looks, title=title)


def rows(record: Inspection) -> Table:
    """Every token at every LayerNorm."""
    looks = {"sequence": Look("seq", form="plain", key=True)} if record.counts.sequences > 1 else {}
    looks |= {
        "position": Look("pos", form="plain", key=True),
        "shown": Look("token", key=True),
        **{quantity.name: Look(quantity.short, form=_form(quantity)) for quantity in QUANTITIES.values()},
    }
    return table_of(
        "rows",
        Row,
        record.rows or (),
        looks,
        words={"shown": lambda row: _token(row.token_id, row.token)},
        by="site",
        first=("site", "sequence", "position", "token_id", "token"),
    )


def grid(record: Inspection, quantity: str) -> Grid:
    """All quantities of every token at every LayerNorm; the record must have all rows, in the order of the run."""
    column = _columns(record)
    ends = np.cumsum([prompt.length for prompt in record.prompts])

    def values(name: str, most: int | None) -> list[NDArray[np.float64]]:
        lines = [column(number, name)[:most] for number in range(len(record.sites))]
        array = np.array(lines).reshape(len(lines), -1)
        return np.split(np.where(np.isfinite(array), array, np.nan), ends[:-1], axis=1)

    return Grid(
        title=f"{quantity} of each token at each LayerNorm",
        quantities=[
            Column(each.name, float, each.description, each.unit, Look(each.symbol, form=_form(each)))
            for each in QUANTITIES.values()
        ],
        chosen=quantity,
        rows=[site.name for site in record.sites],
        strips=[
            Strip(f"sequence {prompt.index}: {prompt.length:,} tokens", _texts(prompt), prompt.token_ids)
            for prompt in record.prompts
        ],
        values=values,
        signed=[each.name for each in QUANTITIES.values() if each.signed],
        vectors=None if record.vectors is None else _vectors(record),
    )


def _vectors(record: Inspection) -> list[Vectors]:
    lines = {site.name: line for line, site in enumerate(record.sites)}
    starts = np.cumsum([0, *(prompt.length for prompt in record.prompts)])
    return [
        Vectors(lines[row.site], int(starts[row.sequence]) + row.position, row.pre, row.normalized, row.post)
        for row in record.vectors or ()
    ]


def _texts(prompt: PromptInfo) -> list[str]:
    texts: list[str] | list[None] = prompt.tokens if prompt.tokens is not None else [None] * prompt.length
    return list(map(_token, prompt.token_ids, texts))


def _token(token_id: int, text: str | None) -> str:
    return f"id {token_id}" if text is None else quoted(text)


def _form(quantity: Quantity) -> Form | None:
    return "percent" if quantity.share else None


def _shorter() -> Iterator[str]:
    """What stands behind each heading that had to be shortened."""
    for quantity in QUANTITIES.values():
        if not quantity.symbol.startswith(quantity.short):
            yield f"{quantity.short} is {quantity.symbol}".replace("\n", " ")


def _columns(record: Inspection) -> Callable[[int, str], NDArray[np.float64]]:
    """From a site's number and a quantity to its numbers in the order of the run; of a list of rows, NaN for null."""
    rows = record.rows
    if isinstance(rows, Rows):
        return rows.column
    lines = {site.name: line for line, site in enumerate(record.sites)}
    starts = np.cumsum([0, *(prompt.length for prompt in record.prompts)])

    @cache
    def listed(quantity: str) -> NDArray[np.float64]:
        values = np.full((len(lines), starts[-1]), np.nan)
        for row in rows or ():
            value = getattr(row, quantity)
            values[lines[row.site], starts[row.sequence] + row.position] = np.nan if value is None else value
        return values

    return lambda site, quantity: listed(quantity)[site]
