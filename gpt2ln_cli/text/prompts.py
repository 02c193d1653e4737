"""Where prompts come from: files, standard input, lists of token ids and the bundled samples."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gpt2ln_cli.errors import PromptError, UsageError
from gpt2ln_cli.paths import user_path

STANDARD_INPUT = "-"
SAMPLE = "default.txt"
LONG_SAMPLE = "full_context.txt"
HELD_OUT = "held_out.txt"
# Prompts are held in memory; a sparse file or a device has terabytes for nothing.
MOST_BYTES = 256 * 2**20


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
