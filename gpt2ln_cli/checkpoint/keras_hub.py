"""Keras-Hub's GPT-2: a preset's folder, whose configuration is Keras' own, or a lone ``.weights.h5``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from gpt2ln_cli.checkpoint.base import CONFIG, Config, Contents
from gpt2ln_cli.checkpoint.encoding import guarded
from gpt2ln_cli.checkpoint.files import check_file, read_json
from gpt2ln_cli.checkpoint.hdf5 import open_hdf5
from gpt2ln_cli.checkpoint.huggingface import check_beside
from gpt2ln_cli.checkpoint.single import infer_config
from gpt2ln_cli.checkpoint.tensors import StoredTensor, check_alone, joined
from gpt2ln_cli.checkpoint.tokenizer import WHOLE, byte_level_bpe
from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

SUFFIX = ".weights.h5"
WEIGHTS, INDEX = "model.weights.h5", "model.weights.json"
VOCABULARY, MERGES = "assets/tokenizer/vocabulary.json", "assets/tokenizer/merges.txt"
CLASS = "GPT2Backbone"
# A task holds the backbone among its layers; releases before Keras-Hub spelled the LayerNorms without a dash.
LAYER = re.compile(
    r"(?:.+/)?layers/(?:transformer_decoder(?:_(?P<number>\d{1,9}))?/(?P<inner>[\w/]+)|(?P<outer>\w+))/vars/(?P<part>[01])"
)
OUTER = {"reversible_embedding": "wte", "position_embedding": "wpe", "layer_normalization": "ln_f"}
INNER = {
    "_self_attention_layer_norm": "ln_1",
    "_self_attention_layernorm": "ln_1",
    "_self_attention_layer/output_dense": "attn.c_proj",
    "_feedforward_layer_norm": "ln_2",
    "_feedforward_layernorm": "ln_2",
    "_feedforward_intermediate_dense": "mlp.c_fc",
    "_feedforward_output_dense": "mlp.c_proj",
}
QUERY_KEY_VALUE = tuple(f"_self_attention_layer/{which}_dense" for which in ("query", "key", "value"))
PARTS = ("weight", "bias")


class Sizes(msgspec.Struct, frozen=True):
    """What makes the model's shape."""

    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    max_sequence_length: int = 1024


class Preset(msgspec.Struct, frozen=True):
    """``config.json``, as Keras writes an object."""

    class_name: str
    config: msgspec.Raw


class Index(msgspec.Struct, frozen=True):
    """Which shards hold each layer's variables."""

    weight_map: dict[str, str | list[str]]


class TokenizerConfig(msgspec.Struct, frozen=True):
    """Of the tokenizer's settings what changes ids."""

    add_prefix_space: bool = False


class TokenizerPreset(msgspec.Struct, frozen=True):
    """``tokenizer.json``, as Keras writes an object."""

    config: TokenizerConfig = TokenizerConfig()


def matches(path: Path) -> bool:
    """Whether the path is a preset's folder, or a file by the suffix that Keras asks for."""
    if path.is_dir():
        return (path / CONFIG).is_file() and any((path / name).is_file() for name in (WEIGHTS, INDEX))
    return path.name.endswith(SUFFIX)


def read(path: Path, heads: int | None, prefix: str | None) -> Contents:  # noqa: ARG001  (the queries' shape tells them)
    """Read the configuration, and where each tensor lies.

    Raises:
        CheckpointError: h5py is not installed, or the configuration or the weights can't be used.
        UsageError: a prefix was given.
    """
    check_alone(path, prefix)
    folder = path if path.is_dir() else path.parent
    preset = _preset(folder / CONFIG)
    if path.is_dir() and preset is None:
        raise CheckpointError(f"{folder / CONFIG} has no class_name, as Keras-Hub writes it; gpt2ln reads {CLASS}.")
    stored: dict[str, StoredTensor] = {}
    for file in _files(path):
        stored |= open_hdf5(file)
    tensors, n_head = _renamed(stored)
    if preset is None:
        config, inferred = infer_config(path, tensors, n_head, "the shape of its queries")
        return Contents(config, tensors, inferred)
    config = Config(
        vocab_size=preset.vocabulary_size,
        n_positions=preset.max_sequence_length,
        n_embd=preset.hidden_dim,
        n_layer=preset.num_layers,
        n_head=preset.num_heads,
        n_inner=preset.intermediate_dim,
    )
    if n_head not in (None, config.n_head):
        raise CheckpointError(f"{path} says num_heads {config.n_head}, and its queries are those of {n_head}.")
    said = [f"eps {config.layer_norm_epsilon:g} and activation {config.activation_function}, which are Keras-Hub's"]
    if folder is not path:
        said.insert(0, f"configuration from {CONFIG} beside the file")
    return Contents(config, tensors, said, partial(_tokenizer, folder))


