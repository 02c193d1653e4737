"""A corpus that comes through standard input, and can be read but once."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from gpt2ln_cli.errors import PromptError
from gpt2ln_cli.text.corpus.documents import Bad, Document, Separator, cut, texts
from gpt2ln_cli.text.corpus.shards import LEAST_BYTES

NAME = "standard input"


def documents_of(separator: Separator, column: str | None) -> Iterator[Document | Bad]:
    """The documents of standard input, some megabytes at a time: text, or JSON lines where a column is named.

    Raises:
        PromptError: it is closed, or can't be read.
    """
    if sys.stdin is None:
        raise PromptError("standard input is closed: there is no corpus to read.")
    stream = sys.stdin.buffer
    lines = 0

    def so_far() -> int:
        return lines

    try:
        for begin, data in cut(stream.read, "line" if column else separator, LEAST_BYTES):
            yield from texts(NAME, begin, data, separator=separator, column=column, lines_before=so_far)
            lines += data.count(b"\n")
    except OSError as error:
        raise PromptError(f"can't read standard input: {error.strerror}.") from error
