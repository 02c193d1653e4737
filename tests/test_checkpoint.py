"""The bundled checkpoint is a plain GPT-2; folders load exactly or are refused with a reason."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import DEMO, raw_states, reference
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2Model

import gpt2ln_cli
from gpt2ln_cli.checkpoint import locate
from gpt2ln_cli.checkpoint.base import parse_config
from gpt2ln_cli.errors import CheckpointError


def test_the_bundled_checkpoint_is_gpt2_in_miniature():
    model = GPT2LMHeadModel.from_pretrained(DEMO)
    config = model.config
    assert (config.n_layer, config.n_head, config.n_positions, config.vocab_size) == (12, 12, 1024, 8192)
    assert (config.activation_function, config.layer_norm_epsilon) == ("gelu_new", 1e-5)
    assert config.n_embd >= 96
    assert model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    assert len(tokenizer) == 8192
    assert tokenizer("<|endoftext|>").input_ids == [config.eos_token_id]
    text = "It was é 日本 \n\n  ok\u0000"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert sum(file.stat().st_size for file in DEMO.iterdir()) <= 10_000_000


def test_the_bundled_checkpoint_was_trained():
    """Far below the unigram baseline on text it has not seen, at every part of the context."""
    record = json.loads((DEMO / "training.json").read_text())
    assert record["validation_loss"] <= 4.8 < record["unigram_loss"]
    model = GPT2LMHeadModel.from_pretrained(DEMO).eval()
    # Persuasion, chapter 4: held out from training.
    text = (
        "He was not Mr. Wentworth, the former curate of Monkford, however suspicious appearances may be, but a captain "
        "Frederick Wentworth, his brother, who being made commander in consequence of the action off St. Domingo, and "
        "not immediately employed, had come into Somersetshire, in the summer of 1806; and having no parent living, "
        "found a home for half a year at Monkford. He was, at that time, a remarkably fine young man, with a great "
        "deal of intelligence, spirit, and brilliancy; and Anne an extremely pretty girl, with gentleness, modesty, "
        "taste, and feeling."
    )
    ids = torch.tensor([AutoTokenizer.from_pretrained(DEMO)(text).input_ids])
    with torch.no_grad():
        loss = float(model(ids, labels=ids).loss)
    assert loss < record["unigram_loss"] - 1


def test_loading_gives_transformers_own_weights_and_output(demo, plain_demo):
    ours, theirs = demo.body.state_dict(), plain_demo.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ids = torch.arange(30)[None]
    with torch.no_grad():
        assert torch.equal(demo.body(ids).last_hidden_state, plain_demo(ids).last_hidden_state)
    assert not demo.body.training


def test_names_without_prefix_and_old_buffers(tmp_path):
    """GPT-2's own file on the Hub: no 'transformer.' prefix, and attention's mask among the tensors."""
    shutil.copytree(DEMO, tmp_path, dirs_exist_ok=True)
    tensors = load_file(DEMO / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 1024, 1024)
    tensors["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, tmp_path / "model.safetensors")
    theirs = gpt2ln_cli.inspect("ok", model=DEMO)
    ours = gpt2ln_cli.inspect("ok", model=tmp_path)
    assert ours.sites == theirs.sites
    assert gpt2ln_cli.params(model=tmp_path).sites == gpt2ln_cli.params().sites


def test_vocab_and_merges_make_the_same_tokenizer(tmp_path, demo):
    """The two files that GPT-2 was released with, in place of tokenizer.json."""
    from gpt2ln_cli.checkpoint.tokenizer import read_tokenizer

    whole = json.loads((DEMO / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = {**whole["model"]["vocab"], "<|endoftext|>": 8191}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in whole["model"]["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges), encoding="utf-8")
    text = "The war was over,\n but the hatred<|endoftext|> was not. é"
    assert read_tokenizer(tmp_path).encode(text).ids == demo.tokenizer.encode(text).ids


def test_a_loaded_model_is_used_as_it_is(demo):
    assert gpt2ln_cli.inspect("ok", model=demo) == gpt2ln_cli.inspect("ok", model="demo")


def refuse(path, match):
    for call in (gpt2ln_cli.params, lambda model: gpt2ln_cli.inspect([[1]], model=model)):
        with pytest.raises(CheckpointError, match=match) as caught:
            call(model=path)
        assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint(tmp_path):
    refuse(tmp_path / "none", "no file or folder")
    refuse(tmp_path, "no config.json")
    file = tmp_path / "notes.txt"
    file.write_text("hello")
    refuse(file, "is a file")
    refuse("./no such", "no file or folder")


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ("", "not a GPT-2 configuration"),
        ("[]", "not a GPT-2 configuration"),
        ('{"model_type": "llama"}', "says model_type 'llama'"),
        ("{}", "says model_type ''"),
        ('{"model_type": "gpt2", "n_layer": "many"}', "not a GPT-2 configuration"),
        ('{"model_type": "gpt2", "n_layer": 0}', "n_layer 0"),
        ('{"model_type": "gpt2", "n_head": 7}', "7 heads do not divide"),
        ('{"model_type": "gpt2", "layer_norm_epsilon": -1}', "layer_norm_epsilon"),
        ('{"model_type": "gpt2"}', "no model.safetensors"),
    ],
)
def test_unusable_configurations(tmp_path, config, match):
    (tmp_path / "config.json").write_text(config)
    refuse(tmp_path, match)


SIZES = st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24, 48])
CONFIGURED = {
    "vocab_size": SIZES,
    "n_positions": SIZES,
    "n_embd": SIZES,
    "n_layer": SIZES,
    "n_head": SIZES,
    "n_inner": st.none() | SIZES,
    "layer_norm_epsilon": st.sampled_from([1e-5, 1e-6, 1e-3]),
    "activation_function": st.sampled_from(["gelu_new", "relu", "silu"]),
    "scale_attn_weights": st.booleans(),
    "scale_attn_by_inverse_layer_idx": st.booleans(),
    "reorder_and_upcast_attn": st.booleans(),
    "bos_token_id": st.none() | SIZES,
    "tie_word_embeddings": st.booleans(),
}
ALIASED = dict.fromkeys(["num_attention_heads", "num_hidden_layers", "hidden_size", "max_position_embeddings"], SIZES)
UNREAD = {"n_ctx": SIZES, "resid_pdrop": st.just(0.0), "use_cache": st.booleans()}


@given(
    st.fixed_dictionaries({}, optional=CONFIGURED | ALIASED | UNREAD).flatmap(lambda d: st.permutations([*d.items()]))
)
def test_the_configuration_is_the_one_that_transformers_makes_of_it(tmp_path_factory, items):
    content = dict(items)
    theirs = GPT2Config(**content)
    path = tmp_path_factory.getbasetemp() / "config.json"
    path.write_text(json.dumps({"model_type": "gpt2", **content}))
    if theirs.n_embd % theirs.n_head:
        with pytest.raises(CheckpointError, match=f"n_embd {theirs.n_embd}, which {theirs.n_head} heads do not divide"):
            parse_config(path)
        return
    ours = parse_config(path)
    assert {name: getattr(ours, name) for name in CONFIGURED} == {name: getattr(theirs, name) for name in CONFIGURED}


def test_the_aliases_of_a_configuration_reach_the_figures(make_folder):
    """Two heads of a width that GPT-2 small's twelve divide as well."""
    folder = make_folder(n_head=2)
    config = json.loads((folder / "config.json").read_text())
    config |= {"num_attention_heads": config.pop("n_head"), "num_hidden_layers": config.pop("n_layer")}
    (folder / "config.json").write_text(json.dumps(config))
    states = raw_states(GPT2Model.from_pretrained(folder).eval(), [1, 2, 3])
    record = gpt2ln_cli.inspect([[1, 2, 3]], model=folder, per_token=True)
    assert record.model.n_head == 2
    for row in record.rows:
        assert row.sigma == pytest.approx(reference(*states[row.site], 1e-5)["sigma"][row.position], rel=1e-5)


