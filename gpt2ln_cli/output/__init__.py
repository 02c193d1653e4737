"""From a view to text: one file for each output format, registered in ``FORMATS``. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

from gpt2ln_cli.errors import UsageError

if TYPE_CHECKING:
    from gpt2ln_cli.output.blocks import View


@dataclass(frozen=True)
class Format:
    """An output format: a module with ``write(view, stream)``, or ``write(view, table, stream)`` for one table."""

    module: str
    one_table: bool = False
    """Whether it writes a single table."""
    document: bool = False
    """Whether it is read by a person, so that a single table may be asked for, and all columns."""
    brief: bool = False
    """Whether it shows a view in brief where that has a brief."""
    file_only: bool = False
    """Whether no terminal can show it."""
    needs: str | None = None
    """A module that comes with the extra of the format's name."""


FORMATS = {
    "table": Format("gpt2ln_cli.output.terminal", document=True, brief=True),
    "json": Format("gpt2ln_cli.output.json"),
    "ndjson": Format("gpt2ln_cli.output.ndjson", one_table=True),
    "csv": Format("gpt2ln_cli.output.csv", one_table=True),
    "markdown": Format("gpt2ln_cli.output.markdown", document=True),
    "html": Format("gpt2ln_cli.output.html", document=True, file_only=True),
    "parquet": Format("gpt2ln_cli.output.parquet", one_table=True, file_only=True, needs="pyarrow"),
}


def write(
    view: View,
    output_format: str,
    stream: TextIO,
    *,
    table: str | None = None,
    everything: bool = False,
    csv_safe: bool = False,
) -> None:
    """Write the view to the stream in one of ``FORMATS``.

    Args:
        view: what to show.
        output_format: its name; parquet is written to the stream's ``buffer``.
        stream: where to.
        table: which of the view's tables, with all its columns; None is the main one where a format writes but one, and
            else all.
        everything: whether a format that a person reads shows the columns and tables that are for data alone, too.
        csv_safe: put ``'`` before each text of a csv that a spreadsheet would take for a formula.

    Raises:
        UsageError: there is no such format, no such table in the view, or an argument has no effect on this format.
    """
    if output_format not in FORMATS:
        raise UsageError(f"no format '{output_format}': it is none of {', '.join(FORMATS)}.")
    chosen = FORMATS[output_format]
    check(output_format, table=table, everything=everything, csv_safe=csv_safe)
    module = import_module(chosen.module)
    if chosen.one_table:
        module.write(view, view.table(table).for_data(), stream, **({"safe": True} if csv_safe else {}))
    elif chosen.document:
        from gpt2ln_cli.output.layout import laid_out

        if chosen.brief and view.brief is not None and not everything and table is None:
            view = replace(view, blocks=view.brief)
        shown = replace(view, blocks=laid_out(view, table=table, everything=everything))
        module.write(shown, stream, everything=everything or table is not None)
    else:
        module.write(view, stream)


def check(output_format: str, *, table: str | None, everything: bool, csv_safe: bool) -> None:
    """Refuse what has no effect on a format.

    Raises:
        UsageError: something has none.
    """
    chosen = FORMATS[output_format]
    if table is not None and not (chosen.one_table or chosen.document):
        raise UsageError(f"--format {output_format} writes everything; --table is for the other formats.")
    if everything and not chosen.document:
        raise UsageError(f"--format {output_format} has all columns anyway; leave out --all.")
    if csv_safe and output_format != "csv":
        raise UsageError(f"--csv-safe goes with --format csv; leave it out, or --format {output_format}.")
