"""verify names what a model does: GPT-2's own normalization, and each rival on a model altered to follow it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import raw_states
from torch import nn

import gpt2ln_cli
from gpt2ln_cli.experiments import verify
from gpt2ln_cli.experiments.normalizing import normalized
from gpt2ln_cli.readings import Reading

EPSILON = float(np.finfo(np.float32).eps)
SEQUENCES = [[5, 9, 1, 33, 2, 7], [11, 4, 4, 8, 60, 21], [3, 1, 2, 50, 40, 30]]
HEADS = 3


class Altered(nn.Module):
    """A LayerNorm that normalizes otherwise; its own arithmetic, not the tool's."""

    def __init__(self, norm: nn.LayerNorm, how: str) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.how = norm.weight, norm.bias, norm.eps, how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "rms":
            xhat = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        elif self.how == "heads":
            split = x.unflatten(-1, (HEADS, -1))
            xhat = torch.nn.functional.layer_norm(split, split.shape[-1:], eps=self.eps).flatten(-2)
        elif self.how == "sample":
            xhat = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + self.eps)
        elif self.how in ("batch", "context", "whole context", "whole batch"):
            dims = {"batch": (0, 1), "context": (1,), "whole context": (1, 2), "whole batch": (0, 1, 2)}[self.how]
            mean = x.mean(dims, keepdim=True)
            xhat = (x - mean) / torch.sqrt(x.var(dims, correction=0, keepdim=True) + self.eps)
        else:
            xhat = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=self.eps)
        if self.how == "no gain":
            return xhat + self.bias
        if self.how == "no bias":
            return xhat * self.weight
        return xhat * self.weight + self.bias


@pytest.fixture(scope="module")
def body(make_folder):
    return gpt2ln_cli.load(make_folder()).body


def altered(body, how):
    changed = copy.deepcopy(body)
    for block in changed.h:
        block.ln_1, block.ln_2 = Altered(block.ln_1, how), Altered(block.ln_2, how)
    changed.ln_f = Altered(changed.ln_f, how)
    return changed


@pytest.mark.parametrize(
    ("how", "reading"),
    [
        ("rms", Reading.NOT_CENTERED),
        ("heads", Reading.PER_HEAD),
        ("sample", Reading.SAMPLE_VARIANCE),
        ("batch", Reading.FEATURE_OVER_BATCH),
        ("context", Reading.FEATURE_OVER_CONTEXT),
        ("whole context", Reading.WHOLE_CONTEXT),
        ("whole batch", Reading.WHOLE_BATCH),
        ("as it is", Reading.PER_TOKEN),
    ],
)
def test_the_axis_trial_names_what_the_model_does(body, how, reading):
    changed = altered(body, how)
    readings, trials = verify.try_axes(changed, SEQUENCES, EPSILON)
    assert {trial.verdict for trial in trials} == {reading.value}
    assert min(trial.orders for trial in trials) > 3
    assert {trial.affine for trial in trials} == {"gain and bias"}
    assert [fit.reading for fit in readings if fit.fits] == [reading.value]
    check = verify.check_axis(trials)
    assert check.passed == (reading is Reading.PER_TOKEN)
    assert reading.value in check.statement
    assert verify.check_heads(changed, readings, trials).passed == (how != "heads")


def test_it_names_a_single_altered_site(body):
    changed = copy.deepcopy(body)
    changed.h[1].ln_1 = Altered(changed.h[1].ln_1, "rms")
    _, trials = verify.try_axes(changed, SEQUENCES, EPSILON)
    assert [trial.name for trial in trials if trial.verdict != Reading.PER_TOKEN.value] == ["h.1.ln_1"]
    check = verify.check_axis(trials)
    assert check.passed is False
    assert "h.1.ln_1" in check.statement


@pytest.mark.parametrize(("how", "affine"), [("no gain", "bias alone"), ("no bias", "gain alone")])
def test_an_unused_gain_or_bias_is_noticed(body, how, affine):
    changed = altered(body, how)
    _, trials = verify.try_axes(changed, SEQUENCES, EPSILON)
    assert {trial.affine for trial in trials} == {affine}
    assert verify.check_axis(trials).passed
    check = verify.check_gain_and_bias(changed, trials)
    assert check.passed is False
    assert affine in check.statement
    _, trials = verify.try_axes(body, SEQUENCES, EPSILON)
    assert verify.check_gain_and_bias(body, trials).passed


