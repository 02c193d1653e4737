"""A bar that shows how far a run is."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from gpt2ln_cli.leaving import tidied

# To the beginning of a line that is then empty, with a cursor to be seen.
RESTORE = b"\r\x1b[2K\x1b[?25h"


@contextlib.contextmanager
def progress_bar(model: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error, only where that is a terminal, for loading the model and running it."""
    with _shown(model, bar=True) as update:

        def advance(done: int, total: int) -> None:
            assert update is not None
            update("running", completed=done, total=total, done=f"{done:,} of {total:,} tokens")

        yield None if update is None else advance


@contextlib.contextmanager
def phases_on(model: str) -> Iterator[Callable[[str], None] | None]:
    """The same for work of several phases, of each of which it says in words what it does."""
    with _shown(model, bar=False) as update:
        yield update


@contextlib.contextmanager
def _shown(model: str, *, bar: bool) -> Iterator[Callable[..., None] | None]:
    if not sys.stderr or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    from gpt2ln_cli.checkpoint import is_local

    columns = [SpinnerColumn(), TextColumn("{task.description}")]
    columns += [BarColumn(), TextColumn("{task.fields[done]}")] if bar else []
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task("loading", total=None, done="")

    def update(doing: str, **fields: Any) -> None:
        progress.start()
        progress.update(task, description=doing, **fields)

    def restore_terminal() -> None:
        # By a signal, in whose midst rich's own lock may be held.
        if progress.live.is_started:
            os.write(sys.stderr.fileno(), RESTORE)

    with tidied(restore_terminal):
        try:
            # What may be fetched first has huggingface_hub's own bars, which this one would swallow.
            if is_local(model):
                progress.start()
            yield update
        finally:
            progress.stop()