def test_damaged_weights(tmp_path):
    shutil.copytree(DEMO, tmp_path, dirs_exist_ok=True)
    weights = (DEMO / "model.safetensors").read_bytes()
    for content in (b"", b"\xff" * 100, weights[:1000], weights[:-1]):
        (tmp_path / "model.safetensors").write_bytes(content)
        refuse(tmp_path, "damaged or not a safetensors file")


def test_weights_that_do_not_fit_the_configuration(make_folder):
    folder = make_folder()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_layer": 3}))
    refuse(folder, r"h\.2\.ln_1\.weight")
    (folder / "config.json").write_text(json.dumps(config | {"n_embd": 27}))
    refuse(folder, r"has shape \[24\]|has shape \[61, 24\]")


def test_a_damaged_tokenizer(tmp_path):
    shutil.copytree(DEMO, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="tokenizer"):
        gpt2ln_cli.inspect("ok", model=tmp_path)


def test_without_a_tokenizer_ids_work_and_text_is_refused(make_folder):
    folder = make_folder()
    record = gpt2ln_cli.inspect([[1, 2]], model=folder, per_token=True)
    assert record.prompts[0].tokens is None
    assert record.rows[0].token is None
    with pytest.raises(CheckpointError, match="--token-ids"):
        gpt2ln_cli.inspect("ok", model=folder)


