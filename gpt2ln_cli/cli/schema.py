"""``gpt2ln schema``."""

from __future__ import annotations

import json

import click

from gpt2ln_cli.cli import completion, options, output_file

EXAMPLE = """\b
Examples:
  gpt2ln schema inspect
  gpt2ln schema stats | jq '."$defs".Row.properties.sigma.description'
"""


@click.command("schema", epilog=EXAMPLE)
@click.argument("name", metavar="[COMMAND]", required=False, shell_complete=completion.record_commands)
@options.output_option
@options.debug_option
def command(name: str | None, output: str | None) -> None:
    """Print the JSON Schema of what a command gives.

    Made from the very types that are written; without COMMAND, of every command. It tells what each field means.
    """
    output_file.check(output)
    from gpt2ln_cli import api

    text = json.dumps(api.schema(name), indent=2)
    output_file.deliver(lambda stream: print(text, file=stream), output=output, utf8=True)
