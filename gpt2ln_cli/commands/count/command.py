"""``gpt2ln count``."""

from __future__ import annotations

import click

from gpt2ln_cli.shell import completion, options
from gpt2ln_cli.shell.command import Command
from gpt2ln_cli.shell.output import Output

EXAMPLE = """\b
Examples:
  gpt2ln count --tokens 1024 --batch 8
  gpt2ln count --tokens 1024 --layers 48 --width 1600 --heads 25
"""


@click.command("count", cls=Command, epilog=EXAMPLE)
@click.option(
    "--tokens", type=click.IntRange(min=1), metavar="N", default=1024, show_default=True, help="Tokens of each context."
)
@click.option(
    "--batch", type=click.IntRange(min=1), metavar="N", default=1, show_default=True, help="Contexts in the minibatch."
)
@click.option("--layers", type=click.IntRange(min=1), metavar="N", help="Layers, or transformer blocks.  [default: 12]")
@click.option("--width", type=click.IntRange(min=1), metavar="N", help="Features of the residual.  [default: 768]")
@click.option("--heads", "n_head", type=click.IntRange(min=1), metavar="N", help="Attention heads.  [default: 12]")
@click.option(
    "-m",
    "--model",
    envvar="GPT2LN_MODEL",
    show_envvar=True,
    metavar="NAME",
    shell_complete=completion.models,
    help="Take the shape from a checkpoint instead: 'demo', a folder, a file, or a Hub id.",
)
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a Hub id.")
@options.prefix_option
@options.output_options
def command(
    tokens: int,
    batch: int,
    layers: int | None,
    width: int | None,
    n_head: int | None,
    model: str | None,
    revision: str | None,
    prefix: str | None,
    out: Output,
) -> None:
    """Count the statistics by arithmetic alone.

    For GPT-2, and beside it for the rival axes. Without --model and GPT2LN_MODEL the shape is GPT-2 small's, but for
    what --layers, --width and --heads say.
    """
    from gpt2ln_cli.arguments import refuse_without_effect
    from gpt2ln_cli.commands.count.compute import count
    from gpt2ln_cli.commands.count.view import view

    shape = {"layers": layers, "width": width, "heads": n_head}
    source = click.get_current_context().get_parameter_source("model")
    if source is click.core.ParameterSource.ENVIRONMENT and any(shape.values()):
        model = None  # what is said here is nearer than what is said for every call
    if model is None:
        refuse_without_effect("without a model", revision=(revision, None), prefix=(prefix, None))
    chosen = None if model is None else options.Choice(model, revision, prefix=prefix).load()
    out.emit(view(count(tokens=tokens, batch=batch, model=chosen, **shape)))
