"""The prompts that a call gave."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt2ln_cli.errors import PromptError, UsageError
from gpt2ln_cli.shell.notes import detail, is_quiet, note, say

if TYPE_CHECKING:
    from gpt2ln_cli.model.subject import Progress, Running
    from gpt2ln_cli.text.contexts import Overflow


# How long nothing may come from a pipe before it is said that prompts are waited for.
PATIENCE_S = 1.0
WAITING = "waiting for prompts on standard input; < /dev/null for none."
# Characters of a prompt in a note.
SHOWN = 20


@dataclass(frozen=True)
class Given:
    """What a call gave as prompts, and what is to become of them."""

    prompt: tuple[str, ...]
    files: tuple[str, ...]
    whole_file: bool
    token_ids: tuple[str, ...]
    bos: bool
    overflow: Overflow
    batch_size: int | None
    batch_tokens: int | None

    def running(self, progress: Progress | None = None) -> Running:
        """How they are run, as the functions of the library take it."""
        return {
            "bos": self.bos,
            "overflow": self.overflow,
            "batch_size": self.batch_size,
            "batch_tokens": self.batch_tokens,
            "progress": progress,
        }

    def gather(self, *, default: str | None = None) -> list[str | Sequence[int]] | None:
        """All prompts, in the order arguments, files, ids; without any, those on standard input; None where none are.

        Then a note says what is used instead: ``default`` in words, or the bundled sample prompt; nothing is said where
        ``default`` is empty.
        """
        from gpt2ln_cli.text.prompts import STANDARD_INPUT, parse_token_ids, read_prompts, sample_prompt

        if [*self.prompt, *self.files].count(STANDARD_INPUT) > 1:
            raise UsageError("standard input ('-') can be read only once.")
        prompts: list[str | Sequence[int]] = []
        given = self.prompt or self.files or self.token_ids
        piped = not given and _is_piped()
        if self.whole_file and not (piped or self.files or STANDARD_INPUT in self.prompt):
            raise UsageError("--whole-file goes with --prompts FILE or '-'.")
        if piped:
            prompts += read_prompts(STANDARD_INPUT, whole_file=self.whole_file)
            note(f"no prompt; read {_told(prompts)} from standard input.")
        for argument in self.prompt:
            if argument == STANDARD_INPUT:
                prompts += read_prompts(argument, whole_file=self.whole_file)
            elif argument:
                if os.path.isfile(argument):  # noqa: PTH113  (pathlib's raises for a long text)
                    note(f"'{argument}' is taken as text; to read the file of that name: --prompts {argument}")
                prompts.append(_as_utf8(argument))
            else:
                raise PromptError("an empty prompt was given: there is no token to normalize.")
        for file in self.files:
            prompts += read_prompts(file, whole_file=self.whole_file)
        prompts += [parse_token_ids(text) for text in self.token_ids]
        if prompts:
            detail(f"{len(prompts):,} prompt{'s' * (len(prompts) > 1)}")
            return prompts
        instead = f'the sample "{sample_prompt()}"' if default is None else default
        if instead:
            note(f"no prompt; using {instead}")
        return None


def _is_piped() -> bool:
    """Whether standard input is a pipe or a regular file that holds anything; it is waited for.

    What is neither may never end and nobody may know of it: a terminal, a device, and a socket, which ssh and some
    programs hand to whatever they start.
    """
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # closed, or none of the system's
        return False
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return False
    # Its writer may have forgotten it.
    waiting = threading.Timer(PATIENCE_S, lambda: say(WAITING))
    waiting.daemon = True
    if not is_quiet():
        waiting.start()
    try:
        return bool(sys.stdin.buffer.peek(1))  # type: ignore[union-attr]
    except OSError as error:
        raise PromptError(f"can't read prompts from standard input: {error.strerror}.") from error
    finally:
        waiting.cancel()


def _told(prompts: Sequence[str | Sequence[int]]) -> str:
    """How many, and how the first begins."""
    first = str(prompts[0])
    beginning = f'"{first[:SHOWN]}{"..." if first[SHOWN:] else ""}"'
    return beginning if len(prompts) == 1 else f"{len(prompts):,} prompts, {beginning} first,"


def _as_utf8(argument: str) -> str:
    """The argument's bytes read as UTF-8, whatever the locale made of them."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError as error:
        raise PromptError("a prompt is not UTF-8 text.") from error
