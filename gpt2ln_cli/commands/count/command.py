"""``gpt2ln count``."""

from __future__ import annotations

import click

from gpt2ln_cli.shell import completion, options
from gpt2ln_cli.shell.output import Output

EXAMPLE = """\b
Examples:
  gpt2ln count --tokens 1024 --batch 8
  gpt2ln count --tokens 1024 --layers 48 --width 1600 --heads 25
"""


@click.command("count", epilog=EXAMPLE)
@click.option("--tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="Tokens of each context.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Contexts in the minibatch.")
@click.option("--layers", type=click.IntRange(min=1), help="Transformer blocks.  [default: 12]")
@click.option("--width", type=click.IntRange(min=1), help="Features of the residual.  [default: 768]")
@click.option("--heads", type=click.IntRange(min=1), help="Attention heads.  [default: 12]")
@click.option(
    "-m",
    "--model",
    metavar="NAME",
    shell_complete=completion.models,
    help="Take the shape from a checkpoint instead.",
)
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a Hub id.")
@options.prefix_option
@options.output_options
def command(
    tokens: int,
    batch: int,
    model: str | None,
    revision: str | None,
    prefix: str | None,
    out: Output,
    **shape: int | None,
) -> None:
    """Count the statistics by arithmetic alone.

    For GPT-2, and beside it for the rival axes. The default shape is GPT-2 small's.
    """
    from gpt2ln_cli.arguments import refuse_without_effect
    from gpt2ln_cli.commands.count.compute import count
    from gpt2ln_cli.commands.count.view import view

    if model is None:
        refuse_without_effect("without a model", revision=(revision, None), prefix=(prefix, None))
    chosen = None if model is None else options.Choice(model, revision, prefix=prefix).load()
    out.emit(view(count(tokens=tokens, batch=batch, model=chosen, **shape)))