def test_half_precision_checkpoints_run_as_stored(make_folder):
    folder = make_folder(lambda body: body.bfloat16())
    assert gpt2ln_cli.inspect([[1, 2]], model=folder).model.dtype == "bfloat16"


def test_params_agree_with_float64_on_transformers_weights(make_folder):
    for folder in (
        DEMO,
        make_folder(),
        make_folder(lambda body: body.half()),
        make_folder(lambda body: body.bfloat16()),
    ):
        modules = dict(GPT2Model.from_pretrained(folder).named_modules())
        for site in gpt2ln_cli.params(model=folder, features=3).sites:
            for ours, parameter, start in (
                (site.gain, modules[site.name].weight, 1),
                (site.bias, modules[site.name].bias, 0),
            ):
                values = parameter.detach().double().numpy()
                np.testing.assert_allclose(
                    [
                        *(ours.mean, ours.std, ours.norm, ours.rms_distance),
                        *(ours.min, ours.lower_quartile, ours.median, ours.upper_quartile, ours.max),
                    ],
                    [
                        np.mean(values),
                        np.sqrt(np.mean((values - values.mean()) ** 2)),
                        np.sqrt(np.sum(values**2)),
                        np.sqrt(np.mean((values - start) ** 2)),
                        *np.quantile(values, (0, 0.25, 0.5, 0.75, 1)),
                    ],
                    rtol=1e-12,
                    atol=1e-15,
                )
                farthest = sorted(range(len(values)), key=lambda i: -abs(values[i] - start))[:3]
                assert [feature.index for feature in ours.extremes] == farthest
                assert [feature.value for feature in ours.extremes] == [values[i] for i in farthest]


def test_params_count_negative_and_switched_off_gains(make_folder):
    def change(body):
        gain = body.ln_f.weight
        gain.fill_(2.0)
        gain[0], gain[1], gain[2] = -2.0, 0.001, 0.0

    (site,) = gpt2ln_cli.params(model=make_folder(change), sites=["ln_f"]).sites
    assert (site.gain.negative, site.gain.switched_off) == (1, 2)


def test_the_verdict_follows_the_weights(make_folder):
    def untrained(body):
        for name, parameter in body.named_parameters():
            if "ln_" in name:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)

    def one_bias(body):
        untrained(body)
        body.h[1].ln_2.bias[3] = 0.5

    verdict = gpt2ln_cli.params(model=make_folder(untrained)).verdict
    assert (verdict.learned_gain, verdict.learned_bias, verdict.uses_gain_and_bias) == (0, 0, False)
    verdict = gpt2ln_cli.params(model=make_folder(one_bias)).verdict
    assert (verdict.learned_gain, verdict.learned_bias, verdict.uses_gain_and_bias) == (0, 1, True)
    verdict = gpt2ln_cli.params().verdict
    assert (verdict.learned_gain, verdict.learned_bias, verdict.uses_gain_and_bias) == (25, 25, True)


def test_nonfinite_parameters_are_null_and_counted(make_folder):
    def change(body):
        body.ln_f.bias[0] = float("nan")

    record = gpt2ln_cli.params(model=make_folder(change), sites=["ln_f"])
    assert record.sites[0].bias.mean is None
    assert record.sites[0].gain.mean is not None
    assert record.nonfinite == 9


def test_a_hub_name_is_looked_up_in_the_cache(tmp_path, monkeypatch):
    """A repository in the Hugging Face cache loads without a network, with its commit as revision."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(DEMO, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    record = gpt2ln_cli.params(model="someone/tiny")
    assert (record.model.source, record.model.revision) == ("hub", commit)
    with pytest.raises(CheckpointError, match="not in the Hugging Face cache"):
        locate("someone/other")
