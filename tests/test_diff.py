"""diff shows exactly what was changed between two checkpoints, and nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import DEMO, raw_states
from safetensors.torch import load_file
from transformers import GPT2Model

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.diff.compute import _change
from gpt2ln_cli.errors import CheckpointError


def test_a_checkpoint_does_not_differ_from_itself():
    record = gpt2ln_cli.diff("demo", DEMO, ["the war was over"])
    assert record.changed_sites == 0
    for site in record.sites:
        for vector in (site.gain, site.bias):
            assert (vector.norm, vector.relative, vector.changed, vector.largest) == (0, 0, 0, [])
            assert vector.cosine == pytest.approx(1)
        for part in (site.first, site.rest):
            for name in ("sigma", "pre_norm", "normalized_norm", "post_norm"):
                assert getattr(part, name).relative == 0


@pytest.fixture(scope="module")
def pair(make_folder):
    def change(body):
        body.h[1].ln_2.weight[5] += 0.25
        body.h[1].ln_2.weight[2] -= 0.5
        body.ln_f.bias[7] = -3.0

    return make_folder(), make_folder(change)


def test_exactly_what_was_perturbed_is_shown(pair):
    a, b = (load_file(folder / "model.safetensors") for folder in pair)
    record = gpt2ln_cli.diff(*pair)
    assert record.changed_sites == 2
    assert record.prompts is None
    for site in record.sites:
        for part, vector in (("weight", site.gain), ("bias", site.bias)):
            one, other = (tensors[f"transformer.{site.name}.{part}"].double().numpy() for tensors in (a, b))
            changed = np.flatnonzero(one != other)
            assert vector.changed == len(changed)
            assert vector.norm == pytest.approx(np.sqrt(((other - one) ** 2).sum()))
            assert vector.relative == pytest.approx(np.linalg.norm(other - one) / np.linalg.norm(one))
            assert vector.cosine == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
            order = sorted(changed, key=lambda i: -abs(other[i] - one[i]))
            assert [(f.index, f.a, f.b) for f in vector.largest] == [(i, one[i], other[i]) for i in order]
    names = {site.name: site for site in record.sites}
    assert [f.index for f in names["h.1.ln_2"].gain.largest] == [2, 5]
    assert [f.index for f in names["ln_f"].bias.largest] == [7]


def test_activations_are_those_of_both_models_on_the_same_tokens(pair):
    ids = [3, 1, 4, 1, 5]
    record = gpt2ln_cli.diff(*pair, [ids])
    states = [raw_states(GPT2Model.from_pretrained(folder).eval(), ids) for folder in pair]
    for site in record.sites:
        for part, rows in ((site.first, slice(0, 1)), (site.rest, slice(1, None))):
            sigmas = [state[site.name][0][rows].std(-1).mean() for state in states]
            norms = [np.linalg.norm(state[site.name][1][rows], axis=-1).mean() for state in states]
            for change, (one, other) in ((part.sigma, sigmas), (part.post_norm, norms)):
                assert (change.a, change.b) == pytest.approx((one, other), rel=1e-5)
                assert change.relative == pytest.approx((other - one) / one, abs=1e-4)
    # Blocks before the change compute the same; after it they do not.
    names = {site.name: site for site in record.sites}
    assert names["h.1.ln_1"].rest.sigma.relative == 0
    assert names["h.1.ln_2"].rest.post_norm.relative != 0
    assert names["ln_f"].rest.sigma.relative != 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_half_precision_what_was_perturbed_alone_differs(pair, dtype):
    """sigma is that of the model's own activations, however coarse these are; what is the same does not differ."""
    ids = [7, 1, 1, 60, 0, 33, 5]
    models = [gpt2ln_cli.load(folder, dtype=dtype) for folder in pair]
    same = gpt2ln_cli.diff(models[0], gpt2ln_cli.load(pair[0], dtype=dtype), [ids])
    assert {part.sigma.relative for site in same.sites for part in (site.first, site.rest)} == {0}
    record = gpt2ln_cli.diff(*models, [ids])
    assert record.changed_sites == 2
    for model, of in zip(models, ("a", "b"), strict=True):
        states = raw_states(GPT2Model.from_pretrained(model.checkpoint.location).to(getattr(torch, dtype)).eval(), ids)
        for site in record.sites:
            sigma = states[site.name][0].std(axis=1)
            # The kernel sums x, which is exact in float32, in float32: d roundings at most.
            assert getattr(site.first.sigma, of) == pytest.approx(sigma[0], rel=24 * 2**-24)
            assert getattr(site.rest.sigma, of) == pytest.approx(sigma[1:].mean(), rel=24 * 2**-24)
    # Before the perturbed site all is alike; after it nothing is.
    names = [site.name for site in record.sites]
    changed = [site.name for site in record.sites if site.rest.post_norm.relative]
    assert changed == names[names.index("h.1.ln_2") :]


