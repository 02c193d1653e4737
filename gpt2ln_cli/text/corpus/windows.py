"""From documents to windows of the context: each from position 0, or packed behind one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gpt2ln_cli.checkpoint.encoding import PIECE, encode, encode_all
from gpt2ln_cli.errors import CheckpointError
from gpt2ln_cli.text.contexts import Context, end_of_text_id
from gpt2ln_cli.text.corpus.documents import Bad, Document, grouped
from gpt2ln_cli.text.corpus.shards import check

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from gpt2ln_cli.checkpoint import Config

Documents = Literal["each", "packed"]
# Short documents are encoded together, up to so many characters.
TOGETHER = 2**17


@dataclass(frozen=True)
class Window(Context):
    """A context of the corpus, and whose tokens it holds."""

    spans: Sequence[tuple[int, str, int]] = ()
    """Of each document in it: where its tokens begin in the window, the source, and the document's offset."""

    def place(self, position: int) -> tuple[str, int]:
        """Source and offset of the document that the token at a position is of."""
        _, source, offset = next(span for span in reversed(self.spans) if span[0] <= position or span is self.spans[0])
        return source, offset


@dataclass
class Taken:
    """What was taken of a shard."""

    documents: int = 0
    empty: int = 0
    """Documents without a token."""
    windows: int = 0
    tokens: int = 0
    """Of the documents; what was put before or between them is not counted."""
    bad: list[Bad] = field(default_factory=list)


def windows(
    documents: Iterable[Document | Bad],
    *,
    config: Config,
    tokenizer: Tokenizer | None,
    how: Documents,
    bos: bool,
    limit: int | None,
    skip_bad: bool,
    taken: Taken,
) -> Iterator[Window]:
    """Tokenize documents and fit them into the model's context.

    Args:
        documents: in their order.
        config: the model's.
        tokenizer: the checkpoint's.
        how: ``each`` document in windows of its own, or ``packed``, with ``<|endoftext|>`` between two.
        bos: begin every window with ``<|endoftext|>``.
        limit: take no further document once there are so many tokens.
        skip_bad: list what can't be used; else it is an error.
        taken: counts what is taken.

    Raises:
        PromptError: a document can't be used.
        CheckpointError: there is no tokenizer, or the model does not fit it.
    """
    if tokenizer is None:
        raise CheckpointError("this checkpoint has no tokenizer, and a corpus is text.")
    start = [end_of_text_id(config, tokenizer)] if bos else []
    room = config.n_positions - len(start)
    ids: list[int] = []
    spans: list[tuple[int, str, int]] = []

    def window(offset: int, tokens: list[int], where: Sequence[tuple[int, str, int]]) -> Window:
        taken.windows += 1
        return Window(taken.documents, offset, 0, None, start + tokens, spans=where)

    for document, tokens in _encoded(documents, tokenizer):
        if limit is not None and taken.tokens >= limit:
            break
        if isinstance(document, Bad):
            taken.bad.append(check(document, skip_bad=skip_bad))
            continue
        if not tokens:
            taken.empty += 1
            continue
        for token in tokens:
            if not 0 <= token < config.vocab_size:
                raise CheckpointError(
                    f"the tokenizer gives id {token} and the model knows only 0 to {config.vocab_size - 1}: they do "
                    "not belong together."
                )
        taken.documents += 1
        taken.tokens += len(tokens)
        if how == "each":
            span = [(0, document.source, document.offset)]
            for begin in range(0, len(tokens), room):
                yield window(begin, tokens[begin : begin + room], span)
            continue
        if taken.documents > 1:
            ids.append(end_of_text_id(config, tokenizer))
        spans.append((len(start) + len(ids), document.source, document.offset))
        ids += tokens
        while len(ids) >= room:
            yield window(0, ids[:room], list(spans))
            ids = ids[room:]
            spans = [(0, document.source, document.offset)] if ids else []
    if ids:
        yield window(0, ids, list(spans))


def _encoded(documents: Iterable[Document | Bad], tokenizer: Tokenizer) -> Iterator[tuple[Document | Bad, list[int]]]:
    """Each document with its tokens, encoded some at a time: asking the library takes longer than a short text."""
    for ahead in grouped(documents, TOGETHER):
        yield from _together(ahead, tokenizer)


def _together(ahead: Sequence[Document | Bad], tokenizer: Tokenizer) -> Iterator[tuple[Document | Bad, list[int]]]:
    texts = [one.text for one in ahead if isinstance(one, Document) and len(one.text) <= PIECE]
    short = iter(encode_all(tokenizer, texts, "the corpus"))
    for one in ahead:
        if isinstance(one, Bad):
            yield one, []
        elif len(one.text) <= PIECE:
            tokens = next(short)
            yield one, tokens if one.text.strip() else []
        else:
            yield one, encode(tokenizer, one.text, f"{one.source}, the document at {one.offset}")[0]
