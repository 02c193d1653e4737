"""From prompts to contexts: tokenized, and fitted into the model's context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Literal

from gpt2ln_cli.checkpoint.encoding import encode, guarded
from gpt2ln_cli.checkpoint.tokenizer_config import END_OF_TEXT
from gpt2ln_cli.errors import CheckpointError, PromptError
from gpt2ln_cli.records import PromptInfo

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from gpt2ln_cli.checkpoint import Config

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
Overflow = Literal["error", "truncate", "window"]


@dataclass(frozen=True)
class Context:
    """One context for the model: the token ids of a prompt, or of a window of it."""

    prompt: int
    offset: int
    dropped: int
    text: str | None
    token_ids: list[int]
    unread: int = 0


def make_contexts(
    prompts: Iterable[str | Sequence[int]],
    *,
    config: Config,
    tokenizer: Tokenizer | None,
    bos: bool = False,
    overflow: Overflow = "error",
) -> Iterator[Context]:
    """Tokenize the prompts and fit them into the model's context, one when it is asked for.

    Args:
        prompts: each a text, or token ids as they are; they may be endless.
        config: the model's configuration, for the context's and the vocabulary's size.
        tokenizer: the checkpoint's; None only where every prompt is token ids.
        bos: begin every sequence with ``<|endoftext|>``.
        overflow: what becomes of a prompt longer than the context: an error, its beginning, or consecutive windows
            that share no token, each with positions from 0.

    Raises:
        PromptError: a prompt is empty, is not text, has an id that the model lacks, or is too long.
        CheckpointError: text was given and the checkpoint has no tokenizer, or one that the model does not fit.
    """
    start = [_end_of_text_id(config, tokenizer)] if bos else []
    room = config.n_positions - len(start)
    index = -1
    for index, prompt in enumerate(prompts):
        text = prompt if isinstance(prompt, str) else None
        if isinstance(prompt, str):
            ids, unread = _encode(prompt, index, tokenizer, None if overflow == "window" else room)
        else:
            ids, unread = list(prompt), 0
        if not ids:
            raise PromptError(f"prompt {index} is empty: there is no token to normalize.")
        for i in ids:
            if not 0 <= i < config.vocab_size:
                if text is not None:
                    raise CheckpointError(
                        f"the tokenizer gives id {i} and the model knows only 0 to {config.vocab_size - 1}: they do "
                        "not belong together; give token ids instead."
                    )
                raise PromptError(
                    f"prompt {index}: token id {i} is outside the vocabulary, 0 to {config.vocab_size - 1}."
                )
        if len(ids) <= room or overflow == "truncate":
            windows = [ids[:room]]
        elif overflow == "window":
            windows = [ids[begin : begin + room] for begin in range(0, len(ids), room)]
        else:
            more = "more than " if unread else ""
            added = " (one is <|endoftext|>)" if bos else ""
            raise PromptError(
                f"prompt {index} has {more}{len(ids) + len(start)} tokens{added} and the context has "
                f"{config.n_positions}; shorten it, or pass --overflow truncate (its beginning) or --overflow window "
                "(all of it, in pieces)."
            )
        dropped = len(ids) - sum(map(len, windows))
        for number, window in enumerate(windows):
            yield Context(index, number * room, dropped, text, start + window, unread)
    if index < 0:
        raise PromptError("no prompt was given.")


def beginning(contexts: Sequence[Context], tokens: int) -> list[Context]:
    """The first contexts of no more than ``tokens`` tokens together, the last one cut short where need be."""
    kept = []
    for context in contexts:
        cut = max(0, len(context.token_ids) - tokens)
        kept.append(replace(context, dropped=context.dropped + cut, token_ids=context.token_ids[:tokens]))
        tokens -= len(kept[-1].token_ids)
        if not tokens:
            break
    return kept


def _encode(prompt: str, index: int, tokenizer: Tokenizer | None, enough: int | None) -> tuple[list[int], int]:
    """Token ids, and how many characters remain unread where more ids than ``enough`` were found before."""
    if tokenizer is None:
        raise CheckpointError("this checkpoint has no tokenizer: give token ids (--token-ids 464,3290).")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(f"prompt {index} is not valid text (character {error.start} is half of a pair).") from error
    return encode(tokenizer, prompt, f"prompt {index}", enough=enough)


def _end_of_text_id(config: Config, tokenizer: Tokenizer | None) -> int:
    known = tokenizer.token_to_id(END_OF_TEXT) if tokenizer is not None else None
    start = known if known is not None else config.bos_token_id
    if start is None or not 0 <= start < config.vocab_size:
        raise CheckpointError(f"this checkpoint knows no {END_OF_TEXT} to prepend; leave --bos out.")
    return start


def token_texts(token_ids: Sequence[int], tokenizer: Tokenizer | None) -> list[str] | None:
    """The text of each token by itself; bytes that are no whole character read as escapes of two hexadecimal digits.

    Only of byte-level BPE, which is GPT-2's, the bytes are known; elsewhere they read as U+FFFD.
    """
    if tokenizer is None:
        return None

    known, numbers = tokenizer, _byte_numbers()
    byte_level = type(known.decoder).__name__ == "ByteLevel"

    @cache
    def text(token_id: int) -> str:
        decoded = str(known.decode([token_id], skip_special_tokens=False))
        if byte_level and REPLACEMENT in decoded:
            spelled = known.id_to_token(token_id) or ""
            if all(char in numbers for char in spelled):
                return bytes(numbers[char] for char in spelled).decode("utf-8", "backslashreplace")
        return decoded

    return guarded(lambda: [text(token_id) for token_id in token_ids], "the checkpoint's tokenizer can't decode")


@cache
def _byte_numbers() -> dict[str, int]:
    """Which byte each character of GPT-2's vocabulary stands for: printable ones for themselves, others from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("\xa1"), ord("\xac") + 1), *range(ord("\xae"), 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def prompt_infos(contexts: Sequence[Context], tokenizer: Tokenizer | None) -> list[PromptInfo]:
    """The contexts as a record lists them."""
    return [
        PromptInfo(
            index=index,
            prompt=context.prompt,
            offset=context.offset,
            dropped=context.dropped,
            unread=context.unread,
            # Once is enough: with each window of a book, the record would grow with the square of its length.
            text=context.text if context.offset == 0 else None,
            token_ids=context.token_ids,
            tokens=token_texts(context.token_ids, tokenizer),
            length=len(context.token_ids),
        )
        for index, context in enumerate(contexts)
    ]
