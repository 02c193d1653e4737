"""Checkpoints on the Hub, as real processes against a hub in miniature on the loopback."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import huggingface_hub.constants as constants
import numpy as np
import pytest
import torch
from conftest import DEMO
from contract import validated
from hub_server import HubServer, Repository
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import gpt2ln_cli
from gpt2ln_cli.checkpoint.ranges import NEAR_BYTES, RemoteFile, coalesce
from gpt2ln_cli.errors import CheckpointError

WEIGHTS, PICKLED = "model.safetensors", "pytorch_model.bin"
BIG = {"n_embd": 256, "n_layer": 4, "n_head": 4, "vocab_size": 1000, "n_positions": 128}
# What the process finds in its environment is set by each test, and nothing else.
FOREIGN = ("HF_", "HUGGINGFACE", "GPT2LN_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def gpt2ln(hub, home):
    """Run the command line against the server, with a cache of the test's own."""

    def run(*words, **env):
        environment = {key: value for key, value in os.environ.items() if not key.upper().startswith(FOREIGN)}
        environment |= {"HF_HOME": str(home), "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", "COLUMNS": "100", **env}
        return subprocess.run(
            [sys.executable, "-m", "gpt2ln_cli", *words],
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=environment,
            timeout=120,
            check=False,
        )

    return run


def record(done):
    assert (done.returncode, done.stderr) == (0, "")
    return validated(json.loads(done.stdout))


def refused(done, *parts):
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


@pytest.fixture(scope="module")
def big(make_folder):
    """A random GPT-2 of 13 MB, whose LayerNorms take 0.2% of it."""
    return make_folder(**BIG)


@pytest.fixture(scope="module")
def small(make_folder):
    return make_folder()


def copy(folder, tmp_path, **changes):
    """A copy of the folder with the given fields of its config.json changed."""
    target = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
    shutil.copytree(folder, target)
    if changes:
        config = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps(config | changes))
    return target


def split(folder, suffix):
    """Replace the folder's weights by two shards and their index; return the three names."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    stem = {"safetensors": "model", "bin": "pytorch_model"}[suffix]
    weight_map = {}
    for number, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), 1):
        shard = f"{stem}-{number:05d}-of-00002.{suffix}"
        chosen = {name: tensors[name] for name in names}
        if suffix == "bin":
            torch.save(chosen, folder / shard)
        else:
            save_file(chosen, folder / shard)
        weight_map |= dict.fromkeys(names, shard)
    index = f"{stem}.{suffix}.index.json"
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return {index, *weight_map.values()}


def figures(vector, start):
    """What a record says of a gain or bias, by float64 NumPy."""
    values = vector.double().numpy()
    return {
        "mean": values.mean(),
        "std": np.sqrt(np.mean((values - values.mean()) ** 2)),
        "min": values.min(),
        "median": np.median(values),
        "max": values.max(),
        "norm": np.sqrt(np.sum(values**2)),
        "rms_distance": np.sqrt(np.mean((values - start) ** 2)),
    }


def assert_sites_are(sites, tensors):
    """The sites' figures against the tensors of a file that transformers wrote."""
    named = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    assert 2 * len(sites) == sum(".ln_" in f".{name}" for name in named)
    for site in sites:
        for ours, part, start in ((site["gain"], "weight", 1), (site["bias"], "bias", 0)):
            expected = figures(named[f"{site['name']}.{part}"], start)
            assert {name: ours[name] for name in expected} == pytest.approx(expected, rel=1e-12, abs=1e-15)


# What is fetched


