"""Loading a checkpoint into transformers' own GPT-2, ready to run."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Literal

from gpt2ln_cli.arguments import checked, checkpoint_name
from gpt2ln_cli.checkpoint import DEFAULT_MODEL, LM_HEAD, Checkpoint, LayerNormParameters, locate
from gpt2ln_cli.checkpoint.environment import import_hub
from gpt2ln_cli.checkpoint.tensors import FLOATS
from gpt2ln_cli.errors import CheckpointError, UsageError
from gpt2ln_cli.sites import all_sites

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from tokenizers import Tokenizer
    from torch import nn
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

    from gpt2ln_cli.checkpoint.tensors import StoredTensor
    from gpt2ln_cli.records import ModelInfo
    from gpt2ln_cli.sites import Site

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]


class Model:
    """A checkpoint: its header is read and checked, its tokenizer and weights are read when they are first asked for.

    Threads may share one: each is read once.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        heads: int | None = None,
        prefix: str | None = None,
        device: Device = "auto",
        dtype: Dtype = "auto",
    ) -> None:
        self._checkpoint, self._device, self._dtype = checkpoint, device, dtype
        self.heads, self.prefix = heads, prefix
        """As they were asked for, which a call that gives the same again needs."""
        self._tokenizer: list[Tokenizer | None] = []
        self._body: GPT2Model | None = None
        self._reading = threading.RLock()

    @property
    def checkpoint(self) -> Checkpoint:
        """Where it comes from, and what was inferred of it."""
        return self._checkpoint

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer that the checkpoint brings, if any.

        Raises:
            CheckpointError: it can't be used.
        """
        with self._reading:
            if not self._tokenizer:
                self._checkpoint, found = self._checkpoint.with_tokenizer()
                self._tokenizer.append(found)
            return self._tokenizer[0]

    @property
    def body(self) -> GPT2Model:
        """Transformers' ``GPT2Model`` in evaluation mode, on its device, with all its weights.

        Raises:
            CheckpointError: the weights can't be read.
            UsageError: the memory does not take them.
        """
        from gpt2ln_cli.model.memory import settle

        with self._reading:
            settle(self.lazy_body, self._checkpoint)
            return self.lazy_body

    @property
    def lazy_body(self) -> GPT2Model:
        """The body as passes run it: matrices that take memory are made when a pass comes to them.

        Raises:
            CheckpointError: the weights can't be read.
        """
        with self._reading:
            if self._body is None:
                self._body = build_body(self._checkpoint, device=self._device, dtype=self._dtype)
            return self._body

    @property
    def info(self) -> ModelInfo:
        """Which model this is, for a record's header: as it runs, or as it is stored where it never ran."""
        if self._body is None:
            return self._checkpoint.info(dtype=self._checkpoint.stored_dtype(), device=None)
        return self._checkpoint.info(dtype=str(self._body.dtype).removeprefix("torch."), device=str(self._body.device))

    def layer_norms(self) -> dict[str, LayerNormParameters]:
        """Gain and bias by site name: those that the body has now, or where none was read the checkpoint's.

        What stands at a site and has no such vectors is left out.

        Raises:
            CheckpointError: they can't be read.
        """
        if self._body is None:
            return self._checkpoint.layer_norms()
        found = {}
        for site in all_sites(self._checkpoint.config.n_layer):
            module = layer_norm(self._body, site)
            gain, bias = (learned(module, name, self._body.config.n_embd) for name in ("weight", "bias"))
            if gain is not None or bias is not None or getattr(module, "weight", module) is None:
                found[site.name] = LayerNormParameters(gain=gain, bias=bias)
        return found


@checked
def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    heads: int | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> Model:
    """Find a checkpoint and settle how it is run; its weights are read when they are first asked for.

    Args:
        model: a bundled name, a folder, a file, or a Hub id.
        revision: branch, tag or commit of a Hub id.
        heads: attention heads, for a file that does not tell.
        prefix: what the tensors' names begin with, for a file that holds several bodies, as those of ``policy`` and
            ``ref``.
        device: where to run; ``auto`` is the first of cuda, mps and cpu that is there.
        dtype: what to compute in; ``auto`` is the type the weights are stored in.

    Raises:
        UsageError: an argument has no meaning, the device is not there, or ``heads`` or ``prefix`` contradicts the
            checkpoint or is needed and not given.
        CheckpointError: the checkpoint can't be found, read or trusted.
    """
    found = locate(checkpoint_name("model", model), revision, heads=heads, prefix=prefix)
    if device not in ("auto", "cpu"):
        resolve_device(device)
    return Model(found, heads=heads, prefix=prefix, device=device, dtype=dtype)


def as_model(model: str | Path | Model, name: str = "model") -> Model:
    """The model itself, or the one of that name.

    Args:
        model: either.
        name: of the argument that it was given as.

    Raises:
        UsageError: it is neither.
        CheckpointError: the checkpoint can't be found, read or trusted.
    """
    return model if isinstance(model, Model) else load(checkpoint_name(name, model))


def layer_norm(body: GPT2Model, site: Site) -> nn.LayerNorm:
    """The module of a site."""
    module: nn.LayerNorm = getattr(body if site.layer is None else body.h[site.layer], site.kind)
    return module


def eps_of(body: GPT2Model, site: Site) -> float:
    """A site's own eps; the configuration's where its module has none."""
    return float(getattr(layer_norm(body, site), "eps", body.config.layer_norm_epsilon))


