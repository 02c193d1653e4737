"""verify names what a model does: GPT-2's own normalization, and each rival on a model altered to follow it."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch
from conftest import raw_states, with_body
from torch import nn

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.verify import axis_trial
from gpt2ln_cli.commands.verify.independence import batch_independent
from gpt2ln_cli.commands.verify.view import SAYS
from gpt2ln_cli.measure.axes import Axis, normalized

SEQUENCES = [[5, 9, 1, 33, 2, 7], [11, 4, 4, 8, 60, 21], [3, 1, 2, 50, 40, 30]]
DTYPES = ("float32", "float16", "bfloat16")
AXES = {"batch": (0, 1), "context": (1,), "whole context": (1, 2), "whole batch": (0, 1, 2)}
READINGS = {
    "as it is": Axis.PER_TOKEN,
    "batch": Axis.FEATURE_OVER_BATCH,
    "context": Axis.FEATURE_OVER_CONTEXT,
    "heads": Axis.PER_HEAD,
    "rms": Axis.NOT_CENTERED,
    "sample": Axis.SAMPLE_VARIANCE,
    "whole batch": Axis.WHOLE_BATCH,
    "whole context": Axis.WHOLE_CONTEXT,
}


class Altered(nn.Module):
    """A LayerNorm that normalizes otherwise, in float32 and rounded once, as kernels do; its own arithmetic."""

    def __init__(self, norm: nn.LayerNorm, how: str, heads: int) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.how, self.heads = norm.weight, norm.bias, norm.eps, how, heads

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        x, gain, bias = given.float(), self.weight.float(), self.bias.float()
        how = self.how
        if how == "rms":
            xhat = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        elif how == "heads":
            split = x.unflatten(-1, (self.heads, -1))
            xhat = torch.nn.functional.layer_norm(split, split.shape[-1:], eps=self.eps).flatten(-2)
        elif how == "sample":
            xhat = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + self.eps)
        elif how in AXES:
            mean = x.mean(AXES[how], keepdim=True)
            xhat = (x - mean) / torch.sqrt(x.var(AXES[how], correction=0, keepdim=True) + self.eps)
        else:
            xhat = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=self.eps)
        if how == "no gain":
            y = xhat + bias
        elif how == "no bias":
            y = xhat * gain
        else:
            y = xhat * gain + bias
        return (y * 1.15 if how == "scaled" else y).to(given.dtype)


class Subclassed(nn.LayerNorm):
    """Somebody's own LayerNorm, which does what GPT-2's does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


@pytest.fixture(scope="module")
def random(make_folder):
    return gpt2ln_cli.load(make_folder())


@pytest.fixture(scope="module")
def body(random):
    return random.body


@pytest.fixture(scope="module", params=["random", "demo"])
def loaded(request):
    return request.getfixturevalue(request.param)


def altered(body, how, dtype="float32"):
    changed = copy.deepcopy(body).to(getattr(torch, dtype))
    heads = body.config.n_head
    for block in changed.h:
        block.ln_1, block.ln_2 = Altered(block.ln_1, how, heads), Altered(block.ln_2, how, heads)
    changed.ln_f = Altered(changed.ln_f, how, heads)
    return changed


def says(so):
    return "yes" if so else "no"


def checked(loaded, body, prompts=SEQUENCES):
    record = gpt2ln_cli.verify(prompts, model=with_body(loaded, body))
    return record, {claim.id.removeprefix("verify."): claim for claim in record.claims}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", [*READINGS, "no gain", "no bias", "scaled"])
def test_it_tells_what_a_model_does_in_every_dtype(loaded, how, dtype):
    record, claims = checked(loaded, altered(loaded.body, how, dtype))
    reading = READINGS.get(how, None if how == "scaled" else Axis.PER_TOKEN)
    assert {trial.verdict for trial in record.sites} == {None if reading is None else reading.value}
    assert [fit.reading for fit in record.readings if fit.fits] == ([] if reading is None else [reading.value])
    assert claims["axis"].verdict == says(reading is Axis.PER_TOKEN)
    assert (reading.value if reading else "no axis that was tried") in SAYS["verify.axis"].of(claims["axis"])
    assert claims["heads_play_no_part"].verdict == says(how != "heads")
    affine = {"no gain": "bias alone", "no bias": "gain alone"}.get(how, "gain and bias")
    if reading is not None:
        assert {trial.affine for trial in record.sites} == {affine}
    assert claims["gain_and_bias"].verdict == says(affine == "gain and bias" and how != "scaled")
    assert claims["batch_independent"].verdict == says(how not in AXES)  # padding is part of a context's statistics
    assert claims["causal"].verdict == says(how not in AXES)
    assert record.behaves_as_gpt2 == (how == "as it is")
    assert claims["behaves_as_gpt2"].verdict == says(how == "as it is")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", ["as it is", "context", "whole context", "batch", "whole batch"])
def test_one_prompt_tells_a_context_from_a_minibatch(random, how, dtype):
    record, _ = checked(random, altered(random.body, how, dtype), SEQUENCES[:1])
    assert {trial.verdict for trial in record.sites} == {READINGS[how].value}
    assert len(record.companion) == 6
    assert [reading.statistics for reading in record.readings if reading.is_gpt2] == [12]


