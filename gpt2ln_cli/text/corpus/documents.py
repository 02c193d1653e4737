"""What a document is: where one ends in a stream of bytes, and what stands in it."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Separator = Literal["line", "blank", "endoftext", "file"]
SEPARATORS: dict[Separator, re.Pattern[bytes] | None] = {
    "line": re.compile(rb"\n"),
    "blank": re.compile(rb"\n[ \t\r\f\v]*\n"),
    "endoftext": re.compile(rb"<\|endoftext\|>"),
    "file": None,
}
# So many bytes are read at a time; a separator that begins in the last few of them is looked for again.
CHUNK, OVERLAP = 2**16, 2**10


@dataclass(frozen=True)
class Document:
    """A text and where it stands."""

    source: str
    offset: int
    """Its first byte in the unpacked source; of a table, its row; of texts handed over, its number."""
    text: str


@dataclass(frozen=True)
class Bad:
    """What can't be used, and why."""

    source: str
    place: str
    """Such as ``line 3``; empty where it is the whole source."""
    reason: str

    def __str__(self) -> str:
        return f"{self.source}{', ' if self.place else ''}{self.place}: {self.reason}"


def grouped(documents: Iterable[Document | Bad], characters: int) -> Iterator[list[Document | Bad]]:
    """The documents in lists, each of which ends where it has so many characters, the last one with what is left."""
    group: list[Document | Bad] = []
    size = 0
    for document in documents:
        group.append(document)
        size += len(document.text) if isinstance(document, Document) else 0
        if size >= characters:
            yield group
            group, size = [], 0
    if group:
        yield group


def cut(
    read: Callable[[int], bytes], separator: Separator, size: int, damages: tuple[type[Exception], ...] = ()
) -> Iterator[tuple[int, bytes]]:
    """Cut a stream into ranges of at least ``size`` bytes that end at a separator.

    Args:
        read: gives the next bytes of the stream, at most so many; none at its end.
        separator: where a document may end.
        size: how long a range is at least, the last one apart.
        damages: what ``read`` raises where the stream is damaged; what ends before that is yielded first.

    Yields:
        Where each range begins, and what stands in it.
    """
    pattern = SEPARATORS[separator]
    buffer = bytearray()
    begin = searched = 0
    while True:
        try:
            chunk = read(CHUNK)
        except damages:
            last = list(pattern.finditer(buffer))[-1:] if pattern else []
            if last:
                yield begin, bytes(buffer[: last[0].end()])
            raise
        if not chunk:
            break
        buffer += chunk
        while pattern is not None and len(buffer) > size:
            match = pattern.search(buffer, max(size - 1, searched - OVERLAP))
            if match is None:
                searched = len(buffer)
                break
            yield begin, bytes(buffer[: match.end()])
            begin += match.end()
            del buffer[: match.end()]
            searched = 0
    if buffer:
        yield begin, bytes(buffer)


def pieces_of(data: bytes, separator: Separator) -> Iterator[tuple[int, bytes]]:
    """The documents in a range of bytes: where each begins in it, and its bytes, without line ends around it.

    What is blank is none.
    """
    pattern = SEPARATORS[separator]
    begin = 0
    ends = [(match.start(), match.end()) for match in pattern.finditer(data)] if pattern else []
    for stop, end in [*ends, (len(data), len(data))]:
        piece = data[begin:stop]
        if piece.strip():
            lead = len(piece) - len(piece.lstrip(b"\r\n"))
            yield begin + lead, piece[lead:].rstrip(b"\r\n")
        begin = end


def texts(
    source: str,
    begin: int,
    data: bytes,
    *,
    separator: Separator,
    column: str | None,
    lines_before: Callable[[], int],
) -> Iterator[Document | Bad]:
    """The documents in a range of a source.

    Args:
        source: its name.
        begin: where the range begins.
        data: its bytes.
        separator: where a document ends.
        column: the field of JSON lines that holds the text; None where the bytes are text.
        lines_before: how many lines end before the range; asked where something is wrong.
    """
    lead = len(codecs.BOM_UTF8) if begin == 0 and data.startswith(codecs.BOM_UTF8) else 0
    before: int | None = None
    for start, piece in pieces_of(data[lead:], "line" if column is not None else separator):
        try:
            text = piece.decode("utf-8")
            if column is not None:
                text = _field(text, column)
        except ValueError as error:
            if before is None:
                before = lines_before()
            at = lead + start + (error.start if isinstance(error, UnicodeDecodeError) else 0)
            wrong = (
                f"not UTF-8 text (byte {begin + at} is 0x{data[at]:02x})"
                if isinstance(error, UnicodeDecodeError)
                else str(error)
            )
            line = before + data.count(b"\n", 0, at) + 1
            yield Bad(source, f"line {line}", wrong)
            continue
        yield Document(source, begin + lead + start, text)


def _field(line: str, column: str) -> str:
    wanted = f"not a JSON object with a string under '{column}'"
    try:
        text = json.loads(line)[column]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise ValueError(wanted) from None
    if not isinstance(text, str):
        raise ValueError(wanted)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{wanted}: half of a pair of surrogates stands in it") from None
    return text
