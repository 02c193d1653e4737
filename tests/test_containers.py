"""What a folder or file is said to be where it is no checkpoint, and what of training's own files is read."""

from __future__ import annotations

import os
from argparse import Namespace

import layouts
import layouts_pickles
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_refusals import edit_config
from transformers import DecisionTransformerConfig, DecisionTransformerModel, GPT2Config, GPT2LMHeadModel

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint.inert import Inert
from gpt2ln_cli.checkpoint.pickled import open_pickle
from gpt2ln_cli.errors import CheckpointError


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(1)
    shape = {"vocab_size": 61, "n_positions": 16, "n_embd": 64, "n_layer": 2, "n_head": 1}
    model = GPT2LMHeadModel(GPT2Config(bos_token_id=None, eos_token_id=None, **shape))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def says(path, *parts, command="params"):
    with pytest.raises(CheckpointError) as caught:
        getattr(gpt2ln_cli, command)(*([] if command == "params" else [[[1, 2]]]), model=path)
    for part in parts:
        assert part in str(caught.value)


def make(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_training_run_lists_its_checkpoints_in_the_order_of_their_numbers(tmp_path):
    run = make(tmp_path / "run", *(f"checkpoint-{step}/config.json" for step in (1000, 500, 20)))
    says(run, "checkpoint-20, checkpoint-500, checkpoint-1000", f"--model {run}/checkpoint-1000", f"gpt2ln track {run}")
    run = make(tmp_path / "long", *(f"checkpoint-{step}/config.json" for step in range(1, 101)))
    says(run, "checkpoint-1, checkpoint-2", "... checkpoint-100 (100 checkpoints)")


def test_deepspeeds_folders_name_the_file_that_is_read(tiny, tmp_path):
    file = layouts_pickles.deepspeed(tiny, tmp_path)
    for folder in (tmp_path, file.parent):
        says(folder, "DeepSpeed's", f"--model {file}")
    file.unlink()
    says(tmp_path, "DeepSpeed's", "zero_to_fp32.py")


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["model.gguf"], ["no config.json", "--model {}/model.gguf"]),
        (["a.pt", "b.pt"], ["no config.json", "a.pt, b.pt"]),
        (["a.safetensors", "b.safetensors"], ["no config.json", "a.safetensors, b.safetensors"]),
        (["notes.txt", "optimizer.bin"], ["it has no config.json."]),
    ],
)
def test_a_folder_without_a_configuration_is_told_what_it_holds(tmp_path, names, parts):
    make(tmp_path, *names)
    says(tmp_path, "is no checkpoint", *(part.format(tmp_path) for part in parts))


def test_of_several_variants_one_is_to_be_chosen(tiny, tmp_path):
    tiny.save_pretrained(tmp_path, variant="fp16")
    expected = gpt2ln_cli.params(model=tmp_path)
    assert expected.model.inferred == ["weights from model.fp16.safetensors, the only ones there"]
    tiny.save_pretrained(tmp_path, variant="fp32")
    says(tmp_path, "model.fp16.safetensors, model.fp32.safetensors", f"--model {tmp_path}/model.fp16.safetensors")
    assert gpt2ln_cli.params(model=tmp_path / "model.fp16.safetensors").sites == expected.sites
    (tmp_path / "model.fp16.safetensors").unlink()
    (tmp_path / "model.fp32.safetensors").unlink()
    says(tmp_path, "has a config.json and no model.safetensors")


def quantized(tiny, folder, how, changed):
    """A folder whose matrices are another library's, by the names and shapes that it gives them."""
    tiny.save_pretrained(folder)
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        matrix = name.removesuffix(".weight")
        tensors |= changed(matrix, tensor) if name.endswith(layouts.LINEAR) else {name: tensor}
    save_file(tensors, folder / "model.safetensors")
    edit_config(folder, quantization_config=how)
    return folder


