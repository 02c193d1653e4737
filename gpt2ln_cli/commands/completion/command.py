"""``gpt2ln completion``."""

from __future__ import annotations

import click

from gpt2ln_cli.shell import output_file
from gpt2ln_cli.shell.command import Command
from gpt2ln_cli.shell.completion import SHELLS, script

EXAMPLE = """\b
Examples:
  gpt2ln completion bash
  gpt2ln completion fish > ~/.config/fish/completions/gpt2ln.fish
"""


@click.command("completion", cls=Command, epilog=EXAMPLE)
@click.argument("shell", type=click.Choice(SHELLS), metavar="SHELL")
def command(shell: str) -> None:
    """Print the script by which a shell completes the words of gpt2ln.

    SHELL is bash, zsh or fish. What is offered is asked of gpt2ln itself: the script need not be printed again after
    an update.
    """
    text = script(click.get_current_context().find_root().command, shell)
    output_file.deliver(lambda stream: print(text, file=stream), output=None, utf8=True)
