"""The errors that gpt2ln raises on purpose; each carries the exit code of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SHOWN = 6


class Gpt2lnError(Exception):
    """Something the user can mend. The message is one line: what was wrong, where, and what to do."""

    exit_code = 1


class UsageError(Gpt2lnError):
    """The words of the call are off: an unknown layer, an option out of range, an output that can't be written."""

    exit_code = 2


class CheckpointError(Gpt2lnError):
    """The checkpoint can't be found, read or trusted."""

    exit_code = 3


class PromptError(Gpt2lnError):
    """The prompt can't be used: empty, not text, ids out of range, longer than the context."""

    exit_code = 4


def is_want_of_memory(error: Exception) -> bool:
    """Whether an error says that there is no memory, which torch does by a RuntimeError.

    On a GPU it has a kind of its own, on a CPU the words of its allocator.
    """
    by_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: " in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and by_torch)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question that names what comes nearest to a mistyped word; nothing where nothing comes near."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1)
    return f"Did you mean '{close[0]}'?" if close else ""


def listed(names: Sequence[str]) -> str:
    """The first names, in a message, and whether there are more."""
    return ", ".join(names[:SHOWN]) + " and more" * (len(names) > SHOWN)
