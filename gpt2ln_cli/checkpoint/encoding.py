"""Asking the tokenizers library for something, so that what a checkpoint's tokenizer is does no harm.

The library is compiled code: no signal takes effect while the main thread is in it, its panics are no ``Exception``
and print themselves, and a file of a few hundred bytes can make it fill the memory. So it is asked in a thread, and
for no more than ``MOST_BYTES`` of text at a time, by the most that the tokenizer may make of it.
"""

from __future__ import annotations

import base64
import contextlib
import math
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from gpt2ln_cli.errors import CheckpointError, PromptError
from gpt2ln_cli.leaving import tidied

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

T = TypeVar("T")

STANDARD_ERROR = 2
REASON_SHOWN = 200
SIGNALS_SEEN_EVERY = 0.1
# Encoding takes some 200 bytes of memory a token, and so a byte.
MOST_BYTES = 2**23
# T5's tokenizer, of those in use, may lengthen a text the most: by its steps' worst cases, 396 times.
MOST_GROWTH = 512
PIECE = 2**16
# GPT-2's pattern has no word in which white space follows something else, and looks at nothing before a word. Where it
# prefixes a text by a space, it does so before all white space but a space.
WORD_BOUNDARY, SPACE_BOUNDARY = re.compile(r"(?<=\S)(?=[ \t\r\n])"), re.compile(r"(?<=\S)(?= )")

ABSENT = msgspec.Raw()

_one_at_a_time = threading.Lock()


def guarded(work: Callable[[], T], failure: str) -> T:
    """What ``work``, which calls the tokenizers library, returns; signals take effect meanwhile.

    Raises:
        CheckpointError: ``failure`` and why; the library raised an exception or panicked.
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(work())
        except BaseException as error:  # a panic is no Exception, and no interrupt comes to this thread
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    with _one_at_a_time, _panics_unheard(raised):
        thread.start()
        while thread.is_alive():
            thread.join(SIGNALS_SEEN_EVERY)
    if raised:
        reason = " ".join(str(raised[0]).split())
        shown = reason if len(reason) <= REASON_SHOWN else reason[:REASON_SHOWN] + "..."
        raise CheckpointError(f"{failure}: {shown}.") from raised[0]
    return returned[0]


@contextlib.contextmanager
def _panics_unheard(raised: list[BaseException]) -> Iterator[None]:
    """Keep standard error aside, where a panic prints a backtrace; say afterwards what was none."""
    with contextlib.ExitStack() as stack:
        try:
            kept = stack.enter_context(tempfile.TemporaryFile())
            own = os.dup(STANDARD_ERROR)
        except OSError:  # there is no standard error, or no place to keep it
            yield
            return
        os.dup2(kept.fileno(), STANDARD_ERROR)
        try:
            # A signal, too, is answered on standard error.
            with tidied(partial(os.dup2, own, STANDARD_ERROR)):
                yield
        finally:
            os.close(own)
            if all(isinstance(error, Exception) for error in raised):
                kept.seek(0)
                with contextlib.suppress(OSError):
                    os.write(STANDARD_ERROR, kept.read())


class Parts(msgspec.Struct, omit_defaults=True):
    """What ``tokenizer.json`` holds, read only as far as it is checked."""

    version: msgspec.Raw = ABSENT
    truncation: msgspec.Raw = ABSENT
    padding: msgspec.Raw = ABSENT
    added_tokens: msgspec.Raw = ABSENT
    normalizer: Any = None
    pre_tokenizer: Any = None
    post_processor: Any = None
    decoder: Any = None
    model: msgspec.Raw = ABSENT


def checked(content: bytes, name: str) -> bytes:
    """The content of a ``tokenizer.json``, without what the library does not know and what a later key replaces.

    Raises:
        CheckpointError: it is no such file, its steps make far too much of a text, or one claims more than it has.
    """
    try:
        parts = msgspec.json.decode(content, type=Parts)
        growth = max(_growth(parts.normalizer) * _growth(parts.pre_tokenizer), _growth(parts.decoder))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is not a tokenizer: {error}.") from error
    if growth > MOST_GROWTH:
        raise CheckpointError(
            f"{name} may lengthen a text more than {MOST_GROWTH} times, which no tokenizer in use does; replace it."
        )
    return msgspec.json.encode(parts)


def encode_whole(tokenizer: Tokenizer, text: str, name: str) -> Encoding:
    """The encoding of a text, special tokens neither added nor cut.

    Raises:
        PromptError: the text is too long to be encoded at once.
        CheckpointError: the tokenizer fails.
    """
    # UTF-8 has at most four bytes a character: what is short need not be measured.
    if len(text) > MOST_BYTES // MOST_GROWTH // 4:
        most, size = int(MOST_BYTES / _text_growth(tokenizer)), len(text.encode("utf-8"))
        if size > most:
            raise PromptError(
                f"{name} has {size:,} bytes that can only be encoded together, and this tokenizer takes {most:,} "
                "at once; split it into several prompts."
            )
    # A batch of one: unlike encode, it lets other threads run meanwhile.
    (encoding,) = guarded(
        lambda: tokenizer.encode_batch([text], add_special_tokens=False),
        f"the checkpoint's tokenizer can't encode {name}",
    )
    return encoding


def encode(tokenizer: Tokenizer, text: str, name: str, *, enough: int | None = None) -> tuple[list[int], int]:
    """The token ids of a text, encoded in pieces where that changes none of them.

    Args:
        tokenizer: the checkpoint's.
        text: what to encode.
        name: what to call it in errors.
        enough: stop after a piece where there are more ids than these; None encodes everything.

    Returns:
        The ids, and how many characters of the text remain that were not encoded.

    Raises:
        PromptError: the text, or a piece of it, is too long to be encoded at once.
        CheckpointError: the tokenizer fails.
    """
    boundaries = _boundaries(tokenizer) if len(text) > PIECE else None
    if boundaries is None:
        return list(encode_whole(tokenizer, text, name).ids), 0
    ids: list[int] = []
    begin = 0
    while begin < len(text) and (enough is None or len(ids) <= enough):
        boundary = boundaries.search(text, begin + PIECE)
        end = boundary.start() if boundary else len(text)
        ids += encode_whole(tokenizer, text[begin:end], name).ids
        begin = end
    return ids, len(text) - begin


def encode_all(tokenizer: Tokenizer, texts: Sequence[str], name: str) -> list[list[int]]:
    """The token ids of several texts of together no more than some 100,000 characters.

    Raises:
        CheckpointError: the tokenizer fails.
    """
    found = guarded(
        lambda: tokenizer.encode_batch(list(texts), add_special_tokens=False),
        f"the checkpoint's tokenizer can't encode {name}",
    )
    return [list(encoding.ids) for encoding in found]


def _boundaries(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """Where a text may be cut without a change to its ids: where words of GPT-2's kind begin; None is nowhere."""
    from tokenizers import pre_tokenizers

    splitter = tokenizer.pre_tokenizer
    if tokenizer.normalizer is not None or not isinstance(splitter, pre_tokenizers.ByteLevel) or not splitter.use_regex:
        return None
    for added in tokenizer.get_added_tokens_decoder().values():
        if added.lstrip or added.rstrip or any(char.isspace() for char in added.content):
            return None
    return SPACE_BOUNDARY if splitter.add_prefix_space else WORD_BOUNDARY


