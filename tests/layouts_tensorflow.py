"""GPT-2 as TensorFlow and Keras write it, without them.

By a description of the formats. Compared once with the real writers, on one model: TensorFlow 2.21's Saver (its index
and data are these to the last byte), TFGPT2LMHeadModel of transformers 4.57 and Keras-Hub 0.32 (the same names, shapes
and attributes, and values in one piece).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import save_file
from transformers import GPT2LMHeadModel

from gpt2ln_cli.checkpoint.crc32c import crc32c, masked

BLOCK_BYTES = 1024  # TensorFlow's are of 256 KiB, so that a small model's table would have a single one
TYPES = {"float32": 1, "float64": 2, "int64": 9, "bfloat16": 14, "float16": 19}
MAGIC = 0xDB4775248B80FB57


def body(model: GPT2LMHeadModel) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in model.transformer.state_dict().items()}


# TensorFlow's bundle


def varint(number: int) -> bytes:
    done = b""
    while number >= 128:
        done += bytes([number & 127 | 128])
        number >>= 7
    return done + bytes([number])


def field(number: int, value: int | bytes) -> bytes:
    """Of a protocol buffer's message; zeros are left out."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value) if value else b""


def entry(
    kind: int, shape: Iterable[int], start: int, length: int, checksum: int, *, shard: int = 0, more: bytes = b""
) -> bytes:
    dimensions = b"".join(field(2, field(1, size)) for size in shape)
    numbers = field(3, shard) + field(4, start) + field(5, length)
    return field(1, kind) + field(2, dimensions) + numbers + b"\x35" + struct.pack("<I", checksum) + more


def sealed(block: bytes, kind: int = 0) -> bytes:
    whole = block + bytes([kind])
    return whole + struct.pack("<I", masked(crc32c(np.frombuffer(whole, np.uint8))))


def block(pairs: Iterable[tuple[bytes, bytes]], interval: int) -> bytes:
    """Each key as what differs from the one before, and every so often whole."""
    done, restarts, before = b"", [], b""
    for number, (key, value) in enumerate(pairs):
        shared = 0
        if number % interval == 0:
            restarts.append(len(done))
        else:
            while shared < min(len(before), len(key)) and before[shared] == key[shared]:
                shared += 1
        own = key[shared:]
        done += varint(shared) + varint(len(own)) + varint(len(value)) + own + value
        before = key
    restarts = restarts or [0]
    return done + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def between(key: bytes, after: bytes | None) -> bytes:
    """The shortest key that is not before one and before the next, as LevelDB finds it."""
    if after is None:
        return bytes([key[0] + 1]) if key else key
    common = next((at for at, (a, b) in enumerate(zip(key, after, strict=False)) if a != b), None)
    if common is None or key[common] + 1 >= after[common]:
        return key
    return key[:common] + bytes([key[common] + 1])


def table(pairs: Mapping[bytes, bytes], block_bytes: int = BLOCK_BYTES, kind: int = 0) -> bytes:
    content, index, waiting = b"", [], []
    keys = sorted(pairs)

    def add(raw: bytes, kind: int = 0) -> bytes:
        nonlocal content
        handle = varint(len(content)) + varint(len(raw))
        content += sealed(raw, kind)
        return handle

    for key, after in zip(keys, [*keys[1:], None], strict=True):
        waiting.append((key, pairs[key]))
        if after is None or len(block(waiting, 16)) >= block_bytes:
            index.append((between(key, after), add(block(waiting, 16), kind)))
            waiting = []
    footer = add(block([], 1))
    footer += add(block(index, 1))
    return content + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


HEADER = field(1, 1) + field(3, field(1, 1))


def bundle(tensors: Mapping[str, np.ndarray]) -> tuple[dict[bytes, bytes], bytes]:
    """The pairs of the index, and the data."""
    pairs, data = {b"": HEADER}, b""
    for name in sorted(tensors):
        raw = tensors[name].tobytes()
        checksum = masked(crc32c(np.frombuffer(raw, np.uint8)))
        kind = TYPES[tensors[name].dtype.name]
        pairs[name.encode()] = entry(kind, tensors[name].shape, len(data), len(raw), checksum)
        data += raw
    return pairs, data


def handles(content: bytes) -> list[tuple[int, int]]:
    """Where the blocks of a table lie, that of the blocks last."""

    def numbers(raw: bytes, count: int) -> list[int]:
        found, number, shift = [], 0, 0
        for byte in raw:
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                found.append(number)
                number = shift = 0
        return found[:count]

    _, _, start, size = numbers(content[-48:], 4)
    raw, at, found = content[start : start + size], 0, []
    (count,) = struct.unpack("<I", raw[-4:])
    while at < size - 4 * (count + 1):
        # No key or value of such a block has 128 bytes.
        key, value = raw[at + 1], raw[at + 2]
        place = numbers(raw[at + 3 + key : at + 3 + key + value], 2)
        found.append((place[0], place[1]))
        at += 3 + key + value
    return [*found, (start, size)]


