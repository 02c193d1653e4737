"""The record of ``inspect`` and ``stats`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from gpt2ln_cli.commands.inspect.answers import answers, columns, texts, token_text
from gpt2ln_cli.commands.inspect.record import Row, SiteSummary, VectorRow
from gpt2ln_cli.commands.params.view import brief, is_learned, order_told, vector_looks
from gpt2ln_cli.output.blocks import Block, Column, Form, Grid, Heading, Look, Paragraph, Strip, Table, View, table_of
from gpt2ln_cli.output.claims import CLAIMS, Says, claims_table
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
from gpt2ln_cli.output.text import integer, number
from gpt2ln_cli.quantities import QUANTITIES, SUMMARIZED, Quantity
from gpt2ln_cli.records import KindCount

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpt2ln_cli.commands.inspect.record import Inspection
    from gpt2ln_cli.records import Counts

TABLES = ("rows", "sites", "kinds", PROMPTS, CLAIMS, WARNINGS)
VECTORS = "vectors"
# It can't vary, but where eps shows.
CONSTANT = "normalized_norm"
COUNTED = "Statistics, as counted in the kernel's own tensors"
# Of mu, which takes both signs, the mean over tokens says little.
SHOWN = [QUANTITIES[name] for name in SUMMARIZED if not QUANTITIES[name].signed]
SAYS = {
    "inspect.one_for_each_token": Says(
        "one for each token",
        yes="{total:,} in all; formula: {sites:,} site{sites:plural} x {tokens:,} token{tokens:plural} = {formula:,}, "
        "agrees.",
        no="{total:,} in all; formula: {sites:,} site{sites:plural} x {tokens:,} token{tokens:plural} = {formula:,}, "
        "DISAGREES.",
        unsure="{total:,} in all, and no formula to hold them against.",
    )
}
# Of the table of layers: what it shows, and in which order it is left out where there is no room.
BRIEF = {
    "first_sigma_mean": Look("sigma\nfirst"),
    "rest_sigma_mean": Look("sigma\nrest"),
    "rest_pre_norm_mean": Look("||x||\nrest"),
    "rest_post_norm_mean": Look("||y||\nrest"),
    "gain_mean": Look("gain\nmean", rank=1),
    "gain_std": Look("gain\nstd", rank=2),
    "bias_norm": Look("bias\nnorm", rank=3),
    "first_pre_norm_mean": Look("||x||\nfirst", rank=4),
    "first_post_norm_mean": Look("||y||\nfirst", rank=5),
}
SITES = (
    "sigma divides by d. 'first' is position 0 of each sequence, 'rest' all later tokens: arithmetic mean over "
    "tokens (of sigma, not its root mean square). x is what enters, xhat = (x - mu) / sqrt(sigma^2 + eps) is before "
    "gain and bias, y = gain * xhat + bias after them. Norms are L2; std divides by d."
)

ROWS = (
    "mu and sigma are over the features of x (sigma divides by d); {shorter}. ||x|| is pre, ||y|| post. Norms are L2."
)


def view(record: Inspection, *, heatmap: str | None = None) -> View:
    """What the numbers say, counts, sites and rows; or one quantity of every token as a picture.

    Args:
        record: what was inspected.
        heatmap: the quantity; the record must have rows.
    """
    shown = list(_blocks(record, heatmap))
    laid_out = {block.name for block in shown if isinstance(block, Table)}
    every = [
        rows(record),
        sites(record, learned=True),
        _kinds(record),
        *([] if record.vectors is None else [table_of(VECTORS, VectorRow, record.vectors)]),
        prompts_table(record.prompts),
        claims_table(record.claims, SAYS),
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
    yield from (Paragraph(sentence) for sentence in answers(record))
    if record.command == "inspect":
        yield Heading(COUNTED)
        yield from counts(record)
        order = order_told(record.sort, left_out=record.counts.sites - len(record.sites))
        yield Heading(f"What each LayerNorm computed, {order}")
        yield _brief(record)
        yield Paragraph(f"{SITES} {_normalized(record)}", "note")
    if record.rows is not None:
        yield Heading("Each token at each LayerNorm")
        yield rows(record)
        yield Paragraph(f"{ROWS.format(shorter='; '.join(_shorter()))} {_normalized(record)}", "note")
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
        also=[
            (Column("sequences", int, data=False), lambda _: counts.sequences),
            (Column("tokens", int, data=False), lambda _: counts.tokens),
        ],
        title=title,
        totals=_total(counts),
    )


def _total(counts: Counts) -> KindCount:
    return msgspec.structs.replace(counts.by_kind[0], kind="total", sites=counts.sites, statistics=counts.total)


def _count_sentences(record: Inspection) -> Iterator[str]:
    counts, model = record.counts, record.model
    whole = counts.sites == 2 * model.n_layer + 1
    sites = f"{counts.sites} sites (2 x {model.n_layer} + 1)" if whole else f"the {counts.sites} chosen sites"
    block = f"{integer(counts.per_block)} in each block; " if counts.per_block is not None else ""
    (claim,) = record.claims
    yield f"{integer(counts.per_site)} at each of {sites}; {block}{SAYS[claim.id].of(claim)}"
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
        for part in ("first", "rest"):
            name = f"{part}_{quantity.name}"
            looks[f"{name}_mean"] = Look(part, quantity.symbol)
            if several or part == "rest":
                looks |= {f"{name}_{end}": Look(end, quantity.symbol) for end in ("min", "max")}
    if learned:
        looks |= vector_looks("gain", ("mean", "std", "min", "max"))
        looks |= vector_looks("bias", ("mean", "std", "min", "max", "norm"))
    return table_of("sites", SiteSummary, record.sites, looks, title=title)


def _brief(record: Inspection) -> Table:
    """Sites in fewer lines and columns."""
    full, sort, shown = sites(record, learned=True), record.sort, BRIEF
    if not any(map(is_learned, record.sites)):
        # Which is said once.
        shown = {name: look for name, look in BRIEF.items() if name.startswith(("first_", "rest_"))}
    part = "rest" if any(site.rest for site in record.sites) else "first"
    if part == "first":
        shown = {name: look for name, look in shown.items() if not name.startswith("rest_")}
    if sort is None:
        return brief(full, shown)
    if sort not in QUANTITIES:
        return brief(full, shown, sort=sort)
    # What they are sorted by stands first, and not again.
    others = {name: look for name, look in shown.items() if name != f"{part}_{sort}_mean"}
    first = Look(f"{QUANTITIES[sort].short}\n{part}", form=_form(QUANTITIES[sort]))
    return brief(full, {"sorted_by": first, **others}, sort="sorted_by")


def rows(record: Inspection) -> Table:
    """Every token at every LayerNorm."""
    looks = {"sequence": Look("seq", form="plain", key=True)} if record.counts.sequences > 1 else {}
    looks |= {
        "position": Look("pos", form="plain", key=True),
        "shown": Look("token", key=True),
        **{
            quantity.name: Look(quantity.short, form=_form(quantity), rank=rank)
            for rank, quantity in enumerate(QUANTITIES.values())
            if quantity.name != CONSTANT
        },
    }
    return table_of(
        "rows",
        Row,
        record.rows or (),
        looks,
        words={"shown": lambda row: token_text(row.token_id, row.token)},
        by="site",
        first=("site", "sequence", "position", "token_id", "token"),
    )


def grid(record: Inspection, quantity: str) -> Grid:
    """All quantities of every token at every LayerNorm; the record must have all rows, in the order of the run."""
    column = columns(record)
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
            Strip(f"sequence {prompt.index}: {prompt.length:,} tokens", texts(prompt), prompt.token_ids)
            for prompt in record.prompts
        ],
        values=values,
        signed=[each.name for each in QUANTITIES.values() if each.signed],
        vectors=None if record.vectors is None else _vectors(record),
    )


def _normalized(record: Inspection) -> str:
    """What ||xhat|| is everywhere, which is not worth a column."""
    spreads = [part.normalized_norm for site in record.sites for part in (site.first, site.rest) if part is not None]
    found = [end for spread in spreads for end in (spread.min, spread.max) if end is not None]
    most = f"||xhat|| is sqrt(d) = {number(record.counts.features**0.5)}, less where sigma^2 is not large against eps"
    here = list(dict.fromkeys(map(number, (min(found), max(found))))) if found else ()
    return f"{most}: here {' to '.join(here)}." if here else f"{most}."


def _vectors(record: Inspection) -> list[Vectors]:
    lines = {site.name: line for line, site in enumerate(record.sites)}
    starts = np.cumsum([0, *(prompt.length for prompt in record.prompts)])
    return [
        Vectors(lines[row.site], int(starts[row.sequence]) + row.position, row.pre, row.normalized, row.post)
        for row in record.vectors or ()
    ]


def _form(quantity: Quantity) -> Form | None:
    return "percent" if quantity.share else None


def _shorter() -> Iterator[str]:
    """What stands behind each heading that had to be shortened."""
    for quantity in QUANTITIES.values():
        if not quantity.symbol.startswith(quantity.short):
            yield f"{quantity.short} is {quantity.symbol}".replace("\n", " ")
