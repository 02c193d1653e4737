"""The pager, which what is longer than the screen goes through on a terminal, as with git.

``PAGER`` names it, ``less`` unless told; ``LESS`` is ``FRX`` unless set: colours are kept, and the text stays on the
screen. Without one, with ``PAGER`` empty or ``cat``, with ``NO_PAGER`` or ``--no-pager`` there is none.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Any, TextIO, cast

import click

DEFAULT = "less"
# As git has them, for a pager whose own variable is not set.
ENVIRONMENT = {"LESS": "FRX", "LV": "-c"}
# What makes a command one for the shell.
SHELL = frozenset("|&;<>()$`\\\"'*?[#~=%")
STYLE = re.compile(r"\x1b\[[0-9;]*m")
NO_PAGER = "gpt2ln.no_pager"


@contextlib.contextmanager
def paged(terminal: TextIO) -> Iterator[TextIO]:
    """What is written goes to the terminal or, once it is longer than that, through the pager.

    A pager that is left early ends the block early, as if all had been written.
    """
    command = _command()
    if command is None:
        yield terminal
        return
    stream = _Paged(terminal, command)
    try:
        yield cast(TextIO, stream)
    except BrokenPipeError:
        if stream.pager is None:
            raise
    finally:
        stream.finish()


def _command() -> str | None:
    context = click.get_current_context(silent=True)
    if os.environ.get("NO_PAGER") or (context is not None and context.meta.get(NO_PAGER)):
        return None
    command = os.environ.get("PAGER", DEFAULT).strip()
    if command in ("", "cat"):
        return None
    known = not SHELL.isdisjoint(command) or shutil.which(shlex.split(command)[0]) is not None
    return command if known else None


class _Paged(io.TextIOBase):
    """Holds what it is given until that is longer than the screen, and is the pager's standard input from then on."""

    def __init__(self, terminal: TextIO, command: str) -> None:
        self._terminal, self._command = terminal, command
        self._held: list[str] = []
        self._size = shutil.get_terminal_size()
        self._lines, self._line = 0, ""
        self._to: IO[str] | None = None
        self.pager: subprocess.Popen[str] | None = None
        self._interrupt: Any = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The terminal's."""
        return self._terminal.encoding

    def isatty(self) -> bool:
        """What is written is seen on a terminal."""
        return True

    def fileno(self) -> int:
        """The terminal's, whose size counts."""
        return self._terminal.fileno()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Hold the text, or give it to the pager."""
        if self._to is not None:
            return self._to.write(text)
        self._held.append(text)
        *lines, self._line = (self._line + STYLE.sub("", text)).split("\n")
        self._lines += sum(map(self._taken, lines))
        # The prompt comes below.
        if self._lines + self._taken(self._line) > self._size.lines:
            self._start()
        return len(text)

    def _taken(self, line: str) -> int:
        """How many lines of the screen a line takes."""
        return max(1, math.ceil(len(line) / self._size.columns))

    def _start(self) -> None:
        sys.stderr.flush()
        self.pager = subprocess.Popen(
            self._command,
            shell=True,
            stdin=subprocess.PIPE,
            text=True,
            encoding=self._terminal.encoding,
            errors=self._terminal.errors,
            env={**ENVIRONMENT, **os.environ},
        )
        # Whoever interrupts a pager does not mean to leave it, and the terminal is its own until it ends.
        with contextlib.suppress(ValueError):  # in a thread
            self._interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._to = self.pager.stdin
        assert self._to is not None
        self._to.write("".join(self._held))
        self._held.clear()

    def finish(self) -> None:
        """Show what was held, or wait until the pager is left."""
        if self.pager is None:
            self._terminal.write("".join(self._held))
            return
        assert self.pager.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.pager.stdin.close()
        self.pager.wait()
        if self._interrupt is not None:
            signal.signal(signal.SIGINT, self._interrupt)
