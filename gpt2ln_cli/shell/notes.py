"""What is said beside the data, on standard error, and what it says of a run to end it with exit code 1."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gpt2ln_cli.output.text import visible
from gpt2ln_cli.paths import cache_folder

if TYPE_CHECKING:
    from gpt2ln_cli.records import Flag, ModelInfo

# What a call asked for, by -q, and when it began, by -v.
QUIET, VERBOSE = "gpt2ln.quiet", "gpt2ln.verbose"
DAY_S = 24 * 60 * 60


def say(text: str) -> None:
    """Say what a call must be told, such as an error, on standard error."""
    # Where nobody can be told, the data is still wanted.
    with contextlib.suppress(OSError):
        click.echo(f"gpt2ln: {visible(text)}", err=True)


def note(text: str) -> None:
    """Say something beside the data, unless --quiet is given."""
    if not is_quiet():
        say(text)


def is_quiet() -> bool:
    """Whether --quiet is given."""
    return bool(_asked(QUIET))


def detail(text: str) -> None:
    """With --verbose, say what is done and how many seconds the call has taken so far."""
    if (began := _asked(VERBOSE)) is not None:
        say(f"{time.monotonic() - began:6.2f} s  {text}")


def _asked(key: str) -> Any:
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(key)


def note_model(model: ModelInfo) -> None:
    """Once a day, where the bundled miniature is used and nobody named it, say so and how to get OpenAI's GPT-2."""
    source = click.get_current_context().get_parameter_source("model")
    if model.source != "bundled" or source is not click.core.ParameterSource.DEFAULT or is_quiet():
        return
    if _first_in_a_day("demo") or _asked(VERBOSE):
        note(f"'{model.name}' is a bundled miniature; --model gpt2 is OpenAI's, fetched once.")


def _first_in_a_day(name: str) -> bool:
    """Whether a note was not yet given in the last 24 hours; where that can't be remembered, it was not."""
    stamp = cache_folder() / f"{name}.noted"
    try:
        if 0 <= time.time() - stamp.stat().st_mtime < DAY_S:
            return False
    except OSError:
        pass
    with contextlib.suppress(OSError):
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    return True


def judge(flags: Sequence[Flag], *, strict: bool) -> None:
    """Where it is asked for, end with exit code 1 if anything was flagged."""
    if strict and flags:
        end(f"--strict: exit code 1, for the record has {len(flags)} warning{'s' * (len(flags) > 1)}.")


def end(why: str) -> None:
    """End with exit code 1: the run worked, and found what was asked to be flagged."""
    say(why)
    raise click.exceptions.Exit(1)
