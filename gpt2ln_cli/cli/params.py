"""``gpt2ln params``."""

from __future__ import annotations

import click

from gpt2ln_cli.cli import options, running

EXAMPLE = """\b
Examples:
  gpt2ln params
  gpt2ln params --model gpt2 --site ln_f --top 5
"""


@click.command("params", epilog=EXAMPLE)
@options.layer_option()
@options.site_option
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="List the N most extreme features by index.")
@options.model_options
@options.strict_option
@options.output_options
def command(
    layers: str | None,
    sites: tuple[str, ...],
    top: int | None,
    which: options.Which,
    strict: bool,
    out: running.Output,
) -> None:
    """Show the learned gain and bias of every LayerNorm.

    No forward pass is run; torch is loaded for pickles (.bin, .pt, .pth) alone, and transformers never.
    """
    from gpt2ln_cli import api

    record = api.params(**which, layers=layers, sites=sites, top=top)
    running.note_model(record.model)
    out.emit(record)
    if strict:
        running.judge(record.warnings)
