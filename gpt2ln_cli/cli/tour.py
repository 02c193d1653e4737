"""``gpt2ln tour``."""

from __future__ import annotations

import click

from gpt2ln_cli.cli import options, running

EXAMPLE = """\b
Examples:
  gpt2ln tour
  gpt2ln tour --json | jq -r '.answers[] | .question, .answer'
"""


@click.command("tour", epilog=EXAMPLE)
@options.model_options
@options.run_options
@options.strict_option
@options.output_options
def command(which: options.Which, how: options.How, strict: bool, out: running.Output) -> None:
    """Answer a learner's six questions about LayerNorm by experiment.

    Every number is measured on the checkpoint while you wait; each answer names the command that shows more.
    """
    from gpt2ln_cli import api

    with running.progress_bar(which["model"]):
        record = api.tour(**which, **how)
    running.note_model(record.model)
    out.emit(record)
    if strict:
        running.judge(record.warnings)
