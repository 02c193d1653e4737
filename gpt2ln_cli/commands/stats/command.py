"""``gpt2ln stats``."""

from __future__ import annotations

import click

from gpt2ln_cli.quantities import POSITION, SORT_KEYS
from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.command import Command
from gpt2ln_cli.shell.notes import judge, note_model
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import progress_bar
from gpt2ln_cli.shell.prompts import Given

EXAMPLE = """\b
Examples:
  gpt2ln stats --layer 5
  gpt2ln stats --layer 5 --sort sigma --top 10 --prompts book.txt
  gpt2ln stats --layer 5 --position -1 --vectors --json "War was over."
"""


@click.command("stats", cls=Command, epilog=EXAMPLE)
@options.prompt_options
@options.layer_option(required=True)
@options.site_option
@click.option(
    "--sort",
    type=click.Choice(SORT_KEYS),
    metavar="QUANTITY",
    default=POSITION,
    show_default=True,
    help=f"Greatest first, at each site: {', '.join(SORT_KEYS)}.",
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the first N rows of each site.")
@click.option("--position", type=int, metavar="N", help="Only this token of each prompt; -1 is the last.")
@click.option("--vectors", is_flag=True, help="Add x, xhat and y of the rows, feature by feature, for data formats.")
@options.model_options
@options.strict_option
@options.output_options
def command(
    given: Given,
    layers: str,
    sites: tuple[str, ...],
    sort: str,
    top: int | None,
    position: int | None,
    vectors: bool,
    chosen: options.Choice,
    strict: bool,
    out: Output,
) -> None:
    """Show every token's statistics at the LayerNorms of a layer.

    PROMPT is text; '-' reads prompts from standard input, one a line. Without any, what is piped in is read, or else a
    bundled sample is used. The forward pass stops after the last wanted LayerNorm.
    """
    prompts = given.gather()
    from gpt2ln_cli.commands.stats.compute import stats
    from gpt2ln_cli.commands.stats.view import VECTORS, view

    with progress_bar(chosen.model) as progress:
        record = stats(
            prompts,
            model=chosen.load(),
            layers=layers,
            sites=sites,
            sort=sort,
            top=top,
            position=position,
            vectors=vectors or out.table == VECTORS,
            **given.running(progress),
        )
    note_model(record.model)
    out.emit(view(record))
    judge(record.warnings, strict=strict)
