"""A corpus cut into shards, which depends on nothing but its sources, and what stands in one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from gpt2ln_cli.errors import PromptError
from gpt2ln_cli.text.corpus.documents import CHUNK, OVERLAP, SEPARATORS, Bad, Document, Separator, cut, texts
from gpt2ln_cli.text.corpus.sources import Source, Unpacked, check_unchanged, damages, opened, parquet, unreachable

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

# A shard has a thousandth of the corpus, but no less and no more than this. What is under way is lost by a kill.
LEAST_BYTES, MOST_BYTES, SHARDS = 2**20, 2**23, 1024
# A limited run takes some documents of so many shards.
SAMPLED = 64
TEXT = "text"
ROWS = 1024


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A part of a source: bytes, unpacked, or row groups of a table."""

    source: int
    begin: int
    end: int
    bytes: int
    """How much of the corpus it is, for telling how far a run has come."""


Shard = list[Piece]


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """How a corpus was cut."""

    shards: list[Shard]
    of: int
    """How many there are of the whole corpus, of which a limited run takes some."""
    bad: list[Bad]
    """Sources that can't be read, or not to their end."""


def check(bad: Bad, *, skip_bad: bool) -> Bad:
    """What is bad, where that is allowed.

    Raises:
        PromptError: it is not.
    """
    if skip_bad:
        return bad
    raise PromptError(f"{bad}; mend it, or pass --skip-bad to leave out what can't be read and list it.")


