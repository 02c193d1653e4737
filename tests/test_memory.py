"""Models larger than memory: what is mapped, what is made, and what is refused."""

import copy
import json
import threading
import weakref
from dataclasses import replace
from math import prod

import layouts
import numpy as np
import pytest
import torch
from conftest import posix
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model
from transformers.pytorch_utils import Conv1D

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.profile.manifest import weights_hash
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.model import memory

IDS = [[1, 2, 3, 4, 5], [9, 8, 7]]
LAYERS = 3
# Readers whose matrices are not in the file as GPT-2 multiplies with them.
MADE = (layouts.nanogpt, layouts.old_mingpt, layouts.llmc_float32, layouts.gguf_float32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    shape = {"vocab_size": 61, "n_positions": 16, "n_embd": 128, "n_layer": LAYERS, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(bos_token_id=None, eos_token_id=None, **shape)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def half(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("half")
    copy.deepcopy(model).half().save_pretrained(folder)
    return folder


def counting(loaded):
    """The names of all tensors that torch is given from now on, and the most matrices of blocks that there were."""
    contents = loaded._checkpoint.contents
    asked, alive, most = [], weakref.WeakSet(), [0]

    def counted(name, tensor):
        def read():
            asked.append(name)
            values = tensor()
            if name.startswith("h.") and values.ndim == 2:
                alive.add(values)
                most[0] = max(most[0], len(alive))
            return values

        return read

    tensors = {name: replace(one, tensor=counted(name, one.tensor)) for name, one in contents.tensors.items()}
    loaded._checkpoint = replace(loaded._checkpoint, contents=replace(contents, tensors=tensors))
    return asked, most


def matrices(asked):
    return [name for name in asked if name.startswith("h.") and name.endswith(layouts.LINEAR)]


@posix
def test_a_file_that_no_system_maps_whole(tmp_path):
    """Of 160 GB, which takes no room on the disk: each tensor is mapped by itself, and layer 0 runs."""
    width, layers = 8192, 100
    shape = {"vocab_size": 61, "n_positions": 16, "n_embd": width, "n_layer": layers, "n_head": 64}
    with torch.device("meta"):
        shapes = {name: list(one.shape) for name, one in GPT2Model(GPT2Config(**shape)).named_parameters()}
    header, end = {}, 0
    for name, of in shapes.items():
        header[name] = {"dtype": "F16", "shape": of, "data_offsets": (end, end + 2 * prod(of))}
        end += 2 * prod(of)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.seek(8 + len(head) + header["wpe.weight"]["data_offsets"][0])
        file.write((np.arange(width) % 7).astype("<f2").tobytes())
        file.truncate(8 + len(head) + end)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", **shape}))
    record = gpt2ln_cli.stats([[1]], model=tmp_path, layers=0, sites=["ln_1"])
    assert record.rows[0].sigma == pytest.approx(float((np.arange(width) % 7).std()), rel=1e-6)


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_numbers_that_begin_at_any_byte(folder, model, tmp_path, shift):
    """The header may end anywhere, and torch computes with aligned numbers alone."""
    whole = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    head = whole[8 : 8 + length].rstrip() + b" " * (8 + shift)
    (tmp_path / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + whole[8 + length :])
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    loaded = gpt2ln_cli.load(tmp_path)
    for name, values in loaded.body.state_dict().items():
        assert torch.equal(values, model.transformer.state_dict()[name])
        assert values.data_ptr() % 4 == 0
    assert gpt2ln_cli.inspect(IDS, model=loaded).sites == gpt2ln_cli.inspect(IDS, model=folder).sites


@pytest.mark.parametrize("writer", MADE, ids=lambda writer: writer.__name__)
def test_a_run_up_to_a_layer_makes_its_matrices_alone(model, folder, tmp_path, writer):
    loaded = gpt2ln_cli.load(writer(model, tmp_path))
    asked, _ = counting(loaded)
    record = gpt2ln_cli.stats(IDS, model=loaded, layers=0)
    # Up to ln_2 of layer 0: its attention.
    assert matrices(asked) == ["h.0.attn.c_attn.weight", "h.0.attn.c_proj.weight"]
    assert [*record.rows] == [*gpt2ln_cli.stats(IDS, model=folder, layers=0).rows]
    # What was made is kept.
    gpt2ln_cli.stats(IDS, model=loaded, layers=1)
    assert len(matrices(asked)) == len(set(matrices(asked))) == 6
    gpt2ln_cli.inspect(IDS, model=loaded)
    gpt2ln_cli.inspect(IDS, model=loaded)
    assert len(matrices(asked)) == len(set(matrices(asked))) == 4 * LAYERS


def test_another_type_makes_no_more(folder):
    loaded = gpt2ln_cli.load(folder, dtype="bfloat16")
    asked, _ = counting(loaded)
    gpt2ln_cli.stats(IDS, model=loaded, layers=0, sites=["ln_1"])
    assert matrices(asked) == []


@pytest.mark.parametrize("writer", MADE, ids=lambda writer: writer.__name__)
def test_the_body_is_transformers_own_and_whole(model, tmp_path, writer):
    """Whatever ran before; it can be changed, copied, and differentiated."""
    loaded = gpt2ln_cli.load(writer(model, tmp_path))
    gpt2ln_cli.stats(IDS, model=loaded, layers=0)
    body = loaded.body
    assert body is loaded.body
    assert type(body) is GPT2Model
    assert {type(module) for module in body.modules() if isinstance(module, Conv1D)} == {Conv1D}
    expected = model.transformer.state_dict()
    assert list(body.state_dict()) == list(expected)
    for name, values in copy.deepcopy(body).state_dict().items():
        assert torch.equal(values, expected[name])
    embedded = body.wte(torch.tensor(IDS[:1])).requires_grad_()
    body(inputs_embeds=embedded).last_hidden_state.square().sum().backward()
    assert embedded.grad is not None
    with torch.no_grad():
        body.h[1].attn.c_attn.weight.zero_()
    assert gpt2ln_cli.inspect(IDS, model=loaded).sites != gpt2ln_cli.inspect(IDS, model=loaded._checkpoint.name).sites


def test_what_is_mapped_is_at_once_what_it_is(folder):
    loaded = gpt2ln_cli.load(folder)
    assert {type(module) for module in loaded.lazy_body.modules() if isinstance(module, Conv1D)} == {Conv1D}


def test_threads_make_each_matrix_once(model, tmp_path):
    loaded = gpt2ln_cli.load(layouts.nanogpt(model, tmp_path))
    asked, _ = counting(loaded)
    begin, records = threading.Barrier(4), []

    def run():
        begin.wait()
        records.append(gpt2ln_cli.inspect(IDS, model=loaded))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert records == [records[0]] * 4
    assert sorted(matrices(asked)) == sorted(set(matrices(asked)))


# Where the memory does not take them all.


@pytest.mark.parametrize("writer", MADE, ids=lambda writer: writer.__name__)
def test_matrices_are_dropped_where_the_memory_does_not_take_all(model, folder, tmp_path, monkeypatch, writer):
    """One after the other, in every pass anew; the numbers are the same."""
    expected = gpt2ln_cli.inspect(IDS, model=folder, batch_size=1)
    largest = 4 * 128 * 512
    monkeypatch.setattr(memory, "free", lambda _: 4 * largest)
    loaded = gpt2ln_cli.load(writer(model, tmp_path))
    asked, most = counting(loaded)
    record = gpt2ln_cli.inspect(IDS, model=loaded, batch_size=1)
    assert record.counts.batches == 2
    assert (record.sites, record.counts) == (expected.sites, expected.counts)
    assert len(matrices(asked)) == 2 * 4 * LAYERS
    assert most == [1]
    # What is done with a body beside running it.
    whole = gpt2ln_cli.load(loaded.checkpoint.name)
    whole._body = copy.deepcopy(model.transformer)
    assert weights_hash(loaded) == weights_hash(whole)
    heads = gpt2ln_cli.attribute(IDS, model=loaded, by_head=True, layers=1)
    assert heads.sites == gpt2ln_cli.attribute(IDS, model=folder, by_head=True, layers=1).sites
    # With more memory, the next run keeps them.
    monkeypatch.setattr(memory, "free", lambda _: 2**40)
    asked.clear()
    gpt2ln_cli.inspect(IDS, model=loaded, batch_size=1)
    assert len(matrices(asked)) == 4 * LAYERS


def test_a_body_that_is_not_whole_in_memory_is_refused_to_a_caller(half, monkeypatch):
    """3 layers of 12 x 128 x 128 numbers in float32."""
    loaded = gpt2ln_cli.load(half, dtype="float32")
    monkeypatch.setattr(memory, "free", lambda _: 2**21)
    assert gpt2ln_cli.inspect(IDS, model=loaded).model.dtype == "float32"
    with pytest.raises(UsageError, match=r"whole body of .* takes 2\.4 MB .*, and 2\.1 MB are free: .* float16"):
        loaded.body  # noqa: B018


def test_a_pass_that_can_not_fit_is_refused_before_it(folder, half, monkeypatch, capsys):
    """Its largest matrix has 262 kB in float32, and a token in the MLP 22 x 128 numbers."""
    monkeypatch.setattr(memory, "free", lambda _: 300_000)
    loaded = gpt2ln_cli.load(half, dtype="float32")
    asked, _ = counting(loaded)
    with pytest.raises(UsageError, match=r"a pass of 8 tokens .* takes 0\.4 MB .* shorter prompts\), or give --dtype"):
        gpt2ln_cli.inspect([[1] * 8], model=loaded)
    assert matrices(asked) == []
    assert gpt2ln_cli.inspect([[1] * 3], model=loaded).counts.tokens == 3
    monkeypatch.setattr(memory, "free", lambda _: 40_000)
    assert main(["inspect", "--token-ids", "1,2,3", "--model", str(folder)]) == 0
    capsys.readouterr()
    assert main(["inspect", "--token-ids", "1,2,3,4", "--model", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a pass of 4 tokens" in error
    assert "--dtype" not in error


@posix
def test_a_limit_of_a_container_counts(tmp_path, monkeypatch):
    """As version 2 of Linux's control groups has it; pages of files give way."""
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    before = memory.free(torch.device("cpu"))
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 100000\ninactive_file 400000\nactive_file 100000\n")
    assert before is None or memory.free(torch.device("cpu")) > 10 * 2**20
    (tmp_path / "memory.max").write_text("1000000\n")
    assert before is None or memory.free(torch.device("cpu")) == 800_000
