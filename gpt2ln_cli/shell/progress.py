"""A bar that shows how far a run is."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gpt2ln_cli.leaving import tidied
from gpt2ln_cli.shell.notes import is_quiet, note

if TYPE_CHECKING:
    from rich.progress import Progress

# To the beginning of a line that is then empty, with a cursor to be seen.
RESTORE = b"\r\x1b[2K\x1b[?25h"
# Where there is no terminal, a long run says so often how far it is.
LINE_SECONDS = 60.0


class Bar:
    """What a run tells how far it is, and what it is doing.

    Args:
        progress: where it is shown.
        unit: what is counted.
        timed: whether tokens a second and the time that is left are shown, too.
    """

    def __init__(self, progress: Progress, unit: str = "tokens", *, timed: bool = False) -> None:
        self._progress, self._phase, self._unit = progress, "running", unit
        self._timed, self._began = timed, time.monotonic()
        self._task = progress.add_task("loading", total=None, done="")

    def __call__(self, done: int, total: int) -> None:
        """So many of all tokens, or whatever is counted, are done."""
        self._progress.start()
        seconds = time.monotonic() - self._began
        text = _told(done, total, seconds) if self._timed else f"{done:,} of {total:,} {self._unit}"
        self._progress.update(self._task, description=self._phase, completed=done, total=total, done=text)

    def phase(self, name: str) -> None:
        """From now on this is what is being done; how far it is, is not known before its first pass is over."""
        self._phase = name
        # A task that has a total keeps one.
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=None, done="")


@contextlib.contextmanager
def progress_bar(model: str, *, unit: str = "tokens", timed: bool = False) -> Iterator[Bar | None]:
    """A progress bar on standard error, only where that is a terminal, for loading the model and running it.

    Args:
        model: its name.
        unit: what is counted.
        timed: whether tokens a second and the time that is left are shown, too.
    """
    if is_quiet() or not sys.stderr or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    from gpt2ln_cli.checkpoint import is_local

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"))
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    bar = Bar(progress, unit, timed=timed)

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


@contextlib.contextmanager
def pace(model: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with tokens a second and the time that is left; where there is no terminal, a line a minute."""
    with progress_bar(model, timed=True) as advance:
        if advance is not None:
            yield advance
            return
        began = said = time.monotonic()

        def tell(done: int, total: int) -> None:
            nonlocal said
            if (now := time.monotonic()) - said >= LINE_SECONDS:
                said = now
                note(_told(done, total, now - began))

        yield tell


def _told(done: int, total: int, seconds: float) -> str:
    left = (total - done) * seconds / max(done, 1)
    return f"{done:,} of about {total:,} tokens; {done / max(seconds, 1e-9):,.0f} a second; about {_clock(left)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
