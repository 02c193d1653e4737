"""``gpt2ln tour``."""

from __future__ import annotations

import click

from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.command import Command
from gpt2ln_cli.shell.notes import judge, note_model
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import progress_bar

EXAMPLE = """\b
Examples:
  gpt2ln tour
  gpt2ln tour --json | jq -r '.answers[] | .question, .answer'
"""


@click.command("tour", cls=Command, epilog=EXAMPLE)
@options.model_options
@options.strict_option
@options.output_options
def command(
    chosen: options.Choice,
    strict: bool,
    out: Output,
) -> None:
    """Answer a learner's six questions about LayerNorm by experiment.

    Every number is measured on the checkpoint while you wait; each answer names the command that shows more.
    """
    from gpt2ln_cli.commands.tour.compute import tour
    from gpt2ln_cli.commands.tour.view import view

    with progress_bar(chosen.model):
        record = tour(model=chosen.load())
    note_model(record.model)
    out.emit(view(record))
    judge(record.warnings, strict=strict)
