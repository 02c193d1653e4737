"""A training run on the Hub, whose checkpoints are branches and tags, against a hub in miniature on the loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import posix
from hub_server import HubServer, Repository
from runs import train
from safetensors.torch import load_file

import gpt2ln_cli

STEPS = (0, 3, 12)
WEIGHTS, PICKLED = "model.safetensors", "pytorch_model.bin"
pytestmark = posix


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture
def gpt2ln(hub, tmp_path):
    def run(*words, **env):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "GPT2LN"))}
        environment |= {"HF_HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "xdg")}
        environment |= {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", **env}
        command = [sys.executable, "-m", "gpt2ln_cli", "track", *words]
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    return run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return train(tmp_path_factory.mktemp("run"), STEPS, n_embd=192)


@pytest.fixture
def run(hub, folders):
    """Step 3 is a tag, the others are branches."""
    first, second, third = folders
    branches = {"checkpoint-12": third, "checkpoint-0": first, "other": first}
    repository = hub.repositories["org/run"] = Repository(third, branches=branches, tags={"checkpoint-3": second})
    return repository


def record(done, code=0):
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def assert_is_the_run(got, folders):
    assert [(one["name"], one["step"], one["error"]) for one in got["checkpoints"]] == [
        (f"checkpoint-{step}", step, None) for step in STEPS
    ]
    for one, folder in zip(got["checkpoints"], folders, strict=True):
        of_one = gpt2ln_cli.params(model=folder)
        assert [site["gain"]["rms_distance"] for site in one["sites"]] == [
            site.gain.rms_distance for site in of_one.sites
        ]
        assert [site["bias"]["norm"] for site in one["sites"]] == [site.bias.norm for site in of_one.sites]


@pytest.mark.parametrize("pickled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_revisions_are_read_by_ranges_and_a_second_look_reads_what_is_new(hub, gpt2ln, run, folders, tmp_path, pickled):
    weights = WEIGHTS
    if pickled:
        weights = PICKLED
        copies = []
        for folder in folders:
            copy = tmp_path / "pickled" / folder.name
            copy.mkdir(parents=True)
            shutil.copy(folder / "config.json", copy)
            torch.save(load_file(folder / WEIGHTS), copy / PICKLED)
            copies.append(copy)
        run.folder, run.branches = copies[2], {"checkpoint-12": copies[2], "checkpoint-0": copies[0]}
        run.tags = {"checkpoint-3": copies[1]}
    got = record(gpt2ln("org/run", "--revisions", "checkpoint-*", "--json"))
    assert_is_the_run(got, folders)
    assert [one["revision"] for one in got["checkpoints"]] == [run.commit(f"checkpoint-{step}") for step in STEPS]
    assert hub.fetched() == {"config.json", weights}
    assert 0 < hub.sent[weights] < sum((folder / WEIGHTS).stat().st_size for folder in folders) / 5
    hub.forget()
    run.branches["checkpoint-20"] = run.folder
    again = record(gpt2ln("org/run", "--revisions", "checkpoint-*", "--json"))
    assert again["checkpoints"][0]["sites"][0]["gain"] == got["checkpoints"][0]["sites"][0]["gain"]
    assert len(again["checkpoints"]) == 4
    assert hub.requests["HEAD", "config.json"] == 1
    hub.forget()
    assert record(gpt2ln("org/run", "--revisions", "checkpoint-*", "--json")) == again
    assert hub.fetched() == set()
    assert dict(hub.requests) == {("GET", "refs"): 1}


def test_globs(hub, gpt2ln, run):
    names = [one["name"] for one in record(gpt2ln("org/run", "--revisions", "*-1?", "--json"))["checkpoints"]]
    assert names == ["checkpoint-12"]
    several = record(gpt2ln("org/run", "--revisions", "*-1?", "--revisions", "checkpoint-3", "--json"))
    assert [one["name"] for one in several["checkpoints"]] == ["checkpoint-3", "checkpoint-12"]
    done = gpt2ln("org/run", "--revisions", "step*")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no branch or tag like step*" in done.stderr
    assert "checkpoint-12" in done.stderr
    alone = record(gpt2ln("org/run", "--json"))
    assert [one["revision"] for one in alone["checkpoints"]] == [None]
    assert alone["model"]["revision"] == run.commit()
    assert hub.requests["GET", "refs"] == 3


def test_a_revision_that_is_damaged_is_a_row_that_says_so(gpt2ln, run, folders, tmp_path):
    bad = shutil.copytree(folders[1], tmp_path / "bad")
    (bad / WEIGHTS).write_bytes(b"\x10" + b"\0" * 200)
    run.tags["checkpoint-3"] = bad
    done = gpt2ln("org/run", "--revisions", "checkpoint-*", "--json")
    got = record(done, 1)
    assert [one["error"] is None for one in got["checkpoints"]] == [True, False, True]
    assert "1 of 3 checkpoints" in done.stderr


def test_where_the_hub_does_not_answer(gpt2ln, run):
    run.status["refs"] = 500
    for words in (["org/run"], ["org/none"]):
        done = gpt2ln(*words, "--revisions", "checkpoint-*")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("run")
def test_prompts_are_run_at_every_revision(gpt2ln, folders):
    words = ("--token-ids", "1,2,3,4", "--json")
    got = record(gpt2ln("org/run", "--revisions", "checkpoint-*", *words))
    for one, folder in zip(got["checkpoints"], folders, strict=True):
        of_one = gpt2ln_cli.inspect([[1, 2, 3, 4]], model=folder)
        assert [site["rest"]["sigma"]["mean"] for site in one["sites"]] == pytest.approx(
            [site.rest.sigma.mean for site in of_one.sites], rel=1e-6
        )


def test_large_files_are_asked_of_the_server_that_has_them_without_the_token(hub, gpt2ln, run, folders):
    """The Hub itself answers once for each file: it counts what is asked of it, and has a quota."""
    run.elsewhere, run.token = frozenset({WEIGHTS}), "hf_secret"
    got = record(gpt2ln("org/run", "--revisions", "checkpoint-*", "--json", HF_TOKEN="hf_secret", NO_PROXY="*"))
    assert_is_the_run(got, folders)
    assert hub.requests["HEAD", f"redirected {WEIGHTS}"] == 3
    assert hub.requests["GET", f"redirected {WEIGHTS}"] == 0
    assert hub.requests["GET", WEIGHTS] >= 6
    assert hub.tokens == {None}


def test_one_who_asks_too_often_waits(gpt2ln, run, folders):
    run.throttles = {("HEAD", WEIGHTS): 1, ("GET", WEIGHTS): 1}
    assert_is_the_run(record(gpt2ln("org/run", "--revisions", "checkpoint-*", "--json")), folders)
