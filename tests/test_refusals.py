"""What can't be read or trusted is refused in one line with exit code 3, and nothing in it runs."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile

import gguf
import layouts
import layouts_tensorflow
import numpy as np
import pytest
import torch
from conftest import DEMO
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint import locate
from gpt2ln_cli.errors import CheckpointError
from gpt2ln_cli.model import build_body


@pytest.fixture(scope="session")
def tiny():
    torch.manual_seed(1)
    shape = {"vocab_size": 61, "n_positions": 16, "n_embd": 64, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(bos_token_id=None, eos_token_id=None, **shape))


@pytest.fixture
def refused(capsys):
    """Check that both ways to read a checkpoint refuse it so."""

    def check(path, *says, commands=("params", "inspect")):
        for name in commands:
            words = [name, "--model", str(path)] + (["--token-ids", "1,2"] if name == "inspect" else [])
            capsys.readouterr()
            assert main(words) == 3
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith("gpt2ln: ")
            assert err.count("\n") == 1
            for part in says:
                assert part in err

    return check


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_another_architecture(tiny, tmp_path, refused):
    folder = layouts.whole_safetensors(tiny, tmp_path / "folder")
    edit_config(folder, model_type="llama")
    refused(folder, "says model_type 'llama'; gpt2ln reads GPT-2")
    save_file({"model.embed_tokens.weight": torch.ones(5, 5)}, tmp_path / "llama.safetensors")
    refused(tmp_path / "llama.safetensors", "no matrix 'wte.weight'", "gpt2ln reads GPT-2")
    writer = gguf.GGUFWriter(tmp_path / "llama.gguf", "llama")
    writer.add_tensor("token_embd.weight", np.ones((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refused(tmp_path / "llama.gguf", "architecture 'llama'")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "ckpt.pth"])
def test_a_pickle_that_wants_more_than_tensors(tiny, tmp_path, refused, name, zipped):
    target = tmp_path / "created"
    folder = tmp_path / "folder"
    folder.mkdir()
    path = layouts.evil_pickle(tiny, folder / name, target, zipped=zipped)
    if name == "pytorch_model.bin":
        layouts.write_config(tiny, folder)
        path = folder
    refused(path, "wants more than tensors (", "mkdir)", "safetensors.torch.save_model")
    assert not target.exists()
    # It would have: that is what makes the refusal worth something.
    torch.load(folder / name, weights_only=False)
    assert target.exists()


def test_a_plain_pickle_that_wants_more_than_tensors(tmp_path, refused):
    target = tmp_path / "created"
    refused(layouts.plain_pickle({"x": layouts.Evil(target)}, tmp_path / "a.bin"), "wants more than tensors")
    refused(layouts.plain_pickle({"x": layouts.Evil(target)}, tmp_path / "b.bin", protocol=4), "no file of torch.save")
    assert not target.exists()


def test_pickles_of_other_things(tiny, tmp_path, refused):
    refused(layouts.plain_pickle([1, 2], tmp_path / "a.bin"), "damaged, or no file of torch.save")
    torch.save([1, 2], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "a list where a state dict of tensors was expected")
    state = layouts.nanogpt_state(tiny)
    torch.save({**state, "model_args": {"n_layer": "two"}}, tmp_path / "ckpt.pt")
    refused(tmp_path / "ckpt.pt", "its configuration makes no GPT-2")
    torch.save({**state, "model": 5}, tmp_path / "ckpt.pt")
    refused(tmp_path / "ckpt.pt", "a int where a state dict")


@pytest.mark.parametrize("writer", layouts.LAYOUTS, ids=lambda writer: writer.__name__)
def test_truncated_files(tiny, tmp_path, refused, writer):
    path = writer(tiny, tmp_path)
    weights = path
    if path.is_dir():
        weights = max(path.iterdir(), key=lambda p: p.stat().st_size)
    whole = weights.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 200):
        weights.write_bytes(whole[:length])
        refused(path, commands=["params"])
    weights.write_bytes(b"")
    refused(path, commands=["params"])


def test_a_pickle_whose_tensors_claim_more_than_is_there(tmp_path, refused, tiny):
    tensors = layouts.body_tensors(tiny)
    torch.save({**tensors, "ln_f.weight": torch.ones(1).expand(10**9)}, tmp_path / "wide.pt")
    refused(tmp_path / "wide.pt", "'ln_f.weight' claims 1000000000 elements")
    layouts.lone_pth(tiny, tmp_path)
    raw = (tmp_path / "weights.pth").read_bytes()
    # wte has 61 x 64 elements; as pickle's BININT2 (M) with its size in the persistent id, made a BININT of 2^31 - 1.
    count = b"M" + struct.pack("<H", 61 * 64)
    assert count in raw
    (tmp_path / "weights.pth").write_bytes(raw.replace(count, b"J" + struct.pack("<i", 2**31 - 1), 1))
    refused(tmp_path / "weights.pth", "claims 2147483647 elements")


def test_a_compressed_archive(tiny, tmp_path, refused):
    path = layouts.lone_bin(tiny, tmp_path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
        archive.writestr("bomb", bytes(10**7))
    refused(path, "compressed")


TENSOR = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "content",
    [
        layouts.safetensors_bytes({"wte.weight": TENSOR}, bytes(16), length=2**40),
        layouts.safetensors_bytes({"wte.weight": TENSOR}, bytes(16), length=10**8 - 1),
        layouts.safetensors_bytes({"wte.weight": {**TENSOR, "shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(16)),
        layouts.safetensors_bytes({"wte.weight": {**TENSOR, "shape": [2**62, 4]}}, bytes(16)),
        layouts.safetensors_bytes({"wte.weight": {**TENSOR, "data_offsets": [16, 0]}}, bytes(16)),
        layouts.safetensors_bytes({"wte.weight": {**TENSOR, "dtype": "F33"}}, bytes(16)),
        layouts.safetensors_bytes({"a": TENSOR, "b": TENSOR}, bytes(16)),
        layouts.safetensors_bytes(b"[" * 1000),
        layouts.safetensors_bytes(b"{}"),
    ],
    ids=["length", "length2", "gigabytes", "overflow", "backwards", "dtype", "overlap", "nesting", "nothing"],
)
def test_a_safetensors_header_that_lies(tmp_path, tiny, refused, content):
    layouts.write_config(tiny, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    refused(tmp_path)


@pytest.mark.parametrize(
    ("shard", "says"),
    [
        ("../outside.safetensors", "not a file of this folder"),
        ("/etc/passwd", "not a file of this folder"),
        ("..\\outside.safetensors", "not a file of this folder"),
        ("", "not a file of this folder"),
        ("..", "not a file of this folder"),
        ("model-00009-of-00009.safetensors", "which is missing"),
        (5, "not an index of shards"),
    ],
)
@pytest.mark.parametrize("writer", [layouts.sharded_safetensors, layouts.sharded_bin])
def test_an_index_that_leads_astray(tiny, tmp_path, refused, shard, says, writer):
    folder = writer(tiny, tmp_path / "folder")
    (index,) = folder.glob("*.index.json")
    shutil.copy(next(iter(folder.glob("*-00001-*"))), tmp_path / "outside.safetensors")
    content = json.loads(index.read_text())
    content["weight_map"][next(iter(content["weight_map"]))] = shard
    index.write_text(json.dumps(content))
    refused(folder, says, index.name)


def test_an_index_that_errs_about_a_tensor(tiny, tmp_path, refused):
    folder = layouts.sharded_safetensors(tiny, tmp_path)
    (index,) = folder.glob("*.index.json")
    content = json.loads(index.read_text())
    content["weight_map"]["transformer.ln_f.weight"] = content["weight_map"]["transformer.wte.weight"]
    content["weight_map"]["transformer.nothing"] = content["weight_map"]["transformer.wte.weight"]
    index.write_text(json.dumps(content))
    refused(folder, "where it is not")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n_layer": 10**9}, "'h.2.ln_1.weight'"),
        ({"n_layer": 10**30}, ""),
        ({"n_layer": 1}, "tensors of layer 1"),
        ({"n_embd": 2 * 10**9}, "'wte.weight' has shape [61, 64]"),
        ({"vocab_size": 10**12}, "'wte.weight' has shape [61, 64]"),
        ({"n_positions": 10**12}, "'wpe.weight' has shape [16, 64]"),
        ({"n_inner": 10**12}, "'h.0.mlp.c_fc.weight' has shape [64, 256]"),
        ({"n_inner": -1}, "'h.0.mlp.c_fc.weight' has shape [64, 256]"),
        ({"n_head": 7}, "7 heads do not divide"),
        ({"n_head": 0}, "n_head 0"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon"),
        ({"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon"),
    ],
)
def test_a_configuration_that_does_not_fit(tiny, tmp_path, refused, changes, says):
    folder = layouts.whole_safetensors(tiny, tmp_path)
    edit_config(folder, **changes)
    refused(folder, says)
    # count reads nothing but the configuration, and must not believe it either.
    assert main(["count", "--model", str(folder), "--tokens", "4"]) == 3


def test_an_activation_that_nobody_knows(tiny, tmp_path, refused):
    folder = layouts.whole_safetensors(tiny, tmp_path)
    edit_config(folder, activation_function="swoosh")
    refused(folder, "transformers rejects the configuration", "swoosh", commands=["inspect"])


@pytest.mark.parametrize("gone", ["h.1.ln_2.weight", "h.0.ln_1.bias", "ln_f.weight", "ln_f.bias"])
@pytest.mark.parametrize("lone", [True, False])
def test_a_missing_layer_norm_is_named(tiny, tmp_path, refused, gone, lone):
    folder = layouts.whole_safetensors(tiny, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors[f"transformer.{gone}"]
    save_file(tensors, folder / "model.safetensors")
    if lone:
        (folder / "config.json").unlink()
    refused(folder / "model.safetensors" if lone else folder, f"has no tensor '{gone}';")


def test_many_missing_tensors_are_named_in_one_line(tiny, tmp_path, refused):
    folder = layouts.whole_safetensors(tiny, tmp_path)
    tensors = {name: t for name, t in load_file(folder / "model.safetensors").items() if "ln_" not in name}
    save_file(tensors, folder / "model.safetensors")
    refused(
        folder, "'ln_f.weight', 'ln_f.bias', 'h.0.ln_1.weight', 'h.0.ln_1.bias', 'h.0.ln_2.weight', 'h.0.ln_2.bias'"
    )


def test_weights_that_are_no_floating_point_numbers(tiny, tmp_path, refused):
    folder = layouts.whole_safetensors(tiny, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.weight"] = torch.ones(64, dtype=torch.int32)
    save_file(tensors, folder / "model.safetensors")
    refused(folder, "'ln_f.weight' is stored as I32")


def test_a_tokenizer_larger_than_the_embedding(tiny, tmp_path, refused):
    folder = layouts.whole_safetensors(tiny, tmp_path)
    shutil.copy(DEMO / "tokenizer.json", folder)
    refused(folder, "8191 tokens and the embedding 61 rows", commands=["inspect"])


def gguf_with(tiny, tmp_path, old, new):
    path = layouts.gguf_float32(tiny, tmp_path)
    raw = path.read_bytes()
    assert raw.count(old) == 1
    path.write_bytes(raw.replace(old, new))
    return path


def test_a_gguf_header_that_lies(tiny, tmp_path, refused):
    layers = b"gpt2.block_count" + struct.pack("<II", 4, 2)
    for old, new in (
        (layers, layers[:-4] + struct.pack("<I", 2**31)),
        # The value made an array of 2^60 bytes, which would keep a reader that believes it busy for ever.
        (layers, b"gpt2.block_count" + struct.pack("<IIQ", 9, 0, 2**60)),
        (layers, b"gpt2.block_count" + struct.pack("<IIQ", 9, 8, 2**60)),
        (layers, b"gpt2.block_count" + struct.pack("<II", 99, 2)),
        (b"GGUF\x03\x00\x00\x00", b"GGUF\x07\x00\x00\x00"),
        (b"output_norm.weight" + struct.pack("<IQ", 1, 64), b"output_norm.weight" + struct.pack("<IQ", 1, 2**61)),
        (b"output_norm.weight" + struct.pack("<IQ", 1, 64), b"output_norm.weight" + struct.pack("<IQ", 2**31, 64)),
    ):
        refused(gguf_with(tiny, tmp_path, old, new))


def test_an_llmc_header_that_lies(tiny, tmp_path, refused):
    path = layouts.llmc_float32(tiny, tmp_path)
    whole = path.read_bytes()
    for place, number in (
        (1, 1),
        (1, 4),
        (2, 2**31 - 1),
        (3, 10**9),
        (4, 2**31 - 1),
        (4, -1),
        (5, 7),
        (6, 10**6),
        (7, 3),
    ):
        header = np.frombuffer(whole[:1024], "<i4").copy()
        header[place] = number
        path.write_bytes(header.tobytes() + whole[1024:])
        refused(path)


TERABYTE = 2**40


def sparse(path, content):
    """The bytes, and after them a hole that makes a terabyte of the file and takes no room."""
    path.write_bytes(content)
    os.truncate(path, TERABYTE)
    return path


def llmc_header(*numbers):
    header = np.zeros(256, "<i4")
    header[: len(numbers) + 1] = [20240326, *numbers]
    return header.tobytes()


# Three features wide a layer has 147 elements, a position 3, and ln_f 6: so many of each make exactly a terabyte.
LAYERS, REST = divmod((TERABYTE - 1024) // 4 - 6, 147)
NARROW = llmc_header(3, (REST + 147) // 3 - 1, 1, LAYERS - 1, 1, 3, 1)
ARRAY_OF_STRINGS = struct.pack("<Q", 1) + b"x" + struct.pack("<II", 9, 8)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("keys.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 2**36)),
        ("keys.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 2**21)),
        ("keys.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40)),
        ("tensors.gguf", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0)),
        ("strings.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + ARRAY_OF_STRINGS + struct.pack("<Q", 2**60)),
        ("strings.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + ARRAY_OF_STRINGS + struct.pack("<Q", 2**37 - 9)),
        ("strings.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + ARRAY_OF_STRINGS + struct.pack("<Q", 2**22 - 99)),
        ("key.gguf", b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**40 - 99)),
        ("header.safetensors", struct.pack("<Q", 2**39) + b"{"),
        ("hole.safetensors", struct.pack("<Q", 10**8) + b"{"),
        ("layers.bin", NARROW),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's addresses are not limited")
def test_a_sparse_file_that_claims_a_terabyte(tmp_path, name, content):
    """In a process of its own: what believes the file takes minutes, or all memory there is."""
    path = sparse(tmp_path / name, content)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "params", "--model", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), done.stderr[-2000:]
    assert done.stderr.startswith(f"gpt2ln: {path} ")


# Two gigabytes of addresses beyond what the imports take: a terabyte that is read or mapped whole shows.
LIMITED = """
import resource, sys
import numpy
from gpt2ln_cli.app import main
resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
sys.exit(main())
"""


def test_sparse_configurations_indices_and_prompts(tiny, tmp_path, refused, capsys):
    folder = layouts.whole_safetensors(tiny, tmp_path / "whole")
    sparse(folder / "config.json", (folder / "config.json").read_bytes())
    refused(folder, "config.json has 1,099,511,627,776 bytes")
    folder = layouts.sharded_safetensors(tiny, tmp_path / "sharded")
    sparse(folder / "model.safetensors.index.json", b"{")
    refused(folder, "index.json has 1,099,511,627,776 bytes")
    for name in ("prompts.txt", "prompts.jsonl"):
        path = sparse(tmp_path / name, b"one\n")
        capsys.readouterr()
        assert main(["inspect", "--prompts", str(path)]) == 4
        assert f"{path} has more than" in capsys.readouterr().err


# Changed while it is read

SHRINKING = """
import os, sys
from gpt2ln_cli.checkpoint import locate
from gpt2ln_cli.errors import CheckpointError
found = locate(sys.argv[1], heads=2)
os.truncate(sys.argv[2], 2048)
try:
    found.layer_norms()
