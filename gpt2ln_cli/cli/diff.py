"""``gpt2ln diff``."""

from __future__ import annotations

import click

from gpt2ln_cli.cli import completion, options, running

EXAMPLE = """\b
Examples:
  gpt2ln diff demo demo
  gpt2ln diff gpt2 ./my-fine-tune "The war was over" --layer 5
"""


@click.command("diff", epilog=EXAMPLE)
@click.argument("model_a", shell_complete=completion.models)
@click.argument("model_b", shell_complete=completion.models)
@options.prompt_options
@options.batch_options
@options.layer_option()
@options.site_option
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="List the N most changed features.",
)
@options.heads_option
@options.prefix_option
@options.run_options
@options.strict_option
@options.output_options
def command(
    model_a: str,
    model_b: str,
    given: running.Given,
    batching: options.Batching,
    layers: str | None,
    sites: tuple[str, ...],
    top: int,
    heads: int | None,
    prefix: str | None,
    how: options.How,
    strict: bool,
    out: running.Output,
) -> None:
    """Compare the LayerNorms of two checkpoints of one shape.

    Without a PROMPT, gains and biases alone; with one, also the statistics that both compute on the same tokens.
    """
    prompts = given.gather() if given or given.whole_file else None
    from gpt2ln_cli import api

    with running.progress_bar(model_a) as progress:
        record = api.diff(
            model_a,
            model_b,
            prompts,
            layers=layers,
            sites=sites,
            top=top,
            heads=heads,
            prefix=prefix,
            **how,
            bos=given.bos,
            overflow=given.overflow,
            **batching,
            progress=progress,
        )
    out.emit(record)
    if strict:
        running.judge(record.warnings)
