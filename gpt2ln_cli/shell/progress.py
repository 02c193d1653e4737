"""A bar that shows how far a run is."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from gpt2ln_cli.leaving import tidied
from gpt2ln_cli.shell.notes import is_quiet

# To the beginning of a line that is then empty, with a cursor to be seen.
RESTORE = b"\r\x1b[2K\x1b[?25h"


@contextlib.contextmanager
def progress_bar(model: str, *, unit: str = "tokens") -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error, only where that is a terminal, for loading the model and running it."""
    if is_quiet() or not sys.stderr or not sys.stderr.isatty():
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
        progress.update(task, description="running", completed=done, total=total, done=f"{done:,} of {total:,} {unit}")

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
