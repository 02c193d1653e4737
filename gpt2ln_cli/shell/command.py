"""What every command is: options in sections, those that all have, and a suggestion where a value is mistyped."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import click

from gpt2ln_cli.errors import UsageError, did_you_mean
from gpt2ln_cli.shell.notes import QUIET, VERBOSE
from gpt2ln_cli.shell.options import Choice
from gpt2ln_cli.shell.pager import NO_PAGER
from gpt2ln_cli.shell.prompts import Given

DEBUG = "gpt2ln.debug"
# What an option is called in the code says where it stands in the help; what is none of these comes first.
SECTIONS = {
    "Prompts": tuple(Given.__annotations__),
    "Model": tuple(Choice.__annotations__),
    "Output": ("output_format", "as_json", "table", "everything", "csv_safe", "output"),
    "Any command": ("quiet", "verbose", "color", "no_pager", "debug", "version", "help"),
}
# For rich, which draws whatever has colours, on either stream.
COLORS: dict[str | None, dict[str, str | None]] = {
    "always": {"FORCE_COLOR": "1", "NO_COLOR": None},
    "never": {"FORCE_COLOR": None, "NO_COLOR": "1"},
}


def _quieten(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.meta[QUIET] = True
        _set(context, {"HF_HUB_DISABLE_PROGRESS_BARS": "1"})
        _check_loudness(context)


def _explain(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.meta[VERBOSE] = time.monotonic()
        _check_loudness(context)


def _check_loudness(context: click.Context) -> None:
    if context.meta.keys() >= {QUIET, VERBOSE}:
        raise UsageError("-q says less and -v says more; leave one of them out.")


def _color(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value in COLORS:
        _set(context, COLORS[value])


def _set(context: click.Context, variables: Mapping[str, str | None]) -> None:
    """Set variables of the environment, or remove them, until the call ends."""
    before = {name: os.environ.get(name) for name in variables}

    def put(values: Mapping[str, str | None]) -> None:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    put(variables)
    context.call_on_close(lambda: put(before))


def _remember_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.meta[DEBUG] = True


def _remember_no_pager(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.meta[NO_PAGER] = True


class _OneOf(click.Choice[Any]):
    """A choice that tells what may have been meant."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:  # noqa: ARG002
        """Say what there is to choose from, and what comes nearest."""
        known = ", ".join(self.choices)
        return f"'{value}' is none of {known}. {did_you_mean(str(value), self.choices)}".rstrip()


# Before the command, or after it.
COMMON: list[click.Parameter] = [
    click.Option(
        ["-q", "--quiet"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_quieten,
        help="Say nothing but errors on standard error.",
    ),
    click.Option(
        ["-v", "--verbose"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_explain,
        help="Say what is read and written, and when.",
    ),
    click.Option(
        ["--color"],
        type=_OneOf(["auto", "always", "never"]),
        expose_value=False,
        is_eager=True,
        callback=_color,
        help="Colours: auto is on a terminal, and as NO_COLOR and FORCE_COLOR say.",
    ),
    click.Option(
        ["--no-pager"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_remember_no_pager,
        help="Don't show through a pager what is longer than the terminal.",
    ),
    click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_remember_debug,
        help="Show the traceback of an error.",
    ),
]


class Sectioned(click.Command):
    """A command, or the group of them, whose help has its options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        found: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Options", *SECTIONS)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                # Click has a name of its own for the option that it adds.
                name = "help" if "--help" in parameter.opts else parameter.name
                titles = (title for title, names in SECTIONS.items() if name in names)
                found[next(titles, "Options")].append(record)
        for title, records in found.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Command(Sectioned):
    """A command of the list."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params = [*self.params, *COMMON]
        for parameter in self.params:
            if type(parameter.type) is click.Choice:
                parameter.type = _OneOf(parameter.type.choices)
