"""The front door: it finds the command, which parses, and makes of every error one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

from gpt2ln_cli import __version__
from gpt2ln_cli.commands import COMMANDS, groups
from gpt2ln_cli.errors import Gpt2lnError, UsageError, is_want_of_memory
from gpt2ln_cli.output.text import visible
from gpt2ln_cli.shell.command import COMMON, DEBUG, Sectioned
from gpt2ln_cli.shell.completion import VARIABLE, answer
from gpt2ln_cli.shell.notes import say

INTERRUPTED = 130


class Commands(Sectioned, click.Group):
    """The commands of the list, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Their names, in the order of the list."""
        return [command.name for command in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The one of that name, if any."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"gpt2ln_cli.commands.{cmd_name}.command").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The one of the first word; Click knows no names to suggest but of commands that were imported."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            names = self.list_commands(ctx)
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=names, ctx=ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, without importing any, and then the options."""
        for group, commands in groups():
            with formatter.section(group):
                formatter.write_dl(commands)
        super().format_options(ctx, formatter)


@click.group(
    cls=Commands,
    params=list(COMMON),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name="gpt2ln")
def gpt2ln() -> None:
    """See what the LayerNorms of a GPT-2 checkpoint compute.

    Start with: gpt2ln inspect "The war was over, but the hatred was not."

    Read on with: gpt2ln help
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: the words after ``gpt2ln``; None takes them from ``sys.argv``.
    """
    if VARIABLE in os.environ:
        return answer(gpt2ln, os.environ[VARIABLE])
    words = list(sys.argv[1:] if arguments is None else arguments)
    context: click.Context | None = None
    try:
        try:
            with gpt2ln.make_context("gpt2ln", words) as context:
                gpt2ln.invoke(context)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left, as `head` does: what remains in the buffer must not raise again at exit.
        with contextlib.suppress(OSError):
            if sys.stdout is not None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, click.exceptions.Abort):
        say("interrupted.")
        return INTERRUPTED
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return UsageError.exit_code
    except Exception as error:
        return _report(error, debug=bool(context and context.meta.get(DEBUG)))
    return 0


def _report(error: Exception, *, debug: bool) -> int:
    """Say in one line what went wrong; return the exit code."""
    if debug:
        # A checkpoint's own words stand in it.
        with contextlib.suppress(OSError):
            for line in "".join(traceback.format_exception(error)).rstrip("\n").split("\n"):
                click.echo(visible(line), err=True)
    if isinstance(error, Gpt2lnError):
        message, code = str(error), error.exit_code
    elif isinstance(error, click.ClickException):
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "gpt2ln"
        words = error.format_message()
        message, code = f"{words[:1].lower()}{words[1:]} See {path} --help.", UsageError.exit_code
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
        # Help and version, which Click writes by itself.
        message, code = f"can't write to standard output: {error.strerror}.", UsageError.exit_code
    elif is_want_of_memory(error):
        message = "out of memory; take shorter prompts, a smaller --batch-size or a smaller model."
        code = UsageError.exit_code
    else:
        message, code = f"internal error: {type(error).__name__}: {error}; --debug shows where.", 1
    say(" ".join(message.split()))
    return code
