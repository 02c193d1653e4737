"""The record of ``inspect`` and ``stats`` as blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from gpt2ln_cli.commands.inspect.record import Row, SiteSummary
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
from gpt2ln_cli.output.text import integer, quoted
from gpt2ln_cli.quantities import LABELS, SUMMARIZED
from gpt2ln_cli.records import KindCount

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpt2ln_cli.commands.inspect.record import Inspection
    from gpt2ln_cli.records import Counts, PromptInfo

TABLES = ("rows", "sites", "kinds", PROMPTS, WARNINGS)
COUNTED = "Statistics, as counted in the kernel's own tensors"
# What may be negative.
SIGNED = ("mean", "excess_kurtosis")
SITES = (
    "sigma divides by d. 'pos 0' is the first token of each sequence, 'later' all others: arithmetic mean over "
    "tokens (of sigma, not its root mean square), then least and greatest. xhat = (x - mu) / sqrt(sigma^2 + eps) "
    "is before gain and bias, y = gain * xhat + bias after them. Norms are L2."
)
ROWS = (
    "mu and sigma are over the features of x (sigma divides by d); max dev is max|x - mu| / sigma; mean share is "
    "d mu^2 / ||x||^2, the share of ||x||^2 that the mean direction held. ||x|| is pre, ||xhat|| normalized "
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
        yield Paragraph(ROWS, "note")
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
    for name in SUMMARIZED:
        for part, heading in (("first", "pos 0"), ("rest", "later")):
            looks[f"{part}_{name}_mean"] = Look(heading, LABELS[name])
            if several or part == "rest":
                looks |= {f"{part}_{name}_{end}": Look(end, LABELS[name]) for end in ("min", "max")}
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
        "mean": Look("mu"),
        "sigma": Look("sigma"),
        "pre_norm": Look("||x||"),
        "normalized_norm": Look("||xhat||"),
        "post_norm": Look("||y||"),
        "max_deviation": Look("max\ndev"),
        "excess_kurtosis": Look("excess\nkurt."),
        "mean_share": Look("mean\nshare", form="percent"),
    }
    return table_of(
        "rows",
        Row,
        record.rows or (),
        looks,
        words={"shown": lambda row: _token(row.token_id, row.token)},
        by="site",
    )


def grid(record: Inspection, quantity: str) -> Grid:
    """All quantities of every token at every LayerNorm; the record must have all rows, in the order of the run."""
    every = record.rows or []
    tokens = record.counts.tokens

    @cache
    def beginning(most: int) -> list[Row]:
        return [row for start in range(0, len(every), tokens) for row in every[start : start + min(most, tokens)]]

    def values(name: str, most: int | None) -> list[NDArray[np.float64]]:
        return _arrays(record, every if most is None else beginning(most), name, most)

    described = {column.name: column.description for column in rows(record).columns}
    forms: dict[str, Form] = {"mean_share": "percent"}
    return Grid(
        title=f"{quantity} of each token at each LayerNorm",
        quantities=[
            Column(name, float, described[name], look=Look(label, form=forms.get(name)))
            for name, label in LABELS.items()
        ],
        chosen=quantity,
        rows=[site.name for site in record.sites],
        strips=[
            Strip(f"sequence {prompt.index}: {prompt.length:,} tokens", _texts(prompt), prompt.token_ids)
            for prompt in record.prompts
        ],
        values=values,
        signed=SIGNED,
    )


def _texts(prompt: PromptInfo) -> list[str]:
    texts: list[str] | list[None] = prompt.tokens if prompt.tokens is not None else [None] * prompt.length
    return list(map(_token, prompt.token_ids, texts))


def _token(token_id: int, text: str | None) -> str:
    return f"id {token_id}" if text is None else quoted(text)


def _arrays(record: Inspection, chosen: Iterable[Row], quantity: str, most: int | None) -> list[NDArray[np.float64]]:
    lines = {site.name: line for line, site in enumerate(record.sites)}
    arrays = []
    for prompt in record.prompts:
        length = prompt.length if most is None else min(prompt.length, most)
        most = None if most is None else most - length
        arrays.append(np.full((len(lines), length), np.nan))
    for row in chosen:
        value = getattr(row, quantity)
        if value is not None:
            arrays[row.sequence][lines[row.site], row.position] = value
    return arrays
