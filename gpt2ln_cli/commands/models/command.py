"""``gpt2ln models``."""

from __future__ import annotations

import click

from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.command import Command
from gpt2ln_cli.shell.output import Output

EXAMPLE = """\b
Examples:
  gpt2ln models
  gpt2ln models --json | jq -r '.models[].name'
"""


@click.command("models", cls=Command, epilog=EXAMPLE)
@options.output_options
def command(
    out: Output,
) -> None:
    """List the checkpoints that can be used without a download.

    The bundled one, and every GPT-2 in the Hugging Face cache that has its weights.
    """
    from gpt2ln_cli.commands.models.compute import models
    from gpt2ln_cli.commands.models.view import view

    out.emit(view(models()))
