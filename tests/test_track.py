"""LayerNorms over a training run: each step's figures are those of ``params`` and ``inspect`` on it."""

from __future__ import annotations

import csv
import gc
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
import weakref
from functools import partial

import msgspec
import numpy as np
import pytest
import torch
from conftest import DEMO, raw_states
from runs import nameless, train
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint.kept import Kept
from gpt2ln_cli.commands.track import places, reading
from gpt2ln_cli.commands.track.record import Track
from gpt2ln_cli.errors import CheckpointError, UsageError

STEPS = (0, 2, 10, 40)
IDS = [[1, 2, 3, 4, 5], [50, 51, 52]]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(folder, STEPS)
    # As if it had been written an hour ago.
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)
    return folder


@pytest.fixture
def own(run, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(run, tmp_path / "run")


@pytest.fixture
def gpt2ln(capsys):
    def call(*words):
        code = main([str(word) for word in words])
        return (code, *capsys.readouterr())

    return call


def folder_of(run, step):
    return run / f"checkpoint-{step}"


def vectors_of(folder):
    return {name: one.double().numpy() for name, one in load_file(folder / WEIGHTS).items() if "ln_" in name}


def test_a_folder_is_read_in_the_order_of_its_numbers(run):
    record = gpt2ln_cli.track(run)
    assert [(one.name, one.step, one.step_from) for one in record.checkpoints] == [
        (f"checkpoint-{step}", step, "name") for step in STEPS
    ]
    assert record.model.location == str(folder_of(run, 40))


def test_the_figures_of_each_step_are_those_of_params(run):
    for one in gpt2ln_cli.track(run).checkpoints:
        of_one = gpt2ln_cli.params(model=folder_of(run, one.step))
        assert [(site.name, site.gain, site.bias) for site in one.sites] == [
            (site.name, site.gain, site.bias) for site in of_one.sites
        ]


def test_cosines_and_farthest_features_against_numpy(run):
    record = gpt2ln_cli.track(run, features=2)
    stored = [vectors_of(folder_of(run, step)) for step in STEPS]
    for place, one in enumerate(record.checkpoints):
        for site in one.sites:
            for vector, tensor in (("gain", "weight"), ("bias", "bias")):
                here, last = (each[f"transformer.{site.name}.{tensor}"] for each in (stored[place], stored[-1]))
                before = stored[place - 1][f"transformer.{site.name}.{tensor}"] if place else None
                for name, other in (("last", last), ("previous", before)):
                    got = getattr(site, f"{vector}_cosine_{name}")
                    if other is None or not here.any() or not other.any():
                        assert got is None
                    else:
                        assert got == pytest.approx(
                            here @ other / np.linalg.norm(here) / np.linalg.norm(other), rel=1e-12
                        )
                distance = np.abs(here - np.sort(here)[(len(here) - 1) // 2])
                listed = getattr(site, f"{vector}_farthest")
                assert [feature.value for feature in listed] == [here[feature.index] for feature in listed]
                assert sorted(distance)[-2:] == sorted(distance[feature.index] for feature in listed)


def test_steps_from_names_states_and_order(own, tmp_path):
    def steps(*paths, **options):
        return [(one.name, one.step, one.step_from) for one in gpt2ln_cli.track(paths, **options).checkpoints]

    # As a shell would sort them.
    some = [folder_of(own, step) for step in (10, 2)]
    assert steps(*some) == [(str(folder_of(own, step)), step, "name") for step in (2, 10)]
    final = nameless(folder_of(own, 40), "final", 41)
    assert steps(own)[-1] == ("final", 41, "trainer_state")
    (final / "trainer_state.json").write_text("{}")
    assert steps(own) == [*((f"checkpoint-{step}", step, "name") for step in STEPS[:3]), ("final", 10, "order")]
    nameless_too = [own / "final", own / "final"]
    assert [one[1:] for one in steps(*nameless_too)] == [(0, "order"), (1, "order")]
    assert steps("demo") == [("demo", 0, "order")]
    (tmp_path / "files").mkdir()
    for number, step in enumerate((100, 20)):
        torch.save(load_file(folder_of(own, STEPS[number]) / WEIGHTS), tmp_path / "files" / f"ckpt_{step}.pt")
    assert [one[:2] for one in steps(tmp_path / "files", heads=3)] == [("ckpt_20.pt", 20), ("ckpt_100.pt", 100)]


def test_what_is_being_written_is_left_out(own):
    (own / "tmp-checkpoint-50").mkdir()
    (own / "logs").mkdir()
    assert len(gpt2ln_cli.track(own).checkpoints) == len(STEPS)


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_checkpoint_is_a_row_that_says_so(own, gpt2ln, make_folder, damage):
    folder = folder_of(own, 10)
    if damage == "cut":
        data = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        (folder / WEIGHTS).unlink()
    else:
        shutil.rmtree(folder)
        shutil.copytree(make_folder(n_layer=1), folder)
    whole = gpt2ln_cli.track([folder_of(own, step) for step in STEPS if step != 10])
    code, out, err = gpt2ln("track", own, "--json")
    record = msgspec.json.decode(out, type=Track)
    assert code == 1
    assert err.strip().endswith("1 of 4 checkpoints could not be read.")
    assert [one.error is None for one in record.checkpoints] == [True, True, False, True]
    assert record.checkpoints[2].sites == []
    # The one after it is held against the one before it.
    assert record.checkpoints[3].sites == whole.checkpoints[2].sites
    code, out, _ = gpt2ln("track", own)
    assert code == 1
    assert "warning: checkpoint-10: " in " ".join(out.split())


def test_the_last_may_be_missing(own):
    shutil.rmtree(folder_of(own, 40))
    folder_of(own, 40).mkdir()
    record = gpt2ln_cli.track(own)
    assert [one.error is None for one in record.checkpoints] == [True, True, True, False]
    assert record.model.location == str(folder_of(own, 10))
    assert record.checkpoints[2].sites[0].gain_cosine_last == pytest.approx(1.0)


def test_where_nothing_can_be_read_it_is_an_error(tmp_path, gpt2ln):
    for step in (1, 2):
        (tmp_path / f"checkpoint-{step}").mkdir()
    code, out, err = gpt2ln("track", tmp_path)
    assert (code, out) == (3, "")
    assert "none of the 2 checkpoints can be read" in err
    with pytest.raises(CheckpointError, match="no checkpoint"):
        gpt2ln_cli.track(tmp_path / "checkpoint-1")


def test_refusals(run, gpt2ln):
    assert gpt2ln("track")[0] == 2
    for words in (["--dtype", "float16"], ["--bos"], ["--layer", "7"], ["--revisions", "main"]):
        code, out, err = gpt2ln("track", run, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
    with pytest.raises(UsageError, match="cache 'no'"):
        gpt2ln_cli.track(run, cache="no")
    with pytest.raises(UsageError, match="no checkpoint"):
        gpt2ln_cli.track([])


def test_progress_counts_checkpoints(run):
    told = []
    gpt2ln_cli.track(run, cache=False, progress=lambda *one: told.append(one))
    assert told == [(number, 4) for number in (1, 2, 3, 4)]


def test_nothing_heavy_is_imported(run):
    code = (
        "import sys; from gpt2ln_cli.app import main; assert main(sys.argv[1:]) == 0; "
        "assert not {'torch', 'transformers', 'click.testing'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, "track", run, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_data_has_every_step_and_reading_some(tmp_path, run, gpt2ln):
    for step in range(30):
        (tmp_path / f"checkpoint-{step}").symlink_to(folder_of(run, STEPS[min(step, 3)]))
    code, out, _ = gpt2ln("track", tmp_path, "--format", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert code == 0
    assert list(rows[0])[:2] == ["checkpoint", "step"]
    assert [(int(row["step"]), row["name"]) for row in rows] == [
        (step, name) for step in range(30) for name in ("h.0.ln_1", "h.0.ln_2", "h.1.ln_1", "h.1.ln_2", "ln_f")
    ]
    out = gpt2ln("track", tmp_path)[1]
    assert len(re.findall(r"^\d+ +checkpoint-", out, re.MULTILINE)) == 20
    assert "10 more with --all" in out
    for table in ("checkpoints", "farthest", "claims"):
        assert gpt2ln("track", run, "--table", table, "--format", "ndjson")[0] == 0


def test_zip_archives_beside_each_other_are_read_as_alone(run, tmp_path):
    """And what is done with warnings stays as it was."""
    tensors = load_file(folder_of(run, 0) / WEIGHTS)
    for step in range(32):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        shutil.copy(folder_of(run, 0) / "config.json", folder)
        tensors["transformer.ln_f.weight"].fill_(step)
        torch.save(tensors, folder / "pytorch_model.bin")
    before = list(warnings.filters)
    read_one = partial(reading.read, loading=reading.Loading(), kept=None)
    found = list(reading.read_all(read_one, places.find(tmp_path, None), 8))
    assert [one.vectors["ln_f"].gain.tolist() for one in found] == [[step] * 24 for step in range(32)]
    assert warnings.filters == before


# The cache.


def kept_files():
    return sorted(Kept()._folder.iterdir()) if Kept()._folder.is_dir() else []


@pytest.fixture
def opened(monkeypatch):
    """Which checkpoints were opened."""
    names = []
    plain = reading.Loading.load
    monkeypatch.setattr(reading.Loading, "load", lambda self, place: names.append(place.name) or plain(self, place))
    return names


def test_a_second_look_opens_what_is_new_alone(own, opened):
    shutil.rmtree(folder_of(own, 40))
    gpt2ln_cli.track(own)
    assert len(opened) == 3
    opened.clear()
    shutil.copytree(folder_of(own, 10), folder_of(own, 99))
    record = gpt2ln_cli.track(own)
    assert opened == ["checkpoint-99"]
    assert record == gpt2ln_cli.track(own, cache=False)


def test_a_file_that_changed_is_read_again(own, opened):
    gpt2ln_cli.track(own)
    path = folder_of(own, 2) / WEIGHTS
    tensors = load_file(path)
    tensors["transformer.ln_f.weight"] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    opened.clear()
    record = gpt2ln_cli.track(own)
    assert opened == ["checkpoint-2"]
    assert record.checkpoints[1].sites[-1].gain.mean == tensors["transformer.ln_f.weight"].double().mean()
    # So young a file could change again without a sign.
    opened.clear()
    gpt2ln_cli.track(own)
    assert opened == ["checkpoint-2"]


def test_no_cache_keeps_nothing_and_reads_anew(run, opened, gpt2ln):
    assert gpt2ln("track", run, "--no-cache")[0] == 0
    assert kept_files() == []
    gpt2ln_cli.track(run)
    assert len(kept_files()) == 4
    opened.clear()
    gpt2ln_cli.track(run, cache=False)
    assert len(opened) == 4


def test_the_cache_is_small_and_holds_gains_and_biases_alone(run):
    gpt2ln_cli.track(run)
    numbers = 2 * 5 * 24 * 4
    assert all(numbers < file.stat().st_size < numbers + 4096 for file in kept_files())


def test_damage_in_the_cache_is_as_if_nothing_were_there(run):
    whole = gpt2ln_cli.track(run)
    path = kept_files()[0]
    data = path.read_bytes()
    for place in (*range(0, len(data), 97), len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
        assert gpt2ln_cli.track(run) == whole
        path.write_bytes(data[:place])
        assert gpt2ln_cli.track(run) == whole
    path.unlink()
    path.mkdir()
    assert gpt2ln_cli.track(run) == whole


def test_the_cache_forgets_what_was_not_asked_for_the_longest(run, monkeypatch):
    gpt2ln_cli.track(run)
    oldest = kept_files()[1]
    os.utime(oldest, (1, 1))
    monkeypatch.setattr("gpt2ln_cli.checkpoint.kept.MOST_BYTES", sum(file.stat().st_size for file in kept_files()) - 1)
    Kept().trim()
    assert oldest not in kept_files()
    assert len(kept_files()) == 3


def test_a_cache_that_can_not_be_written_stops_nothing(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(gpt2ln_cli.track(run).checkpoints) == 4


# With prompts.


@pytest.fixture(scope="module")
def ran(run):
    return gpt2ln_cli.track(run, IDS)


def test_the_statistics_of_each_step_are_those_of_inspect(run, ran):
    for one in ran.checkpoints:
        of_one = gpt2ln_cli.inspect(IDS, model=folder_of(run, one.step))
        assert [(site.name, site.first, site.rest, site.gain, site.bias) for site in one.sites] == [
            (site.name, site.first, site.rest, site.gain, site.bias) for site in of_one.sites
        ]
        assert ran.prompts == of_one.prompts


def test_the_loss_is_that_of_plain_transformers(run, ran):
    for one in ran.checkpoints:
        model = GPT2LMHeadModel.from_pretrained(folder_of(run, one.step)).eval()
        losses = []
        for ids in IDS:
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0].double()
            losses += [float(-logits[at].log_softmax(-1)[ids[at + 1]]) for at in range(len(ids) - 1)]
        # float32 of another order of sums, through logits of a few units.
        assert one.loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_without_a_next_token_there_is_no_loss(run):
    record = gpt2ln_cli.track(folder_of(run, 40), [[5]])
    assert [one.loss for one in record.checkpoints] == [None]
    assert record.checkpoints[0].sites[0].rest is None


def test_massive_features_are_those_of_the_definition(run, tmp_path):
    """One is written by an MLP from layer 1 on, at every token; another by the position embedding, at position 0."""
    shutil.copytree(folder_of(run, 0), tmp_path / "checkpoint-0")
    folder = shutil.copytree(folder_of(run, 0), tmp_path / "checkpoint-7")
    model = GPT2LMHeadModel.from_pretrained(folder)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_proj.bias[7] = -3000.0
        model.transformer.wpe.weight[0, 3] = 500.0
    model.save_pretrained(folder)
    record = gpt2ln_cli.track(tmp_path, IDS)
    found = [{site.name: site.massive for site in one.sites} for one in record.checkpoints]
    assert not any(found[0].values())
    states = [raw_states(model.transformer.eval(), ids) for ids in IDS]
    for site in record.checkpoints[1].sites:
        counts = {}
        for state in states:
            x = np.abs(state[site.name][0])
            for token, feature in np.argwhere((x > 100) & (x > 1000 * np.median(x, axis=1, keepdims=True))):
                counts.setdefault(int(feature), [0, 0])[int(token > 0)] += 1
        assert {one.index: [one.first, one.rest] for one in site.massive} == counts
        for one in site.massive:
            values = np.concatenate([state[site.name][0][:, one.index] for state in states])
            assert one.value == pytest.approx(values[np.abs(values).argmax()], rel=1e-6)
    assert {one.index for one in found[1]["h.0.ln_1"]} == {3}
    assert {one.index for one in found[1]["h.1.ln_1"]} >= {7}
    became = {one.figures["feature"]: one for one in record.claims if one.id == "track.feature_became_massive"}
    assert became[7].figures["when"] == "between steps 0 and 7"
    assert became[7].figures["site"] in ("h.1.ln_1", "h.1.ln_2", "ln_f")


def test_one_model_is_in_memory_at_a_time(run, monkeypatch):
    alive, most = weakref.WeakSet(), []
    plain = gpt2ln_cli.model.build_body

    def build(*args, **options):
        gc.collect()
        most.append(len(alive))
        body = plain(*args, **options)
        alive.add(body)
        return body

    monkeypatch.setattr("gpt2ln_cli.model.build_body", build)
    gpt2ln_cli.track(run, IDS)
    assert most == [0, 0, 0, 0]


def test_progress_counts_tokens_of_all_passes(run):
    told = []
    gpt2ln_cli.track(run, IDS, progress=lambda *one: told.append(one))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (4 * 2 * 8, 4 * 2 * 8)


def test_prompts_by_the_command_line(own, gpt2ln):
    shutil.copytree(DEMO, own / "checkpoint-50")
    for step in STEPS:
        shutil.rmtree(folder_of(own, step))
    code, out, _ = gpt2ln("track", own, "--prompt", "the war", "--json")
    record = msgspec.json.decode(out, type=Track)
    assert code == 0
    assert [prompt.text for prompt in record.prompts] == ["the war"]
    assert record == gpt2ln_cli.track(own, ["the war"])
    assert "massive feature" in gpt2ln("track", own, "--prompt", "the war")[1]
