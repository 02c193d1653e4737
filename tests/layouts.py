"""Writing one GPT-2 in every layout that people keep it in, by the tools that make these files or as they do."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import layouts_pickles
import layouts_tensorflow
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel

Writer = Callable[[GPT2LMHeadModel, Path], Path]
LINEAR = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def body_tensors(model: GPT2LMHeadModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}


def linear_tensors(model: GPT2LMHeadModel, prefix: str = "transformer.") -> dict[str, torch.Tensor]:
    """As nanoGPT and minGPT hold them: matrices of torch's Linear."""
    return {
        prefix + name: tensor.t().contiguous() if name.endswith(LINEAR) else tensor
        for name, tensor in body_tensors(model).items()
    }


def write_config(model: GPT2LMHeadModel, folder: Path) -> None:
    model.config.save_pretrained(folder)


def whole_safetensors(model: GPT2LMHeadModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def sharded_safetensors(model: GPT2LMHeadModel, folder: Path) -> Path:
    size = sum(parameter.nbytes for parameter in model.parameters())
    model.save_pretrained(folder, max_shard_size=size // 3)
    assert (folder / "model.safetensors.index.json").exists()
    assert not (folder / "model.safetensors").exists()
    return folder


def bare_names_and_buffers(model: GPT2LMHeadModel, folder: Path) -> Path:
    """OpenAI's own file on the Hub: no 'transformer.', and attention's mask among the tensors."""
    tensors = body_tensors(model)
    for layer in range(model.config.n_layer):
        n = model.config.n_positions
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, n, n).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    write_config(model, folder)
    save_file(tensors, folder / "model.safetensors")
    return folder


def untied_head(model: GPT2LMHeadModel, folder: Path) -> Path:
    tensors = {f"transformer.{name}": tensor for name, tensor in body_tensors(model).items()}
    write_config(model, folder)
    save_file({**tensors, "lm_head.weight": torch.randn_like(tensors["transformer.wte.weight"])}, folder / WHOLE)
    return folder


def classifier(model: GPT2LMHeadModel, folder: Path) -> Path:
    other = GPT2ForSequenceClassification(model.config)
    other.transformer.load_state_dict(model.transformer.state_dict())
    other.to(model.dtype).save_pretrained(folder)
    return folder


WHOLE = "model.safetensors"


def whole_bin(model: GPT2LMHeadModel, folder: Path) -> Path:
    write_config(model, folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def old_bin(model: GPT2LMHeadModel, folder: Path) -> Path:
    """In torch's format of before 1.6, which GPT-2's own pytorch_model.bin is in."""
    write_config(model, folder)
    torch.save(body_tensors(model), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    return folder


def sharded_bin(model: GPT2LMHeadModel, folder: Path) -> Path:
    write_config(model, folder)
    tensors = model.state_dict()
    names = list(tensors)
    weight_map = {}
    for number in range(3):
        shard = f"pytorch_model-{number + 1:05}-of-00003.bin"
        chosen = names[number::3]
        torch.save({name: tensors[name] for name in chosen}, folder / shard)
        weight_map |= dict.fromkeys(chosen, shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def file_with_config(model: GPT2LMHeadModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder / WHOLE


def lone_safetensors(model: GPT2LMHeadModel, folder: Path) -> Path:
    save_file(body_tensors(model), folder / "weights.safetensors")
    return folder / "weights.safetensors"


def lone_bin(model: GPT2LMHeadModel, folder: Path) -> Path:
    torch.save(model.state_dict(), folder / "weights.bin")
    return folder / "weights.bin"


def lone_pth(model: GPT2LMHeadModel, folder: Path) -> Path:
    torch.save(model.state_dict(), folder / "weights.pth", _use_new_zipfile_serialization=False)
    return folder / "weights.pth"


def mingpt(model: GPT2LMHeadModel, folder: Path) -> Path:
    """minGPT's ``model.pt``: GPT-2's names, Linear, and the causal mask as a buffer."""
    n = model.config.n_positions
    tensors = linear_tensors(model)
    tensors |= {f"transformer.h.{layer}.attn.bias": torch.ones(1, 1, n, n) for layer in range(model.config.n_layer)}
    torch.save({**tensors, "lm_head.weight": tensors["transformer.wte.weight"]}, folder / "model.pt")
    return folder / "model.pt"


def old_mingpt(model: GPT2LMHeadModel, folder: Path) -> Path:
    """minGPT before 2022: its own names, query, key and value apart, positions with a leading dimension."""
    body = linear_tensors(model, prefix="")
    names = {"ln_1": "ln1", "ln_2": "ln2", "attn.c_proj": "attn.proj", "mlp.c_fc": "mlp.0", "mlp.c_proj": "mlp.2"}
    tensors = {
        "tok_emb.weight": body["wte.weight"],
        "pos_emb": body["wpe.weight"][None],
        "ln_f.weight": body["ln_f.weight"],
        "ln_f.bias": body["ln_f.bias"],
        "head.weight": body["wte.weight"],
    }
    for layer in range(model.config.n_layer):
        for part in ("weight", "bias"):
            for name, old in names.items():
                tensors[f"blocks.{layer}.{old}.{part}"] = body[f"h.{layer}.{name}.{part}"]
            for name, rows in zip(
                ("query", "key", "value"), body[f"h.{layer}.attn.c_attn.{part}"].chunk(3), strict=True
            ):
                tensors[f"blocks.{layer}.attn.{name}.{part}"] = rows.clone()
        tensors[f"blocks.{layer}.attn.mask"] = torch.ones(1, 1, 2, 2)
    torch.save(tensors, folder / "model.pt")
    return folder / "model.pt"


def nanogpt_state(model: GPT2LMHeadModel, prefix: str = "transformer.") -> dict[str, object]:
    config = model.config
    arguments = {
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "block_size": config.n_positions,
        "bias": True,
        "vocab_size": config.vocab_size,
        "dropout": 0.0,
    }
    optimizer = {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.95)}]}
    return {
        "model": linear_tensors(model, prefix),
        "optimizer": optimizer,
        "model_args": arguments,
        "iter_num": 5,
        "best_val_loss": torch.tensor(3.1),
        "config": {"dataset": "openwebtext"},
    }


def nanogpt(model: GPT2LMHeadModel, folder: Path) -> Path:
    torch.save(nanogpt_state(model), folder / "ckpt.pt")
    return folder / "ckpt.pt"


def compiled_nanogpt(model: GPT2LMHeadModel, folder: Path) -> Path:
    torch.save(nanogpt_state(model, "_orig_mod.transformer."), folder / "ckpt.pt")
    return folder / "ckpt.pt"


GGUF_NAMES = {
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def write_gguf(
    model: GPT2LMHeadModel,
    path: Path,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    tokenizer: Path | None = None,
) -> Path:
    """As llama.cpp's converter does, by the gguf package's writer."""
    config = model.config
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_file_type(0)
    if tokenizer is not None:
        whole = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
        vocabulary = dict(whole["model"]["vocab"]) | {each["content"]: each["id"] for each in whole["added_tokens"]}
        merges = [each if isinstance(each, str) else " ".join(each) for each in whole["model"]["merges"]]
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(tokens)
        writer.add_token_types([1] * len(tokens))
        writer.add_token_merges(merges)
    for name, tensor in linear_tensors(model, prefix="").items():
        module, _, part = name.rpartition(".")
        if module.startswith("h."):
            _, layer, inner = module.split(".", 2)
            full = f"blk.{layer}.{GGUF_NAMES[inner]}.{part}"
        else:
            full = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}[module] + "." + part
        values = tensor.float().numpy()
        if values.ndim == 2 and kind != gguf.GGMLQuantizationType.F32:
            writer.add_tensor(full, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(full, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_float32(model: GPT2LMHeadModel, folder: Path) -> Path:
    return write_gguf(model, folder / "model.gguf")


LLMC_ORDER = (
    "ln_1.weight",
    "ln_1.bias",
    "attn.c_attn.weight",
    "attn.c_attn.bias",
    "attn.c_proj.weight",
    "attn.c_proj.bias",
    "ln_2.weight",
    "ln_2.bias",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.weight",
    "mlp.c_proj.bias",
)


def write_llmc(model: GPT2LMHeadModel, path: Path, version: int) -> Path:
    """As llm.c's train_gpt2.py writes it: the vocabulary padded to a multiple of 128."""
    config = model.config
    tensors = linear_tensors(model, prefix="")
    padded = -(-config.vocab_size // 128) * 128
    wte = torch.nn.functional.pad(tensors["wte.weight"], (0, 0, 0, padded - config.vocab_size))
    sizes = [config.n_positions, config.vocab_size, config.n_layer, config.n_head, config.n_embd, padded]
    header = np.zeros(256, "<i4")
    header[: 2 + len(sizes)] = [20240326, version, *sizes]
    order = [wte, tensors["wpe.weight"]]
    order += [tensors[f"h.{layer}.{name}"] for name in LLMC_ORDER for layer in range(config.n_layer)]
    order += [tensors["ln_f.weight"], tensors["ln_f.bias"]]
    with path.open("wb") as file:
        file.write(header.tobytes())
        for tensor in order:
            if version == 5:
                file.write(tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
            else:
                file.write(tensor.float().contiguous().numpy().tobytes())
    return path


def llmc_float32(model: GPT2LMHeadModel, folder: Path) -> Path:
    return write_llmc(model, folder / "gpt2_124M.bin", 3)


FOLDERS: tuple[Writer, ...] = (
    whole_safetensors,
    sharded_safetensors,
    bare_names_and_buffers,
    untied_head,
    classifier,
    whole_bin,
    old_bin,
    sharded_bin,
    layouts_pickles.variant,
    *layouts_tensorflow.FOLDERS,
)
TELLING_FILES: tuple[Writer, ...] = (
    *(file_with_config, nanogpt, compiled_nanogpt, gguf_float32, llmc_float32, layouts_pickles.build_nanogpt),
    *layouts_tensorflow.TELLING_FILES,
)
SILENT_FILES: tuple[Writer, ...] = (
    *(lone_safetensors, lone_bin, lone_pth, mingpt, old_mingpt),
    *(layouts_pickles.loop, layouts_pickles.lightning, layouts_pickles.deepspeed),
    *(layouts_pickles.nested_twice, layouts_pickles.lone_in_a_folder),
)
LAYOUTS: tuple[Writer, ...] = (*FOLDERS, *TELLING_FILES, *SILENT_FILES)


def heads_for(writer: Writer, model: GPT2LMHeadModel) -> int | None:
    """What ``--heads`` must say: the heads where the file does not tell them."""
    return model.config.n_head if writer in SILENT_FILES else None


def safetensors_bytes(header: Mapping[str, object] | bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with whatever header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + body


class Evil:
    """Pickled, it asks to create a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.path),))


def evil_pickle(model: GPT2LMHeadModel, path: Path, target: Path, *, zipped: bool) -> Path:
    torch.save({**body_tensors(model), "extra": Evil(target)}, path, _use_new_zipfile_serialization=zipped)
    return path


def plain_pickle(content: object, path: Path, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path