def learned(module: nn.Module, name: Literal["weight", "bias"], width: int) -> NDArray[np.float64] | None:
    """A LayerNorm's gain (``weight``) or bias, (features,); None where the module has none of that width."""
    parameter: torch.Tensor | None = getattr(module, name, None)
    if parameter is None or getattr(parameter, "shape", None) != (width,):
        return None
    values: NDArray[np.float64] = parameter.detach().cpu().double().numpy()
    return values


def head_weight(model: Model) -> torch.Tensor:
    """The LM head, (vocabulary, features): the checkpoint's own, or the token embedding where it is tied to that.

    Raises:
        CheckpointError: the weights can't be read, or the head is not tied and missing.
    """
    checkpoint, embedding = model.checkpoint, model.lazy_body.wte.weight
    own = checkpoint.contents.tensors.get(LM_HEAD)
    if own is not None:
        if own.shape != tuple(embedding.shape):
            raise CheckpointError(
                f"{checkpoint.location}: '{LM_HEAD}' has shape {list(own.shape)} where the token embedding has "
                f"{list(embedding.shape)}."
            )
        if own.dtype not in FLOATS:
            raise CheckpointError(f"{checkpoint.location}: '{LM_HEAD}' is stored as {own.dtype}, which is no weight.")
        checkpoint.check_unchanged()
        return own.tensor().to(embedding)
    if not checkpoint.config.tie_word_embeddings:
        raise CheckpointError(f"{checkpoint.location} has no LM head, and its configuration ties it to nothing.")
    return embedding


def resolve_device(device: Device) -> torch.device:
    """The device of that name; ``auto`` is the first of cuda, mps and cpu that is there.

    Raises:
        UsageError: it is not there.
    """
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in present.items() if there))
    if device not in present:
        raise UsageError(f"device '{device}' is none of auto, {', '.join(sorted(present))}.")
    if not present[device]:
        raise UsageError(f"this machine, or this build of torch, has no {device} device; use --device cpu.")
    return torch.device(device)


def build_body(checkpoint: Checkpoint, *, device: Device = "auto", dtype: Dtype = "auto") -> GPT2Model:
    """Read weights into a ``GPT2Model`` in evaluation mode; LayerNorms without a bias keep none.

    Matrices of blocks that take memory of their own are deferred (``deferred.py``).

    Args:
        checkpoint: the checkpoint, whose tensors have the shapes of its configuration.
        device: as for :func:`load`.
        dtype: as for :func:`load`.

    Raises:
        UsageError: the device or the type is not there.
        CheckpointError: the weights can't be read or change meanwhile, or transformers rejects the configuration.
    """
    import_hub()  # before transformers does
    import torch
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model
    from transformers.pytorch_utils import Conv1D

    from gpt2ln_cli.model.deferred import defer

    target = resolve_device(device)
    name_of_type = checkpoint.stored_dtype() if dtype == "auto" else dtype
    kind = getattr(torch, name_of_type, None)
    if not isinstance(kind, torch.dtype):
        raise UsageError(f"dtype '{name_of_type}' is none of auto, float32, float16, bfloat16.")
    checkpoint.check_runs()
    config = checkpoint.config
    # On the meta device nothing is allocated or initialized: the checkpoint's tensors become the parameters.
    try:
        with torch.device("meta"):
            body = GPT2Model(
                GPT2Config(
                    vocab_size=config.vocab_size,
                    n_positions=config.n_positions,
                    n_embd=config.n_embd,
                    n_layer=config.n_layer,
                    n_head=config.n_head,
                    n_inner=config.n_inner,
                    activation_function=config.activation_function,
                    layer_norm_epsilon=config.layer_norm_epsilon,
                    scale_attn_weights=config.scale_attn_weights,
                    scale_attn_by_inverse_layer_idx=config.scale_attn_by_inverse_layer_idx,
                    reorder_and_upcast_attn=config.reorder_and_upcast_attn,
                    bos_token_id=None,
                    eos_token_id=None,
                )
            )
    except Exception as error:  # whatever transformers makes of an odd configuration
        raise CheckpointError(f"transformers rejects the configuration in {checkpoint.location}: {error}.") from error

    def read(stored: StoredTensor) -> torch.Tensor:
        return stored.tensor().to(device=target, dtype=kind)

    def make(stored: StoredTensor) -> torch.Tensor:
        values = read(stored)
        checkpoint.check_unchanged()
        return values

    state = {}
    for name, parameter in list(body.named_parameters()):
        stored = checkpoint.contents.tensors.get(name)
        module = body.get_submodule(name.rpartition(".")[0])
        if stored is not None:
            as_stored = stored.mapped and stored.dtype == name_of_type and target.type == "cpu"
            if isinstance(module, Conv1D) and len(stored.shape) == 2 and not as_stored:
                defer(module, partial(make, stored), kind.itemsize)
            else:
                state[name] = read(stored)
        # Only a bias may be missing. Conv1D always adds one, which may as well be 0.
        elif isinstance(module, torch.nn.LayerNorm):
            module.register_parameter("bias", None)
        else:
            state[name] = torch.zeros(parameter.shape, device=target, dtype=kind)
    checkpoint.check_unchanged()
    body.load_state_dict(state, assign=True)
    body.requires_grad_(False)
    body.train(False)
    return body
