"""Writing one GPT-2 as training loops keep it: nested, beside objects of their own classes, under other suffixes."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path, PurePosixPath

import torch
from transformers import GPT2LMHeadModel


def loop(model: GPT2LMHeadModel, folder: Path) -> Path:
    """As PyTorch's tutorial on saving does it."""
    optimizer = torch.optim.AdamW(model.parameters())
    state = {"epoch": 3, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
    torch.save({**state, "loss": 4.2}, folder / "checkpoint.tar")
    return folder / "checkpoint.tar"


def lightning(model: GPT2LMHeadModel, folder: Path) -> Path:
    """As Lightning's ``save_checkpoint`` writes a module with the model as its attribute ``model``."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    state = {"epoch": 0, "pytorch-lightning_version": "2.5.1", "state_dict": tensors, "callbacks": {}}
    parameters = Namespace(lr=1e-3, data=PurePosixPath("data"))
    torch.save({**state, "hyper_parameters": {"args": parameters}}, folder / "epoch=0-step=10.ckpt")
    return folder / "epoch=0-step=10.ckpt"


def deepspeed(model: GPT2LMHeadModel, folder: Path) -> Path:
    """ZeRO-2's states of the model, which lie in a folder of their own."""
    inner = folder / "global_step10"
    inner.mkdir()
    state = {"module": model.state_dict(), "param_shapes": [], "dp_world_size": 1, "ds_version": "0.16.0"}
    torch.save(state, inner / "mp_rank_00_model_states.pt")
    return inner / "mp_rank_00_model_states.pt"


def nested_twice(model: GPT2LMHeadModel, folder: Path) -> Path:
    """In the suffix that neither torch nor Lightning uses and people do."""
    torch.save({"step": 1, "state": 2, "state_dict": {"model": model.state_dict()}}, folder / "weights.pkl")
    return folder / "weights.pkl"


def build_nanogpt(model: GPT2LMHeadModel, folder: Path) -> Path:
    """build-nanogpt's ``log/model_00010.pt``: its configuration is an object of the script's own class."""
    own = type("GPTConfig", (), {"__module__": "__main__"})
    config = own()
    shape = {"block_size": model.config.n_positions, "vocab_size": model.config.vocab_size}
    vars(config).update(shape, n_layer=model.config.n_layer, n_head=model.config.n_head, n_embd=model.config.n_embd)
    tensors = {
        name: tensor.t().contiguous() if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) else tensor
        for name, tensor in model.state_dict().items()
    }
    sys.modules["__main__"].GPTConfig = own  # type: ignore[attr-defined]
    try:
        torch.save({"model": tensors, "config": config, "step": 10, "val_loss": 3.3}, folder / "model_00010.pt")
    finally:
        del sys.modules["__main__"].GPTConfig  # type: ignore[attr-defined]
    return folder / "model_00010.pt"


def variant(model: GPT2LMHeadModel, folder: Path) -> Path:
    model.save_pretrained(folder, variant="fp16")
    assert (folder / "model.fp16.safetensors").exists()
    return folder


def lone_in_a_folder(model: GPT2LMHeadModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        (folder / name).unlink()
    (folder / "training_args.bin").write_bytes(b"no weights")
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    return folder