def test_count_fetches_the_configuration_alone(hub, gpt2ln, big):
    hub.repositories["org/big"] = Repository(big)
    counted = record(gpt2ln("count", "--model", "org/big", "--tokens", "100", "--json"))
    assert (counted["n_layer"], counted["n_embd"], counted["n_head"], counted["total"]) == (4, 256, 4, 900)
    assert hub.fetched() == {"config.json"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_params_reads_the_layer_norms_by_ranges(hub, gpt2ln, home, make_folder, dtype):
    folder = make_folder(lambda body: body.to(dtype), **BIG)
    hub.repositories["org/big"] = Repository(folder)
    ours = record(gpt2ln("params", "--model", "org/big", "--json"))
    assert_sites_are(ours["sites"], load_file(folder / WEIGHTS))
    assert ours["model"]["dtype"] == str(dtype).removeprefix("torch.")
    assert (ours["model"]["source"], ours["model"]["revision"]) == ("hub", hub.repositories["org/big"].commit())
    assert ours["sites"] == record(gpt2ln("params", "--model", str(folder), "--json"))["sites"]
    assert 0 < hub.sent[WEIGHTS] < (folder / WEIGHTS).stat().st_size / 50
    assert hub.fetched() == {"config.json", WEIGHTS}
    assert [path.name for path in home.rglob("*.*") if path.suffix == ".safetensors"] == []


@pytest.mark.parametrize("sharded", [False, True])
def test_params_reads_zip_archives_by_ranges(hub, gpt2ln, home, big, tmp_path, sharded):
    folder = copy(big, tmp_path)
    tensors = load_file(folder / WEIGHTS)
    names = split(folder, "bin") - {f"{PICKLED}.index.json"} if sharded else {PICKLED}
    if not sharded:
        # A view and a parameter, as training scripts save them.
        storage = torch.cat([torch.ones(7), tensors["transformer.ln_f.weight"]])
        saved = {**tensors, "transformer.ln_f.weight": storage[7:]}
        saved["transformer.ln_f.bias"] = torch.nn.Parameter(saved["transformer.ln_f.bias"])
        torch.save(saved, folder / PICKLED)
        (folder / WEIGHTS).unlink()
    hub.repositories["org/big"] = Repository(folder)
    ours = record(gpt2ln("params", "--model", "org/big", "--json"))
    assert_sites_are(ours["sites"], tensors)
    size = sum((folder / name).stat().st_size for name in names)
    assert 0 < sum(hub.sent[name] for name in names) < size / 20
    assert list(home.rglob("*.bin")) == []


def test_params_reads_shards_by_ranges(hub, gpt2ln, big, tmp_path):
    folder = copy(big, tmp_path)
    names = split(folder, "safetensors")
    hub.repositories["org/big"] = Repository(folder)
    ours = record(gpt2ln("params", "--model", "org/big", "--json"))
    assert_sites_are(ours["sites"], load_file(big / WEIGHTS))
    assert hub.fetched() == {"config.json", *names}
    size = sum((folder / name).stat().st_size for name in names)
    assert sum(hub.sent[name] for name in names) < size / 25


def test_names_without_prefix_and_a_header_longer_than_the_first_request(hub, gpt2ln, big, tmp_path):
    folder = copy(big, tmp_path)
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(big / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt", "note": "x" * 100_000})
    hub.repositories["org/big"] = Repository(folder)
    assert_sites_are(record(gpt2ln("params", "--model", "org/big", "--json"))["sites"], tensors)
    assert hub.sent[WEIGHTS] < (folder / WEIGHTS).stat().st_size / 50


def test_without_ranges_params_fetches_the_file_once(hub, gpt2ln, big):
    hub.repositories["org/big"] = Repository(big, ranges=False)
    first = record(gpt2ln("params", "--model", "org/big", "--json"))
    assert_sites_are(first["sites"], load_file(big / WEIGHTS))
    hub.forget()
    assert record(gpt2ln("params", "--model", "org/big", "--json")) == first
    assert hub.fetched() == set()


@pytest.mark.slow
def test_inspect_fetches_only_what_it_needs_and_params_uses_it(hub, gpt2ln, tmp_path):
    folder = copy(DEMO, tmp_path)
    for other in ("README.md", "pytorch_model.bin", "tf_model.h5", "vocab.json", "merges.txt", "onnx"):
        (folder / other).write_text("not wanted")
    hub.repositories["org/demo"] = Repository(folder)
    ours = record(gpt2ln("inspect", "--model", "org/demo", "the war", "--json"))
    assert hub.fetched() == {"config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS}
    # Its header, which is checked first, and then the file, once.
    assert hub.requests["GET", WEIGHTS] == 2
    assert hub.sent[WEIGHTS] <= (DEMO / WEIGHTS).stat().st_size + 2**16
    theirs = msgspec_builtins(gpt2ln_cli.inspect("the war", model=DEMO))
    assert (ours["sites"], ours["prompts"]) == (theirs["sites"], theirs["prompts"])
    hub.forget()
    assert_sites_are(record(gpt2ln("params", "--model", "org/demo", "--json"))["sites"], load_file(DEMO / WEIGHTS))
    assert hub.fetched() == set()
    offline = record(gpt2ln("inspect", "--model", "org/demo", "the war", "--json", HF_HUB_OFFLINE="1"))
    assert offline == ours


def msgspec_builtins(value):
    import msgspec

    return json.loads(msgspec.json.encode(value))


@pytest.mark.parametrize(
    ("suffix", "sharded"),
    [
        ("safetensors", False),
        ("bin", True),
        pytest.param("safetensors", True, marks=pytest.mark.slow),
        pytest.param("bin", False, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_which_weights_are_fetched(hub, gpt2ln, small, tmp_path, suffix, sharded):
    """Safetensors before pickles, one file before shards; the tokenizer's two old files where there is no new one."""
    folder = copy(small, tmp_path)
    wanted = {WEIGHTS if suffix == "safetensors" else "pytorch_model.bin"}
    if suffix == "bin" and not sharded:
        torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
        (folder / WEIGHTS).unlink()
    if sharded:
        wanted = split(folder, suffix)
    if suffix == "safetensors":
        (folder / "pytorch_model.bin").write_text("a pickle")
        (folder / "pytorch_model.bin.index.json").write_text("{}")
    (folder / "vocab.json").write_text('{"a": 0}')
    (folder / "merges.txt").write_text("#version: 0.2\n")
    hub.repositories["org/small"] = Repository(folder)
    ours = record(gpt2ln("inspect", "--model", "org/small", "--token-ids", "1,2", "--json"))
    assert_sites_are(ours["sites"], load_file(small / WEIGHTS))
    assert hub.fetched() == {"config.json", "vocab.json", "merges.txt", *wanted}


def test_another_architecture_is_refused_before_its_weights(hub, gpt2ln, small, tmp_path):
    hub.repositories["org/llama"] = Repository(copy(small, tmp_path, model_type="llama"))
    for command in ("params", "inspect", "count"):
        done = gpt2ln(command, "--model", "org/llama")
        refused_with = "config.json says model_type 'llama'; gpt2ln reads GPT-2"
        assert (done.returncode, refused_with in done.stderr) == (3, True)
    assert hub.fetched() == {"config.json"}


@pytest.mark.slow
def test_revisions(hub, gpt2ln, small, make_folder):
    other = make_folder(n_layer=3)
    repository = hub.repositories["gpt2"] = Repository(small, branches={"v2": other, "refs/pr/1": other})
    for words, layers, branch in (
        ((), 2, "main"),
        (("--revision", "v2"), 3, "v2"),
        (("--revision", "refs/pr/1"), 3, "refs/pr/1"),
        (("--revision", repository.commit("v2")), 3, "v2"),
    ):
        model = record(gpt2ln("params", "--model", "gpt2", *words, "--json"))["model"]
        assert (model["name"], model["n_layer"], model["revision"]) == ("gpt2", layers, repository.commit(branch))
    refused(gpt2ln("params", "--model", "gpt2", "--revision", "v3"), "'gpt2' has no revision 'v3'")


def test_a_branch_that_moved_is_followed_and_a_cached_commit_asks_nothing(hub, gpt2ln, small, make_folder):
    before = hub.repositories["gpt2"] = Repository(small)
    record(gpt2ln("count", "--model", "gpt2", "--tokens", "8", "--json"))
    hub.repositories["gpt2"] = Repository(make_folder(n_layer=3))
    assert record(gpt2ln("count", "--model", "gpt2", "--tokens", "8", "--json"))["n_layer"] == 3
    hub.forget()
    words = ("count", "--model", "gpt2", "--tokens", "8", "--json", "--revision", before.commit())
    assert record(gpt2ln(*words))["n_layer"] == 2
    assert not hub.requests


def test_a_renamed_repository_is_followed(hub, gpt2ln, small):
    hub.repositories |= {"gpt2": Repository(small, renamed="openai/gpt2"), "openai/gpt2": Repository(small)}
    assert_sites_are(record(gpt2ln("params", "--model", "gpt2", "--json"))["sites"], load_file(small / WEIGHTS))


# The environment


def test_the_cache_is_where_the_variables_say(hub, gpt2ln, small, home, tmp_path):
    hub.repositories["gpt2"] = Repository(small)
    words = ("count", "--model", "gpt2", "--tokens", "8")
    assert gpt2ln(*words).returncode == 0
    assert list((home / "hub" / "models--gpt2").glob("snapshots/*/config.json"))
    assert gpt2ln(*words, HF_HUB_CACHE=str(tmp_path / "elsewhere")).returncode == 0
    assert list((tmp_path / "elsewhere" / "models--gpt2").glob("snapshots/*/config.json"))


def test_a_token_opens_a_private_repository(hub, gpt2ln, small, home):
    hub.repositories["org/private"] = Repository(small, token="hf_secret")
    words = ("params", "--model", "org/private", "--json")
    refused(gpt2ln(*words), "no 'org/private' that you may read", "HF_TOKEN")
    refused(gpt2ln(*words, HF_TOKEN="hf_other"), "HF_TOKEN")
    assert_sites_are(record(gpt2ln(*words, HF_TOKEN="hf_secret"))["sites"], load_file(small / WEIGHTS))
    shutil.rmtree(home)
    home.mkdir()
    (home / "token").write_text("hf_secret")
    assert gpt2ln(*words).returncode == 0


MALFORMED = {
    "HF_ENDPOINT": ("nonsense", "http://[", "https://", ""),
    "HF_HUB_ETAG_TIMEOUT": ("ten", "1.5", ""),
    "HF_HUB_DOWNLOAD_TIMEOUT": ("10s", "-1"),
    "HF_HUB_OFFLINE": ("ture",),
    "TRANSFORMERS_OFFLINE": ("2",),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in MALFORMED.items() for value in values])
def test_a_malformed_variable_is_named_where_the_hub_is_asked(gpt2ln, name, value):
    refused(gpt2ln("params", "--model", "gpt2", **{name: value}), f"{name} is '{value}', which is not")


@pytest.mark.slow
def test_a_malformed_variable_stops_nothing_that_is_at_hand(gpt2ln, small):
    slips = {name: values[-1] for name, values in MALFORMED.items()} | {"HF_ENDPOINT": "http://["}
    for words in (
        ("inspect", "ok", "--json"),
        ("params", "--model", str(small), "--json"),
        ("models", "--json"),
    ):
        done = gpt2ln(*words, **slips)
        assert (done.returncode, json.loads(done.stdout)["command"]) == (0, words[0]), done.stderr


@pytest.mark.slow
def test_offline_only_the_cache_counts(hub, gpt2ln, small):
    hub.repositories["gpt2"] = Repository(small, ranges=False)
    words = ("params", "--model", "gpt2", "--json")
    refused(gpt2ln(*words, HF_HUB_OFFLINE="1"), "not in the Hugging Face cache", "HF_HUB_OFFLINE")
    gpt2ln("count", "--model", "gpt2", "--tokens", "8")
    refused(gpt2ln(*words, HF_HUB_OFFLINE="1"), "not in the Hugging Face cache", "HF_HUB_OFFLINE")
    online = record(gpt2ln(*words))
    hub.forget()
    assert record(gpt2ln(*words, HF_HUB_OFFLINE="1")) == online
    assert not hub.requests
    refused(gpt2ln(*words, "--revision", "v2", HF_HUB_OFFLINE="1"), "not in the Hugging Face cache")


def test_what_is_cached_outlives_the_hub(hub, gpt2ln, small):
    repository = hub.repositories["gpt2"] = Repository(small, ranges=False)
    words = ("params", "--model", "gpt2", "--json")
    online = record(gpt2ln(*words))
    assert record(gpt2ln(*words, HF_ENDPOINT="http://127.0.0.1:9")) == online
    repository.status["*"] = 500
    assert record(gpt2ln(*words)) == online
    repository.token = "gone private"
    assert record(gpt2ln(*words)) == online


# Failures


@pytest.mark.slow
def test_what_the_hub_refuses(hub, gpt2ln, small):
    hub.repositories |= {
        "org/gated": Repository(small, gated=True, token="accepted"),
        "org/broken": Repository(small, status={"*": 500}),
        "org/limited": Repository(small, status={"*": 429}),
        "org/forbidden": Repository(small, status={"*": 403}),
    }
    refused(gpt2ln("params", "--model", "org/none"), "the Hub has no 'org/none'")
    refused(gpt2ln("params", "--model", "org/gated"), "'org/gated' is gated", "HF_TOKEN")
    refused(gpt2ln("params", "--model", "org/broken"), "answered 500 for 'org/broken'")
    refused(gpt2ln("params", "--model", "org/limited"), "answered 429 for 'org/limited'")
    refused(gpt2ln("params", "--model", "org/forbidden"), "answered 403 for 'org/forbidden'")
    refused(gpt2ln("params", "--model", "org/a--b"), "not a name that the Hub could have")
    refused(gpt2ln("params", "--model", "gpt2", HF_ENDPOINT="http://127.0.0.1:9"), "can't be reached")


def test_a_repository_without_configuration_or_weights(hub, gpt2ln, small, tmp_path):
    bare = copy(small, tmp_path)
    (bare / WEIGHTS).unlink()
    hub.repositories["org/bare"] = Repository(bare)
    refused(gpt2ln("params", "--model", "org/bare"), "'org/bare' has no model.safetensors or pytorch_model.bin")
    (bare / "config.json").unlink()
    refused(gpt2ln("params", "--model", "org/bare", "--revision", "main"), "config.json")


@pytest.mark.parametrize("command", ["params", pytest.param("inspect", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_weights_that_the_server_fails_to_send(hub, gpt2ln, small, command):
    words = (command, "--model", "org/m", *(["--token-ids", "1"] if command == "inspect" else []))
    repository = hub.repositories["org/m"] = Repository(small, status={WEIGHTS: 500})
    refused(gpt2ln(*words), "answered 500")
    repository.status.clear()
    repository.mute = frozenset({WEIGHTS})
    began = time.monotonic()
    refused(gpt2ln(*words, HF_HUB_ETAG_TIMEOUT="1", HF_HUB_DOWNLOAD_TIMEOUT="1"), "can't be reached")
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_mute_server_is_left(hub, gpt2ln, small):
    hub.repositories["org/m"] = Repository(small, mute=frozenset({"config.json"}))
    began = time.monotonic()
    refused(gpt2ln("params", "--model", "org/m", HF_HUB_ETAG_TIMEOUT="1"), "can't be reached")
    assert time.monotonic() - began < 20


SHORT = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}


@pytest.mark.parametrize(
    ("file", "method", "part"),
    [
        ("config.json", "HEAD", "headers"),
        ("config.json", "GET", "content"),
        pytest.param("config.json", "GET", "headers", marks=pytest.mark.slow),
        pytest.param(WEIGHTS, "HEAD", "headers", marks=pytest.mark.slow),
        pytest.param(WEIGHTS, "GET", "content", marks=pytest.mark.slow),
        pytest.param(WEIGHTS, "GET", "headers", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_server_that_drips_is_left(hub, gpt2ln, small, home, file, method, part):
    """Each byte comes within the limit on silence, and all of them would take an hour."""
    repository = hub.repositories["org/m"] = Repository(small, drips={(method, file): part})
    for command in ("params", "inspect") if file == WEIGHTS else ("count",):
        words = {"count": ("--tokens", "8"), "params": (), "inspect": ("--token-ids", "1")}[command]
        refused(gpt2ln(command, "--model", "org/m", *words, **SHORT), "comes too slowly from the Hub")
    assert not [path for path in home.rglob("*.incomplete") if path.stat().st_size]
    repository.drips.clear()
    assert gpt2ln("params", "--model", "org/m", **SHORT).returncode == 0


@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        *(pytest.param(file, marks=pytest.mark.slow) for file in (f"{WEIGHTS}.index.json", "tokenizer.json")),
    ],
)
@pytest.mark.slow
def test_a_small_file_that_never_ends(hub, gpt2ln, small, home, tmp_path, file):
    folder = copy(small, tmp_path)
    (folder / file).write_text((folder / file).read_text() if (folder / file).exists() else "{}")
    if file != "tokenizer.json":
        (folder / WEIGHTS).unlink()
    hub.repositories["org/m"] = Repository(folder, endless=frozenset({file}))
    refused(gpt2ln("inspect", "--model", "org/m", "--token-ids", "1"), f"{file} is larger on the Hub than 67,108,864")
    assert hub.sent[file] < 2 * 67_108_864
    assert not [path for path in home.rglob("*") if path.is_file() and path.stat().st_size > 2**20]


@pytest.mark.parametrize("etag", ["../../../../evil", "..", "/tmp/evil", "..\\evil", "e" * 300])
@pytest.mark.parametrize("before", [[], ['"honest"']])
def test_an_etag_that_leads_out_of_the_cache(hub, gpt2ln, small, home, tmp_path, etag, before):
    """It is refused when the Hub is asked, and also if the Hub changes its mind for huggingface_hub's own question."""
    hub.repositories["org/m"] = Repository(small, etags={"config.json": [*before, f'"{etag}"']})
    refused(gpt2ln("count", "--model", "org/m", "--tokens", "8"), "ETag", "would lead out of the cache")
    assert not list(tmp_path.rglob("*evil*"))
    assert not [path for path in home.rglob("*") if path.is_file() and path.read_bytes()[:1] == b"{"]


@pytest.mark.slow
def test_a_connection_that_drops_is_taken_up_again(hub, gpt2ln, big):
    hub.repositories["org/big"] = Repository(big, drops={WEIGHTS: 2})
    ours = record(gpt2ln("params", "--model", "org/big", "--json"))
    assert_sites_are(ours["sites"], load_file(big / WEIGHTS))


@pytest.mark.slow
def test_a_connection_that_drops_within_a_whole_file_is_taken_up_again(hub, gpt2ln, big):
    hub.repositories["org/big"] = Repository(big, drops={WEIGHTS: 2})
    done = record(gpt2ln("inspect", "--model", "org/big", "--token-ids", "1", "--json"))
    assert_sites_are(done["sites"], load_file(big / WEIGHTS))
    assert (Path(done["model"]["location"]) / WEIGHTS).read_bytes() == (big / WEIGHTS).read_bytes()


@pytest.mark.parametrize("ranges", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_half_a_file_is_never_taken_for_a_whole_one(hub, gpt2ln, small, home, ranges):
    words = ("params", "--model", "org/m")
    repository = hub.repositories["org/m"] = Repository(small, ranges=ranges, drops={WEIGHTS: 10**6})
    refused(gpt2ln(*words), "can't be reached")
    repository.drops.clear()
    repository.announced[WEIGHTS] = (small / WEIGHTS).stat().st_size + 1
    refused(gpt2ln(*words))
    assert not list(home.rglob(WEIGHTS))
    assert not [path for path in home.rglob("blobs/*") if path.stat().st_size > 100_000]
    repository.announced.clear()
    assert gpt2ln(*words).returncode == 0


def with_header(change):
    """Safetensors bytes whose header was changed, its length put right."""

    def damage(content):
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        change(header)
        encoded = json.dumps(header).encode()
        return len(encoded).to_bytes(8, "little") + encoded + content[8 + length :]

    return damage


def lie(**fields):
    def change(header):
        header["transformer.ln_f.weight"] |= fields

    return with_header(change)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:5],
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: (10**9).to_bytes(8, "little") + content[8:],
        lambda content: content[:8] + b"{" * (len(content) - 8),
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lie(data_offsets=[0, 10**15]),
        lie(data_offsets=[-96, 0]),
        lie(data_offsets=[96, 0]),
        lie(shape=[24, 24]),
        lie(shape=[10**30]),
        lie(shape="24"),
        lie(dtype="F16"),
        with_header(lambda header: header.update(x=[[[]]])),
    ],
)
def test_damaged_safetensors_on_the_hub(hub, small, tmp_path, monkeypatch, damage):
    folder = copy(small, tmp_path)
    (folder / WEIGHTS).write_bytes(damage((small / WEIGHTS).read_bytes()))
    hub.repositories["org/m"] = Repository(folder)
    remote = RemoteFile(
        f"org/m/{WEIGHTS}", f"{hub.url}/org/m/resolve/main/{WEIGHTS}", (folder / WEIGHTS).stat().st_size
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(CheckpointError, match="damaged or not a safetensors file") as caught:
        remote.tensors()
    assert "\n" not in str(caught.value)
    assert hub.sent[WEIGHTS] < 200_000


@pytest.mark.parametrize("command", ["params", pytest.param("inspect", marks=pytest.mark.slow)])
def test_damaged_weights_are_refused_by_every_command(hub, gpt2ln, small, tmp_path, command):
    folder = copy(small, tmp_path)
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    hub.repositories["org/m"] = Repository(folder)
    words = (command, "--model", "org/m", *(["--token-ids", "1"] if command == "inspect" else []))
    refused(gpt2ln(*words), "damaged or not a safetensors file")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"n_layer": 3}, "no tensor 'h.2.ln_1.weight'"),
        ({"n_embd": 27}, "'wte.weight' has shape [61, 24] where the configuration says [61, 27]"),
    ],
)
def test_weights_that_do_not_fit_the_configuration(hub, gpt2ln, small, tmp_path, change, part):
    hub.repositories["org/m"] = Repository(copy(small, tmp_path, **change))
    refused(gpt2ln("params", "--model", "org/m"), part)


@pytest.mark.parametrize(
    ("index", "part"),
    [
        ({"weight_map": {"ln_f.weight": "../../secret.safetensors"}}, "not a file of this folder"),
        ({"weight_map": {"ln_f.weight": "/etc/secret.safetensors"}}, "not a file of this folder"),
        ({"weight_map": {"ln_f.weight": "..\\secret.safetensors"}}, "not a file of this folder"),
        ({"weight_map": {"ln_f.weight": "absent.safetensors"}}, "no absent.safetensors"),
        ({"weight_map": {}}, "names no shard"),
        ({"weight_map": [1]}, "not an index"),
        ({}, "not an index"),
    ],
)
def test_indices_that_can_not_be_followed(hub, gpt2ln, small, tmp_path, index, part):
    folder = copy(small, tmp_path)
    (folder / WEIGHTS).unlink()
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    hub.repositories["org/m"] = Repository(folder)
    refused(gpt2ln("params", "--model", "org/m"), part)
    assert not [file for _, file in hub.requests if "secret" in file]


# Streams and imports


def test_bars_appear_on_a_terminal_only_and_never_among_the_data(hub, gpt2ln, big, home):
    hub.repositories["org/big"] = Repository(big, ranges=False)
    assert gpt2ln("params", "--model", "org/big", "--json").stderr == ""
    shutil.rmtree(home)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    inherited = {key: value for key, value in os.environ.items() if not key.upper().startswith(FOREIGN)}
    environment = {**inherited, "HF_HOME": str(home), "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "gpt2ln_cli", "params", "--model", "org/big", "--json"],
        stdout=subprocess.PIPE,
        stderr=follower,
        env=environment,
        text=True,
    )
    os.close(follower)
    out, _ = process.communicate(timeout=120)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    assert json.loads(out)["command"] == "params"
    assert "100%" in shown


@pytest.mark.parametrize(
    "words", [("params", "--model", "org/m"), ("count", "--model", "org/m", "--tokens", "8"), ("models",)]
)
def test_no_torch_and_no_transformers(hub, gpt2ln, small, words):
    hub.repositories["org/m"] = Repository(small)
    assert gpt2ln(*words).returncode == 0
    done = gpt2ln(*words, PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.split("\n") if "|" in line}
    assert "msgspec" in imported
    assert not imported & {"torch", "transformers"}


# The list of what is at hand


@pytest.mark.slow
def test_models_lists_the_bundled_and_every_whole_gpt2_of_the_cache(hub, gpt2ln, small, make_folder, tmp_path, home):
    assert [model["name"] for model in record(gpt2ln("models", "--json"))["models"]] == ["demo"]
    sharded = copy(small, tmp_path)
    split(sharded, "safetensors")
    repository = Repository(small, ranges=False, branches={"v2": make_folder(n_layer=3)})
    hub.repositories |= {
        "org/small": repository,
        "gpt2": Repository(make_folder(n_embd=48, n_positions=64)),
        "org/sharded": Repository(sharded, ranges=False),
        "org/looked-at": Repository(small),
        "org/llama": Repository(copy(small, tmp_path, model_type="llama")),
    }
    for words in (
        ("org/small",),
        ("org/small", "--revision", "v2"),
        ("org/sharded",),
        ("org/looked-at",),
        ("org/llama",),
    ):
        gpt2ln("params", "--model", *words)
    gpt2ln("inspect", "--model", "gpt2", "--token-ids", "1")
    damage_cache(home / "hub")
    hub.forget()
    listed = record(gpt2ln("models", "--json"))
    assert not hub.requests
    assert listed["cache"] == str(home / "hub")
    shapes = [
        (m["name"], m["source"], m["n_layer"], m["n_embd"], m["n_head"], m["n_positions"], m["vocab_size"])
        for m in listed["models"][1:]
    ]
    assert sorted(shapes) == [
        ("a/loop-beside", "hub", 12, 96, 12, 1024, 8192),  # its own files are whole
        ("gpt2", "hub", 2, 48, 3, 64, 61),
        ("org/sharded", "hub", 2, 24, 3, 32, 61),
        ("org/small", "hub", 2, 24, 3, 32, 61),
        ("org/small", "hub", 3, 24, 3, 32, 61),
    ]
    for model in listed["models"][1:]:
        files = [file for file in Path(model["location"]).iterdir() if file.is_file()]
        assert model["size"] == sum(file.stat().st_size for file in files)
    table = gpt2ln("models").stdout
    for model in listed["models"]:
        assert model["name"] in table
        assert (model["revision"] or "bundled")[:12] in table
    (revision,) = [m["revision"] for m in listed["models"] if m["n_layer"] == 3]
    assert revision == repository.commit("v2")


def damage_cache(cache):
    """Every way an entry of the cache can be damaged."""
    (cache / "models--a--file").write_text("")
    (cache / "models--a--empty").mkdir()
    commit = "0" * 40
    for name in ("broken-link", "no-json", "bad-index", "bad-ref", "loop", "sparse", "loop-beside", "huge"):
        (cache / f"models--a--{name}" / "snapshots" / commit).mkdir(parents=True)
        (cache / f"models--a--{name}" / "refs").mkdir()
        shutil.copy(DEMO / "config.json", cache / f"models--a--{name}" / "snapshots" / commit)
    snapshot = cache / "models--a--broken-link" / "snapshots" / commit
    (snapshot / WEIGHTS).symlink_to("../../blobs/gone")
    (cache / "models--a--no-json" / "snapshots" / commit / "config.json").write_bytes(b"\xff\x00{")
    (cache / "models--a--bad-index" / "snapshots" / commit / f"{WEIGHTS}.index.json").write_text("[]")
    for name in ("sparse", "loop-beside", "huge"):
        shutil.copy(DEMO / WEIGHTS, cache / f"models--a--{name}" / "snapshots" / commit)
    config = cache / "models--a--loop" / "snapshots" / commit / "config.json"
    config.unlink()
    config.symlink_to("config.json")
    (config.parent / WEIGHTS).symlink_to(WEIGHTS)
    (cache / "models--a--loop-beside" / "snapshots" / commit / "README.md").symlink_to("README.md")
    os.truncate(cache / "models--a--sparse" / "snapshots" / commit / "config.json", 2**40)
    config = cache / "models--a--huge" / "snapshots" / commit / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"n_layer": 2**70}))
    (cache / "models--a--links").mkdir()
    (cache / "models--a--links" / "snapshots").symlink_to("snapshots")
    Path(os.fsdecode(os.fsencode(cache) + b"/models--a--\xff")).mkdir()
    (cache / ("models--a--" + "n" * 200) / "snapshots" / "not a commit").mkdir(parents=True)
    (cache / "models--a--bad-ref" / "refs" / "main").write_bytes(b"\xff\xfe")
    (cache / "models--a--bad-ref" / "refs" / commit).write_bytes(b"\xff\xfe")


# Ranges


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**4)).map(lambda pair: (pair[0], sum(pair)))))
def test_coalesced_spans_cover_all_and_lie_far_apart(spans):
    merged = coalesce(spans)
    for start, stop in spans:
        assert sum(a <= start and stop <= b for a, b in merged) >= 1
    for (_, stop), (start, _) in itertools.pairwise(merged):
        assert start - stop > NEAR_BYTES
    assert {edge for span in merged for edge in span} <= {edge for span in spans for edge in span}