except CheckpointError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "writer",
    [
        layouts.whole_safetensors,
        layouts.lone_safetensors,
        layouts.whole_bin,
        layouts.nanogpt,
        layouts.llmc_float32,
        layouts.gguf_float32,
        layouts_tensorflow.openai_release,
        layouts_tensorflow.tf_model,
        layouts_tensorflow.keras_hub_preset,
    ],
    ids=lambda writer: writer.__name__,
)
@pytest.mark.slow
def test_a_file_that_shrinks_before_its_gains_are_read(tiny, tmp_path, writer):
    """In a process of its own: reading beyond the end of what is mapped ends it by SIGBUS, without a word."""
    path = writer(tiny, tmp_path)
    weights = max(tmp_path.rglob("*.*"), key=lambda file: file.stat().st_size)
    done = subprocess.run(
        [sys.executable, "-c", SHRINKING, str(path), str(weights)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{weights} changed while it was read: something writes to it; wait, or read a copy.\n"


@pytest.mark.parametrize("writer", layouts.LAYOUTS, ids=lambda writer: writer.__name__)
def test_a_checkpoint_that_changes_while_it_is_read(tiny, tmp_path, writer):
    path = writer(tiny, tmp_path)
    found = locate(str(path), heads=layouts.heads_for(writer, tiny))
    weights = max(tmp_path.rglob("*.*"), key=lambda file: file.stat().st_size)
    before = weights.stat()
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    for read in (found.layer_norms, lambda: build_body(found, device="cpu")):
        with pytest.raises(CheckpointError, match="changed while it was read"):
            read()
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found.layer_norms()
    assert build_body(found, device="cpu").wte.weight.shape == (61, 64)


def test_a_file_of_no_known_kind(tmp_path, refused):
    (tmp_path / "notes.md").write_text("hello")
    refused(tmp_path / "notes.md", "is a file of no kind that gpt2ln reads")
    (tmp_path / "weights.bin").write_text("hello, this is no pickle")
    refused(tmp_path / "weights.bin", "damaged, or no file of torch.save")


def test_a_checkpoints_own_words_are_escaped(tiny, tmp_path, refused, capsys):
    folder = layouts.whole_safetensors(tiny, tmp_path)
    edit_config(folder, model_type="\x1b[31mllama\u202e\n")
    refused(folder, r"\x1b[31mllama\u202e")
    main(["params", "--model", str(folder)])
    assert capsys.readouterr().err.rstrip("\n").isprintable()
    main(["params", "--model", str(folder), "--debug"])
    traceback = capsys.readouterr().err
    assert "Traceback" in traceback
    assert r"\x1b[31mllama\u202e" in traceback
    assert traceback.replace("\n", "").isprintable()


def test_a_link_to_itself(tmp_path, refused):
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop", "Too many levels of symbolic links")


@pytest.mark.parametrize(
    ("locked", "named"),
    [(".", "."), ("folder", "folder"), ("folder/config.json", "folder"), ("folder/model.safetensors", "folder")],
)
def test_what_may_not_be_read_is_not_said_to_be_missing(tiny, shared_folder, as_nobody, refused, locked, named):
    folder = layouts.whole_safetensors(tiny, shared_folder / "folder")
    folder.chmod(0o755)
    (shared_folder / locked).chmod(0o000)
    with as_nobody():
        refused(folder, "can't read", str(shared_folder / named), "Permission denied")


@pytest.fixture
def refused_tokenizer(tiny, tmp_path, capfd):
    """Check that a folder with this tokenizer is refused when text is given, in one line whoever would write more."""
    folder = layouts.whole_safetensors(tiny, tmp_path / "model")

    def check(files, *says, prompt="a" * 60 + "b"):
        for name, write in files.items():
            path = folder / name
            if callable(write):
                write(path)
            else:
                path.write_text(write if isinstance(write, str) else json.dumps(write), encoding="utf-8")
        capfd.readouterr()
        assert main(["inspect", prompt, "--model", str(folder)]) == 3
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith("gpt2ln: ")
        assert err.count("\n") == 1
        assert len(err) < 600
        for part in says:
            assert part in err

    return check


def tokenizer_document(**parts):
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    model.update(parts.pop("model", {}))
    return {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "model": model, **parts}


# GPT-2's own is rebuilt from its vocabulary and merges, whatever else stands there.
OTHER_CLASS = {"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}}


def sequence(kind, step, times):
    return {"type": "Sequence", kind: [step] * times}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": "////f2E="}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"tokenizer.json": tokenizer_document(model={"continuing_subword_prefix": "####"})}, "out of range"),
        ({"vocab.json": {"a": 0, "b": 1}, "merges.txt": "#version: 0.2\na b c\n"}, "can't read the tokenizer"),
        (
            OTHER_CLASS
            | {
                "tokenizer.json": tokenizer_document(
                    pre_tokenizer={
                        "type": "Split",
                        "pattern": {"Regex": "(a|aa)+$"},
                        "behavior": "Isolated",
                        "invert": False,
                    }
                )
            },
            "can't encode prompt 0: Onig: Regex search error",
        ),
        ({"tokenizer.json": "[" * 100_000}, "is not a tokenizer"),
        ({"tokenizer.json": tokenizer_document(normalizer=sequence("normalizers", BYTES, 30))}, "512 times"),
        ({"tokenizer.json": tokenizer_document(pre_tokenizer=sequence("pretokenizers", BYTES, 30))}, "512 times"),
        (
            {
                "tokenizer.json": tokenizer_document(
                    decoder={"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10**6}
                )
            },
            "512 times",
        ),
        ({"tokenizer.json": tokenizer_document(normalizer=CHARSMAP)}, "a table of 2147483647 bytes out of 5"),
        (
            OTHER_CLASS
            | {
                "tokenizer.json": json.dumps(tokenizer_document()).replace(
                    '"normalizer": null', f'"normalizer": {json.dumps(CHARSMAP)}, "normalizer": 5'
                )
            },
            "can't read the tokenizer",
        ),
    ],
    ids=[
        "prefix", "merges", "pattern", "nesting", "normalizer", "pre-tokenizer", "decoder", "charsmap", "twice"
    ],
)  # fmt: skip
def test_a_hostile_tokenizer_is_one_line(refused_tokenizer, files, says):
    refused_tokenizer(files, says)


def write_large(path):
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (os.mkfifo, "is no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
        (lambda path: path.mkdir(), "is no regular file"),
        (write_large, "1,099,511,627,776 bytes, more than any tokenizer's file"),
    ],
    ids=["pipe", "device", "folder", "large"],
)
@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt"])
def test_a_tokenizer_that_is_no_file_to_read(refused_tokenizer, name, write, says):
    files = {} if name == "tokenizer.json" else {"vocab.json": {"a": 0}, "merges.txt": "#version: 0.2\n"}
    refused_tokenizer({**files, name: write}, name, says)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate")])
def test_want_of_memory_is_not_called_damage(tmp_path, monkeypatch, capsys, error):
    layouts.plain_pickle({}, tmp_path / "a.bin")

    def load(*_args, **_options):
        raise error

    monkeypatch.setattr(torch, "load", load)
    assert main(["params", "--model", str(tmp_path / "a.bin")]) == 2
    assert capsys.readouterr().err == (
        "gpt2ln: out of memory; take shorter prompts, a smaller --batch-size or a smaller model.\n"
    )