def test_a_missing_bias_counts_as_none(make_folder, tmp_path):
    """Against a checkpoint without biases, as nanoGPT's bias=False makes them."""
    whole = make_folder(n_layer=1)
    tensors = load_file(whole / "model.safetensors")
    bare = {name.removeprefix("transformer."): t for name, t in tensors.items() if not name.endswith(".bias")}
    for name in list(bare):
        if any(part in name for part in ("c_attn", "c_proj", "c_fc")):
            bare[name] = bare[name].t().contiguous()
    arguments = {"n_layer": 1, "n_head": 3, "n_embd": 24, "block_size": 32, "vocab_size": 61}
    torch.save(
        {"model": {f"transformer.{n}": t for n, t in bare.items()}, "model_args": arguments}, tmp_path / "ckpt.pt"
    )
    record = gpt2ln_cli.diff(tmp_path / "ckpt.pt", whole)
    for site in record.sites:
        bias = tensors[f"transformer.{site.name}.bias"].double().numpy()
        assert site.gain.changed == 0
        assert site.bias.norm == pytest.approx(np.linalg.norm(bias))
        assert site.bias.relative is None


@pytest.mark.parametrize(("shape", "says"), [({"n_layer": 3}, "layers"), ({"n_embd": 27}, "width")])
def test_other_shapes_are_refused(make_folder, shape, says):
    with pytest.raises(CheckpointError, match=says):
        gpt2ln_cli.diff(make_folder(), make_folder(**shape))


