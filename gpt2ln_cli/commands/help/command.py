"""``gpt2ln help``."""

from __future__ import annotations

import sys

import click

from gpt2ln_cli.commands import groups
from gpt2ln_cli.commands.help.compute import names, page, topics
from gpt2ln_cli.shell import output_file
from gpt2ln_cli.shell.command import Command

EXAMPLE = """\b
Examples:
  gpt2ln help inspect
  gpt2ln help definitions
  gpt2ln help models > models.md
"""


@click.command("help", cls=Command, epilog=EXAMPLE)
@click.argument(
    "topic",
    required=False,
    shell_complete=lambda _context, _parameter, begun: [name for name in names() if name.startswith(begun)],
)
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
    for group, commands in groups():
        with formatter.section(group):
            formatter.write_dl(commands)
    with formatter.section("Topics"):
        formatter.write_dl(list(topics().items()))
    formatter.write_paragraph()
    formatter.write_text("gpt2ln help NAME shows the page of either, gpt2ln COMMAND --help a command's options.")
    return formatter.getvalue().lstrip("\n")
