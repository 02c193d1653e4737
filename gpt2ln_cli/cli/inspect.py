"""``gpt2ln inspect``."""

from __future__ import annotations

import click

from gpt2ln_cli.cli import options, output_file, running
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.quantities import QUANTITIES

EXAMPLE = """\b
Examples:
  gpt2ln inspect "The war was over, but the hatred was not."
  gpt2ln inspect "war violence hate fear" --json | jq .counts.total
  gpt2ln inspect --heatmap sigma --prompts book.txt --whole-file --overflow window
"""


@click.command("inspect", epilog=EXAMPLE)
@options.prompt_options
@options.batch_options
@options.layer_option()
@options.site_option
@click.option("--per-token", is_flag=True, help="Add one row for each site, sequence and token.")
@click.option(
    "--heatmap",
    type=click.Choice(QUANTITIES),
    metavar="QUANTITY",
    help=f"Draw a quantity of every token at every LayerNorm instead: {', '.join(QUANTITIES)}.",
)
@options.model_options
@options.run_options
@options.strict_option
@options.output_options
def command(
    given: running.Given,
    batching: options.Batching,
    layers: str | None,
    sites: tuple[str, ...],
    per_token: bool,
    heatmap: str | None,
    which: options.Which,
    how: options.How,
    strict: bool,
    out: running.Output,
) -> None:
    """Run prompts and show what every LayerNorm computed.

    PROMPT is text; '-' reads prompts from standard input, one a line. Without any, a bundled sample is used.
    """
    if heatmap and (out.format != "table" or per_token):
        raise UsageError(
            "--heatmap is a picture for the terminal; leave it out, or leave out --json, --format and --per-token."
        )
    prompts = given.gather()
    from gpt2ln_cli import api

    with running.progress_bar(which["model"]) as progress:
        record = api.inspect(
            prompts,
            **which,
            **how,
            layers=layers,
            sites=sites,
            per_token=per_token or heatmap is not None or out.table == "rows",
            bos=given.bos,
            overflow=given.overflow,
            **batching,
            progress=progress,
        )
    running.note_model(record.model)
    if heatmap:
        from gpt2ln_cli import output
        from gpt2ln_cli.commands.inspect.view import view

        drawn = view(record, heatmap=heatmap)
        output_file.deliver(lambda stream: output.write(drawn, "table", stream), output=out.file, utf8=False)
    else:
        out.emit(record)
    if strict:
        running.judge(record.warnings)
