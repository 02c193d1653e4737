"""``gpt2ln features``."""

from __future__ import annotations

import click

from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.notes import judge, note_model
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import progress_bar
from gpt2ln_cli.shell.prompts import Given

EXAMPLE = """\b
Examples:
  gpt2ln features "The war was over, but the hatred was not."
  gpt2ln features --layer 5 --top 10
  gpt2ln features --prompts book.txt --whole-file --overflow window --json | jq .claims
"""


@click.command("features", epilog=EXAMPLE)
@options.prompt_options
@options.layer_option()
@options.site_option
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="How many features to list of each LayerNorm, those with the greatest |x|.",
)
@options.model_options
@options.strict_option
@options.output_options
def command(
    given: Given,
    layers: str | None,
    sites: tuple[str, ...],
    top: int,
    chosen: options.Choice,
    strict: bool,
    out: Output,
) -> None:
    """Show which features make up sigma at every LayerNorm.

    How many hold half of sigma^2, which are the largest, whether they are massive, and what the gain makes of them;
    position 0 and later positions apart. PROMPT is text; '-' reads prompts from standard input, one a line. Without
    any, a bundled sample is used.
    """
    prompts = given.gather()
    from gpt2ln_cli.commands.features.compute import features
    from gpt2ln_cli.commands.features.view import view

    with progress_bar(chosen.model) as progress:
        record = features(prompts, model=chosen.load(), layers=layers, sites=sites, top=top, **given.running(progress))
    note_model(record.model)
    out.emit(view(record))
    judge(record.warnings, strict=strict)
