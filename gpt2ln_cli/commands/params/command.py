"""``gpt2ln params``."""

from __future__ import annotations

import click

from gpt2ln_cli.commands.params.record import SORT_KEYS
from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.notes import judge, note_model
from gpt2ln_cli.shell.output import Output

EXAMPLE = """\b
Examples:
  gpt2ln params
  gpt2ln params --sort gain_switched_off --top 5
  gpt2ln params --model gpt2 --site ln_f --features 5
"""


@click.command("params", epilog=EXAMPLE)
@options.layer_option()
@options.site_option
@click.option("--features", type=click.IntRange(min=1), metavar="N", help="List the N most extreme features by index.")
@options.sort_option(SORT_KEYS)
@options.top_option
@options.stored_model_options
@options.strict_option
@options.output_options
def command(
    layers: str | None,
    sites: tuple[str, ...],
    features: int | None,
    sort: str | None,
    top: int | None,
    chosen: options.Choice,
    strict: bool,
    out: Output,
) -> None:
    """Show the learned gain and bias of every LayerNorm.

    No forward pass is run; torch is loaded for pickles (.bin, .pt, .pth) alone, and transformers never.
    """
    from gpt2ln_cli.commands.params.compute import params
    from gpt2ln_cli.commands.params.view import view

    record = params(model=chosen.load(), layers=layers, sites=sites, features=features, sort=sort, top=top)
    note_model(record.model)
    out.emit(view(record))
    judge(record.warnings, strict=strict)
