"""From files, text and token ids to sequences, and from sequences to right-padded batches."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gpt2ln_cli.arguments import whole_number
from gpt2ln_cli.checkpoint.encoding import encode, guarded
from gpt2ln_cli.checkpoint.tokenizer_config import END_OF_TEXT
from gpt2ln_cli.errors import CheckpointError, PromptError, UsageError
from gpt2ln_cli.paths import user_path
from gpt2ln_cli.records import PromptInfo

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from gpt2ln_cli.checkpoint import Config

Overflow = Literal["error", "truncate", "window"]
STANDARD_INPUT = "-"
SAMPLE = "default.txt"
LONG_SAMPLE = "full_context.txt"
HELD_OUT = "held_out.txt"
# Prompts are held in memory; a sparse file or a device has terabytes for nothing.
MOST_BYTES = 256 * 2**20
# About this many tokens a forward pass on a CPU: beyond some 2,700 the MLP's temporaries outgrow the allocator's cache.
BATCH_TOKENS = 1024
# A batch's longest sequence exceeds its shortest by at most this share, or by this many tokens.
LENGTH_SLACK, LENGTH_SLACK_TOKENS = 0.25, 8


@dataclass(frozen=True)
class Context:
    """One context for the model: the token ids of a prompt, or of a window of it."""

    prompt: int
    offset: int
    dropped: int
    text: str | None
    token_ids: list[int]
    unread: int = 0


def sample_prompts_folder() -> Path:
    """The folder of bundled prompts: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "sample_prompts"
    return installed if installed.is_dir() else package.parent / "sample_prompts"


def sample_prompt() -> str:
    """The prompt used where none is given."""
    return read_prompts(sample_prompts_folder() / SAMPLE)[0]


def long_sample(name: str) -> str:
    """A bundled passage as one prompt: ``LONG_SAMPLE``, or ``HELD_OUT``, which the bundled model was not trained on."""
    return read_prompts(sample_prompts_folder() / name, whole_file=True)[0]


def read_prompts(source: str | Path, *, whole_file: bool = False) -> list[str]:
    """Read prompts from a file, or from standard input for ``-``.

    A ``.jsonl`` file has one JSON object a line with its prompt under ``text``. Any other file is text with one prompt
    a line, blank lines apart, or one prompt altogether with ``whole_file``.

    Raises:
        PromptError: the file can't be read, is not UTF-8, is not what its name claims, or holds no prompt.
    """
    name = "standard input" if source == STANDARD_INPUT else str(source)
    if source == STANDARD_INPUT and sys.stdin is None:
        raise PromptError("standard input is closed: there is no prompt to read.")
    try:
        if source == STANDARD_INPUT:
            raw = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with user_path(source).open("rb") as file:
                raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise PromptError(f"{name} has more than the {MOST_BYTES:,} bytes that gpt2ln reads of prompts; split it.")
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise PromptError(f"can't read prompts from {name}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PromptError(f"{name} is not UTF-8 text (byte {error.start} is 0x{raw[error.start]:02x}).") from error
    if name.endswith(".jsonl"):
        if whole_file:
            raise UsageError(f"--whole-file makes one prompt of a text file; {name} is JSON lines.")
        prompts = _parse_json_lines(text, name)
    elif whole_file:
        prompts = [text.rstrip("\r\n")] if text.strip() else []
    else:
        prompts = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not prompts:
        raise PromptError(f"{name} holds no prompt: it is empty or blank.")
    return prompts


def _parse_json_lines(text: str, name: str) -> list[str]:
    prompts = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            prompt = json.loads(line)["text"]
            if not isinstance(prompt, str):
                raise TypeError
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise PromptError(f"{name}, line {number}: not a JSON object with a string under 'text'.") from error
        prompts.append(prompt)
    return prompts


def parse_token_ids(text: str) -> list[int]:
    """Read ``464,3290`` (or the same with spaces) into token ids.

    Raises:
        PromptError: the text is empty or not such a list.
    """
    parts = text.replace(",", " ").split()
    if not parts:
        raise PromptError("the list of token ids is empty; write --token-ids 464,3290.")
    for part in parts:
        if not part.isdecimal():
            raise PromptError(f"token id '{part}' is not a number from 0; write --token-ids 464,3290.")
        if len(part) > 18:
            raise PromptError(f"token id {part} is beyond any vocabulary.")
    return [int(part) for part in parts]


def make_contexts(
    prompts: Sequence[str | Sequence[int]],
    *,
    config: Config,
    tokenizer: Tokenizer | None,
    bos: bool = False,
    overflow: Overflow = "error",
) -> list[Context]:
    """Tokenize the prompts and fit them into the model's context.

    Args:
        prompts: each a text, or token ids as they are.
        config: the model's configuration, for the context's and the vocabulary's size.
        tokenizer: the checkpoint's; None only where every prompt is token ids.
        bos: begin every sequence with ``<|endoftext|>``.
        overflow: what becomes of a prompt longer than the context: an error, its beginning, or consecutive windows
            that share no token, each with positions from 0.

    Raises:
        PromptError: a prompt is empty, is not text, has an id that the model lacks, or is too long.
        CheckpointError: text was given and the checkpoint has no tokenizer, or one that the model does not fit.
    """
    if not prompts:
        raise PromptError("no prompt was given.")
    start = [_end_of_text_id(config, tokenizer)] if bos else []
    room = config.n_positions - len(start)
    contexts = []
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
        contexts += [
            Context(index, number * room, dropped, text, start + window, unread)
            for number, window in enumerate(windows)
        ]
    return contexts


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
    """The text of each token by itself; a token that is part of a character reads as U+FFFD."""
    if tokenizer is None:
        return None

    known = tokenizer

    @cache
    def text(token_id: int) -> str:
        return str(known.decode([token_id], skip_special_tokens=False))

    return guarded(lambda: [text(token_id) for token_id in token_ids], "the checkpoint's tokenizer can't decode")


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


def check_batches(batch_size: int | None, batch_tokens: int | None) -> None:
    """Refuse what no batch can be made with.

    Raises:
        UsageError: one of them is below 1.
    """
    for name, value in (("batch size", batch_size), ("batch tokens", batch_tokens)):
        if value is not None:
            whole_number(name, value, least=1)


def plan_batches(
    lengths: Sequence[int], *, batch_size: int | None = None, batch_tokens: int = BATCH_TOKENS
) -> list[list[int]]:
    """Group sequences of similar length into batches.

    Args:
        lengths: tokens of each sequence.
        batch_size: most sequences in a batch; None leaves it to the tokens.
        batch_tokens: most tokens in a batch, padding included; a longer sequence is a batch by itself.

    Returns:
        Indices into ``lengths``; every one occurs in exactly one batch.

    Raises:
        UsageError: ``batch_size`` or ``batch_tokens`` is below 1.
    """
    check_batches(batch_size, batch_tokens)
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        length = lengths[index]
        batch = batches[-1] if batches else []
        shortest = lengths[batch[0]] if batch else 0
        fits = (
            batch
            and length <= max(shortest * (1 + LENGTH_SLACK), shortest + LENGTH_SLACK_TOKENS)
            and length * (len(batch) + 1) <= batch_tokens
            and (batch_size is None or len(batch) < batch_size)
        )
        if fits:
            batch.append(index)
        else:
            batches.append([index])
    return batches
