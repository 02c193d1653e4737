"""``gpt2ln attribute``."""

from __future__ import annotations

import click

from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.notes import judge, note_model
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import progress_bar
from gpt2ln_cli.shell.prompts import Given

EXAMPLE = """\b
Examples:
  gpt2ln attribute "The war was over, but the hatred was not."
  gpt2ln attribute --layer 6 --site ln_1 --by-head
  gpt2ln attribute --layer 6 --feature 37 --top 3
"""


@click.command("attribute", epilog=EXAMPLE)
@options.prompt_options
@options.layer_option()
@options.site_option
@click.option("--by-head", is_flag=True, help="Make each attention head a writer of its own, and its bias another.")
@click.option(
    "--feature",
    type=click.IntRange(min=0),
    metavar="J",
    help="Who wrote feature J of x: values, which add up to it.",
)
@click.option("--per-token", is_flag=True, help="Add one row for each LayerNorm, token and writer.")
@click.option("--token", type=click.IntRange(min=0), metavar="K", help="Only the rows of position K of each sequence.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the rows of each LayerNorm's N tokens with the greatest sigma.",
)
@options.model_options
@options.strict_option
@options.output_options
def command(
    given: Given,
    layers: str | None,
    sites: tuple[str, ...],
    by_head: bool,
    feature: int | None,
    per_token: bool,
    token: int | None,
    top: int | None,
    chosen: options.Choice,
    strict: bool,
    out: Output,
) -> None:
    """Show which attentions and MLPs wrote sigma at every LayerNorm.

    x is the sum of what the embeddings, the attentions and the MLPs wrote before; each made a share of sigma^2, and the
    shares add up to 1. Position 0 and later positions are told apart. PROMPT is text; '-' reads prompts from standard
    input, one a line. Without any, a bundled sample is used.
    """
    prompts = given.gather()
    from gpt2ln_cli.commands.attribute.compute import attribute
    from gpt2ln_cli.commands.attribute.view import view

    with progress_bar(chosen.model) as progress:
        record = attribute(
            prompts,
            model=chosen.load(),
            layers=layers,
            sites=sites,
            by_head=by_head,
            feature=feature,
            per_token=per_token or out.table == "rows",
            token=token,
            top=top,
            **given.running(progress),
        )
    note_model(record.model)
    out.emit(view(record))
    judge(record.warnings, strict=strict)
