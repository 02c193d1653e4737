"""A bar that shows how far a run is."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt2ln_cli.leaving import tidied
from gpt2ln_cli.shell.notes import is_quiet

if TYPE_CHECKING:
    from rich.progress import Progress

# To the beginning of a line that is then empty, with a cursor to be seen.
RESTORE = b"\r\x1b[2K\x1b[?25h"


class Bar:
    """What a run tells how far it is, and what it is doing.

    Args:
        progress: where it is shown.
        unit: what is counted.
    """

    def __init__(self, progress: Progress, unit: str) -> None:
        self._progress, self._phase, self._unit = progress, "running", unit
        self._task = progress.add_task("loading", total=None, done="")

    def __call__(self, done: int, total: int) -> None:
        """So many of all tokens, or whatever is counted, are done."""
        self._progress.start()
        text = f"{done:,} of {total:,} {self._unit}"
        self._progress.update(self._task, description=self._phase, completed=done, total=total, done=text)

    def phase(self, name: str) -> None:
        """From now on this is what is being done; how far it is, is not known before its first pass is over."""
        self._phase = name
        # A task that has a total keeps one.
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=None, done="")


@contextlib.contextmanager
def progress_bar(model: str, *, unit: str = "tokens") -> Iterator[Bar | None]:
    """A progress bar on standard error, only where that is a terminal, for loading the model and running it."""
    if is_quiet() or not sys.stderr or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    from gpt2ln_cli.checkpoint import is_local

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"))
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    bar = Bar(progress, unit)

    def restore_terminal() -> None:
        # By a signal, in whose midst rich's own lock may be held.
        if progress.live.is_started:
            os.write(sys.stderr.fileno(), RESTORE)

    with tidied(restore_terminal):
        try:
            # What may be fetched first has huggingface_hub's own bars, which this one would swallow.
            if is_local(model):
                progress.start()
            yield bar
        finally:
            progress.stop()
