"""From contexts to batches of similar length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.arguments import whole_number

if TYPE_CHECKING:
    from gpt2ln_cli.text.contexts import Context

# About this many tokens a forward pass on a CPU: beyond some 2,700 the MLP's temporaries outgrow the allocator's cache.
BATCH_TOKENS = 1024
# A batch's longest sequence exceeds its shortest by at most this share, or by this many tokens.
LENGTH_SLACK, LENGTH_SLACK_TOKENS = 0.25, 8
# Contexts are sorted by length among at most so many, of at most so many batches' tokens.
AHEAD, AHEAD_BATCHES = 1024, 64

Numbered = tuple[int, "Context"]


def check_batches(batch_size: int | None, batch_tokens: int | None) -> None:
    """Refuse what no batch can be made with.

    Raises:
        UsageError: one of them is below 1.
    """
    for name, value in (("batch size", batch_size), ("batch tokens", batch_tokens)):
        if value is not None:
            whole_number(name, value, least=1)


def in_batches(
    contexts: Iterable[Context], *, batch_size: int | None = None, batch_tokens: int = BATCH_TOKENS
) -> Iterator[list[Numbered]]:
    """Group contexts of similar length, looking ahead no further than to ``AHEAD`` of them.

    Args:
        contexts: in their order; they may be endless.
        batch_size: most contexts in a batch; None leaves it to the tokens.
        batch_tokens: most tokens in a batch, padding included; a longer context is a batch by itself.

    Yields:
        Contexts with their numbers; every one is in exactly one batch, and which depends on nothing but the arguments.

    Raises:
        UsageError: ``batch_size`` or ``batch_tokens`` is below 1.
    """
    check_batches(batch_size, batch_tokens)
    ahead: list[Numbered] = []
    tokens = 0
    for numbered in enumerate(contexts):
        ahead.append(numbered)
        tokens += len(numbered[1].token_ids)
        if len(ahead) == AHEAD or tokens >= AHEAD_BATCHES * batch_tokens:
            yield from _grouped(ahead, batch_size, batch_tokens)
            ahead, tokens = [], 0
    yield from _grouped(ahead, batch_size, batch_tokens)


def plan(
    contexts: Sequence[Context], *, batch_size: int | None = None, batch_tokens: int = BATCH_TOKENS
) -> list[list[int]]:
    """The numbers of the contexts in each batch; as for :func:`in_batches`."""
    batches = in_batches(contexts, batch_size=batch_size, batch_tokens=batch_tokens)
    return [[number for number, _ in batch] for batch in batches]


def _grouped(contexts: Sequence[Numbered], batch_size: int | None, batch_tokens: int) -> Iterator[list[Numbered]]:
    batch: list[Numbered] = []
    for numbered in sorted(contexts, key=_length):
        length = _length(numbered)
        shortest = _length(batch[0]) if batch else length
        fits = (
            length <= max(shortest * (1 + LENGTH_SLACK), shortest + LENGTH_SLACK_TOKENS)
            and length * (len(batch) + 1) <= batch_tokens
            and (batch_size is None or len(batch) < batch_size)
        )
        if batch and not fits:
            yield batch
            batch = []
        batch.append(numbered)
    if batch:
        yield batch


def _length(numbered: Numbered) -> int:
    return len(numbered[1].token_ids)