@pytest.mark.parametrize("d", [768, 1600])
def test_one_less_in_the_divisor_is_told_apart_at_the_width_of_gpt2(make_folder, d):
    """In bfloat16, which hides most: one part in 2 d is under half a unit of the last place."""
    loaded = gpt2ln_cli.load(make_folder(n_embd=d, n_head=4, n_layer=1), dtype="bfloat16")
    record, _ = checked(loaded, loaded.body)
    assert record.behaves_as_gpt2
    record, _ = checked(loaded, altered(loaded.body, "sample", "bfloat16"))
    assert {trial.verdict for trial in record.sites} == {Axis.SAMPLE_VARIANCE.value}


def test_what_width_and_precision_hide_is_said_and_is_no_success(make_folder):
    """The gain is nowhere but at one feature, and small against the bias: what xhat is, y hardly shows."""

    def change(body):
        for name, parameter in body.named_parameters():
            if "ln_" in name and "weight" in name:
                parameter.zero_()[0] = 2.0**-9

    loaded = gpt2ln_cli.load(make_folder(change, n_embd=768, n_layer=1), dtype="bfloat16")
    record, claims = checked(loaded, loaded.body)
    assert claims["axis"].verdict == "can't tell"
    assert not record.behaves_as_gpt2


@pytest.mark.parametrize("dtype", DTYPES)
def test_modules_of_another_class_are_only_watched(random, dtype):
    changed = copy.deepcopy(random.body).to(getattr(torch, dtype))
    norm = changed.h[0].ln_2
    own = Subclassed(norm.normalized_shape, norm.eps).to(norm.weight)
    own.load_state_dict(norm.state_dict())
    changed.h[0].ln_2 = own
    changed.h[1].ln_1.forward = changed.h[1].ln_1.forward
    record, _ = checked(random, changed)
    assert record.behaves_as_gpt2


def test_the_share_of_exact_numbers_is_that_of_float64(demo):
    """The figures of one reading at each site, computed again from plain hooks."""
    body = copy.deepcopy(demo.body).to(torch.bfloat16)
    record, _ = checked(demo, body)
    modules = dict(body.named_modules())
    states = [raw_states(body, sequence) for sequence in SEQUENCES]
    for reading, centered in ((Axis.PER_TOKEN, True), (Axis.NOT_CENTERED, False)):
        shares = []
        for trial in record.sites:
            x, y = (np.concatenate([state[trial.name][part] for state in states]) for part in (0, 1))
            gain, bias = (getattr(modules[trial.name], name).detach().double().numpy() for name in ("weight", "bias"))
            from_x = x - x.mean(-1, keepdims=True) * centered
            predicted = from_x / np.sqrt((from_x**2).mean(-1, keepdims=True) + 1e-5) * gain + bias
            shares.append(np.mean(torch.tensor(predicted).bfloat16().double().numpy() == y))
            if reading is Axis.PER_TOKEN:
                assert trial.exact == pytest.approx(shares[-1], abs=2e-3)  # matrix products of a batch round otherwise
        fit = next(fit for fit in record.readings if fit.reading == reading.value)
        assert fit.exact == pytest.approx(min(shares), abs=0.01)
        assert (min(shares) > 0.999) == centered


def test_contexts_run_in_the_batches_of_the_subject(random, monkeypatch):
    """A book's windows are not padded into one batch."""
    sizes = []
    plain = axis_trial.watch

    def trace(body, batch, *rest):
        sizes.append(tuple(batch.ids.shape))
        return plain(body, batch, *rest)

    monkeypatch.setattr(axis_trial, "watch", trace)
    record, _ = checked(random, random.body, [[*range(32)]] * 40 + [[1, 2, 3]])
    assert record.behaves_as_gpt2
    assert max(rows * tokens for rows, tokens in sizes) <= 1024
    own = next(reading for reading in record.readings if reading.is_gpt2)
    assert own.statistics == 40 * 32 + 3


def test_it_names_a_single_altered_site(random):
    changed = copy.deepcopy(random.body)
    changed.h[1].ln_1 = Altered(changed.h[1].ln_1, "rms", 3)
    record, claims = checked(random, changed)
    assert [trial.name for trial in record.sites if trial.verdict != Axis.PER_TOKEN.value] == ["h.1.ln_1"]
    assert claims["axis"].verdict == "no"
    assert "h.1.ln_1" in SAYS["verify.axis"].of(claims["axis"])


@pytest.mark.parametrize("length", [25, 31, 32])
def test_a_context_may_be_full(body, length):
    ids = [*range(length)]
    assert batch_independent(body, ids).verdict == "yes"
    assert batch_independent(altered(body, "batch"), ids).verdict == "no"