@pytest.mark.parametrize(
    ("how", "independent", "causal"),
    [
        ("as it is", True, True),
        ("rms", True, True),
        ("batch", False, False),
        ("context", False, False),  # padding is part of its statistics
        ("whole batch", False, False),
    ],
)
def test_batch_independence_and_causality_are_measured(body, how, independent, causal):
    changed = altered(body, how)
    assert verify.check_batch_independence(changed, SEQUENCES[0], EPSILON).passed == independent
    assert verify.check_causality(changed, SEQUENCES[0], EPSILON).passed == causal


@pytest.mark.parametrize("length", [25, 31, 32])
def test_a_context_may_be_full(body, length):
    ids = [*range(length)]
    assert verify.check_batch_independence(body, ids, EPSILON).passed
    assert not verify.check_batch_independence(altered(body, "batch"), ids, EPSILON).passed


def test_what_the_input_cannot_tell_is_undecided(body):
    _, trials = verify.try_axes(body, [[5]], EPSILON)
    check = verify.check_axis(trials)
    assert check.passed is None
    assert "undecided" in check.statement
    assert all(trial.verdict is None and Reading.PER_TOKEN.value in trial.candidates for trial in trials)
    assert verify.check_causality(body, [5], EPSILON).passed is None


def test_the_differences_are_those_of_float64(body):
    """One site's figures, computed again from plain hooks."""
    readings, _ = verify.try_axes(body, SEQUENCES[:1], EPSILON)
    gaps = []
    states = raw_states(body, SEQUENCES[0])
    for name, (x, y) in states.items():
        module = dict(body.named_modules())[name]
        gain, bias = module.weight.double().numpy(), module.bias.double().numpy()
        xhat = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
        gaps.append(np.sqrt(np.mean((xhat * gain + bias - y) ** 2)) / np.sqrt(np.mean(y**2)))
    reading = next(fit for fit in readings if fit.reading == Reading.NOT_CENTERED.value)
    assert reading.rms == pytest.approx(max(gaps), rel=1e-6)


def test_each_reading_averages_over_what_its_name_says():
    x = np.random.default_rng(0).normal(2, 3, (7, 12))
    lengths = [4, 3]

    def done(reading):
        return normalized(reading, x, lengths, heads=3, eps=0.0)

    def is_standard(values, axes):
        np.testing.assert_allclose(values.mean(axes), 0, atol=1e-12)
        np.testing.assert_allclose(values.std(axes), 1, rtol=1e-12)

    is_standard(done(Reading.PER_TOKEN), 1)
    is_standard(done(Reading.FEATURE_OVER_BATCH), 0)
    is_standard(done(Reading.WHOLE_BATCH), (0, 1))
    is_standard(done(Reading.PER_HEAD).reshape(7, 3, 4), 2)
    for part in np.split(done(Reading.FEATURE_OVER_CONTEXT), [4]):
        is_standard(part, 0)
    for part in np.split(done(Reading.WHOLE_CONTEXT), [4]):
        is_standard(part, (0, 1))
    np.testing.assert_allclose((done(Reading.NOT_CENTERED) ** 2).mean(1), 1)
    np.testing.assert_allclose(done(Reading.SAMPLE_VARIANCE).std(1, ddof=1), 1)


def test_the_bundled_model_behaves_as_gpt2(demo):
    record = gpt2ln_cli.verify(model=demo)
    assert record.behaves_as_gpt2
    assert [check.passed for check in record.checks] == [True] * 5
    assert all(trial.verdict == Reading.PER_TOKEN.value and trial.orders > 3 for trial in record.sites)
    assert len(record.sites) == 25


def test_the_command_says_what_came_out_otherwise(capsys, make_folder, monkeypatch):
    import json

    from gpt2ln_cli import model as loading
    from gpt2ln_cli.cli import main

    folder = str(make_folder())
    words = ["verify", "--token-ids", "5,9,1,33,2,7", "--model", folder]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["behaves_as_gpt2"]
    build = loading.build_body
    monkeypatch.setattr("gpt2ln_cli.subject.build_body", lambda *a, **k: altered(build(*a, **k), "rms"))
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert "OTHERWISE" in out
    assert Reading.NOT_CENTERED.value in out
    assert "exit code 1" in err
    assert "axis" in err


def test_a_model_whose_layer_norms_give_nothing_is_no_crash(make_folder):
    def silence(body):
        for parameter in body.parameters():
            parameter.data.zero_()

    record = gpt2ln_cli.verify([[1, 2, 3]], model=make_folder(silence))
    assert {reading.rms for reading in record.readings} == {0}
    passed = {check.name: check.passed for check in record.checks}
    assert passed["axis"] is passed["heads"] is None