def _state(step: Any) -> Any:
    """A part of a tokenizer as tokenizer.json has it."""
    return None if step is None else msgspec.json.decode(step.__getstate__())


def _text_growth(tokenizer: Tokenizer) -> float:
    return _growth(_state(tokenizer.normalizer)) * _growth(_state(tokenizer.pre_tokenizer))


def _growth(state: Any) -> float:
    """How many times longer, in bytes, a step may make a text at most.

    A step is told by its fields, since old files name no type. Those that are not here lengthen a text little, and no
    more where they are repeated.
    """

    def size(text: str) -> int:
        return len(text.encode("utf-8"))

    match state:
        case {"normalizers": list(steps)} | {"pretokenizers": list(steps)} | {"decoders": list(steps)}:
            return math.prod(map(_growth, steps), start=1.0)
        case {"type": "ByteLevel"} | {"trim_offsets": _}:
            # Most bytes become characters of two, and each word may be given a space.
            return 4 if state.get("add_prefix_space") else 2
        case {"pattern": {"String": str(pattern)}, "content": str(content)}:
            return max(1, size(content) / max(1, size(pattern)))
        case {"pattern": _, "content": str(content)}:
            return 1 + size(content)  # the pattern may match nothing, between any two characters
        case {"prepend": str(text)}:
            return 1 + size(text)
        case {"replacement": str(char)}:
            return 2 * size(char)  # of spaces, and before each word
        case {"precompiled_charsmap": str(charsmap)}:
            # The size of a table, the table, and what characters are replaced by, each with a zero behind it.
            raw = base64.b64decode(charsmap)
            table = int.from_bytes(raw[:4], "little")
            if table > len(raw):
                raise ValueError(f"a table of {table} bytes out of {len(raw)}")
            return max(1, max(map(len, raw[4 + table :].split(b"\0"))))
    return 1
