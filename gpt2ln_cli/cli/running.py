"""What the commands do around their library call: gather prompts, show progress, write the record."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from gpt2ln_cli.cli import output_file
from gpt2ln_cli.errors import PromptError, UsageError
from gpt2ln_cli.escaping import visible
from gpt2ln_cli.leaving import tidied
from gpt2ln_cli.render import FORMATS, ONE_TABLE, write

if TYPE_CHECKING:
    from gpt2ln_cli.prompts import Overflow
    from gpt2ln_cli.records import Check, Flag, ModelInfo, Record

# To the beginning of a line that is then empty, with a cursor to be seen.
RESTORE = b"\r\x1b[2K\x1b[?25h"


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


@dataclass(frozen=True)
class Given:
    """What a call gave as prompts, and what is to become of them."""

    prompt: tuple[str, ...]
    files: tuple[str, ...]
    whole_file: bool
    token_ids: tuple[str, ...]
    bos: bool
    overflow: Overflow

    def __bool__(self) -> bool:
        return bool(self.prompt or self.files or self.token_ids)

    def gather(self, *, default: str | None = None) -> list[str | Sequence[int]] | None:
        """All prompts, in the order arguments, files, ids; None where there are none.

        Then a note says what is used instead: ``default`` in words, or the bundled sample prompt.
        """
        from gpt2ln_cli.prompts import STANDARD_INPUT, parse_token_ids, read_prompts, sample_prompt

        if [*self.prompt, *self.files].count(STANDARD_INPUT) > 1:
            raise UsageError("standard input ('-') can be read only once.")
        if self.whole_file and not self.files and STANDARD_INPUT not in self.prompt:
            raise UsageError("--whole-file goes with --prompts FILE or '-'.")
        prompts: list[str | Sequence[int]] = []
        for argument in self.prompt:
            if argument == STANDARD_INPUT:
                prompts += read_prompts(argument, whole_file=self.whole_file)
            elif argument:
                prompts.append(_as_utf8(argument))
            else:
                raise PromptError("an empty prompt was given: there is no token to normalize.")
        for file in self.files:
            prompts += read_prompts(file, whole_file=self.whole_file)
        prompts += [parse_token_ids(text) for text in self.token_ids]
        if prompts:
            return prompts
        instead = default or f'the bundled sample "{sample_prompt()}"'
        note(f"no prompt given; using {instead}")
        return None


def _as_utf8(argument: str) -> str:
    """The argument's bytes read as UTF-8, whatever the locale made of them."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError as error:
        raise PromptError("a prompt is not UTF-8 text.") from error


@contextlib.contextmanager
def progress_bar(model: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error, only where that is a terminal, for loading the model and running it."""
    if not sys.stderr or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    from gpt2ln_cli.checkpoint import is_local

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"))
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task("loading", total=None, done="")

    def advance(done: int, total: int) -> None:
        progress.start()
        progress.update(task, description="running", completed=done, total=total, done=f"{done:,} of {total:,} tokens")

    def restore_terminal() -> None:
        # By a signal, in whose midst rich's own lock may be held.
        if progress.live.is_started:
            os.write(sys.stderr.fileno(), RESTORE)

    with tidied(restore_terminal):
        try:
            # What may be fetched first has huggingface_hub's own bars, which this one would swallow.
            if is_local(model):
                progress.start()
            yield advance
        finally:
            progress.stop()


@dataclass(frozen=True)
class Output:
    """How a record is to be written, and where to."""

    format: str
    table: str | None
    """Which table, in a format that writes but one; None is the main one."""
    file: str | None
    """None is standard output."""
    csv_safe: bool
    """Whether a spreadsheet must find no formula in the texts of a csv."""

    def check(self, command: str) -> None:
        """Find out before the work whether the command's record can be written like this.

        Raises:
            UsageError: it can't.
        """
        output_file.check(self.file)
        chosen = FORMATS[self.format]
        if chosen.needs is not None and find_spec(chosen.needs) is None:
            raise UsageError(f'--format {self.format} needs {chosen.needs}: pip install ".[{self.format}]".')
        if self.csv_safe and self.format != "csv":
            raise UsageError(f"--csv-safe goes with --format csv; leave it out, or --format {self.format}.")
        if chosen.binary:
            output_file.check_not_terminal(
                self.file, f"{self.format} is not for a terminal; use --output FILE or a pipe."
            )
        if self.table is not None:
            if not chosen.one_table:
                raise UsageError(
                    f"--table goes with --format {', '.join(ONE_TABLE)}; --format {self.format} writes everything."
                )
            from gpt2ln_cli.render.tables import check_name

            check_name(command, self.table)

    def emit(self, record: Record) -> None:
        """Write the record.

        Raises:
            UsageError: the file or standard output can't be written.
        """
        output_file.deliver(
            lambda stream: write(record, self.format, stream, table=self.table, csv_safe=self.csv_safe),
            output=self.file,
            utf8=self.format != "table",
        )


def judge(flags: Sequence[Flag]) -> None:
    """End with exit code 1 where anything was flagged."""
    if flags:
        note(f"--strict: exit code 1, for the record has {len(flags)} warning{'s' * (len(flags) > 1)}.")
        raise click.exceptions.Exit(1)


def judge_checks(checks: Sequence[Check]) -> None:
    """End with exit code 1 where anything came out otherwise than in GPT-2, or the axis is undecided."""
    otherwise = [check.name for check in checks if check.passed is False]
    if otherwise:
        note(f"exit code 1: otherwise than in GPT-2 came out {', '.join(otherwise)}.")
        raise click.exceptions.Exit(1)
    if any(check.name == "axis" and check.passed is None for check in checks):
        note("exit code 1: this input can't decide the axis.")
        raise click.exceptions.Exit(1)
