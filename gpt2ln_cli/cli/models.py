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
def command(output_format: str, as_json: bool, output: str | None) -> None:
    """List the checkpoints that can be used without a download.

    The bundled one, and every GPT-2 in the Hugging Face cache that has its weights.
    """
    running.check_output(output)
    from gpt2ln_cli import api

    running.emit(api.models(), output_format=output_format, as_json=as_json, output=output)
