"""What every checkpoint layout yields, and the checks that all of them pass."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gpt2ln_cli.checkpoint.files import Stamp, read_json
from gpt2ln_cli.checkpoint.tensors import FLOATS, StoredTensor
from gpt2ln_cli.checkpoint.tokenizer import GPT2_VOCABULARIES, cached_gpt2_tokenizer, read_tokenizer
from gpt2ln_cli.errors import SHOWN, CheckpointError, listed
from gpt2ln_cli.paths import path_text
from gpt2ln_cli.records import ModelInfo, Source
from gpt2ln_cli.sites import all_sites

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

MODEL_TYPE = "gpt2"
CONFIG = "config.json"
LAYER_NORM = re.compile(r"(h\.\d+\.ln_[12]|ln_f)\.(weight|bias)")
ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}


class Config(msgspec.Struct, frozen=True):
    """What shapes the model and its arithmetic; absent fields are GPT-2 small's, as in transformers."""

    model_type: str = ""
    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    """Width of the MLP's hidden layer; None is four times ``n_embd``."""
    layer_norm_epsilon: float = 1e-5
    activation_function: str = "gelu_new"
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    bos_token_id: int | None = 50256
    tie_word_embeddings: bool = True
    """Whether the LM head is the token embedding where the checkpoint stores none."""
    bias: bool = True
    """False where LayerNorms and matrices may lack their bias, as nanoGPT's ``bias=False`` makes them."""
    quantized: str | None = None
    """What the matrices were quantized by, in a folder that can't be run here; gains and biases are plain floats."""


class StoredConfig(Config, frozen=True):
    """``config.json``, where the sizes may stand under the names that transformers has for those of any model."""

    hidden_size: int | msgspec.UnsetType = msgspec.UNSET
    max_position_embeddings: int | msgspec.UnsetType = msgspec.UNSET
    num_attention_heads: int | msgspec.UnsetType = msgspec.UNSET
    num_hidden_layers: int | msgspec.UnsetType = msgspec.UNSET
    quantization_config: dict[str, Any] | None = None

    def resolved(self) -> Config:
        """The configuration in GPT-2's own names; where a size stands under both, transformers takes the other one."""
        aliases = {own: getattr(self, alias) for alias, own in ALIASES.items()}
        given = {own: value for own, value in aliases.items() if value is not msgspec.UNSET}
        given["quantized"] = _quantizer(self.quantization_config)
        return Config(**{field: getattr(self, field) for field in Config.__struct_fields__} | given)


def _quantizer(stored: dict[str, Any] | None) -> str | None:
    """In words, what transformers' ``quantization_config`` says."""
    if stored is None:
        return None
    bits = stored.get("bits") or next((bits for bits in (4, 8) if stored.get(f"load_in_{bits}bit")), None)
    return f"{stored.get('quant_method', 'quantized')}" + (f" {bits}-bit" if bits else "")


def parse_config(path: Path) -> Config:
    """Read ``config.json``, as ``transformers.GPT2Config`` does.

    Raises:
        CheckpointError: it is missing, is not such a file, is of another architecture, or its numbers make no model.
    """
    try:
        config = msgspec.json.decode(read_json(path), type=StoredConfig).resolved()
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a GPT-2 configuration: {error}.") from error
    if config.model_type != MODEL_TYPE:
        raise CheckpointError(f"{path} says model_type '{config.model_type}'; gpt2ln reads GPT-2 ('{MODEL_TYPE}').")
    check_numbers(path, config)
    return config


def check_numbers(path: Path, config: Config) -> None:
    """Refuse numbers that make no model.

    Raises:
        CheckpointError: a size is below 1 or beyond 64 bits, the heads do not divide the width, or eps is not above 0
            and finite.
    """
    for field in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
        if not 1 <= getattr(config, field) < 2**63:
            raise CheckpointError(
                f"{path} says {field} {getattr(config, field)}; it must be 1 or more, and fit 64 bits."
            )
    if config.n_embd % config.n_head:
        raise CheckpointError(f"{path} says n_embd {config.n_embd}, which {config.n_head} heads do not divide.")
    if not 0 < config.layer_norm_epsilon < math.inf:
        raise CheckpointError(f"{path} says layer_norm_epsilon {config.layer_norm_epsilon}; it must be above 0.")


def body_shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor of ``transformers.GPT2Model``, one by one: the layers may be too many to list."""
    d = config.n_embd
    inner = config.n_inner if config.n_inner is not None else 4 * d
    yield "wte.weight", (config.vocab_size, d)
    yield "wpe.weight", (config.n_positions, d)
    yield "ln_f.weight", (d,)
    yield "ln_f.bias", (d,)
    for layer in range(config.n_layer):
        block = f"h.{layer}."
        for norm in ("ln_1", "ln_2"):
            yield f"{block}{norm}.weight", (d,)
            yield f"{block}{norm}.bias", (d,)
        for matrix, rows, columns in (
            ("attn.c_attn", d, 3 * d),
            ("attn.c_proj", d, d),
            ("mlp.c_fc", d, inner),
            ("mlp.c_proj", inner, d),
        ):
            yield f"{block}{matrix}.weight", (rows, columns)
            yield f"{block}{matrix}.bias", (columns,)


def stored_shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Those of :func:`body_shapes` that are stored as they are: of a quantized model the gains and biases alone."""
    for name, shape in body_shapes(config):
        if config.quantized is None or LAYER_NORM.fullmatch(name):
            yield name, shape


