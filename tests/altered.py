"""Models to try claims on, each built once: trained, untrained of any depth, altered copies of the bundled one."""

from __future__ import annotations

import atexit
import copy
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from conftest import DEMO, with_body
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

import gpt2ln_cli
from gpt2ln_cli.model import Model

EPS = 1e-5
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


@functools.cache
def trained() -> Model:
    """The bundled model."""
    return gpt2ln_cli.load("demo")


@functools.cache
def untrained(layers: int = 2, *, seed: int = 0, width: int = 24, heads: int = 3) -> Model:
    """A model as it is before training, with the bundled tokenizer."""
    config = GPT2Config(
        vocab_size=8192, n_embd=width, n_layer=layers, n_head=heads, bos_token_id=8191, eos_token_id=8191
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config)
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    model.save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(DEMO / name, folder)
    return gpt2ln_cli.load(folder)


def altered(change: Callable[[GPT2Model], None], model: Model | None = None) -> Model:
    """A copy of a model, the bundled one unless given, in which something was changed."""
    model = trained() if model is None else model
    body = copy.deepcopy(model.body)
    with torch.no_grad():
        change(body)
    return with_body(model, body)


def layer_norms(body: GPT2Model) -> list[torch.nn.LayerNorm]:
    """All LayerNorms of a body, in forward order."""
    return [module for module in body.modules() if isinstance(module, torch.nn.LayerNorm)]


def normalizing(formula: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[GPT2Model], None]:
    """Let every LayerNorm of a body compute gain * formula(x) + bias."""

    def change(body: GPT2Model) -> None:
        for module in layer_norms(body):
            module.forward = lambda x, m=module: formula(x) * m.weight + m.bias

    return change


def rms(x: torch.Tensor) -> torch.Tensor:
    """Normalization by the root mean square, without centering."""
    return x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt()


def by_head(x: torch.Tensor) -> torch.Tensor:
    """Normalization within each of the bundled model's 12 heads."""
    return torch.nn.functional.layer_norm(x.unflatten(-1, (12, -1)), (x.shape[-1] // 12,), eps=EPS).flatten(-2)


def centered(x: torch.Tensor) -> torch.Tensor:
    """No scaling at all."""
    return x - x.mean(-1, keepdim=True)