def edit_index(draw: Callable[..., Any], content: bytes, numbers: Sequence[int]) -> bytes:
    """Change bytes within a block and give it the checksum that fits, so that its reader meets them."""
    try:
        places = handles(content)
    except (IndexError, ValueError, struct.error):
        return content  # it was changed before, beyond finding a block in it
    start, size = draw(st.sampled_from(places))
    raw = bytearray(content[start : start + size])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, size - 1))
        if draw(st.booleans()):
            raw[at] ^= draw(st.integers(1, 255))
        else:
            number = varint(draw(st.sampled_from(numbers)))
            raw[at : at + len(number)] = number
    block = sealed(bytes(raw[:size]), content[start + size])
    return content[:start] + block + content[start + len(block) :]


def write_bundle(tensors: Mapping[str, np.ndarray], path: Path, block_bytes: int = BLOCK_BYTES) -> Path:
    """What TensorFlow's Saver writes under a name, but for the graph."""
    pairs, data = bundle(tensors)
    path.with_name(path.name + ".data-00000-of-00001").write_bytes(data)
    index = path.with_name(path.name + ".index")
    index.write_bytes(table(pairs, block_bytes))
    return index


def openai_tensors(model: GPT2LMHeadModel) -> dict[str, np.ndarray]:
    found = {}
    for name, values in body(model).items():
        module, _, part = name.rpartition(".")
        scope = "model/" + (module.replace("h.", "h", 1) if module.startswith("h.") else module).replace(".", "/")
        if module in ("wte", "wpe"):
            found[scope] = values
        elif values.ndim == 2:
            found[f"{scope}/w"] = values[None]
        else:
            found[f"{scope}/{'g' if part == 'weight' else 'b'}"] = values
    return found


def write_hparams(model: GPT2LMHeadModel, folder: Path) -> None:
    config = model.config
    sizes = {name: getattr(config, name) for name in ("n_embd", "n_head", "n_layer")}
    told = {"n_vocab": config.vocab_size, "n_ctx": config.n_positions, **sizes}
    (folder / "hparams.json").write_text(json.dumps(told))


def write_state(folder: Path, newest: str, *others: str) -> None:
    lines = [f'all_model_checkpoint_paths: "{name}"\n' for name in (*others, newest)]
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{newest}"\n' + "".join(lines))


def openai_release(model: GPT2LMHeadModel, folder: Path) -> Path:
    """The folder that OpenAI's ``download_model.py`` makes, but for the tokenizer and the graph."""
    write_bundle(openai_tensors(model), folder / "model.ckpt")
    write_hparams(model, folder)
    write_state(folder, "model.ckpt")
    return folder


def gpt_2_simple(model: GPT2LMHeadModel, folder: Path) -> Path:
    """Three steps and the paths of the machine they were made on; the newest is no last name."""
    tensors = openai_tensors(model)
    for step in (900, 999, 1000):
        moved = {name: values + np.float32(step - 1000) for name, values in tensors.items()}
        write_bundle(moved, folder / f"model-{step}")
    write_hparams(model, folder)
    write_state(folder, *(f"/content/checkpoint/run1/model-{step}" for step in (1000, 900, 999)))
    return folder


# transformers' before 5, in TensorFlow


def tensorflow_names(model: GPT2LMHeadModel, prefix: str) -> dict[str, np.ndarray]:
    found = {}
    for name, values in body(model).items():
        module, _, part = name.rpartition(".")
        if module in ("wte", "wpe"):
            part = "embeddings"
        elif module.rpartition(".")[2].startswith("ln_"):
            part = {"weight": "gamma", "bias": "beta"}[part]
        elif part == "bias":
            values = values[None]
        place = module.replace(".", "/").replace("h/", "h_._", 1) if module.startswith("h.") else module
        found[f"{prefix}transformer/{place}/{part}:0"] = values
    return found


