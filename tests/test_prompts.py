"""Prompts from every source, fitted to the context and grouped into batches."""

from __future__ import annotations

import json

import pytest
from conftest import DEMO
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from gpt2ln_cli.checkpoint import Config, encoding
from gpt2ln_cli.errors import CheckpointError, PromptError, UsageError
from gpt2ln_cli.text.batches import AHEAD, AHEAD_BATCHES, BATCH_TOKENS, in_batches, plan
from gpt2ln_cli.text.contexts import Context, make_contexts, token_texts
from gpt2ln_cli.text.prompts import parse_token_ids, read_prompts, sample_prompt, sample_prompts_folder

SMALL = Config(model_type="gpt2", vocab_size=100, n_positions=8, bos_token_id=99)


def test_text_is_one_prompt_a_line(tmp_path):
    file = tmp_path / "p.txt"
    file.write_bytes("\ufeffone\r\n\n  \ntwo \u2028 still two\nthree".encode())
    assert read_prompts(file) == ["one", "two \u2028 still two", "three"]


def test_whole_file_is_one_prompt(tmp_path):
    file = tmp_path / "p.txt"
    file.write_text("one\n\n two\n")
    assert read_prompts(file, whole_file=True) == ["one\n\n two"]


def test_json_lines(tmp_path):
    file = tmp_path / "p.jsonl"
    texts = ["a\nb", "é", " ok"]
    file.write_text("\n".join(json.dumps({"text": text, "more": 1}) for text in texts) + "\n\n")
    assert read_prompts(file) == texts


@pytest.mark.parametrize("line", ["{", "[]", '"text"', '{"txt": "a"}', '{"text": 3}', "[" * 100_000])
def test_a_bad_json_line_is_named(tmp_path, line):
    file = tmp_path / "p.jsonl"
    file.write_text('{"text": "fine"}\n' + line)
    with pytest.raises(PromptError, match=r"p\.jsonl, line 2"):
        read_prompts(file)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"ok\xff"])
def test_unusable_files(tmp_path, content):
    file = tmp_path / "p.txt"
    file.write_bytes(content)
    for whole_file in (False, True):
        with pytest.raises(PromptError, match=r"p\.txt"):
            read_prompts(file, whole_file=whole_file)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(PromptError, match=str(path)):
            read_prompts(path)


def test_token_ids():
    assert parse_token_ids("464,3290") == parse_token_ids(" 464  3290 ") == [464, 3290]
    for text in ("", " , ", "4 x", "-1", "1.5", "9" * 30):
        with pytest.raises(PromptError):
            parse_token_ids(text)


def test_every_sample_is_accepted():
    folder = sample_prompts_folder()
    for file in folder.iterdir():
        if file.suffix in (".txt", ".jsonl"):
            assert read_prompts(file)
    assert read_prompts(folder / "questions.txt") == ["ok", "hatred", "war violence hate fear"]
    assert sample_prompt() == "The war was over, but the hatred was not."


def test_the_full_context_sample_fits_the_bundled_model(demo):
    text = read_prompts(sample_prompts_folder() / "full_context.txt", whole_file=True)
    (context,) = make_contexts(text, config=demo.checkpoint.config, tokenizer=demo.tokenizer)
    assert len(context.token_ids) == 1015


@pytest.fixture(scope="module")
def transformers_own():
    return AutoTokenizer.from_pretrained(DEMO)


@given(st.text(min_size=1, max_size=300))
def test_tokens_are_those_of_transformers(demo, transformers_own, text):
    expected = transformers_own(text).input_ids
    (context,) = make_contexts([text], config=demo.checkpoint.config, tokenizer=demo.tokenizer, overflow="truncate")
    assert context.token_ids == expected[:1024]


FRAGMENTS = (
    "a",
    "The",
    "'s",
    "'",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "1",
    "...",
    "\xa0",
    "\u2028",
    "\u3000",
    "\x1c",
    "\x85",
    "\u200b",
)
WIDE = ("\u4e2d", "\u0301", "\U0001f600", "\u0660", "<|endoftext|>", "<|endoftext", "|>")


