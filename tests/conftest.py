"""Models and an independent reference: float64 NumPy on the hidden states that plain transformers yields."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest
import torch
from contract import validated
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

import gpt2ln_cli
from gpt2ln_cli.checkpoint import BUNDLED
from gpt2ln_cli.model import Model
from gpt2ln_cli.output import json as output_json
from gpt2ln_cli.output.blocks import View

# Tests run beside each other: more threads than cores would make all of them wait.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nobody is there to leave one.
os.environ["NO_PAGER"] = "1"

DEMO = BUNDLED["demo"]
NOBODY = 65534
SITES_PER_BLOCK = ("ln_1", "ln_2")


@pytest.fixture(scope="session")
def demo() -> Model:
    return gpt2ln_cli.load("demo")


@pytest.fixture(scope="session")
def plain_demo() -> GPT2Model:
    """The bundled checkpoint as transformers itself loads it."""
    return GPT2LMHeadModel.from_pretrained(DEMO).transformer.eval()


@pytest.fixture(scope="session")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a random GPT-2 of the given shape, with gains and biases that are not 1 and 0; return its folder."""

    def make(change: Callable[[GPT2Model], None] = lambda _: None, **config: object) -> Path:
        shape = {"vocab_size": 61, "n_positions": 32, "n_embd": 24, "n_layer": 2, "n_head": 3, **config}
        torch.manual_seed(7)
        model = GPT2LMHeadModel(GPT2Config(bos_token_id=60, eos_token_id=60, **shape))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "ln_" in name:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
            change(model.transformer)
        folder = tmp_path_factory.mktemp("model")
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def as_nobody() -> Callable[[], AbstractContextManager[None]]:
    """Permissions hold for whoever runs the tests: root becomes another user where it reads and writes."""

    @contextlib.contextmanager
    def become() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)

    return become


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that another user may come to, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for path in [folder, *folder.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755)


@pytest.fixture(autouse=True)
def every_json_is_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test has written as JSON, in this process, must keep to the schema."""
    plain = output_json.write

    def write(view: View, stream: TextIO) -> None:
        text = io.StringIO()
        plain(view, text)
        validated(json.loads(text.getvalue()))
        stream.write(text.getvalue())

    monkeypatch.setattr(output_json, "write", write)


def with_body(model: Model, body: GPT2Model) -> Model:
    """The model as if this body had been read from its checkpoint."""
    other = copy.copy(model)
    other._body = body
    return other


def site_names(n_layer: int) -> list[str]:
    return [f"h.{layer}.{kind}" for layer in range(n_layer) for kind in SITES_PER_BLOCK] + ["ln_f"]


def raw_states(body: GPT2Model, ids: Sequence[int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Input and output of every LayerNorm, each (tokens, features) in float64, by ordinary hooks on a plain run."""
    states: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    modules = dict(body.named_modules())

    def keep(name: str) -> Callable[..., None]:
        def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            states[name] = (inputs[0][0].double().numpy(), output[0].double().numpy())

        return hook

    handles = [modules[name].register_forward_hook(keep(name)) for name in site_names(body.config.n_layer)]
    try:
        with torch.no_grad():
            body(torch.tensor([list(ids)]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return states


def reference(x: np.ndarray, y: np.ndarray, eps: float) -> dict[str, np.ndarray]:
    """Every quantity of DESIGN's definitions, from x and y, each (tokens,)."""
    d = x.shape[-1]
    mean = x.mean(-1)
    centred = x - mean[:, None]
    variance = (centred**2).mean(-1)
    sigma = np.sqrt(variance)
    normalized = centred / np.sqrt(variance + eps)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "mean": mean,
            "sigma": sigma,
            "pre_norm": np.linalg.norm(x, axis=-1),
            "normalized_norm": np.linalg.norm(normalized, axis=-1),
            "post_norm": np.linalg.norm(y, axis=-1),
            "max_abs": np.abs(x).max(-1),
            "max_deviation": np.abs(centred).max(-1) / sigma,
            "excess_kurtosis": (centred**4).mean(-1) / variance**2 - 3,
            "mean_share": d * mean**2 / (x**2).sum(-1),
        }