def cut_corpus(
    sources: Sequence[Source],
    *,
    separator: Separator,
    column: str | None,
    sampled: bool,
    skip_bad: bool,
    size: int | None = None,
) -> Cut:
    """Cut the sources, each in ranges that end at a separator, and gather small ones.

    Args:
        sources: the files.
        separator: where a document of a text file ends.
        column: of JSON lines and tables, what holds the text.
        sampled: take ``SAMPLED`` of the shards, chosen by hash.
        skip_bad: list what can't be read; else it is an error.
        size: how many bytes a shard has at least; None follows from the sources.

    Raises:
        PromptError: a source can't be read.
    """
    if size is None:
        size = max(LEAST_BYTES, min(MOST_BYTES, sum(source.size for source in sources) // SHARDS))
    bad: list[Bad] = []
    shards: list[Shard] = []
    gathered: Shard = []
    for number, source in enumerate(sources):
        pieces = _pieces(source, number, separator=separator, column=column or TEXT, size=size)
        try:
            if source.size == 0:
                bad.append(check(Bad(source.name, "", "the file is empty"), skip_bad=skip_bad))
                continue
            for piece in pieces:
                gathered.append(piece)
                if sum(one.bytes for one in gathered) >= size:
                    shards.append(gathered)
                    gathered = []
        except unreachable() as error:
            raise PromptError(f"can't read {source.name}: {' '.join(str(error).split())}.") from error
        except damages() as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            bad.append(check(Bad(source.name, "", f"damaged or cut short ({reason})"), skip_bad=skip_bad))
        except KeyError as error:
            bad.append(check(Bad(source.name, "", str(error.args[0])), skip_bad=skip_bad))
    if gathered:
        shards.append(gathered)
    if not shards:
        raise PromptError("the corpus holds no document that can be read.")
    chosen = list(range(len(shards)))
    if sampled:
        chosen = sorted(sorted(chosen, key=lambda number: hashlib.sha256(str(number).encode()).digest())[:SAMPLED])
    return Cut(shards=[shards[number] for number in chosen], of=len(shards), bad=bad)


def _pieces(source: Source, number: int, *, separator: Separator, column: str, size: int) -> Iterator[Piece]:
    if source.kind == "table":
        yield from _row_groups(source, number, column)
        return
    where: Separator = "line" if source.kind == "lines" else separator
    if source.packing is not None:
        with closing(Unpacked(source)) as stream:
            for begin, data in cut(stream.read, where, size, damages()):
                yield Piece(number, begin, begin + len(data), len(data))
    else:
        with closing(opened(source)) as stream:
            for begin, end in _ranges(stream, source.size, where, size):
                yield Piece(number, begin, end, end - begin)


def _ranges(stream: BinaryIO, total: int, separator: Separator, size: int) -> Iterator[tuple[int, int]]:
    """The ranges of a file, of which no more is read than what is about the cuts."""
    pattern = SEPARATORS[separator]
    begin = 0
    while pattern is not None and begin + size < total:
        start = begin + size - 1
        stream.seek(start)
        buffer = bytearray()
        match = None
        while match is None and (chunk := stream.read(CHUNK)):
            searched = max(0, len(buffer) - OVERLAP)
            buffer += chunk
            match = pattern.search(buffer, searched)
        if match is None or start + match.end() >= total:
            break
        yield begin, start + match.end()
        begin = start + match.end()
    yield begin, total


def _row_groups(source: Source, number: int, column: str) -> Iterator[Piece]:
    with parquet(source) as table:
        names = table.schema_arrow.names
        if column not in names:
            raise KeyError(f"no column '{column}'; it has {', '.join(names)}: choose with --column")
        place = next(n for n in range(len(table.schema)) if table.schema.column(n).path == column)
        for group in range(table.num_row_groups):
            held = table.metadata.row_group(group).column(place).total_uncompressed_size
            yield Piece(number, group, group + 1, held)


class Reader:
    """Reads shards, best in their order: a packed stream is gone on with where the last shard left it.

    Args:
        sources: the corpus.
        separator: where a document of a text file ends.
        column: of JSON lines and tables, what holds the text.
    """

    def __init__(self, sources: Sequence[Source], *, separator: Separator, column: str | None) -> None:
        self._sources, self._separator, self._column = sources, separator, column or TEXT
        self._open: tuple[int, Unpacked, int] | None = None
        self._table: tuple[int, ParquetFile] | None = None
        self._held = ExitStack()

    def close(self) -> None:
        """Close what is open."""
        self._held.close()
        self._open = self._table = None

    def read(self, shard: Shard) -> Iterator[Document | Bad]:
        """Its documents in order; a document that can't be used is told in its place.

        Raises:
            PromptError: a source has changed, or can't be read any more.
        """
        sources = [self._sources[number] for number in dict.fromkeys(piece.source for piece in shard)]
        for source in sources:
            check_unchanged(source)
        for piece in shard:
            source = self._sources[piece.source]
            try:
                yield from self._rows(source, piece) if source.kind == "table" else self._text(source, piece)
            except damages() as error:
                check_unchanged(source)
                raise PromptError(f"can't read {source.name}: {' '.join(str(error).split())}.") from error
        for source in sources:
            check_unchanged(source)

    def _text(self, source: Source, piece: Piece) -> Iterator[Document | Bad]:
        data = self._range(source, piece)
        yield from texts(
            source.name,
            piece.begin,
            data,
            separator=self._separator,
            column=self._column if source.kind == "lines" else None,
            lines_before=lambda: _lines_before(source, piece.begin),
        )

    def _range(self, source: Source, piece: Piece) -> bytes:
        length = piece.end - piece.begin
        if source.packing is None:
            with closing(opened(source)) as file:
                file.seek(piece.begin)
                return file.read(length)
        if self._open is None or self._open[0] != piece.source or self._open[2] > piece.begin:
            self.close()
            self._open = (piece.source, self._held.enter_context(closing(Unpacked(source))), 0)
        _, stream, position = self._open
        try:
            for _ in _chunks(stream, piece.begin - position):
                pass
            data = b"".join(_chunks(stream, length))
        except BaseException:
            self.close()  # nobody knows where it is
            raise
        self._open = (piece.source, stream, piece.end)
        return data

    def _rows(self, source: Source, piece: Piece) -> Iterator[Document | Bad]:
        if self._table is None or self._table[0] != piece.source:
            self.close()
            self._table = (piece.source, self._held.enter_context(parquet(source)))
        _, table = self._table
        row = sum(table.metadata.row_group(group).num_rows for group in range(piece.begin))
        groups = list(range(piece.begin, piece.end))
        for batch in table.iter_batches(batch_size=ROWS, row_groups=groups, columns=[self._column]):
            for text in batch.column(0).to_pylist():
                if isinstance(text, str):
                    yield Document(source.name, row, text)
                else:
                    yield Bad(source.name, f"row {row}", f"no text under '{self._column}'")
                row += 1


def _chunks(stream: Unpacked, length: int) -> Iterator[bytes]:
    while length > 0 and (chunk := stream.read(min(length, 2**20))):
        yield chunk
        length -= len(chunk)


def _lines_before(source: Source, position: int) -> int:
    with closing(Unpacked(source)) as stream:
        return sum(chunk.count(b"\n") for chunk in _chunks(stream, position))