def check_tensors(path: Path, config: Config, tensors: Mapping[str, StoredTensor]) -> None:
    """Compare the configuration with the tensors that the file's header declares, before anything is allocated.

    Raises:
        CheckpointError: a tensor is missing, has another shape, is not of a floating-point type, or belongs to a layer
            beyond those of the configuration.
    """

    def missing() -> Iterator[str]:
        for name, shape in stored_shapes(config):
            if name in tensors:
                found = tensors[name]
                if found.shape != shape:
                    raise CheckpointError(
                        f"{path}: '{name}' has shape {list(found.shape)} where the configuration says {list(shape)}."
                    )
                if found.dtype not in FLOATS:
                    raise CheckpointError(
                        f"{path}: '{name}' is stored as {found.dtype}; gpt2ln reads {', '.join(FLOATS)}."
                    )
            elif config.bias or not name.endswith(".bias"):
                yield name

    names = [f"'{name}'" for name in islice(missing(), SHOWN + 1)]
    if names:
        raise CheckpointError(
            f"{path} has no tensor {listed(names)}; it is no GPT-2 of {config.n_layer} layers, or incomplete."
        )
    beyond = f"h.{config.n_layer}."
    if any(name.startswith(beyond) for name in tensors):
        raise CheckpointError(
            f"{path} has tensors of layer {config.n_layer} where the configuration says n_layer {config.n_layer}, "
            "counted from 0."
        )


@dataclass(frozen=True)
class LayerNormParameters:
    """Gain and bias of one site, each of shape (n_embd,) in float64; None where the model has none."""

    gain: NDArray[np.float64] | None
    bias: NDArray[np.float64] | None


@dataclass(frozen=True)
class Contents:
    """What a layout found in a folder or file."""

    config: Config
    tensors: Mapping[str, StoredTensor]
    """By the names, and in the orientation, of ``transformers.GPT2Model``."""
    inferred: Sequence[str] = ()
    """What the file does not say and was concluded."""
    tokenizer: Callable[[], Tokenizer | None] | None = None
    """Reads the tokenizer inside the file; None where the layout has none inside."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found and whose header was checked; no weights have been read."""

    name: str
    source: Source
    location: Path
    revision: str | None
    contents: Contents
    stamps: Sequence[Stamp] = ()
    """The files as they were before anything was read; none where nobody rewrites them, as in the Hub's cache."""

    @property
    def config(self) -> Config:
        """The configuration, which agrees with the tensors."""
        return self.contents.config

    def stored_dtype(self) -> str:
        """The type the weights are stored in, by torch's name; of several, the narrowest that holds them all."""
        stored = {self.contents.tensors[name].dtype for name, _ in self._present()}
        if len(stored) == 1:
            return stored.pop()
        return "float64" if "float64" in stored else "float32"

    def _present(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        return (item for item in stored_shapes(self.config) if item[0] in self.contents.tensors)

    def check_runs(self) -> None:
        """See that it can be run.

        Raises:
            CheckpointError: its matrices are quantized in a way that needs the library that did it.
        """
        if self.config.quantized is not None:
            raise CheckpointError(
                f"{self.location} is {self.config.quantized}: run what it was made from; params, track and diff "
                "without prompts read its gains and biases."
            )

    def check_unchanged(self) -> None:
        """See, after reading, that no file changed meanwhile.

        Raises:
            CheckpointError: one did, so that what was read may be of two states.
        """
        for stamp in self.stamps:
            stamp.check()

    def layer_norms(self) -> dict[str, LayerNormParameters]:
        """Gain and bias by site name; from safetensors, GGUF and llm.c without torch.

        Raises:
            CheckpointError: the file can't be read, or changed meanwhile.
        """
        import numpy as np

        def read(name: str) -> NDArray[np.float64] | None:
            stored = self.contents.tensors.get(name)
            return None if stored is None else stored.array().astype(np.float64)

        found = {
            site.name: LayerNormParameters(gain=read(f"{site.name}.weight"), bias=read(f"{site.name}.bias"))
            for site in all_sites(self.config.n_layer)
        }
        self.check_unchanged()
        return found

    def with_tokenizer(self) -> tuple[Checkpoint, Tokenizer | None]:
        """The tokenizer inside the checkpoint or beside it, else GPT-2's own where the vocabulary is; None without.

        One that is not the checkpoint's own is among what was inferred of the checkpoint that is returned with it.

        Raises:
            CheckpointError: the tokenizer's files can't be read, or know more tokens than the embedding.
        """
        checkpoint = self
        folder = self.location if self.location.is_dir() else self.location.parent
        found = self.contents.tokenizer() if self.contents.tokenizer is not None else read_tokenizer(folder)
        if found is None and self.config.vocab_size in GPT2_VOCABULARIES:
            borrowed = cached_gpt2_tokenizer()
            if borrowed is not None:
                found, repository = borrowed
                inferred = f"the tokenizer of '{repository}' in the Hugging Face cache, whose vocabulary fits"
                contents = replace(self.contents, inferred=[*self.contents.inferred, inferred])
                checkpoint = replace(self, contents=contents)
        # Added tokens may lie beyond the embedding, as a padding token that was never trained does.
        size = 0 if found is None else found.get_vocab_size(with_added_tokens=False)
        if size > self.config.vocab_size:
            raise CheckpointError(
                f"the tokenizer of {self.location} has {size} tokens and the embedding "
                f"{self.config.vocab_size} rows: they do not belong together; remove the tokenizer or replace it."
            )
        return checkpoint, found

    def info(self, *, dtype: str, device: str | None) -> ModelInfo:
        """The header that every record carries."""
        config = self.config
        return ModelInfo(
            name=path_text(self.name),
            source=self.source,
            location=path_text(self.location),
            revision=self.revision,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            n_positions=config.n_positions,
            vocab_size=config.vocab_size,
            eps=config.layer_norm_epsilon,
            dtype=dtype,
            device=device,
            inferred=list(self.contents.inferred),
        )
