"""Leaving the process on a signal, at once, and tidying first.

An exception raised in a signal handler comes up wherever Python happens to be, and is swallowed there by a ``__del__``,
a callback, or an ``except:`` around an optional import: the run goes on. So the handler itself leaves, and what must
not stay behind is told to it here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

_tidying: list[Callable[[], object]] = []


def leave_on_signals() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP end the process, but for those that its parent had it ignore."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _leave)


@contextlib.contextmanager
def tidied(tidy: Callable[[], object]) -> Iterator[None]:
    """Have ``tidy`` called when the block is left, by a signal too."""
    _tidying.append(tidy)
    try:
        yield
    finally:
        tidy()
        _tidying.remove(tidy)


def _leave(number: int, _: FrameType | None) -> None:
    # A second signal comes while the first is being answered: nothing is called again.
    while _tidying:
        with contextlib.suppress(Exception):
            _tidying.pop()()
    if number == signal.SIGINT and sys.stderr is not None:
        # Not by Python's stream, in the midst of whose writing the signal may have come.
        with contextlib.suppress(OSError):
            os.write(2, b"gpt2ln: interrupted.\n")
    # As a shell tells of a signal. Nothing else is run, for it could wait for what was interrupted.
    os._exit(128 + number)
