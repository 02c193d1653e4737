"""Cutting a corpus: every document exactly once, whatever it is stored in and however it is cut."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from gpt2ln_cli.errors import CheckpointError, PromptError
from gpt2ln_cli.text.corpus.documents import Bad, Document, cut
from gpt2ln_cli.text.corpus.shards import Reader, cut_corpus
from gpt2ln_cli.text.corpus.sources import find
from gpt2ln_cli.text.corpus.windows import Taken, windows

BETWEEN = {"line": "\n", "blank": "\n\n", "endoftext": "<|endoftext|>", "file": None}
WORDS = ["a", "war", "hätte", "ok then", "  ", "\t", "x" * 40, "日本"]


def pack(data: bytes, suffix: str) -> bytes:
    if suffix == ".zst":
        sink = pyarrow.BufferOutputStream()
        with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()
    return {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}[suffix](data)


PACKED = ("", ".gz", ".xz", ".bz2", ".zst")


def read_all(paths, *, size, separator="line", column=None, skip_bad=False, in_order=True):
    sources = find([str(path) for path in paths])
    made = cut_corpus(sources, separator=separator, column=column, sampled=False, skip_bad=skip_bad, size=size)
    reader = Reader(sources, separator=separator, column=column)
    order = made.shards if in_order else made.shards[::-1]
    with closing(reader):
        found = [list(reader.read(shard)) for shard in order]
    return made, [one for shard in (found if in_order else found[::-1]) for one in shard]


documents_of_words = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=30
)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("separator", BETWEEN)
@settings(max_examples=40, deadline=None)
@given(texts=documents_of_words, size=st.integers(1, 200), ends=st.sampled_from(["", "\n", "\r\n", "\n \n"]))
def test_every_document_is_in_exactly_one_shard(tmp_path_factory, separator, suffix, texts, size, ends):
    between = BETWEEN[separator] or "\n"
    content = (between.join(texts) + ends).encode()
    path = tmp_path_factory.getbasetemp() / f"every.txt{suffix}"
    path.write_bytes(pack(content, suffix))
    made, found = read_all([path], size=size, separator=separator)
    whole = [between.join(texts) + ends] if separator == "file" else [*texts[:-1], texts[-1] + ends]
    expected = [text.strip("\r\n") for text in (texts if separator in ("line", "blank") else whole)]
    assert [one.text for one in found] == [text for text in expected if text.strip()]
    for one in found:
        assert content[one.offset :].startswith(one.text.encode())
    assert [one.offset for one in found] == sorted({one.offset for one in found})
    ends_of = [piece for shard in made.shards for piece in shard]
    assert ends_of[0].begin == 0
    assert ends_of[-1].end == len(content)
    assert all(one.end == other.begin for one, other in itertools.pairwise(ends_of))


@pytest.mark.parametrize("separator", ["line", "blank", "endoftext"])
@settings(max_examples=60, deadline=None)
@given(texts=documents_of_words, size=st.integers(1, 100), chunk=st.integers(1, 40))
def test_a_cut_does_not_depend_on_how_bytes_arrive(separator, texts, size, chunk):
    content = BETWEEN[separator].join(texts).encode()
    if not content:
        return
    slowly, at_once = io.BytesIO(content), io.BytesIO(content)
    ranges = list(cut(lambda _: slowly.read(chunk), separator, size))
    assert ranges == list(cut(at_once.read, separator, size))
    assert b"".join(data for _, data in ranges) == content


@pytest.mark.parametrize("suffix", PACKED)
def test_shards_are_read_in_any_order(tmp_path, suffix):
    lines = [f"line {number} " + "word " * (number % 7) for number in range(400)]
    path = tmp_path / f"lines.txt{suffix}"
    path.write_bytes(pack("\n".join(lines).encode(), suffix))
    forth, back = (read_all([path], size=500, in_order=order) for order in (True, False))
    assert len(forth[0].shards) > 10
    assert [one.text for one in forth[1]] == lines
    assert forth == back


def test_json_lines_and_tables_are_the_same_documents(tmp_path):
    texts = [f"text {number}\nof two lines" for number in range(50)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text, "n": 1}) + "\n" for text in texts))
    table = pyarrow.table({"n": list(range(50)), "text": texts})
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet", row_group_size=7)
    assert [one.text for one in read_all([tmp_path / "a.jsonl"], size=200)[1]] == texts
    made, found = read_all([tmp_path / "b.parquet"], size=1)
    assert len(made.shards) == 8
    assert [(one.offset, one.text) for one in found] == list(enumerate(texts))


def test_folders_and_globs_are_read_by_name_and_each_file_once(tmp_path):
    for name in ("b.txt", "a.txt", "sub/c.jsonl.gz", "README.md", ".hidden.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    names = [Path(source.address).name for source in find([str(tmp_path), str(tmp_path / "*.txt")])]
    assert names == ["a.txt", "b.txt", "c.jsonl.gz"]
    (source,) = find([str(tmp_path / "README.md")])
    assert (source.kind, source.packing) == ("text", None)
    with pytest.raises(PromptError, match=r"no file matches .*\.parquet"):
        find([str(tmp_path / "*.parquet")])
    with pytest.raises(PromptError, match=r"can't read .*gone\.txt: No such file"):
        find([str(tmp_path / "gone.txt")])


def test_small_files_share_a_shard(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02}.txt").write_text(f"document {number}\n" * 3)
    made, found = read_all([tmp_path], size=150, separator="file")
    assert [len(shard) for shard in made.shards] == [5, 5, 5, 5]
    assert [one.text.split("\n")[0] for one in found] == [f"document {number}" for number in range(20)]


BAD = {
    "not UTF-8": ("a.txt", b"fine\nbr\xffken\nlast\n", "line 2: not UTF-8 text (byte 7 is 0xff)"),
    "JSON": ("a.jsonl", b'{"text": "fine"}\n{"text": \n', "line 2: not a JSON object with a string under 'text'"),
    "no field": ("a.jsonl", b'{"text": "fine"}\n\n{"words": "x"}\n', "line 3: not a JSON object with"),
    "half a pair": ("a.jsonl", b'{"text": "fine"}\n{"text": "\\ud800"}\n', "half of a pair"),
}


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_document_is_told_by_its_line(tmp_path, case, size):
    name, content, said = BAD[case]
    (tmp_path / name).write_bytes(content)
    found = read_all([tmp_path / name], size=size)[1]
    (bad,) = [one for one in found if isinstance(one, Bad)]
    assert said in str(bad)
    assert str(bad).startswith(str(tmp_path / name))
    assert next(one.text for one in found if isinstance(one, Document)) == "fine"


def parquet_of(path, texts):
    pyarrow.parquet.write_table(pyarrow.table({"words": pyarrow.array(texts, pyarrow.string())}), path)


def damaged(tmp_path, case):
    path = tmp_path / {"table": "b.parquet", "column": "b.parquet", "empty": "b.txt"}.get(case, f"b.txt.{case}")
    if case in ("gz", "xz", "bz2"):
        lines = "".join(f"{number * 7919 % 1000003} is a number\n" for number in range(100_000)).encode()
        whole = pack(lines, f".{case}")
        path.write_bytes(whole[: len(whole) * 3 // 4])
    elif case == "empty":
        path.write_bytes(b"")
    else:
        parquet_of(path, ["one", "two"])
        if case == "table":
            path.write_bytes(path.read_bytes()[:-20])
    return path


@pytest.mark.parametrize("case", ["gz", "xz", "bz2", "empty", "table", "column"])
def test_a_damaged_source_is_refused_or_left_out(tmp_path, case):
    good = tmp_path / "a.txt"
    good.write_text("fine\n")
    path = damaged(tmp_path, case)
    with pytest.raises(PromptError, match=f"{path.name}: .*--skip-bad"):
        read_all([good, path], size=1000)
    made, found = read_all([good, path], size=1000, skip_bad=True)
    (bad,) = made.bad
    assert bad.source == str(path)
    assert found[0].text == "fine"
    if path.suffix in (".gz", ".xz", ".bz2"):  # what can be read of it is, in whole lines
        assert len(found) > 100
        assert all(one.text.endswith(" is a number") for one in found[1:])
    else:
        assert len(found) == 1


def test_null_in_a_table_is_a_bad_row(tmp_path):
    parquet_of(tmp_path / "a.parquet", ["one", None, "three"])
    found = read_all([tmp_path / "a.parquet"], size=1, column="words")[1]
    assert [str(one) for one in found if isinstance(one, Bad)] == [
        f"{tmp_path / 'a.parquet'}, row 1: no text under 'words'"
    ]


def test_a_source_that_changes_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    sources = find([str(path)])
    made = cut_corpus(sources, separator="line", column=None, sampled=False, skip_bad=False, size=1)
    reader = Reader(sources, separator="line", column=None)
    assert [one.text for one in reader.read(made.shards[0])] == ["one"]
    path.write_text("one\nother\n")
    with pytest.raises(PromptError, match=r"a\.txt has changed since the run began \(8 bytes then, 10 now\)"):
        list(reader.read(made.shards[1]))


def test_a_sample_is_of_shards_from_all_over(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{number:06}\n" for number in range(1000)))
    sources = find([str(path)])
    made = cut_corpus(sources, separator="line", column=None, sampled=True, skip_bad=False, size=7)
    assert (len(made.shards), made.of) == (64, 1000)
    begins = [shard[0].begin // 7 for shard in made.shards]
    assert begins == sorted(set(begins))
    assert begins[0] < 100
    assert begins[-1] > 900


SMALL = SimpleNamespace(n_positions=6, vocab_size=100, bos_token_id=None)


@pytest.fixture(scope="module")
def letters():
    """A token for each character."""
    vocabulary = {chr(code): code - 33 for code in range(33, 127)}
    tokenizer = Tokenizer(models.WordLevel({**vocabulary, "<|endoftext|>": 99}, unk_token="!"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


def windows_of(letters, texts, *, how, bos=False, limit=None, config=SMALL):
    taken = Taken()
    documents = [Document("s", 100 * number, text) for number, text in enumerate(texts)]
    made = windows(
        documents, config=config, tokenizer=letters, how=how, bos=bos, limit=limit, skip_bad=False, taken=taken
    )
    kept = list(made)
    shown = ["".join("." if token == 99 else chr(token + 33) for token in window.token_ids) for window in kept]
    return shown, kept, taken


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.text("abcdef", max_size=40), min_size=1, max_size=8),
    how=st.sampled_from(["each", "packed"]),
    bos=st.booleans(),
)
def test_windows_hold_every_token_once(letters, texts, how, bos):
    found, kept, taken = windows_of(letters, texts, how=how, bos=bos)
    lead = "." if bos else ""
    assert all(window.startswith(lead) and len(window) <= 6 for window in found)
    bodies = [window[len(lead) :] for window in found]
    full = [text for text in texts if text]
    room = 6 - len(lead)
    if how == "packed":
        stream = ".".join(full)
        assert bodies == [stream[begin : begin + room] for begin in range(0, len(stream), room)]
    else:
        assert bodies == [text[begin : begin + room] for text in full for begin in range(0, len(text), room)]
    assert taken == Taken(len(full), len(texts) - len(full), len(found), sum(map(len, full)), [])
    for window, text in zip(kept, found, strict=True):
        for position, letter in enumerate(text):
            source, offset = window.place(position)
            assert source == "s"
            if letter != ".":
                assert letter in texts[offset // 100]


def test_a_limit_takes_whole_documents(letters):
    found, _, taken = windows_of(letters, ["abc", "defgh", "ijk", "lm"], how="each", limit=4)
    assert found == ["abc", "defgh"]
    assert (taken.documents, taken.tokens) == (2, 8)


def test_a_tokenizer_of_another_model_is_refused(letters):
    small = SimpleNamespace(n_positions=6, vocab_size=10, bos_token_id=None)
    with pytest.raises(CheckpointError, match="knows only 0 to 9"):
        windows_of(letters, ["abc"], how="each", config=small)
