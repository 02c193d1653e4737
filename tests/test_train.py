"""The training script runs on any folder of text and goes on where it was stopped."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoTokenizer, GPT2LMHeadModel

import gpt2ln_cli
from gpt2ln_cli.bundled import train

SMALL = [
    "--vocab-size",
    "300",
    "--width",
    "24",
    "--layers",
    "2",
    "--heads",
    "2",
    "--positions",
    "32",
    "--context",
    "16",
    "--tokens-per-step",
    "64",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    text = "the war was over but the hatred was not and the sea was calm again\n" * 60
    (folder / "a.txt").write_text(text + "<|endoftext|>" + text)
    (folder / "valid.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("out")
    done = CliRunner().invoke(train.main, [str(corpus), "--output", str(output), "--steps", "60", *SMALL])
    assert done.exit_code == 0, done.output
    return output


def test_it_learns_and_records_what_it_did(trained):
    record = json.loads((trained / "training.json").read_text())
    assert record["validation_loss"] < record["unigram_loss"] - 0.5
    assert record["seen_tokens"] == 60 * 64
    assert record["recipe"]["n_embd"] == 24


def test_the_recorded_loss_is_that_of_plain_transformers(trained, corpus):
    record = json.loads((trained / "training.json").read_text())
    model = GPT2LMHeadModel.from_pretrained(trained).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained)
    stream = [*tokenizer((corpus / "valid.txt").read_text()).input_ids, model.config.eos_token_id]
    total = count = 0
    with torch.no_grad():
        for start in range(0, len(stream) - 1, 32):
            window = torch.tensor([stream[start : start + 33]])
            logits = model(window[:, :-1]).logits.double()
            chosen = logits.log_softmax(-1).gather(2, window[:, 1:, None])
            total, count = total - float(chosen.sum()), count + window.shape[1] - 1
    assert count == record["validation_tokens"] - 1
    assert record["validation_loss"] == pytest.approx(total / count, rel=1e-5)


def test_the_result_is_inspected_like_any_checkpoint(trained):
    record = gpt2ln_cli.inspect("the war", model=trained)
    assert record.counts.total == 5 * record.counts.tokens
    assert gpt2ln_cli.params(model=trained).verdict.uses_gain_and_bias


def test_the_unigram_baseline_is_the_cross_entropy_of_counts():
    train_ids, valid_ids = np.array([0, 0, 1], dtype=np.uint16), np.array([0, 1, 2], dtype=np.uint16)
    expected = -(math.log(3 / 6) + math.log(2 / 6) + math.log(1 / 6)) / 3
    assert train.unigram_loss(train_ids, valid_ids, 3) == pytest.approx(expected)


def test_a_run_goes_on_from_its_saved_state(corpus, tmp_path, monkeypatch):
    """Stopped in its seventh step of twelve, after it was saved at the fifth, a run ends as one that never stopped."""
    monkeypatch.setattr(train, "SAVE_EVERY", 5)

    def finished(name):
        done = CliRunner().invoke(train.main, [str(corpus), "--output", str(tmp_path / name), "--steps", "12", *SMALL])
        return done, tmp_path / name

    done, whole = finished("whole")
    assert done.exit_code == 0, done.output
    plain = train.learning_rate
    with monkeypatch.context() as patch:

        def interrupted(recipe, step):
            if step == 6:
                raise KeyboardInterrupt
            return plain(recipe, step)

        patch.setattr(train, "learning_rate", interrupted)
        done, stopped = finished("stopped")
    assert done.exit_code == 1
    assert not (stopped / "model.safetensors").exists()
    done, _ = finished("stopped")
    assert "going on from step 5\n" in done.output
    theirs, ours = (GPT2LMHeadModel.from_pretrained(folder).state_dict() for folder in (whole, stopped))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    # Once more, there is nothing left to do.
    done, _ = finished("stopped")
    assert "going on from step 12\n" in done.output
    again = GPT2LMHeadModel.from_pretrained(stopped).state_dict()
    assert all(torch.equal(again[name], theirs[name]) for name in theirs)


def test_a_folder_without_text_is_refused(tmp_path):
    done = CliRunner().invoke(train.main, [str(tmp_path), "--output", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "no training text" in done.output