def bitsandbytes(matrix, tensor):
    half = torch.zeros(tensor.numel() // 2, 1, dtype=torch.uint8)
    return {
        f"{matrix}.weight": half,
        f"{matrix}.weight.absmax": torch.zeros(4),
        f"{matrix}.weight.quant_map": torch.zeros(16),
    }


def gptq(matrix, tensor):
    return {
        f"{matrix}.qweight": torch.zeros(8, tensor.shape[1], dtype=torch.int32),
        f"{matrix}.scales": torch.ones(1, 4),
    }


@pytest.mark.parametrize(
    ("how", "changed", "name"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, bitsandbytes, "bitsandbytes 4-bit"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, bitsandbytes, "bitsandbytes 8-bit"),
        ({"quant_method": "gptq", "bits": 4}, gptq, "gptq 4-bit"),
    ],
)
def test_a_quantized_folder_answers_what_its_gains_and_biases_can(tiny, tmp_path, how, changed, name):
    folder = quantized(tiny, tmp_path / "quantized", how, changed)
    tiny.save_pretrained(tmp_path / "plain")
    assert gpt2ln_cli.params(model=folder).sites == gpt2ln_cli.params(model=tmp_path / "plain").sites
    assert gpt2ln_cli.params(model=folder).model.dtype == "float32"
    assert all(site.gain.norm == 0 for site in gpt2ln_cli.diff(folder, tmp_path / "plain").sites)
    (tracked,) = gpt2ln_cli.track([folder]).checkpoints
    assert tracked.error is None
    says(folder, f"{name}: run what it was made from", command="inspect")


def test_a_configuration_can_not_call_itself_quantized(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    edit_config(tmp_path, quantized="by hand")
    assert gpt2ln_cli.inspect([[1, 2]], model=tmp_path).counts.formula_agrees


class Sneaky:
    def __init__(self, call, *words):
        self.call, self.words = call, words

    def __reduce__(self):
        return self.call, self.words


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (os.system, ["touch {}"]),
        (eval, ["open('{}', 'w')"]),
        (exec, ["open('{}', 'w')"]),
        (getattr, [Namespace(a=1), "a"]),
        (os.mkdir, ["{}"]),
        (__import__, ["os"]),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_hostile_pickles_run_nothing(tiny, tmp_path, call, words, nested):
    target = tmp_path / "made"
    words = [word.format(target) if isinstance(word, str) else word for word in words]
    evil = Sneaky(call, *words)
    # Nested: the argument of an object that a stand-in takes the place of.
    extra = Namespace(inner=[{"deep": evil}]) if nested else evil
    torch.save({"state_dict": tiny.state_dict(), "extra": extra}, tmp_path / "weights.pt")
    says(tmp_path / "weights.pt", "wants more than tensors")
    assert not target.exists()


def test_stand_ins_keep_fields_and_nothing_else(tiny, tmp_path):
    path = layouts_pickles.lightning(tiny, tmp_path)
    arguments = open_pickle(path).content["hyper_parameters"]["args"]
    assert isinstance(arguments, Inert)
    assert type(arguments) is not Namespace
    assert vars(arguments)["lr"] == 1e-3
    assert isinstance(vars(arguments)["data"], Inert)


def test_a_whole_module_is_told_how_to_be_saved(tiny, tmp_path):
    torch.save(tiny, tmp_path / "module.pt")
    says(tmp_path / "module.pt", "safetensors.torch.save_model", "state_dict()")


def test_the_advice_for_a_whole_module_holds(tiny, tmp_path):
    from safetensors.torch import save_model

    save_model(tiny, str(tmp_path / "model.safetensors"))
    tiny.save_pretrained(tmp_path / "plain")
    ours = gpt2ln_cli.params(model=tmp_path / "model.safetensors")
    assert ours.sites == gpt2ln_cli.params(model=tmp_path / "plain").sites


def test_a_relative_that_only_looks_like_gpt2(tmp_path):
    config = DecisionTransformerConfig(state_dim=3, act_dim=2, hidden_size=64, n_layer=2, n_head=1, n_positions=16)
    model = DecisionTransformerModel(config)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    says(tmp_path / "weights.safetensors", "a Decision Transformer")


def test_state_dicts_are_found_where_they_are(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "plain")
    expected = gpt2ln_cli.params(model=tmp_path / "plain")
    for writer in (layouts_pickles.loop, layouts_pickles.nested_twice, layouts_pickles.build_nanogpt):
        record = gpt2ln_cli.params(model=writer(tiny, tmp_path))
        np.testing.assert_equal(record.sites, expected.sites)
    torch.save({"weights": tiny.state_dict()}, tmp_path / "elsewhere.pt")
    says(tmp_path / "elsewhere.pt", "no matrix 'wte.weight'")


def test_the_command_says_it_in_a_line(tmp_path, capsys):
    run = make(tmp_path / "run", "checkpoint-20/config.json")
    assert main(["inspect", "x", "--model", str(run)]) == 3
    assert capsys.readouterr().err.count("\n") == 1
