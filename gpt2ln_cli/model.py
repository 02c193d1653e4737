"""Loading a checkpoint into transformers' own GPT-2, ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt2ln_cli.checkpoint import DEFAULT_MODEL, Checkpoint, locate
from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer
    from torch import nn
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

    from gpt2ln_cli.records import ModelInfo
    from gpt2ln_cli.sites import Site


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint in memory: transformers' ``GPT2Model`` in evaluation mode, and its tokenizer if it brings one."""

    checkpoint: Checkpoint
    body: GPT2Model
    tokenizer: Tokenizer | None

    @property
    def info(self) -> ModelInfo:
        """Which model this is, for a record's header."""
        return self.checkpoint.info(dtype=str(self.body.dtype).removeprefix("torch."), device=str(self.body.device))


def load(model: str | Path = DEFAULT_MODEL, *, revision: str | None = None) -> LoadedModel:
    """Load a checkpoint, in the dtype it is stored in, on the CPU.

    Args:
        model: a bundled name, a folder, or a Hub id.
        revision: branch, tag or commit of a Hub id.

    Raises:
        CheckpointError: the checkpoint can't be found, read or trusted.
    """
    checkpoint = locate(str(model), revision)
    return LoadedModel(checkpoint, build_body(checkpoint), checkpoint.tokenizer())


def layer_norm(body: GPT2Model, site: Site) -> nn.LayerNorm:
    """The module of a site."""
    module: nn.LayerNorm = getattr(body if site.layer is None else body.h[site.layer], site.kind)
    return module


def build_body(checkpoint: Checkpoint) -> GPT2Model:
    """Read all weights into a ``GPT2Model`` in evaluation mode.

    Raises:
        CheckpointError: the weights can't be read, lack a tensor, or disagree with the configuration.
    """
    import torch
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

    # On the meta device nothing is allocated or initialized: the checkpoint's tensors become the parameters.
    try:
        with torch.device("meta"):
            body = GPT2Model(GPT2Config(**checkpoint.raw_config))
    except Exception as error:  # whatever transformers makes of an odd configuration
        raise CheckpointError(f"transformers rejects the configuration in {checkpoint.location}: {error}.") from error
    stored = checkpoint.state_dict()
    state = {}
    for name, parameter in body.state_dict().items():
        if name not in stored:
            raise CheckpointError(f"{checkpoint.location}: the weights have no tensor '{name}'.")
        if stored[name].shape != parameter.shape:
            raise CheckpointError(
                f"{checkpoint.location}: '{name}' has shape {list(stored[name].shape)} where the configuration "
                f"says {list(parameter.shape)}."
            )
        state[name] = stored[name]
    body.load_state_dict(state, assign=True)
    body.requires_grad_(False)
    body.train(False)
    return body
