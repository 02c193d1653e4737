"""What every checkpoint layout offers, and the configuration they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from gpt2ln_cli.errors import CheckpointError
from gpt2ln_cli.records import ModelInfo

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

MODEL_TYPE = "gpt2"


class Config(msgspec.Struct, frozen=True):
    """The part of ``config.json`` that gpt2ln itself reads; absent fields are GPT-2 small's, as in transformers."""

    model_type: str = ""
    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    layer_norm_epsilon: float = 1e-5
    bos_token_id: int | None = 50256


def parse_config(path: Path) -> tuple[Config, dict[str, Any]]:
    """Read ``config.json``; return the checked part and the whole.

    Raises:
        CheckpointError: it is missing, is not such a file, is of another architecture, or its numbers make no model.
    """
    try:
        raw = path.read_bytes()
        config = msgspec.json.decode(raw, type=Config)
        whole = msgspec.json.decode(raw, type=dict[str, Any])
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a GPT-2 configuration: {error}.") from error
    if config.model_type != MODEL_TYPE:
        raise CheckpointError(f"{path} says model_type '{config.model_type}'; gpt2ln reads GPT-2 ('{MODEL_TYPE}').")
    for field in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
        if getattr(config, field) < 1:
            raise CheckpointError(f"{path} says {field} {getattr(config, field)}; it must be 1 or more.")
    if config.n_embd % config.n_head:
        raise CheckpointError(f"{path} says n_embd {config.n_embd}, which {config.n_head} heads do not divide.")
    if config.layer_norm_epsilon <= 0:
        raise CheckpointError(f"{path} says layer_norm_epsilon {config.layer_norm_epsilon}; it must be above 0.")
    return config, whole


@dataclass(frozen=True)
class LayerNormParameters:
    """Gain and bias of one site, each of shape (n_embd,) in float64; None where the model has none."""

    gain: NDArray[np.float64] | None
    bias: NDArray[np.float64] | None


@dataclass(frozen=True)
class Checkpoint(ABC):
    """A checkpoint that was found; nothing but its configuration has been read."""

    name: str
    source: Literal["bundled", "hub", "folder"]
    location: Path
    revision: str | None
    config: Config
    raw_config: dict[str, Any]

    @abstractmethod
    def stored_dtype(self) -> str:
        """The type the weights are stored in, by torch's name: ``float32``, ``float16`` or ``bfloat16``."""

    @abstractmethod
    def layer_norms(self) -> dict[str, LayerNormParameters]:
        """Gain and bias by site name, read without torch.

        Raises:
            CheckpointError: the file can't be read, or a tensor is missing or has another shape.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, torch.Tensor]:
        """All tensors, by the names that ``transformers.GPT2Model`` gives them.

        Raises:
            CheckpointError: the file can't be read.
        """

    @abstractmethod
    def tokenizer(self) -> Tokenizer | None:
        """The checkpoint's tokenizer, or None where it brings none.

        Raises:
            CheckpointError: the tokenizer's files can't be read.
        """

    def info(self, *, dtype: str, device: str | None) -> ModelInfo:
        """The header that every record carries."""
        config = self.config
        return ModelInfo(
            name=self.name,
            source=self.source,
            location=str(self.location),
            revision=self.revision,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            n_positions=config.n_positions,
            vocab_size=config.vocab_size,
            eps=config.layer_norm_epsilon,
            dtype=dtype,
            device=device,
        )