def test_what_the_input_cannot_tell_is_undecided_and_no_success(random, capsys, make_folder):
    record, claims = checked(random, random.body, [[5]])
    assert claims["axis"].verdict == claims["causal"].verdict == claims["behaves_as_gpt2"].verdict == "can't tell"
    assert all(trial.verdict is None and Axis.PER_TOKEN.value in trial.candidates for trial in record.sites)
    assert not record.behaves_as_gpt2
    assert main(["verify", "--token-ids", "5", "--model", str(make_folder())]) == 1
    assert "can't decide" in capsys.readouterr().err


def test_gains_of_1_and_biases_of_0_do_not_tell_whether_they_are_applied(make_folder):
    def untrain(body):
        for name, parameter in body.named_parameters():
            if "ln_" in name:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)

    loaded = gpt2ln_cli.load(make_folder(untrain))
    record, claims = checked(loaded, loaded.body)
    assert record.behaves_as_gpt2
    assert claims["gain_and_bias"].verdict == "can't tell"
    for how, verdict in (("no gain", "can't tell"), ("rms", "can't tell"), ("scaled", "no")):
        _, claims = checked(loaded, altered(loaded.body, how))
        assert claims["gain_and_bias"].verdict == verdict


def test_one_head_is_the_whole_token(make_folder):
    loaded = gpt2ln_cli.load(make_folder(n_head=1))
    record, claims = checked(loaded, loaded.body)
    assert record.behaves_as_gpt2
    assert claims["heads_play_no_part"].verdict == "can't tell"


def test_the_differences_are_those_of_float64(body):
    """One site's figures, computed again from plain hooks."""
    readings, _, _ = axis_trial.try_axes(body, [SEQUENCES[:1]])
    gaps = []
    states = raw_states(body, SEQUENCES[0])
    for name, (x, y) in states.items():
        module = dict(body.named_modules())[name]
        gain, bias = module.weight.double().numpy(), module.bias.double().numpy()
        xhat = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
        gaps.append(np.sqrt(np.mean((xhat * gain + bias - y) ** 2)) / np.sqrt(np.mean(y**2)))
    reading = next(fit for fit in readings if fit.reading == Axis.NOT_CENTERED.value)
    assert reading.rms == pytest.approx(max(gaps), rel=1e-6)


def test_each_reading_averages_over_what_its_name_says():
    x = np.random.default_rng(0).normal(2, 3, (7, 12))
    lengths = [4, 3]

    def done(reading):
        return normalized(reading, x, lengths, heads=3, eps=0.0)

    def is_standard(values, axes):
        np.testing.assert_allclose(values.mean(axes), 0, atol=1e-12)
        np.testing.assert_allclose(values.std(axes), 1, rtol=1e-12)

    is_standard(done(Axis.PER_TOKEN), 1)
    is_standard(done(Axis.FEATURE_OVER_BATCH), 0)
    is_standard(done(Axis.WHOLE_BATCH), (0, 1))
    is_standard(done(Axis.PER_HEAD).reshape(7, 3, 4), 2)
    for part in np.split(done(Axis.FEATURE_OVER_CONTEXT), [4]):
        is_standard(part, 0)
    for part in np.split(done(Axis.WHOLE_CONTEXT), [4]):
        is_standard(part, (0, 1))
    np.testing.assert_allclose((done(Axis.NOT_CENTERED) ** 2).mean(1), 1)
    np.testing.assert_allclose(done(Axis.SAMPLE_VARIANCE).std(1, ddof=1), 1)


def test_the_bundled_model_behaves_as_gpt2(demo):
    record = gpt2ln_cli.verify(model=demo)
    assert record.behaves_as_gpt2
    assert [claim.verdict for claim in record.claims] == ["yes"] * 6
    assert all(trial.verdict == Axis.PER_TOKEN.value and trial.orders > 3 for trial in record.sites)
    assert len(record.sites) == 25


def test_the_command_says_what_came_out_otherwise(capsys, make_folder, monkeypatch):
    from gpt2ln_cli import model as loading

    folder = str(make_folder())
    words = ["verify", "--token-ids", "5,9,1,33,2,7", "--model", folder]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["behaves_as_gpt2"]
    build = loading.build_body
    monkeypatch.setattr("gpt2ln_cli.model.build_body", lambda *a, **k: altered(build(*a, **k), "rms"))
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert "does not behave as GPT-2" in out
    assert Axis.NOT_CENTERED.value in out
    assert "exit code 1" in err
    assert "axis" in err


def test_a_model_whose_layer_norms_give_nothing_is_no_crash(make_folder):
    def silence(body):
        for parameter in body.parameters():
            parameter.data.zero_()

    record = gpt2ln_cli.verify([[1, 2, 3]], model=make_folder(silence))
    assert {reading.rms for reading in record.readings} == {0}
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert verdicts["verify.axis"] == verdicts["verify.heads_play_no_part"] == "can't tell"


def test_the_context_that_is_added_is_not_flagged(make_folder):
    """Its first token is one that the prompt has not, and whose embedding is not finite."""
    folder = make_folder(lambda body: body.wte.weight[4].fill_(math.nan))
    record = gpt2ln_cli.verify([[1, 2, 3]], model=folder)
    assert record.companion[0] == 4
    assert record.warnings == gpt2ln_cli.inspect([[1, 2, 3]], model=folder).warnings == []