def test_the_command_prints_the_record_and_fits(pair, capsys, monkeypatch):
    import msgspec

    words = ["diff", *map(str, pair), "--token-ids", "3,1,4"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(
        msgspec.json.encode(gpt2ln_cli.diff(str(pair[0]), str(pair[1]), [[3, 1, 4]]))
    )
    monkeypatch.setenv("COLUMNS", "80")
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "differ at 2 of 5 sites" in " ".join(out.split())
    assert "…" not in out


def test_a_table_of_the_prompts_is_refused_before_the_work_where_there_are_none(capsys):
    assert main(["diff", "no-such-model", "demo", "--table", "prompts", "--format", "csv"]) == 2
    assert "--table prompts has nothing without prompts" in capsys.readouterr().err


def deep(make_folder, change=lambda body: None):
    return make_folder(change, n_layer=48)


def test_what_does_not_differ_is_said_once(make_folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["diff", "demo", "demo"]) == 0
    out = capsys.readouterr().out
    assert len(out.rstrip().split("\n")) <= 15
    assert "the same in A and B at all 25 sites" in " ".join(out.split())
    assert main(["diff", "demo", "demo", "--all"]) == 0
    assert "h.11.ln_2" in capsys.readouterr().out

    def change(body):
        for name, parameter in body.named_parameters():
            if "ln_" in name:
                parameter.mul_(1 + 0.01 * len(name))
        body.h[30].ln_2.bias[3] = 99.0

    a, b = (str(deep(make_folder, *how)) for how in ((), (change,)))
    assert main(["diff", a, b, "--token-ids", "3,1,4"]) == 0
    lines = capsys.readouterr().out.rstrip().split("\n")
    assert len(lines) <= 100
    text = " ".join(" ".join(lines).split())
    assert "Gain or bias differ at 97 of 97 sites, most at h.30.ln_2: ||b - a|| of its bias is" in text
    assert "feature 3 went from" in text
    assert text.index("Gain or bias differ") < text.index("Learned gain and bias")


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_rounding_to_the_dtype_of_one_is_no_difference(dtype):
    """Half a unit of the last place at most, of every number of demo's gains and biases, and a whole one is more."""
    import ml_dtypes

    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    vectors = load_file(f"{DEMO}/model.safetensors")
    values = np.concatenate([v.double().numpy() for name, v in vectors.items() if "ln_" in name])
    name = str(kind.name)
    near = np.asarray(values.astype(kind), dtype=np.float64)
    change = _change(values, near, 1.0, 3, name)
    assert change.changed > 0
    assert change.last_places <= 0.5
    up = np.asarray(np.nextafter(values.astype(kind), kind.type(np.inf)), dtype=np.float64)
    assert _change(near, up, 1.0, 3, name).last_places >= 1


NAN, INF = float("nan"), float("inf")


def spoilt(**values):
    """Gains of h.1.ln_2 by feature, such as ``g3=NAN``."""

    def change(body):
        for name, value in values.items():
            body.h[1].ln_2.weight[int(name[1:])] = value

    return change


def test_what_is_nan_or_infinite_in_both_does_not_differ(make_folder):
    folder = make_folder(spoilt(g3=NAN, g5=INF, g6=-INF))
    record = gpt2ln_cli.diff(folder, folder, [[1, 2]])
    assert record.changed_sites == 0
    for site in record.sites:
        for vector in (site.gain, site.bias):
            assert (vector.norm, vector.changed, vector.largest) == (0, 0, [])
    gain = next(site.gain for site in record.sites if site.name == "h.1.ln_2")
    # The angle of what is not finite is not 0, and neither is nothing a share of it.
    assert (gain.cosine, gain.relative) == (None, None)


def test_nan_of_other_bits_is_nan_all_the_same(make_folder):
    other = -torch.tensor(NAN)
    assert other.view(torch.int32) != torch.tensor(NAN).view(torch.int32)
    a, b = make_folder(spoilt(g3=NAN)), make_folder(spoilt(g3=other))
    assert gpt2ln_cli.diff(a, b).changed_sites == 0


def test_what_is_not_finite_on_one_side_is_listed_first(make_folder):
    a, b = make_folder(spoilt(g4=INF, g5=INF)), make_folder(spoilt(g0=100.0, g2=NAN, g4=-INF, g5=INF, g9=INF, g7=-3.0))
    one, other = (load_file(folder / "model.safetensors")["transformer.h.1.ln_2.weight"] for folder in (a, b))
    record = gpt2ln_cli.diff(a, b, features=24)
    assert record.changed_sites == 1
    gain = next(site.gain for site in record.sites if site.name == "h.1.ln_2")
    assert [feature.index for feature in gain.largest] == [2, 4, 9, 0, 7]
    assert [feature.b for feature in gain.largest] == [None, None, None, 100.0, -3.0]
    assert [feature.a for feature in gain.largest if feature.index != 4] == [float(one[i]) for i in (2, 9, 0, 7)]
    assert int((one != other).sum()) == gain.changed == 5
    assert gain.norm is gain.relative is gain.cosine is None


def test_the_table_says_what_a_dash_is(make_folder, capsys):
    assert main(["diff", str(make_folder()), str(make_folder(spoilt(g2=NAN)))]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "numbers were NaN or infinite and are shown as a dash" in out
    assert "feature 2 went from" in out


def test_warnings_say_which_checkpoint_they_are_of(make_folder, capsys):
    def both(body):
        body.ln_f.bias[0] = NAN

    def b_alone(body):
        both(body)
        body.h[0].ln_1.bias[1] = INF

    a, b = make_folder(both), make_folder(b_alone)
    for prompts in (None, [[1, 2]]):
        flags = [flag for flag in gpt2ln_cli.diff(a, b, prompts).warnings if flag.code == "nonfinite_parameter"]
        assert [(flag.site, flag.message.partition(":")[0]) for flag in flags] == [
            ("ln_f", "in A and B"),
            ("h.0.ln_1", "in B"),
        ]
    words = ["diff", str(a), str(b)]
    assert main(words) == 0
    assert "warning: h.0.ln_1: in B: 1 of 24 numbers of the bias" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--strict"]) == 1
    assert main(["diff", "demo", "demo", "--strict"]) == 0
