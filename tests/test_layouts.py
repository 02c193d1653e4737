"""The same weights give the same records in every layout that people keep them in."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import gguf
import layouts
import numpy as np
import pytest
import torch
from conftest import DEMO, raw_states, reference
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint import pickled
from gpt2ln_cli.checkpoint.files import read_at
from gpt2ln_cli.errors import CheckpointError, UsageError

IDS = [[5, 900, 17, 3], [1, 2]]
TOKENIZER = Path(__file__).parent.parent.parent / "shared" / "gpt2-tokenizer"
SHAPE = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size", "eps", "dtype")


@pytest.fixture(scope="session")
def model():
    return GPT2LMHeadModel.from_pretrained(DEMO)


def shape(info):
    return [getattr(info, name) for name in SHAPE]


def write(writer, model, folder):
    path = writer(model, folder)
    return path, {"heads": layouts.heads_for(writer, model)}


@pytest.mark.parametrize("writer", layouts.LAYOUTS, ids=lambda writer: writer.__name__)
def test_every_layout_gives_the_bundled_records(model, tmp_path, writer, demo):
    path, heads = write(writer, model, tmp_path)
    ours, theirs = gpt2ln_cli.params(model=gpt2ln_cli.load(path, **heads), features=3), gpt2ln_cli.params(features=3)
    assert ours.sites == theirs.sites
    assert ours.verdict == theirs.verdict
    assert shape(ours.model) == shape(theirs.model)
    ours = gpt2ln_cli.inspect(IDS, model=gpt2ln_cli.load(path, **heads), per_token=True)
    theirs = gpt2ln_cli.inspect(IDS, model=demo, per_token=True)
    assert ours.sites == theirs.sites
    assert ours.counts == theirs.counts
    assert shape(ours.model) == shape(theirs.model)
    plain = [{field: getattr(row, field) for field in row.__struct_fields__ if field != "token"} for row in theirs.rows]
    assert [
        {field: getattr(row, field) for field in row.__struct_fields__ if field != "token"} for row in ours.rows
    ] == plain
    assert ours.warnings == theirs.warnings == []


HALVES = {torch.bfloat16: 2**-8, torch.float16: 2**-11}


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    "writer",
    [layouts.whole_safetensors, layouts.sharded_safetensors, layouts.whole_bin, layouts.old_bin, layouts.nanogpt],
    ids=lambda writer: writer.__name__,
)
def test_half_precision_is_the_same_within_its_rounding(tmp_path, writer, dtype, demo):
    half = GPT2LMHeadModel.from_pretrained(DEMO).to(dtype)
    path, heads = write(writer, half, tmp_path)
    rounding = HALVES[dtype]
    weights = half.transformer.state_dict()
    record = gpt2ln_cli.params(model=gpt2ln_cli.load(path, **heads))
    assert record.model.dtype == str(dtype).removeprefix("torch.")
    for site in record.sites:
        gain = weights[f"{site.name}.weight"].double().numpy()
        np.testing.assert_allclose([site.gain.norm, site.gain.min], [np.linalg.norm(gain), gain.min()], rtol=1e-12)
    ours = gpt2ln_cli.inspect(IDS, model=gpt2ln_cli.load(path, **heads))
    assert ours.model.dtype == str(dtype).removeprefix("torch.")
    wide = gpt2ln_cli.inspect(IDS, model=gpt2ln_cli.load(path, dtype="float32", **heads))
    assert wide.model.dtype == "float32"
    expected = gpt2ln_cli.inspect(IDS, model=demo)
    for got, factor in ((ours, 16), (wide, 4)):
        for a, b in zip(got.sites, expected.sites, strict=True):
            for name in ("sigma", "pre_norm", "normalized_norm", "post_norm"):
                for part in ("first", "rest"):
                    found = getattr(getattr(a, part), name).mean
                    assert found == pytest.approx(getattr(getattr(b, part), name).mean, rel=factor * rounding)


def test_llmc_in_bfloat16_is_the_rounded_model(tmp_path):
    half = GPT2LMHeadModel.from_pretrained(DEMO).to(torch.bfloat16)
    path = layouts.write_llmc(half, tmp_path / "gpt2.bin", 5)
    folder = layouts.whole_safetensors(half, tmp_path / "folder")
    assert gpt2ln_cli.params(model=path).sites == gpt2ln_cli.params(model=folder).sites
    assert gpt2ln_cli.params(model=path).model.dtype == "bfloat16"
    assert gpt2ln_cli.inspect(IDS, model=path).sites == gpt2ln_cli.inspect(IDS, model=folder).sites


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
def test_quantized_gguf_runs_the_dequantized_weights(model, tmp_path, kind):
    kind = gguf.GGMLQuantizationType[kind]
    path = layouts.write_gguf(model, tmp_path / "model.gguf", kind)
    plain = GPT2LMHeadModel.from_pretrained(DEMO).transformer.eval()
    weights = plain.state_dict()
    for name, values in layouts.linear_tensors(model, prefix="").items():
        if values.ndim == 2:
            rounded = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(values.numpy(), kind), kind))
            assert not torch.equal(rounded, values)
            weights[name].copy_(rounded.t() if name.endswith(layouts.LINEAR) else rounded)
    ids = [5, 900, 17]
    record = gpt2ln_cli.inspect([ids], model=path, per_token=True)
    assert record.model.dtype == "float32"
    assert gpt2ln_cli.params(model=path).sites == gpt2ln_cli.params().sites
    states = raw_states(plain, ids)
    for row in record.rows:
        expected = reference(*states[row.site], 1e-5)
        for name in ("sigma", "pre_norm", "normalized_norm", "post_norm"):
            assert getattr(row, name) == pytest.approx(expected[name][row.position], rel=1e-5)


def test_gguf_brings_its_tokenizer(model, tmp_path, demo):
    path = layouts.write_gguf(model, tmp_path / "model.gguf", tokenizer=DEMO)
    text = "The war was over,\n but the hatred<|endoftext|> was not. é"
    ours, theirs = (gpt2ln_cli.inspect(text, model=which).prompts for which in (path, demo))
    assert ours == theirs


def test_without_the_gguf_package_the_error_says_so(model, tmp_path, monkeypatch):
    path = layouts.gguf_float32(model, tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "gguf.constants", None)
    with pytest.raises(CheckpointError, match=r'pip install "\.\[gguf\]"'):
        gpt2ln_cli.params(model=path)


def test_nanogpt_without_biases(model, tmp_path):
    """Gains and no bias: the kernel gets none, and the record has null."""
    state = layouts.nanogpt_state(model)
    state["model"] = {name: tensor for name, tensor in state["model"].items() if not name.endswith(".bias")}
    state["model_args"]["bias"] = False
    torch.save(state, tmp_path / "ckpt.pt")
    plain = GPT2LMHeadModel.from_pretrained(DEMO).transformer.eval()
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
    loaded = gpt2ln_cli.load(tmp_path / "ckpt.pt")
    assert loaded.body.h[3].ln_2.bias is None
    record = gpt2ln_cli.inspect([IDS[0]], model=loaded, per_token=True)
    assert all(site.bias is None and site.gain is not None for site in record.sites)
    assert all(site.bias is None for site in gpt2ln_cli.params(model=tmp_path / "ckpt.pt").sites)
    states = raw_states(plain, IDS[0])
    for row in record.rows:
        expected = reference(*states[row.site], 1e-5)
        for name in ("sigma", "normalized_norm", "post_norm"):
            assert getattr(row, name) == pytest.approx(expected[name][row.position], rel=1e-5)
    assert main(["params", "--model", str(tmp_path / "ckpt.pt")]) == 0
    assert main(["inspect", "--token-ids", "1", "--model", str(tmp_path / "ckpt.pt")]) == 0


def tiny(folder, **config):
    torch.manual_seed(3)
    shape = {"vocab_size": 70, "n_positions": 16, "n_embd": 128, "n_layer": 2, "n_head": 2, **config}
    model = GPT2LMHeadModel(GPT2Config(bos_token_id=None, eos_token_id=None, **shape))
    save_file(layouts.body_tensors(model), folder / "weights.safetensors")
    return model, folder / "weights.safetensors"


def test_a_lone_file_says_what_was_inferred(tmp_path, capsys):
    _, path = tiny(tmp_path, n_inner=100)
    record = gpt2ln_cli.inspect([[1, 2]], model=path)
    assert (record.model.source, record.model.n_layer, record.model.n_head) == ("file", 2, 2)
    assert "n_head 2 from width / 64" in record.model.inferred
    assert gpt2ln_cli.params(model=gpt2ln_cli.load(path, heads=4)).model.n_head == 4
    assert main(["params", "--model", str(path), "--heads", "8"]) == 0
    assert "n_head 8 from --heads" in capsys.readouterr().out


def test_heads_that_cannot_be(tmp_path, model):
    _, path = tiny(tmp_path)
    with pytest.raises(UsageError, match="5 heads do not divide"):
        gpt2ln_cli.load(path, heads=5)
    (tmp_path / "other").mkdir()
    lone = layouts.lone_safetensors(model, tmp_path / "other")
    with pytest.raises(UsageError, match="--heads"):
        gpt2ln_cli.params(model=lone)
    with pytest.raises(UsageError, match="says n_head 12"):
        gpt2ln_cli.load(heads=6)


@pytest.fixture(scope="module")
def policy_and_ref():
    """The body that is first in the alphabet, and another one, whose LayerNorms differ."""
    models = {}
    for seed, name in enumerate(("policy", "ref")):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=70, n_positions=16, n_embd=128, n_layer=2, n_head=2, tie_word_embeddings=False)
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        models[name] = model.eval()
    return models


def in_a_folder(models, folder, inner="transformer."):
    model = next(iter(models.values()))
    model.config.save_pretrained(folder)
    tensors = {
        f"{name}.{tensor.replace('transformer.', inner)}": values.clone()
        for name, model in models.items()
        for tensor, values in model.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


def in_nanogpt(models, folder):
    states = {name: layouts.nanogpt_state(model, f"{name}.transformer.") for name, model in models.items()}
    tensors = {tensor: values for state in states.values() for tensor, values in state["model"].items()}
    torch.save({**next(iter(states.values())), "model": tensors}, folder / "ckpt.pt")
    return folder / "ckpt.pt"


def in_old_mingpt(models, folder):
    tensors = {}
    for name, model in models.items():
        stored = torch.load(layouts.old_mingpt(model, folder))
        tensors |= {f"{name}.{tensor}": values for tensor, values in stored.items()}
    torch.save(tensors, folder / "model.pt")
    return folder / "model.pt"


@pytest.mark.parametrize("write_both", [in_a_folder, in_nanogpt, in_old_mingpt], ids=lambda writer: writer.__name__)
def test_of_several_bodies_the_named_one_is_read(tmp_path, policy_and_ref, write_both):
    path = write_both(policy_and_ref, tmp_path)
    ends = "" if write_both is in_old_mingpt else ".transformer"
    for call in (gpt2ln_cli.params, gpt2ln_cli.load, lambda model: gpt2ln_cli.inspect([[1]], model=model)):
        with pytest.raises(UsageError, match=f"2 bodies of GPT-2, 'policy{ends}', 'ref{ends}': choose .* --prefix"):
            call(model=path)
    with pytest.raises(UsageError, match=f"no body .* --prefix 'reference'; it has 'policy{ends}', 'ref{ends}'"):
        gpt2ln_cli.load(path, prefix="reference")
    for name, model in policy_and_ref.items():
        record = gpt2ln_cli.inspect([[4, 5, 6]], model=gpt2ln_cli.load(path, prefix=name), per_token=True)
        assert f"the body under '{name}' from --prefix" in record.model.inferred
        states = raw_states(model.transformer, [4, 5, 6])
        for row in record.rows:
            assert row.sigma == pytest.approx(reference(*states[row.site], 1e-5)["sigma"][row.position], rel=1e-5)
        for site in gpt2ln_cli.params(model=gpt2ln_cli.load(path, prefix=name + ends)).sites:
            gain = model.transformer.get_submodule(site.name).weight.detach().double().numpy()
            assert site.gain.norm == pytest.approx(np.linalg.norm(gain), rel=1e-12)


def test_the_prefix_is_an_option_of_every_command_on_a_model(tmp_path, policy_and_ref, capsys):
    path = str(in_a_folder(policy_and_ref, tmp_path))
    ids = ["--token-ids", "1,2,3"]
    for words in (
        ["params", "--model", path],
        ["stats", "--layer", "1", *ids, "--model", path],
        ["ablate", *ids, "--model", path],
        ["verify", *ids, "--model", path],
        ["compare", "--context", *ids, "--model", path],
        ["count", "--tokens", "2", "--model", path],
        ["diff", path, path],
        ["report", *ids, "-o", str(tmp_path / "page.html"), "--model", path],
    ):
        assert main(words) == 2
        assert "choose one with --prefix" in capsys.readouterr().err
        assert main([*words, "--prefix", "ref"]) in (0, 1)
    assert "--prefix ref" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_each_body_has_its_own_head(tmp_path, policy_and_ref):
    path = in_a_folder(policy_and_ref, tmp_path)
    for name, model in policy_and_ref.items():
        real = gpt2ln_cli.ablate([[4, 5, 6, 7]], model=gpt2ln_cli.load(path, prefix=name)).real
        with torch.no_grad():
            loss = model(torch.tensor([[4, 5, 6, 7]]), labels=torch.tensor([[4, 5, 6, 7]])).loss
        assert real.loss == pytest.approx(float(loss), rel=1e-5)


def test_a_body_without_a_name_before_it(tmp_path, policy_and_ref):
    """``transformer.wte`` beside ``ref.transformer.wte``, and ``wte`` beside ``ref.wte``."""
    for inner, top, shown in (
        ("transformer.", "transformer", "'ref.transformer', 'transformer'"),
        ("", "", "'', 'ref'"),
    ):
        folder = in_a_folder(policy_and_ref, tmp_path, inner)
        tensors = load_file(folder / "model.safetensors")
        save_file(
            {name.removeprefix("policy."): tensor for name, tensor in tensors.items()}, folder / "model.safetensors"
        )
        with pytest.raises(UsageError, match=f"2 bodies of GPT-2, {shown}"):
            gpt2ln_cli.params(model=folder)
        for prefix, name in ((top, "policy"), ("ref", "ref")):
            (site,) = gpt2ln_cli.params(model=gpt2ln_cli.load(folder, prefix=prefix), sites=["ln_f"]).sites
            gain = policy_and_ref[name].transformer.ln_f.weight.detach().double().numpy()
            assert site.gain.norm == pytest.approx(np.linalg.norm(gain), rel=1e-12)


def test_a_prefix_where_there_is_nothing_to_choose(tmp_path, model):
    for writer in (layouts.gguf_float32, layouts.llmc_float32):
        with pytest.raises(UsageError, match="holds one body; leave out --prefix policy"):
            gpt2ln_cli.load(writer(model, tmp_path), prefix="policy")
    with pytest.raises(UsageError, match="no body of GPT-2 under --prefix 'policy'; it has 'transformer'"):
        gpt2ln_cli.load(prefix="policy")


@pytest.mark.parametrize(
    "factor",
    [
        "transformer.h.0.attn.c_attn.lora_A",
        "transformer.h.1.mlp.c_fc.lora_B.default.weight",
        "transformer.h.1.attn.c_proj.lora_magnitude_vector.default.weight",
        "transformer.wte.lora_embedding_A.default",
        "lm_head.lora_A.default.weight",
    ],
)
def test_factors_beside_full_weights_are_refused_until_they_are_merged(tmp_path, model, factor):
    layouts.whole_safetensors(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, factor: torch.ones(4, 96)}, tmp_path / "model.safetensors")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        for call in (gpt2ln_cli.params, lambda model: gpt2ln_cli.inspect([[1]], model=model)):
            with pytest.raises(CheckpointError, match=f"low-rank factor '{factor}' .* merge"):
                call(model=path)


def test_the_factors_of_another_body_do_no_harm(tmp_path, policy_and_ref):
    folder = in_a_folder(policy_and_ref, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "policy.transformer.h.0.attn.c_attn.lora_A": torch.ones(4, 96)}, folder / "model.safetensors")
    assert gpt2ln_cli.params(model=gpt2ln_cli.load(folder, prefix="ref")).model.inferred
    with pytest.raises(CheckpointError, match="low-rank factor 'policy"):
        gpt2ln_cli.load(folder, prefix="policy")


def test_the_configuration_beside_a_file_holds(tmp_path):
    model, path = tiny(tmp_path, layer_norm_epsilon=1e-3, n_head=8)
    model.config.save_pretrained(tmp_path)
    record = gpt2ln_cli.params(model=path)
    assert (record.model.n_head, record.model.eps) == (8, 1e-3)
    assert any("config.json" in text for text in record.model.inferred)


def test_the_file_of_another_eps_and_activation_runs_as_configured(tmp_path):
    """What only config.json tells reaches the forward pass."""
    model, _ = tiny(
        tmp_path, activation_function="relu", scale_attn_by_inverse_layer_idx=True, n_inner=64, scale_attn_weights=False
    )
    folder = layouts.whole_safetensors(model, tmp_path / "folder")
    plain = GPT2Model.from_pretrained(folder).eval()
    states = raw_states(plain, [4, 5, 6])
    for row in gpt2ln_cli.inspect([[4, 5, 6]], model=folder, per_token=True).rows:
        assert row.sigma == pytest.approx(reference(*states[row.site], 1e-5)["sigma"][row.position], rel=1e-5)


@pytest.mark.parametrize("vocabulary", [50257, 50304])
def test_gpt2s_own_tokenizer(tmp_path, monkeypatch, vocabulary):
    if not TOKENIZER.is_dir():
        pytest.skip("GPT-2's tokenizer is not here")
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    _, path = tiny(tmp_path, vocab_size=vocabulary)
    with pytest.raises(CheckpointError, match="--token-ids"):
        gpt2ln_cli.inspect("Hello world", model=path)
    snapshot = tmp_path / "cache" / "models--gpt2" / "snapshots" / "abc"
    shutil.copytree(TOKENIZER, snapshot)
    (tmp_path / "cache" / "models--gpt2" / "refs").mkdir()
    (tmp_path / "cache" / "models--gpt2" / "refs" / "main").write_text("abc")
    borrowed = "the tokenizer of 'gpt2' in the Hugging Face cache, whose vocabulary fits"
    for which in (path, gpt2ln_cli.load(path)):
        record = gpt2ln_cli.inspect("Hello world", model=which)
        assert record.prompts[0].token_ids == [15496, 995]
        assert borrowed in record.model.inferred
    assert borrowed not in gpt2ln_cli.params(model=path).model.inferred
    shutil.rmtree(tmp_path / "cache")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(TOKENIZER / name, tmp_path)
    record = gpt2ln_cli.inspect("war violence hate fear", model=path)
    assert record.prompts[0].token_ids == [5767, 3685, 5465, 3252]
    assert borrowed not in record.model.inferred


def test_another_vocabulary_gets_no_foreign_tokenizer(tmp_path, monkeypatch):
    if not TOKENIZER.is_dir():
        pytest.skip("GPT-2's tokenizer is not here")
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    shutil.copytree(TOKENIZER, tmp_path / "cache" / "models--gpt2" / "snapshots" / "abc")
    (tmp_path / "cache" / "models--gpt2" / "refs").mkdir()
    (tmp_path / "cache" / "models--gpt2" / "refs" / "main").write_text("abc")
    _, path = tiny(tmp_path, vocab_size=50300)
    with pytest.raises(CheckpointError, match="--token-ids"):
        gpt2ln_cli.inspect("Hello world", model=path)


def test_gpt2_small_with_its_tokenizer(tmp_path):
    """The real shape: 12 layers, 25 sites, width 768, 498 MB."""
    if not TOKENIZER.is_dir():
        pytest.skip("GPT-2's tokenizer is not here")
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config())
    model.config.save_pretrained(tmp_path)
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.empty(parameter.shape).normal_(0, 0.02, generator=generator)
        for name, parameter in model.transformer.named_parameters()
    }
    save_file(tensors, tmp_path / "model.safetensors")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(TOKENIZER / name, tmp_path)
    record = gpt2ln_cli.inspect("Hello world", model=tmp_path)
    assert record.prompts[0].token_ids == [15496, 995]
    assert record.prompts[0].tokens == ["Hello", " world"]
    assert (record.model.n_layer, len(record.sites), record.counts.total) == (12, 25, 50)


def test_the_device_and_the_dtype_are_chosen(capsys):
    words = ["inspect", "--token-ids", "1,2,3", "--json", "--device", "cpu", "--dtype", "bfloat16"]
    assert main(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["model"]["device"], record["model"]["dtype"]) == ("cpu", "bfloat16")
    half = GPT2LMHeadModel.from_pretrained(DEMO).transformer.eval().to(torch.bfloat16)
    states = raw_states(half, [1, 2, 3])
    for row in gpt2ln_cli.stats([[1, 2, 3]], layers=4, model=gpt2ln_cli.load(dtype="bfloat16")).rows:
        expected = reference(*states[row.site], 1e-5)
        assert row.sigma == pytest.approx(expected["sigma"][row.position], rel=1e-4)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(device):
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there[device]:
        assert gpt2ln_cli.inspect("ok", model=gpt2ln_cli.load(device=device)).model.device.startswith(device)
    else:
        with pytest.raises(UsageError, match=f"no {device} device"):
            gpt2ln_cli.load(device=device)


def test_mixed_types_run_in_the_widest(tmp_path, model):
    layouts.whole_safetensors(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["transformer.h.0.mlp.c_fc.weight"] = tensors["transformer.h.0.mlp.c_fc.weight"].half()
    save_file(tensors, tmp_path / "model.safetensors")
    assert gpt2ln_cli.inspect([[1]], model=tmp_path).model.dtype == "float32"


def test_params_of_a_zip_archive_reads_its_pickle_gains_and_biases_alone(tmp_path, monkeypatch):
    model = GPT2LMHeadModel(GPT2Config(n_layer=3, n_embd=64, n_head=2, vocab_size=5000, n_positions=32))
    path = tmp_path / "model.bin"
    torch.save({**model.state_dict(), "strided": torch.randn(6, 4).t()}, path)
    read: list[int] = []

    def counted(file, start, length):
        read.append(length)
        return read_at(file, start, length)

    monkeypatch.setattr("gpt2ln_cli.checkpoint.files.read_at", counted)
    monkeypatch.setattr(pickled, "_load", lambda _: pytest.fail("the values of all tensors were asked for"))
    record = gpt2ln_cli.params(model=path)
    assert record.sites[-1].gain.mean == pytest.approx(float(model.transformer.ln_f.weight.detach().mean()))
    assert sum(read) == 2 * 7 * 64 * 4


def test_an_archive_whose_storage_lies_outside_of_its_parts(tmp_path):
    path = tmp_path / "model.bin"
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=20, n_positions=8))
    torch.save(model.state_dict(), path)
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    longest = max((name for name in parts if "/data/" in name), key=lambda name: len(parts[name]))
    parts[longest] = parts[longest][:16]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    with pytest.raises(CheckpointError, match="damaged"):
        gpt2ln_cli.params(model=path)
