"""``gpt2ln models``."""

from __future__ import annotations

import click

from gpt2ln_cli.cli import options, running

EXAMPLE = """\b
Examples:
  gpt2ln models
  gpt2ln models --json | jq -r '.models[].name'
"""


@click.command("models", epilog=EXAMPLE)
@options.output_options
def command(out: running.Output) -> None:
    """List the checkpoints that can be used without a download.

    The bundled one, and every GPT-2 in the Hugging Face cache that has its weights.
    """
    from gpt2ln_cli import api

    out.emit(api.models())