def _preset(path: Path) -> Sizes | None:
    """The sizes in ``config.json``; None where there is none of Keras'.

    Raises:
        CheckpointError: it is of another model, or does not tell them.
    """
    if not path.is_file():
        return None
    try:
        preset = msgspec.json.decode(read_json(path), type=Preset)
        if preset.class_name == CLASS:
            return msgspec.json.decode(preset.config, type=Sizes)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no configuration of Keras-Hub's GPT-2: {error}.") from error
    raise CheckpointError(f"{path} says class_name '{preset.class_name}'; gpt2ln reads GPT-2 ('{CLASS}').")


def _files(path: Path) -> list[Path]:
    """The file of weights, or its shards."""
    if not path.is_dir():
        return [path]
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    index = path / INDEX
    try:
        weight_map = msgspec.json.decode(read_json(index), type=Index).weight_map
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{index} is not an index of shards: {error}.") from error
    shards = {name for names in weight_map.values() for name in ([names] if isinstance(names, str) else names)}
    for shard in sorted(shards):
        check_beside(index, shard)
        if not (path / shard).is_file():
            raise CheckpointError(f"{index} names the shard '{shard}', which is missing; fetch the folder whole.")
    return [path / shard for shard in sorted(shards)]


def _renamed(stored: Mapping[str, StoredTensor]) -> tuple[dict[str, StoredTensor], int | None]:
    """GPT-2's names, with query, key and value joined and heads side by side; and the number of heads."""
    found: dict[str, StoredTensor] = {}
    apart: dict[str, dict[str, StoredTensor]] = {}
    n_head = None
    for name, tensor in stored.items():
        layer = LAYER.fullmatch(name)
        if layer is None:
            continue
        part = PARTS[int(layer["part"])]
        block = f"h.{layer['number'] or 0}."
        module = layer["inner"]
        if layer["outer"] in OUTER:
            found[f"{OUTER[layer['outer']]}.{part}"] = tensor
        elif module in QUERY_KEY_VALUE:
            if part == "weight" and len(tensor.shape) == 3:
                n_head = tensor.shape[1] or None
                tensor = _merged(tensor, 1).transposed()
            elif len(tensor.shape) == 2:
                tensor = _merged(tensor, 0)
            apart.setdefault(f"{block}attn.c_attn.{part}", {})[module] = tensor
        elif module in INNER:
            merged = INNER[module] == "attn.c_proj" and len(tensor.shape) == 3
            found[f"{block}{INNER[module]}.{part}"] = _merged(tensor, 0) if merged else tensor
    for name, parts in apart.items():
        shapes = {tensor.shape for tensor in parts.values()}
        if len(parts) == len(QUERY_KEY_VALUE) and len(shapes) == 1:
            whole = joined([parts[module] for module in QUERY_KEY_VALUE])
            found[name] = whole.transposed() if name.endswith("weight") else whole
    return found, n_head


def _merged(tensor: StoredTensor, at: int) -> StoredTensor:
    """Two neighbouring dimensions, of which one counts heads, made one."""
    before, (heads, width), after = tensor.shape[:at], tensor.shape[at : at + 2], tensor.shape[at + 2 :]
    return tensor.reshaped(*before, heads * width, *after)


def _tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer among the preset's assets; None without."""
    vocabulary, merges, settings = folder / VOCABULARY, folder / MERGES, folder / WHOLE
    if not (vocabulary.exists() and merges.exists()):
        return None
    for path in (vocabulary, merges):
        check_file(path)

    def read() -> Tokenizer:
        from tokenizers import models

        told = TokenizerPreset()
        if settings.is_file():
            told = msgspec.json.decode(read_json(settings), type=TokenizerPreset)
        found = models.BPE.read_file(str(vocabulary), str(merges))
        return byte_level_bpe(*found, add_prefix_space=told.config.add_prefix_space)

    return guarded(read, f"can't read the tokenizer in {folder}")
