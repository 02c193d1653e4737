"""Feed mutated checkpoint files to the command line, in a process of its own so that its memory can be told.

``python tests/mutate.py 2000 SEED`` prints a line of JSON: how many examples, their exit codes, the memory they took.
``python tests/mutate.py 2000 SEED tokenizers`` mutates the tokenizers' files alone, and has text encoded;
``tensorflow`` in its place mutates what TensorFlow and Keras write.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import layouts
import layouts_tensorflow
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2ln_cli.app import main

GIB = 2**30
EXIT_CODES = {0, 2, 3, 4}
SECONDS = 20
HEADER = 3000
NUMBERS = (0, 1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
VALUES = (
    *(0, -1, 1, 3, 10**6, 10**9, 2**31, 10**18, 10**30, 1.5, 1e308, 1e-320, True, False, None),
    *("", "gpt2", "../x", "/", "\0", "model.safetensors", "F64", "BOOL", [], [0], [10**9, 10**9], {}, {"a": 1}),
)


TEXTS = ("ab ba", "a" * 300, "h\u00e9llo 12\n\n  (c) \U0001f600", "<x> a<x>", "a" * 200 + "b ", " ")
DOUBLES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
REPLACE = [
    {"type": "Replace", "pattern": pattern, "content": content}
    for pattern in ({"String": "a"}, {"String": ""}, {"Regex": ""}, {"Regex": "(a|aa)+$"}, {"Regex": "(?<=a)(?=b)"})
    for content in ("", "aa", "a" * 10**6)
]
STRIP = {"type": "Strip", "strip_left": True, "strip_right": True, "content": "a", "start": 10**18, "stop": 10**18}
METASPACE = {"type": "Metaspace", "replacement": "\U0001f600", "prepend_scheme": "always", "split": False}
STEPS = {
    "normalizer": [
        *REPLACE,
        {"type": "Sequence", "normalizers": [DOUBLES] * 25},
        {"type": "Sequence", "normalizers": REPLACE[1:3] * 12},
        *(
            {"type": "Precompiled", "precompiled_charsmap": chars}
            for chars in ("", "AAAA", "BAAAAAAAAABhYQA=", "////f2E=")
        ),
        *({"type": "Prepend", "prepend": "a" * length} for length in (0, 10, 10**5)),
        STRIP,
    ],
    "pre_tokenizer": [
        {"type": "Sequence", "pretokenizers": [DOUBLES] * 25},
        {"type": "Sequence", "pretokenizers": [METASPACE] * 25},
        DOUBLES,
        METASPACE,
        *(
            {"type": "Split", "pattern": replace["pattern"], "behavior": behavior, "invert": invert}
            for replace in REPLACE[::3]
            for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous")
            for invert in (False, True)
        ),
        {"type": "FixedLength", "length": 0},
    ],
    "decoder": [
        *REPLACE,
        {"type": "Sequence", "decoders": [DOUBLES] * 25},
        {"type": "Sequence", "decoders": REPLACE[1:3] * 12},
        {"type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": True},
        {"type": "BPEDecoder", "suffix": ""},
        STRIP,
        METASPACE,
    ],
    "post_processor": [
        {"type": "Sequence", "processors": [DOUBLES] * 25},
        {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}},
        {"type": "BertProcessing", "sep": ["a", 10**9], "cls": ["", 0]},
    ],
    "truncation": [{"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 10**18}],
    "padding": [
        {
            "strategy": {"Fixed": 10**18},
            "direction": "Left",
            "pad_to_multiple_of": 0,
            "pad_id": 2**32 - 1,
            "pad_type_id": 0,
            "pad_token": "a",
        }
    ],
    "added_tokens": [
        [
            {
                "id": number,
                "content": content,
                "single_word": flag,
                "lstrip": flag,
                "rstrip": flag,
                "normalized": flag,
                "special": flag,
            }
        ]
        for number in (0, 7, 60, 2**32 - 1)
        for content in ("", " ", "a", "<x>")
        for flag in (False, True)
    ],
}
PARTS = sorted(STEPS)
TOKENIZER_VALUES = (*VALUES, "a", "\u0120", "##########", "<x>", [["a", "b"]], ["a b c"], "(a|aa)+$")


@dataclass(frozen=True)
class Target:
    """A checkpoint to attack: which of its files, with what in place of their values, and what is then asked of it."""

    path: Path
    files: list[Path]
    commands: list[list[str]]
    values: tuple[object, ...] = VALUES

    @property
    def name(self) -> str:
        return (self.path if self.path.is_dir() else self.path.parent).name


def small_model() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    shape = {"vocab_size": 61, "n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(bos_token_id=None, eos_token_id=None, **shape))


def small_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({chr(97 + i): i for i in range(26)} | {"ab": 26}, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def write_everything(folder: Path, writers: Sequence[layouts.Writer] = layouts.LAYOUTS) -> list[Target]:
    """One small model in every layout."""
    model, tokenizer = small_model(), small_tokenizer()
    (folder / "tokenizer").mkdir()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    targets = []
    for writer in writers:
        place = folder / writer.__name__
        place.mkdir()
        if writer is layouts.gguf_float32:
            path = layouts.write_gguf(model, place / "model.gguf", tokenizer=folder / "tokenizer")
        else:
            path = writer(model, place)
        if writer in layouts.FOLDERS:
            tokenizer.save(str(place / "tokenizer.json"))
        heads = layouts.heads_for(writer, model)
        words = ["--model", str(path), *(["--heads", str(heads)] if heads else [])]
        files = sorted(file for file in place.rglob("*") if file.is_file())
        targets.append(Target(path, files, [["params", *words], ["inspect", "--token-ids", "1,2", *words]]))
    return targets


def write_tokenizers(folder: Path) -> list[Target]:
    """A small model with tokenizers of several kinds."""
    model, bpe = small_model(), small_tokenizer()
    bpe.add_special_tokens([AddedToken("<x>", normalized=False)])
    bpe.decoder = decoders.ByteLevel()
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("\u2581", -1.0), *((c, -2.0) for c in "abelh")], 0))
    unigram.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("``", '"'), normalizers.Lowercase(), normalizers.Prepend("a")]
    )
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    word_piece = Tokenizer(
        models.WordPiece({"[UNK]": 0, "a": 1, "##a": 2, "##b": 3, "b": 4, "<x>": 5}, unk_token="[UNK]")
    )
    word_piece.normalizer = normalizers.BertNormalizer()
    word_piece.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Digits(), pre_tokenizers.BertPreTokenizer()]
    )
    word_piece.post_processor = processors.TemplateProcessing("<x> $A", special_tokens=[("<x>", 5)])
    word_piece.decoder = decoders.WordPiece()
    word_piece.enable_truncation(4)
    word_piece.enable_padding(length=6)
    targets = []
    for name, tokenizer in (("bpe", bpe), ("two_files", bpe), ("unigram", unigram), ("word_piece", word_piece)):
        path = layouts.whole_safetensors(model, folder / name)
        if name == "two_files":
            files = [Path(file) for file in tokenizer.model.save(str(path))]
        else:
            files = [path / "tokenizer.json"]
            tokenizer.save(str(files[0]))
        words = ["--model", str(path), "--overflow"]
        commands = [["inspect", text, *words, overflow] for text in TEXTS for overflow in ("truncate", "window")]
        targets.append(Target(path, files, commands, TOKENIZER_VALUES))
    return targets


def leaves(document: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The paths to everything in a JSON document but itself."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [each for key, value in items for each in ((*path, key), *leaves(value, (*path, key)))]


def edit_json(draw, raw: bytes, values: tuple[object, ...]) -> bytes:
    """Replace, remove or rename one thing in the document, or put another part into a tokenizer."""
    document = json.loads(raw)
    if "pre_tokenizer" in document and draw(st.booleans()):
        part = draw(st.sampled_from(PARTS))
        document[part] = draw(st.sampled_from(STEPS[part]))
        return json.dumps(document).encode()
    path = draw(st.sampled_from(leaves(document)))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    kind = draw(st.sampled_from(("replace", "replace", "remove", "rename")))
    if kind == "replace" or not isinstance(parent, dict):
        # What is of the same type is more often believed.
        alike = [value for value in values if type(value) is type(parent[path[-1]])]
        parent[path[-1]] = draw(st.sampled_from(alike if alike and draw(st.booleans()) else values))
    else:
        value = parent.pop(path[-1])
        if kind == "rename":
            parent[draw(st.text(max_size=20))] = value
    return json.dumps(document).encode()


def mutate(draw, content: bytes, suffix: str, values: tuple[object, ...]) -> bytes:
    """Change the bytes of one file, more often near its beginning, where the headers are."""
    kinds = ["flip", "truncate", "number", "cut", "insert"]
    if suffix == ".json":
        kinds += ["json"] * 5
    if suffix == ".safetensors":
        kinds += ["header"] * 5
    kind = draw(st.sampled_from(kinds))
    if kind == "json":
        with contextlib.suppress(ValueError, IndexError):
            return edit_json(draw, content, values)
    if kind == "header":
        with contextlib.suppress(ValueError, IndexError, struct.error):
            (length,) = struct.unpack("<Q", content[:8])
            header = edit_json(draw, content[8 : 8 + length], values)
            return layouts.safetensors_bytes(header, content[8 + length :])
    if suffix == ".index" and draw(st.booleans()):
        return layouts_tensorflow.edit_index(draw, content, NUMBERS)
    if not content:
        return content
    limit = len(content) - 1
    place = draw(
        st.one_of(st.integers(0, min(limit, HEADER)), st.integers(max(0, limit - HEADER), limit), st.integers(0, limit))
    )
    if kind == "truncate":
        return content[:place]
    if kind == "cut":
        return content[:place] + content[place + draw(st.integers(1, 64)) :]
    if kind == "insert":
        return content[:place] + draw(st.binary(min_size=1, max_size=64)) + content[place:]
    if kind == "number":
        size = draw(st.sampled_from((1, 2, 4, 8)))
        number = draw(st.sampled_from(NUMBERS)) % 2 ** (8 * size)
        return content[:place] + number.to_bytes(size, "little") + content[place + size :]
    return content[:place] + bytes([content[place] ^ draw(st.integers(1, 255))]) + content[place + 1 :]


def command_line(words: list[str]) -> tuple[int, str]:
    """Exit code and standard error."""
    with (
        contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")),
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        code = main(words)
    return code, errors.getvalue()


def fuzz(examples: int, chosen_seed: int, write: Callable[[Path], list[Target]]) -> dict[str, object]:
    """Run so many examples; raises AssertionError with the example that does what none may do."""
    counts: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        targets = write(Path(name))
        for target in targets:
            for words in target.commands:
                code, errors = command_line(words)
                assert code == 4 or (code, errors) == (0, ""), (words, errors)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + GIB
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        @seed(chosen_seed)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def attack(data: st.DataObject) -> None:
            nonlocal slowest
            target = data.draw(st.sampled_from(targets))
            victims = data.draw(st.lists(st.sampled_from(target.files), min_size=1, max_size=2))
            words = data.draw(st.sampled_from(target.commands)) + data.draw(st.sampled_from(([], ["--json"])))
            whole = {file: file.read_bytes() for file in victims}
            try:
                for file in victims:
                    file.write_bytes(mutate(data.draw, file.read_bytes(), file.suffix, target.values))
                begun = time.process_time()
                code, errors = command_line(words)
                slowest = max(slowest, time.process_time() - begun)
            finally:
                for file, content in whole.items():
                    file.write_bytes(content)
            assert code in EXIT_CODES, (code, errors)
            assert errors.count("\n") == (code != 0), errors
            assert not any(sign in errors for sign in ("Traceback", "internal error", "MemoryError", "allocate")), (
                errors
            )
            assert slowest < SECONDS
            counts[f"{target.name} {code}"] += 1

        attack()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < GIB
    return {
        "examples": sum(counts.values()),
        "by_code": dict(
            Counter({code: sum(n for key, n in counts.items() if key.endswith(f" {code}")) for code in EXIT_CODES})
        ),
        "by_layout": dict(sorted(counts.items())),
        "slowest_seconds": round(slowest, 2),
        "grew_mib": (after - before) // 1024,
    }


if __name__ == "__main__":
    kinds = {
        "": write_everything,
        "tokenizers": write_tokenizers,
        "tensorflow": partial(write_everything, writers=layouts_tensorflow.LAYOUTS),
    }
    print(json.dumps(fuzz(int(sys.argv[1]), int(sys.argv[2]), kinds["".join(sys.argv[3:])])))
