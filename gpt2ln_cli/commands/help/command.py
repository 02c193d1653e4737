"""``gpt2ln help``."""

from __future__ import annotations

import sys

import click

from gpt2ln_cli.commands import COMMANDS
from gpt2ln_cli.commands.help.compute import names, page, topics
from gpt2ln_cli.shell import options, output_file

EXAMPLE = """\b
Examples:
  gpt2ln help inspect
  gpt2ln help definitions
  gpt2ln help models > models.md
"""


@click.command("help", epilog=EXAMPLE)
@click.argument(
    "topic",
    required=False,
    shell_complete=lambda _context, _parameter, begun: [name for name in names() if name.startswith(begun)],
)
@options.no_pager_option
@options.debug_option
def command(topic: str | None) -> None:
    """Read about a command or a topic; without TOPIC, list them.

    On a terminal the page is laid out; in a pipe or a file it is Markdown.
    """
    text = _contents() if topic is None else page(topic)
    if topic is not None and sys.stdout is not None and sys.stdout.isatty():
        from gpt2ln_cli.commands.help.view import rendered

        text = rendered(text)
    output_file.deliver(lambda stream: print(text, end="", file=stream), output=None, utf8=True)


def _contents() -> str:
    formatter = click.get_current_context().make_formatter()
    with formatter.section("Commands"):
        formatter.write_dl([(command.name, command.help) for command in COMMANDS])
    with formatter.section("Topics"):
        formatter.write_dl(list(topics().items()))
    formatter.write_paragraph()
    formatter.write_text("gpt2ln help NAME shows the page of either, gpt2ln COMMAND --help a command's options.")
    return formatter.getvalue().lstrip("\n")
