"""``gpt2ln schema``."""

from __future__ import annotations

import json

import click

from gpt2ln_cli.commands.schema.compute import WITH_RECORD, schema
from gpt2ln_cli.shell import options, output_file

EXAMPLE = """\b
Examples:
  gpt2ln schema inspect
  gpt2ln schema stats | jq '."$defs".Row.properties.sigma.description'
"""


@click.command("schema", epilog=EXAMPLE)
@click.argument(
    "name",
    metavar="[COMMAND]",
    required=False,
    shell_complete=lambda _context, _parameter, begun: [name for name in WITH_RECORD if name.startswith(begun)],
)
@options.output_option
@options.no_pager_option
@options.debug_option
def command(name: str | None, output: str | None) -> None:
    """Print the JSON Schema of what a command gives.

    Made from the very types that are written; without COMMAND, of every command. It tells what each field means.
    """
    output_file.check(output)
    text = json.dumps(schema(name), indent=2)
    output_file.deliver(lambda stream: print(text, file=stream), output=output, utf8=True)
