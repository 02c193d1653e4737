"""``gpt2ln inspect``."""

from __future__ import annotations

import click

from gpt2ln_cli.arguments import refuse_without_effect
from gpt2ln_cli.commands.inspect.record import SORT_KEYS
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.quantities import QUANTITIES
from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.notes import judge, note_model
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import progress_bar
from gpt2ln_cli.shell.prompts import Given

EXAMPLE = """\b
Examples:
  gpt2ln inspect "The war was over, but the hatred was not."
  gpt2ln inspect "war violence hate fear" --json | jq .counts.total
  gpt2ln inspect --sort excess_kurtosis --top 5
  gpt2ln inspect --heatmap sigma --prompts book.txt --whole-file --overflow window
"""


@click.command("inspect", epilog=EXAMPLE)
@options.prompt_options
@options.layer_option()
@options.site_option
@click.option("--per-token", is_flag=True, help="Add one row for each site, sequence and token.")
@click.option(
    "--heatmap",
    type=click.Choice(list(QUANTITIES)),
    metavar="QUANTITY",
    help=f"Draw a quantity of every token at every LayerNorm instead: {', '.join(QUANTITIES)}.",
)
@options.sort_option(SORT_KEYS)
@options.top_option
@options.model_options
@options.strict_option
@options.output_options
def command(
    given: Given,
    layers: str | None,
    sites: tuple[str, ...],
    per_token: bool,
    heatmap: str | None,
    sort: str | None,
    top: int | None,
    chosen: options.Choice,
    strict: bool,
    out: Output,
) -> None:
    """Run prompts and show what every LayerNorm computed.

    PROMPT is text; '-' reads prompts from standard input, one a line. Without any, a bundled sample is used.
    """
    if heatmap and (out.format != "table" or per_token):
        raise UsageError(
            "--heatmap is a picture for the terminal; leave it out, or leave out --json, --format and --per-token."
        )
    if heatmap:
        refuse_without_effect(
            "on --heatmap, which has every LayerNorm in forward order", sort=(sort, None), top=(top, None)
        )
    prompts = given.gather()
    from gpt2ln_cli.commands.inspect.compute import inspect
    from gpt2ln_cli.commands.inspect.view import view

    with progress_bar(chosen.model) as progress:
        record = inspect(
            prompts,
            model=chosen.load(),
            layers=layers,
            sites=sites,
            per_token=per_token or heatmap is not None or out.table == "rows",
            sort=sort,
            top=top,
            **given.running(progress),
        )
    note_model(record.model)
    out.emit(view(record, heatmap=heatmap))
    judge(record.warnings, strict=strict)
