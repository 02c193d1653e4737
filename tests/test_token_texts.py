"""The text of a token: bytes where it is part of a character, and kept apart where it runs the other way."""

from __future__ import annotations

import io

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.output.blocks import Column, Look, Table, View
from gpt2ln_cli.output.text import END_ISOLATE, ISOLATE, isolated, visible
from gpt2ln_cli.text.contexts import token_texts

TEXT = "hi \N{GRINNING FACE} \N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED} \N{REPLACEMENT CHARACTER} n\u0303"
HEBREW = "\N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED}"


def as_bytes(text):
    """What an escaped text stands for."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")


def test_parts_of_characters_are_their_bytes(demo):
    """The demo's vocabulary has few characters beyond ASCII: those of the text are one byte a token."""
    (prompt,) = gpt2ln_cli.inspect(TEXT, model=demo, layers=0).prompts
    parts = [token for token in prompt.tokens if token.startswith("\\x")]
    assert parts == [f"\\x{byte:02x}" for char in TEXT if ord(char) > 127 for byte in char.encode()]
    assert b"".join(as_bytes(token) for token in prompt.tokens) == TEXT.encode()


def test_every_byte_alone_is_told_apart():
    """The alphabet of GPT-2's vocabulary, as the tokenizers library has it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: place for place, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    for text in ("\N{GRINNING FACE}", HEBREW, "a \x00\x7f", "\u00ff\u0100\U0010ffff", "\N{REPLACEMENT CHARACTER}"):
        ids = tokenizer.encode(text).ids
        assert b"".join(as_bytes(token) for token in token_texts(ids, tokenizer)) == text.encode()
    texts = token_texts(range(256), tokenizer)
    assert len(set(texts)) == 256
    assert [len(text) for text in texts].count(4) == 128


def test_a_whole_character_is_itself_and_another_tokenizer_keeps_its_mark():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = {"replacement": "\N{REPLACEMENT CHARACTER}", "hebrew": HEBREW}
    as_char = {byte: char for char, byte in zip(*_alphabet(), strict=True)}
    spelled = {name: "".join(as_char[byte] for byte in text.encode()) for name, text in pieces.items()}
    vocabulary = {token: place for place, token in enumerate([*alphabet, *spelled.values()])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.ByteLevel()
    assert token_texts([256, 257], tokenizer) == list(pieces.values())
    words = Tokenizer(models.WordLevel({"a\N{REPLACEMENT CHARACTER}": 0}, unk_token="?"))
    assert token_texts([0], words) == ["a\N{REPLACEMENT CHARACTER}"]
    assert token_texts([0], None) is None


def _alphabet():
    """GPT-2's own definition (encoder.py, bytes_to_unicode): the characters, and the byte that each stands for."""
    numbers = [*range(ord("!"), ord("~") + 1), *range(ord("\u00a1"), ord("\u00ac") + 1), *range(ord("\u00ae"), 256)]
    chars = numbers[:]
    for byte in range(256):
        if byte not in numbers:
            numbers.append(byte)
            chars.append(256 + len(numbers) - 189)
    return [chr(char) for char in chars], numbers


def view_of(demo, text):
    columns = [Column("token", str, look=Look("token", key=True)), Column("mu", float, look=Look(visible(text)))]
    record = gpt2ln_cli.inspect("ok", model=demo, layers=0)
    return View(record, [Table("rows", columns, lambda: iter([[text, 1.25]]))])


@pytest.mark.parametrize("text", [HEBREW, f"{HEBREW} 5", "\N{ARABIC LETTER BEH}"])
def test_text_of_the_other_direction_is_kept_apart(demo, monkeypatch, text):
    monkeypatch.setenv("COLUMNS", "80")
    written = {}
    for name in ("table", "html", "markdown", "csv"):
        stream = io.StringIO()
        output.write(view_of(demo, text), name, stream)
        written[name] = stream.getvalue()
    assert written["table"].count(f"{ISOLATE}{text}{END_ISOLATE}") == 2
    assert written["html"].count(f"<bdi>{text}</bdi>") == 2
    # What goes on into other programs has the text alone.
    for name in ("markdown", "csv"):
        assert text in written[name]
        assert ISOLATE not in written[name]


def test_other_text_is_as_it_was_and_its_own_marks_are_escaped(demo, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert isolated("war 5 \N{CJK UNIFIED IDEOGRAPH-6F22}") == "war 5 \N{CJK UNIFIED IDEOGRAPH-6F22}"
    stream = io.StringIO()
    output.write(view_of(demo, f"a{ISOLATE}b\u202e"), "table", stream)
    assert "a\\u2068b\\u202e" in stream.getvalue()
    assert ISOLATE not in stream.getvalue()
