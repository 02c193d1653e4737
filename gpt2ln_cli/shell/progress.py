"""A bar that shows how far a run is."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

from gpt2ln_cli.leaving import tidied
from gpt2ln_cli.shell.notes import note

# To the beginning of a line that is then empty, with a cursor to be seen.
RESTORE = b"\r\x1b[2K\x1b[?25h"
# Where there is no terminal, a long run says so often how far it is.
LINE_SECONDS = 60.0


@contextlib.contextmanager
def progress_bar(model: str, *, timed: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error, only where that is a terminal, for loading the model and running it.

    Args:
        model: its name.
        timed: whether it tells tokens a second and the time that is left.
    """
    if not sys.stderr or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    from gpt2ln_cli.checkpoint import is_local

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"))
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task("loading", total=None, done="")

    began = time.monotonic()

    def advance(done: int, total: int) -> None:
        progress.start()
        text = _told(done, total, time.monotonic() - began) if timed else f"{done:,} of {total:,} tokens"
        progress.update(task, description="running", completed=done, total=total, done=text)

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
    left = (total - done) * seconds / done
    return f"{done:,} of about {total:,} tokens; {done / seconds:,.0f} a second; about {_clock(left)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