def write_hdf5(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for name, values in tensors.items():
            file.create_dataset(name, data=values)


def tf_model(model: GPT2LMHeadModel, folder: Path) -> Path:
    model.config.save_pretrained(folder)
    names = tensorflow_names(model, "tfgpt2lm_head_model/")
    write_hdf5(folder / "tf_model.h5", {f"transformer/{name}": values for name, values in names.items()})
    with h5py.File(folder / "tf_model.h5", "a") as file:
        file.attrs["layer_names"] = ["transformer"]
        file["transformer"].attrs["weight_names"] = list(names)
        file.create_group("top_level_model_weights").attrs["weight_names"] = np.array([])
    return folder


def in_shards(model: GPT2LMHeadModel, folder: Path, name: str, suffix: str) -> dict[str, dict[str, np.ndarray]]:
    """The index's names begin with the model's, and those in the shards do not."""
    model.config.save_pretrained(folder)
    names = tensorflow_names(model, "")
    shards, weight_map = {}, {}
    for number in range(3):
        shard = f"{name}-{number + 1:05}-of-00003{suffix}"
        shards[shard] = {each: names[each] for each in list(names)[number::3]}
        weight_map |= dict.fromkeys((f"tfgpt2lm_head_model/{each}" for each in shards[shard]), shard)
    (folder / f"{name}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return shards


def sharded_tf_model(model: GPT2LMHeadModel, folder: Path) -> Path:
    for shard, tensors in in_shards(model, folder, "tf_model", ".h5").items():
        write_hdf5(folder / shard, tensors)
    return folder


def tf_safetensors(model: GPT2LMHeadModel, folder: Path) -> Path:
    model.config.save_pretrained(folder)
    save_file(tensorflow_names(model, ""), folder / "model.safetensors", {"format": "tf"})
    return folder


def sharded_tf_safetensors(model: GPT2LMHeadModel, folder: Path) -> Path:
    for shard, tensors in in_shards(model, folder, "model", ".safetensors").items():
        save_file(tensors, folder / shard, {"format": "tf"})
    return folder


# Keras-Hub


MODULES = {
    "ln_1": "_self_attention_layer_norm",
    "ln_2": "_feedforward_layer_norm",
    "mlp.c_fc": "_feedforward_intermediate_dense",
    "mlp.c_proj": "_feedforward_output_dense",
    "attn.c_proj": "_self_attention_layer/output_dense",
}


def keras_tensors(model: GPT2LMHeadModel) -> dict[str, np.ndarray]:
    """Attention's matrices have a dimension of heads."""
    heads, outer = model.config.n_head, {"wte": "reversible_embedding", "wpe": "position_embedding"}
    found = {}
    for name, values in body(model).items():
        module, _, part = name.rpartition(".")
        number = "01"[part == "bias"]
        if not module.startswith("h."):
            found[f"layers/{outer.get(module, 'layer_normalization')}/vars/{number}"] = values
            continue
        _, layer, inner = module.split(".", 2)
        block = f"layers/transformer_decoder{f'_{layer}' * (layer != '0')}"
        if inner == "attn.c_attn":
            for which, each in zip(("query", "key", "value"), np.split(values, 3, -1), strict=True):
                full = f"{block}/_self_attention_layer/{which}_dense/vars/{number}"
                found[full] = each.reshape(*each.shape[:-1], heads, -1)
        else:
            if inner == "attn.c_proj" and part == "weight":
                values = values.reshape(heads, -1, values.shape[-1])
            found[f"{block}/{MODULES[inner]}/vars/{number}"] = values
    return found


def write_preset(model: GPT2LMHeadModel, folder: Path) -> None:
    config = model.config
    sizes = {
        "vocabulary_size": config.vocab_size,
        "num_layers": config.n_layer,
        "num_heads": config.n_head,
        "hidden_dim": config.n_embd,
        "intermediate_dim": 4 * config.n_embd,
        "dropout": 0.1,
        "max_sequence_length": config.n_positions,
    }
    module = "keras_hub.src.models.gpt2.gpt2_backbone"
    preset = {"module": module, "class_name": "GPT2Backbone", "config": {"name": "gpt2_backbone", **sizes}}
    (folder / "config.json").write_text(json.dumps({**preset, "registered_name": "keras_hub>GPT2Backbone"}))


def keras_hub_preset(model: GPT2LMHeadModel, folder: Path) -> Path:
    write_preset(model, folder)
    write_hdf5(folder / "model.weights.h5", keras_tensors(model))
    return folder


def sharded_keras_hub_preset(model: GPT2LMHeadModel, folder: Path) -> Path:
    write_preset(model, folder)
    tensors = keras_tensors(model)
    weight_map: dict[str, object] = {}
    for number in range(2):
        shard = f"model_{number:05}.weights.h5"
        chosen = {name: tensors[name] for name in list(tensors)[number::2]}
        write_hdf5(folder / shard, chosen)
        for name in chosen:
            layer = "/" + name.rpartition("/")[0]
            weight_map[layer] = [shard] if "decoder" in layer and layer not in weight_map else shard
    (folder / "model.weights.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def keras_task_file(model: GPT2LMHeadModel, folder: Path) -> Path:
    """What a causal language model's ``save_weights`` writes: the backbone is one of its layers."""
    tensors = {f"layers/gpt2_backbone/{name}": values for name, values in keras_tensors(model).items()}
    write_hdf5(folder / "lm.weights.h5", tensors)
    return folder / "lm.weights.h5"


FOLDERS = (
    openai_release,
    gpt_2_simple,
    tf_model,
    sharded_tf_model,
    tf_safetensors,
    sharded_tf_safetensors,
    keras_hub_preset,
    sharded_keras_hub_preset,
)
TELLING_FILES = (keras_task_file,)
LAYOUTS = (*FOLDERS, *TELLING_FILES)
