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
from gpt2ln_cli.cli import main
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