@pytest.mark.parametrize("add_prefix_space", [False, True])
def test_pieces_give_the_ids_of_the_whole(monkeypatch, add_prefix_space):
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    fragments = st.lists(st.sampled_from(FRAGMENTS + WIDE) | st.text(max_size=3), max_size=40)

    @settings(deadline=None)
    @given(text=fragments.map("".join), piece=st.integers(1, 9))
    def check(text, piece):
        monkeypatch.setattr(encoding, "PIECE", piece)
        whole = tokenizer.encode(text, add_special_tokens=False).ids
        assert encoding.encode(tokenizer, text, "the text") == (whole, 0)
        ids, unread = encoding.encode(tokenizer, text, "the text", enough=3)
        assert len(ids) > 3 or unread == 0
        assert ids == tokenizer.encode(text[: len(text) - unread], add_special_tokens=False).ids == whole[: len(ids)]

    check()


def added(content, **options):
    return lambda tokenizer: tokenizer.add_tokens([AddedToken(content, **options)])


def split_elsewhere(tokenizer):
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(use_regex=False)])


def normalize(tokenizer):
    tokenizer.normalizer = normalizers.Replace("x ", "y")


@pytest.mark.parametrize(
    "change",
    [added("x x"), added("x", rstrip=True), added(" ", lstrip=True), split_elsewhere, normalize],
    ids=["space inside", "space after", "space before", "other words", "normalizer"],
)
def test_a_tokenizer_that_sees_across_white_space_gets_the_whole(monkeypatch, change):
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    change(tokenizer)
    text = "x x  x\nx " * 20
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    monkeypatch.setattr(encoding, "PIECE", 1)
    assert encoding.encode(tokenizer, text, "the text") == (whole, 0)
    assert encoding.encode(tokenizer, text, "the text", enough=3) == (whole, 0)


