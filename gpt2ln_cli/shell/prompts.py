"""The prompts that a call gave."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt2ln_cli.errors import PromptError, UsageError
from gpt2ln_cli.shell.notes import note

if TYPE_CHECKING:
    from gpt2ln_cli.model.subject import Progress, Running
    from gpt2ln_cli.text.contexts import Overflow


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

    def __bool__(self) -> bool:
        return bool(self.prompt or self.files or self.token_ids)

    def gather(self, *, default: str | None = None) -> list[str | Sequence[int]] | None:
        """All prompts, in the order arguments, files, ids; None where there are none.

        Then a note says what is used instead: ``default`` in words, or the bundled sample prompt.
        """
        from gpt2ln_cli.text.prompts import STANDARD_INPUT, parse_token_ids, read_prompts, sample_prompt

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
