"""What the commands do around their library call: gather prompts, show progress, write the record."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from gpt2ln_cli.errors import PromptError, UsageError
from gpt2ln_cli.escaping import visible
from gpt2ln_cli.render import FORMATS, ONE_TABLE, write

if TYPE_CHECKING:
    from gpt2ln_cli.prompts import Overflow
    from gpt2ln_cli.records import Check, Flag, ModelInfo, Record


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

    try:
        # What may be fetched first has huggingface_hub's own bars, which this one would swallow.
        if is_local(model):
            progress.start()
        yield advance
    finally:
        progress.stop()


def check_output(output: str | None) -> None:
    """Find out before the work whether the output file can be written.

    Raises:
        UsageError: it can't.
    """
    if output is None:
        return
    if not output:
        raise UsageError("the name of the output file is empty.")
    path = Path(output)
    if path.is_dir():
        raise UsageError(f"can't write {output}: it is a folder.")
    if not path.parent.is_dir():
        raise UsageError(f"can't write {output}: there is no folder {path.parent}.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"can't write {output}: permission denied.")


def check_not_terminal(output: str | None, complaint: str) -> None:
    """Find out before the work whether what no terminal can show would go to one.

    Raises:
        UsageError: with the complaint; it would.
    """
    if output is None and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError(complaint)


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
        check_output(self.file)
        chosen = FORMATS[self.format]
        if chosen.needs is not None and find_spec(chosen.needs) is None:
            raise UsageError(f'--format {self.format} needs {chosen.needs}: pip install ".[{self.format}]".')
        if self.csv_safe and self.format != "csv":
            raise UsageError(f"--csv-safe goes with --format csv; leave it out, or --format {self.format}.")
        if chosen.binary:
            check_not_terminal(self.file, f"{self.format} is not for a terminal; use --output FILE or a pipe.")
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
        deliver(
            lambda stream: write(record, self.format, stream, table=self.table, csv_safe=self.csv_safe),
            output=self.file,
            utf8=self.format != "table",
        )


def deliver(write: Callable[[TextIO], None], *, output: str | None, utf8: bool) -> None:
    """Have ``write`` called with the output file, which is then whole or not there at all, or with standard output.

    Args:
        write: writes to the stream that it is given; a binary format takes the stream's ``buffer``.
        output: the file; None is standard output.
        utf8: whether standard output is UTF-8 whatever the locale, as it is for data; else what the locale can't write
            is escaped. A file is always UTF-8.

    Raises:
        UsageError: the file or standard output can't be written.
    """
    if output is not None:
        with _whole_file(Path(output)) as stream:
            write(stream)
        return
    if sys.stdout is None:
        raise UsageError("standard output is closed; use --output FILE.")
    if utf8:
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
    else:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        write(sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"can't write to standard output: {error.strerror or error}.") from error


def judge(flags: Sequence[Flag]) -> None:
    """End with exit code 1 where anything was flagged."""
    if flags:
        note(f"--strict: exit code 1, for the record has {len(flags)} warning{'s' * (len(flags) > 1)}.")
        raise click.exceptions.Exit(1)


def judge_checks(checks: Sequence[Check]) -> None:
    """End with exit code 1 where anything came out otherwise than in GPT-2."""
    otherwise = [check.name for check in checks if check.passed is False]
    if otherwise:
        note(f"exit code 1: otherwise than in GPT-2 came out {', '.join(otherwise)}.")
        raise click.exceptions.Exit(1)


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[TextIO]:
    # A device or a pipe can't be replaced; everything else is written beside the file and moved into its place.
    special = path.exists() and not path.is_file()
    target = path.resolve()
    partial = target if special else target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        if not special:
            if target.exists():
                shutil.copymode(target, partial)
            partial.replace(target)
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror or error}.") from error
    finally:
        if not special:
            partial.unlink(missing_ok=True)