def test_a_prompt_far_too_long_is_read_no_further_than_the_context_needs(demo):
    config, tokenizer = demo.checkpoint.config, demo.tokenizer
    line = "The war was over, but the hatred was not. "
    ids = tokenizer.encode(line * 200, add_special_tokens=False).ids
    options = {"config": config, "tokenizer": tokenizer}
    text = line * (10**7 // len(line))
    (context,) = make_contexts([text], overflow="truncate", **options)
    assert context.token_ids == ids[:1024]
    read = len(text) - context.unread
    assert 0 < read < 10**6
    assert context.dropped == len(tokenizer.encode(text[:read], add_special_tokens=False).ids) - 1024
    with pytest.raises(PromptError, match=r"more than \d+ tokens and the context has 1024"):
        list(make_contexts([text], **options))
    with pytest.raises(PromptError, match=r"prompt 0 has 10,000,000 bytes .* split it"):
        list(make_contexts(["x" * 10**7], overflow="truncate", **options))


def test_token_texts_join_to_the_prompt(demo):
    text = "The war was over, but the hatred was not."
    (context,) = make_contexts([text], config=demo.checkpoint.config, tokenizer=demo.tokenizer)
    assert "".join(token_texts(context.token_ids, demo.tokenizer)) == text
    assert token_texts([1, 2], None) is None


def contexts(ids, **options):
    return list(make_contexts([ids], config=SMALL, tokenizer=None, **options))


def test_too_long_is_an_error_with_both_lengths_and_the_ways_out():
    with pytest.raises(PromptError, match=r"9 tokens.* 8;.*truncate.*window"):
        contexts(list(range(9)))
    with pytest.raises(PromptError, match=r"9 tokens \(one is"):
        contexts(list(range(8)), bos=True)
    assert len(contexts(list(range(8)))) == 1


def test_truncation_says_what_it_dropped():
    (context,) = contexts(list(range(20)), overflow="truncate", bos=True)
    assert (context.token_ids, context.dropped) == ([99, *range(7)], 13)


@given(ids=st.lists(st.integers(0, 99), min_size=1, max_size=50), bos=st.booleans())
def test_windows_cover_the_prompt_once(ids, bos):
    windows = contexts(ids, overflow="window", bos=bos)
    bodies = [window.token_ids[bos:] for window in windows]
    assert [i for body in bodies for i in body] == ids
    assert all(len(window.token_ids) <= 8 and window.dropped == 0 for window in windows)
    for window, body in zip(windows, bodies, strict=True):
        assert ids[window.offset : window.offset + len(body)] == body
    if bos:
        assert all(window.token_ids[0] == 99 for window in windows)


def test_unusable_prompts(demo):
    config, tokenizer = demo.checkpoint.config, demo.tokenizer
    with pytest.raises(PromptError, match="empty"):
        list(make_contexts([""], config=config, tokenizer=tokenizer))
    with pytest.raises(PromptError, match="no prompt"):
        list(make_contexts([], config=config, tokenizer=tokenizer))
    with pytest.raises(PromptError, match="not valid text"):
        list(make_contexts(["a\udcff"], config=config, tokenizer=tokenizer))
    for ids in ([100], [-1], [3, 2**40]):
        with pytest.raises(PromptError, match="outside the vocabulary, 0 to 99"):
            contexts(ids)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        list(make_contexts(["text"], config=SMALL, tokenizer=None))
    with pytest.raises(CheckpointError, match="do not belong together"):
        list(make_contexts(["The hatred"], config=SMALL, tokenizer=tokenizer))
    with pytest.raises(CheckpointError, match="endoftext"):
        list(make_contexts([[1]], config=Config(vocab_size=100, bos_token_id=None), tokenizer=None, bos=True))


def test_truncation_settings_of_a_tokenizer_file_do_not_cut_prompts(tmp_path, demo):
    from gpt2ln_cli.checkpoint.tokenizer import read_tokenizer

    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(tmp_path).encode("the war was over and the hatred was not").ids == (
        demo.tokenizer.encode("the war was over and the hatred was not").ids
    )


lengths_ = st.lists(st.integers(1, 1024), min_size=1, max_size=80)


def planned(lengths, **options):
    return plan([Context(0, 0, 0, None, [0] * length) for length in lengths], **options)


@given(lengths=lengths_, batch_size=st.none() | st.integers(1, 20), batch_tokens=st.integers(1, 5000))
def test_batches_hold_every_sequence_once_and_waste_little(lengths, batch_size, batch_tokens):
    batches = planned(lengths, batch_size=batch_size, batch_tokens=batch_tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest, shortest = max(lengths[i] for i in batch), min(lengths[i] for i in batch)
        assert batch_size is None or len(batch) <= batch_size
        assert len(batch) == 1 or longest * len(batch) <= batch_tokens
        assert longest <= max(1.25 * shortest, shortest + 8)


def test_short_prompts_share_a_batch():
    assert planned([3, 5, 4]) == [[0, 2, 1]]
    assert len(planned([BATCH_TOKENS] * 4)) == 4
    assert [len(batch) for batch in planned([1024] * 10, batch_tokens=4096)] == [4, 4, 2]
    assert [len(batch) for batch in planned([1024] * 10, batch_size=3, batch_tokens=4096)] == [3, 3, 3, 1]
    assert [len(batch) for batch in planned([10] * 5, batch_size=2)] == [2, 2, 1]
    with pytest.raises(UsageError):
        planned([1], batch_size=0)
    with pytest.raises(UsageError, match="batch tokens 0"):
        planned([1], batch_tokens=0)


@pytest.mark.parametrize("length", [1, 300])
def test_batches_of_an_endless_text_look_ahead_only_so_far(length):
    """Of ever more prompts, no more are taken than a bounded number and amount; their order is kept within a length."""
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield [taken % 100] * length

    texts = make_contexts(endless(), config=Config(vocab_size=100), tokenizer=None)
    batches = in_batches(texts, batch_tokens=1024)
    assert taken == 0
    numbers = []
    for _ in range(400):
        numbers += [number for number, context in next(batches)]
        assert taken - len(numbers) <= min(AHEAD, -(-AHEAD_BATCHES * 1024 // length))
    assert numbers == list(range(len(numbers)))


def test_an_unusable_prompt_is_found_where_it_stands():
    found = make_contexts([[1], [100]], config=SMALL, tokenizer=None)
    assert next(found).token_ids == [1]
    with pytest.raises(PromptError, match="prompt 1: token id 100"):
        next(found)
