"""What is said beside the data, on standard error, and what it says of a run to end it with exit code 1."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from gpt2ln_cli.output.text import visible

if TYPE_CHECKING:
    from gpt2ln_cli.records import Flag, ModelInfo


def note(text: str) -> None:
    """Say something beside the data, on standard error."""
    # Where nobody can be told, the data is still wanted.
    with contextlib.suppress(OSError):
        click.echo(f"gpt2ln: {visible(text)}", err=True)


def note_model(model: ModelInfo) -> None:
    """While the bundled miniature is used, say so and how to get OpenAI's GPT-2."""
    if model.source == "bundled":
        note(
            f"'{model.name}' is the bundled miniature GPT-2; for OpenAI's use --model gpt2 (fetched once), "
            "or set GPT2LN_MODEL."
        )


def judge(flags: Sequence[Flag], *, strict: bool) -> None:
    """Where it is asked for, end with exit code 1 if anything was flagged."""
    if strict and flags:
        end(f"--strict: exit code 1, for the record has {len(flags)} warning{'s' * (len(flags) > 1)}.")


def end(why: str) -> None:
    """End with exit code 1: the run worked, and found what was asked to be flagged."""
    note(why)
    raise click.exceptions.Exit(1)
