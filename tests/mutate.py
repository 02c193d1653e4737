"""Feed mutated checkpoint files to the command line, in a process of its own so that its memory can be told.

``python tests/mutate.py 2000 SEED`` prints a line of JSON: how many examples, their exit codes, the memory they took.
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
from pathlib import Path

import layouts
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2ln_cli.cli import main

GIB = 2**30
EXIT_CODES = {0, 2, 3, 4}
SECONDS = 20
HEADER = 3000
NUMBERS = (0, 1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
VALUES = (
    *(0, -1, 1, 3, 10**6, 10**9, 2**31, 10**18, 10**30, 1.5, 1e308, 1e-320, True, False, None),
    *("", "gpt2", "../x", "/", "\0", "model.safetensors", "F64", "BOOL", [], [0], [10**9, 10**9], {}, {"a": 1}),
)


def write_everything(folder: Path) -> list[tuple[Path, int | None]]:
    """One small model in every layout; the path to give and the heads to give with it."""
    torch.manual_seed(1)
    shape = {"vocab_size": 61, "n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(bos_token_id=None, eos_token_id=None, **shape))
    tokenizer = Tokenizer(models.BPE({chr(97 + i): i for i in range(26)} | {"ab": 26}, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    (folder / "tokenizer").mkdir()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    targets = []
    for writer in layouts.LAYOUTS:
        place = folder / writer.__name__
        place.mkdir()
        if writer is layouts.gguf_float32:
            path = layouts.write_gguf(model, place / "model.gguf", tokenizer=folder / "tokenizer")
        else:
            path = writer(model, place)
        if writer in layouts.FOLDERS:
            tokenizer.save(str(place / "tokenizer.json"))
        targets.append((path, layouts.heads_for(writer, model)))
    return targets


def leaves(document: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The paths to everything in a JSON document but itself."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [each for key, value in items for each in ((*path, key), *leaves(value, (*path, key)))]


def edit_json(draw, raw: bytes) -> bytes:
    """Replace, remove or rename one thing in the document."""
    document = json.loads(raw)
    path = draw(st.sampled_from(leaves(document)))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    kind = draw(st.sampled_from(("replace", "replace", "remove", "rename")))
    if kind == "replace" or not isinstance(parent, dict):
        parent[path[-1]] = draw(st.sampled_from(VALUES))
    else:
        value = parent.pop(path[-1])
        if kind == "rename":
            parent[draw(st.text(max_size=20))] = value
    return json.dumps(document).encode()


def mutate(draw, content: bytes, suffix: str) -> bytes:
    """Change the bytes of one file, more often near its beginning, where the headers are."""
    kinds = ["flip", "truncate", "number", "cut", "insert"]
    if suffix == ".json":
        kinds += ["json"] * 5
    if suffix == ".safetensors":
        kinds += ["header"] * 5
    kind = draw(st.sampled_from(kinds))
    if kind == "json":
        with contextlib.suppress(ValueError, IndexError):
            return edit_json(draw, content)
    if kind == "header":
        with contextlib.suppress(ValueError, IndexError, struct.error):
            (length,) = struct.unpack("<Q", content[:8])
            header = edit_json(draw, content[8 : 8 + length])
            return layouts.safetensors_bytes(header, content[8 + length :])
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


def fuzz(examples: int, chosen_seed: int) -> dict[str, object]:
    """Run so many examples; raises AssertionError with the example that does what none may do."""
    counts: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        targets = write_everything(Path(name))
        for path, heads in targets:
            words = ["--model", str(path)] + (["--heads", str(heads)] if heads else [])
            assert command_line(["params", *words]) == (0, "")
            assert command_line(["inspect", "--token-ids", "1,2", *words]) == (0, "")
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
            path, heads = data.draw(st.sampled_from(targets))
            folder = path if path.is_dir() else path.parent
            files = sorted(file for file in folder.iterdir() if file.is_file())
            victims = data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=2))
            words = [data.draw(st.sampled_from(("params", "inspect"))), "--model", str(path)]
            words += ["--token-ids", "1,2"] if words[0] == "inspect" else []
            words += ["--heads", str(heads)] if heads else []
            words += data.draw(st.sampled_from(([], ["--json"])))
            whole = {file: file.read_bytes() for file in victims}
            try:
                for file in victims:
                    file.write_bytes(mutate(data.draw, file.read_bytes(), file.suffix))
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
            counts[f"{folder.name} {code}"] += 1

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
    print(json.dumps(fuzz(int(sys.argv[1]), int(sys.argv[2]))))
