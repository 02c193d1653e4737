"""``gpt2ln count``."""

from __future__ import annotations

import click

from gpt2ln_cli.cli import completion, options, running
from gpt2ln_cli.errors import UsageError

EXAMPLE = """\b
Examples:
  gpt2ln count --tokens 1024 --batch 8
  gpt2ln count --tokens 1024 --layers 48 --width 1600 --heads 25
"""
SHAPE = {"layers": 12, "width": 768, "heads": 12}


@click.command("count", epilog=EXAMPLE)
@click.option("--tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="Tokens of each context.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Contexts in the minibatch.")
@click.option("--layers", type=click.IntRange(min=1), help=f"Transformer blocks.  [default: {SHAPE['layers']}]")
@click.option("--width", type=click.IntRange(min=1), help=f"Features of the residual.  [default: {SHAPE['width']}]")
@click.option("--heads", type=click.IntRange(min=1), help=f"Attention heads.  [default: {SHAPE['heads']}]")
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
    out: running.Output,
    **given: int | None,
) -> None:
    """Count the statistics by arithmetic alone.

    For GPT-2, and beside it for the rival readings of LayerNorm. The default shape is GPT-2 small's.
    """
    if model is not None and any(value is not None for value in given.values()):
        raise UsageError("--model brings its own shape; leave out --layers, --width and --heads.")
    from gpt2ln_cli import api

    shape = {name: given[name] or default for name, default in SHAPE.items()}
    record = api.count(tokens=tokens, batch=batch, model=model, revision=revision, prefix=prefix, **shape)
    out.emit(record)
