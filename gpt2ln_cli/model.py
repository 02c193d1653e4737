"""Loading a checkpoint into transformers' own GPT-2, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt2ln_cli.checkpoint import DEFAULT_MODEL, Checkpoint, locate
from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
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


@contextmanager
def forward_replaced(module: nn.Module, forward: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Let the module compute something else; on leaving, whatever happened inside, it is as it was."""
    # In the instance's own namespace: it hides the class's forward, and deleting it brings that back.
    own = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own


def head_weight(loaded: LoadedModel) -> torch.Tensor:
    """The LM head, (vocabulary, features): the checkpoint's own, or the token embedding where it is tied to that.

    Raises:
        CheckpointError: the weights can't be read, or the head is not tied and missing.
    """
    checkpoint, embedding = loaded.checkpoint, loaded.body.wte.weight
    own = checkpoint.state_dict().get("lm_head.weight")
    if own is not None:
        if own.shape != embedding.shape:
            raise CheckpointError(
                f"{checkpoint.location}: 'lm_head.weight' has shape {list(own.shape)} where the token embedding has "
                f"{list(embedding.shape)}."
            )
        return own.to(embedding)
    if not loaded.body.config.tie_word_embeddings:
        raise CheckpointError(f"{checkpoint.location} has no LM head, and its configuration ties it to nothing.")
    return embedding


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
