"""The record of ``count`` as blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpt2ln_cli.commands.count.record import HEADS, LAYERS, WIDTH, AxisCount
from gpt2ln_cli.output.blocks import Fact, Facts, Look, Paragraph, View, table_of
from gpt2ln_cli.output.text import integer

if TYPE_CHECKING:
    from gpt2ln_cli.commands.count.record import Arithmetic

TABLES = ("readings",)


def view(record: Arithmetic) -> View:
    """The count of GPT-2, and of its rival axes."""
    small = (record.n_layer, record.n_embd, record.n_head) == (LAYERS, WIDTH, HEADS)
    named = record.model or ("GPT-2 small" if small else None)
    source = f" (the shape of {named})" if named else ""
    return View(
        record,
        [
            Paragraph(
                f"{record.n_layer} layers, width {record.n_embd}, {record.n_head} heads{source}; {record.batch:,} x "
                f"{record.tokens:,} tokens. {record.sites} LayerNorms: two in each block, and ln_f."
            ),
            Facts(
                [
                    Fact("each site", f"{integer(record.per_site)} statistics"),
                    Fact("each block", f"{integer(record.per_block)} statistics"),
                    Fact("whole model", f"{integer(record.total)} statistics"),
                ]
            ),
            Paragraph(
                f"One statistic is one (mean, standard deviation) pair over the {record.features} features of one "
                "token. The heads and the width do not enter the count."
            ),
            table_of(
                "readings",
                AxisCount,
                record.readings,
                {
                    "name": Look("if it normalized ...", key=True),
                    "per_site": Look("each site"),
                    "per_block": Look("each block"),
                    "total": Look("whole model"),
                    "gpt2": Look("GPT-2?"),
                },
                words={"gpt2": lambda axis: "yes" if axis.is_gpt2 else "no"},
                stressed=lambda row: "yes" in row,
            ),
            Paragraph("The rows marked 'no' are not what GPT-2 does."),
        ],
    )
