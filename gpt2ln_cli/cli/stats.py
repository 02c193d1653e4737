"""``gpt2ln stats``."""

from __future__ import annotations

import click

from gpt2ln_cli.cli import options, running
from gpt2ln_cli.quantities import POSITION, SORT_KEYS

EXAMPLE = """\b
Examples:
  gpt2ln stats --layer 5
  gpt2ln stats --layer 5 --sort sigma --top 10 --prompts book.txt --whole-file --overflow window
"""


@click.command("stats", epilog=EXAMPLE)
@options.prompt_options
@options.batch_options
@options.layer_option(required=True)
@options.site_option
@click.option(
    "--sort", type=click.Choice(SORT_KEYS), default=POSITION, show_default=True, help="Greatest first, at each site."
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the first N rows of each site.")
@options.model_options
@options.run_options
@options.strict_option
@options.output_options
def command(
    given: running.Given,
    batching: options.Batching,
    layers: str,
    sites: tuple[str, ...],
    sort: str,
    top: int | None,
    which: options.Which,
    how: options.How,
    strict: bool,
    out: running.Output,
) -> None:
    """Show every token's statistics at the LayerNorms of a layer.

    PROMPT is text; '-' reads prompts from standard input, one a line. Without any, a bundled sample is used. The
    forward pass stops after the last wanted LayerNorm.
    """
    prompts = given.gather()
    from gpt2ln_cli import api

    with running.progress_bar(which["model"]) as progress:
        record = api.stats(
            prompts,
            layers=layers,
            sites=sites,
            sort=sort,
            top=top,
            **which,
            **how,
            bos=given.bos,
            overflow=given.overflow,
            **batching,
            progress=progress,
        )
    running.note_model(record.model)
    out.emit(record)
    if strict:
        running.judge(record.warnings)
