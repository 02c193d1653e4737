"""What TensorFlow and Keras wrote is read without them: which files, what is refused, and that values are checked."""

from __future__ import annotations

import json
import shutil
import struct
import sys

import h5py
import layouts
import layouts_tensorflow as tf
import ml_dtypes
import numpy as np
import pytest
import torch
from conftest import raw_states, reference
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint import crc32c as checksums
from gpt2ln_cli.checkpoint import files, files_of
from gpt2ln_cli.checkpoint.crc32c import crc32c
from gpt2ln_cli.errors import CheckpointError, UsageError

IDS = [[5, 9, 17, 3], [1, 2]]


@pytest.fixture(scope="module")
def model():
    """Its gains, biases and matrices are like no others of it."""
    torch.manual_seed(5)
    shape = {"vocab_size": 61, "n_positions": 16, "n_embd": 32, "n_layer": 3, "n_head": 4}
    model = GPT2LMHeadModel(GPT2Config(bos_token_id=None, eos_token_id=None, **shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def assert_is(model, path, **heads):
    """Gains and biases to the last bit, sigma within float32's rounding of plain transformers."""
    for site, found in gpt2ln_cli.load(path, **heads).checkpoint.layer_norms().items():
        module = model.transformer.get_submodule(site)
        assert found.gain.tobytes() == module.weight.detach().double().numpy().tobytes()
        assert found.bias.tobytes() == module.bias.detach().double().numpy().tobytes()
    record = gpt2ln_cli.inspect([IDS[0]], model=gpt2ln_cli.load(path, **heads), per_token=True)
    states = raw_states(model.transformer, IDS[0])
    for row in record.rows:
        assert row.sigma == pytest.approx(reference(*states[row.site], 1e-5)["sigma"][row.position], rel=1e-5)
    return record


def refused(path, match, **heads):
    for call in (gpt2ln_cli.params, lambda model: gpt2ln_cli.inspect(IDS, model=model)):
        with pytest.raises(CheckpointError, match=match) as caught:
            call(model=gpt2ln_cli.load(path, **heads))
        assert "\n" not in str(caught.value)


# The checksum


def bitwise(data):
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("message", "checksum"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_the_checksum_is_that_of_rfc_3720(message, checksum):
    assert crc32c(np.frombuffer(message, np.uint8)) == checksum == bitwise(message)


def test_the_checksum_of_any_length_is_that_of_its_bits(monkeypatch):
    data = np.random.default_rng(0).integers(0, 256, 1000, np.uint8)
    for words in (checksums.PIECE_WORDS, 8):
        monkeypatch.setattr(checksums, "PIECE_WORDS", words)
        for length in (*range(1, 100), 1000):
            assert crc32c(data[:length]) == bitwise(data[:length].tobytes())


def test_the_checksum_of_megabytes():
    """A message followed by its own checksum has one that is the same for all."""
    data = np.random.default_rng(0).integers(0, 256, 3_000_001, np.uint8)
    with_own = np.frombuffer(data.tobytes() + struct.pack("<I", crc32c(data)), np.uint8)
    assert crc32c(with_own) == 0x48674BC7 == bitwise(b"a" + struct.pack("<I", bitwise(b"a")))


# OpenAI's release and gpt-2-simple


def test_the_newest_step_is_the_one_that_is_named(model, tmp_path):
    folder = tf.gpt_2_simple(model, tmp_path)
    record = assert_is(model, folder)
    assert "'model-1000' of 3 steps, the newest by the file 'checkpoint'" in record.model.inferred
    older = {name: values + np.float32(-100) for name, values in tf.body(model).items()}
    for step in (folder / "model-900.index", folder / "model-900"):
        found = gpt2ln_cli.load(step).checkpoint.layer_norms()["h.1.ln_2"]
        np.testing.assert_array_equal(found.gain, older["h.1.ln_2.weight"])


@pytest.mark.parametrize(
    "newest", [r"C:\\runs\\run1\\model-1000", "model-1000", "../run1/model-1000", "gs://bucket/run1/model-1000"]
)
def test_a_folder_that_was_moved(model, tmp_path, newest):
    folder = tf.gpt_2_simple(model, tmp_path)
    tf.write_state(folder, newest, "model-900")
    assert_is(model, folder)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (None, "no file 'checkpoint' that names the newest; give one of their"),
        ("", "its file 'checkpoint' names none"),
        ("\0" * 9999, "its file 'checkpoint' names none"),
        ('model_checkpoint_path: "/elsewhere/model-7"\n', "its file 'checkpoint' names 'model-7'"),
        ('model_checkpoint_path: ".."\n', "its file 'checkpoint' names '..'"),
    ],
)
def test_of_several_steps_none_is_guessed(model, tmp_path, state, says):
    folder = tf.gpt_2_simple(model, tmp_path)
    (folder / "checkpoint").unlink()
    if state is not None:
        (folder / "checkpoint").write_text(state)
    refused(folder, f"holds 3 steps, model-1000, model-900, model-999, and .*{says}")


@pytest.mark.parametrize("name", ["./" + "a" * 250, "./a\0b"])
def test_a_name_that_no_file_can_have(name):
    with pytest.raises(CheckpointError, match="no file or folder"):
        gpt2ln_cli.params(model=name)


def test_a_single_step_needs_no_name(model, tmp_path):
    folder = tf.openai_release(model, tmp_path)
    (folder / "checkpoint").unlink()
    assert_is(model, folder)


def test_without_hyperparameters_they_are_concluded(model, tmp_path):
    folder = tf.openai_release(model, tmp_path)
    (folder / "hparams.json").unlink()
    assert "n_head 4 from --heads" in assert_is(model, folder, heads=4).model.inferred
    with pytest.raises(UsageError, match="give --heads"):
        gpt2ln_cli.params(model=folder)


def test_the_moments_of_an_optimizer_are_left_out(model, tmp_path):
    tensors = tf.openai_tensors(model)
    moments = {f"{name}/Adam{end}": values * 0 for name, values in tensors.items() for end in ("", "_1")}
    tf.write_bundle({**tensors, **moments, "beta1_power": np.float32(0.5)[None], "step": np.array(7)}, tmp_path / "a")
    tf.write_hparams(model, tmp_path)
    assert_is(model, tmp_path)


def test_its_tokenizer_is_that_of_the_same_files_by_their_other_names(model, tmp_path):
    bpe = Tokenizer(models.BPE({chr(97 + i): i for i in range(26)} | {"ab": 26, "\u0120": 27}, [("a", "b")]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    folder = tf.openai_release(model, tmp_path)
    vocabulary, merges = bpe.model.save(str(folder))
    for file, name in ((vocabulary, "encoder.json"), (merges, "vocab.bpe")):
        shutil.move(file, folder / name)
    assert gpt2ln_cli.inspect("ab ba", model=folder).prompts[0].token_ids == bpe.encode("ab ba").ids == [26, 27, 1, 0]


def test_params_reads_gains_and_biases_alone(model, tmp_path, monkeypatch):
    read = []
    whole = files.read_at

    def counted(path, start, length):
        read.append(length)
        return whole(path, start, length)

    monkeypatch.setattr(files, "read_at", counted)
    for writer in (tf.openai_release, tf.tf_model, tf.keras_hub_preset):
        folder = tmp_path / writer.__name__
        folder.mkdir()
        read.clear()
        gpt2ln_cli.params(model=writer(model, folder))
        assert sum(read) == 2 * 7 * 32 * 4


def test_a_value_that_is_not_that_of_its_checksum(model, tmp_path):
    folder = tf.openai_release(model, tmp_path)
    data = folder / "model.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    for name in ("model/h1/ln_2/g", "model/wte"):
        raw = tf.openai_tensors(model)[name].tobytes()
        at = whole.index(raw) + len(raw) // 2
        data.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CheckpointError, match=f"damaged: the checksum of '{name}' is not that of its values"):
            gpt2ln_cli.inspect(IDS, model=folder)
    # params does not read the embedding.
    assert gpt2ln_cli.params(model=folder).sites
    data.write_bytes(whole)
    assert_is(model, folder)


GAIN = b"model/h0/ln_1/g"


def edited(pairs, message):
    return tf.table({**pairs, GAIN: message})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda pairs: edited(pairs, tf.entry(1, [32], 2**62, 128, 0)), "cut off: 'model/h0/ln_1/g' ends beyond"),
        (lambda pairs: edited(pairs, tf.entry(1, [2**40], 0, 128, 0)), "128 bytes for a shape of"),
        (lambda pairs: edited(pairs, tf.entry(1, [2**62] * 2, 0, 2**60, 0)), "bytes for a shape of"),
        (lambda pairs: edited(pairs, tf.entry(1, [32], 0, 128, 0, shard=1)), "lies in file 1 of 1"),
        (lambda pairs: edited(pairs, tf.entry(3, [32], 0, 128, 0)), "is stored as TensorFlow's type 3"),
        (lambda pairs: edited(pairs, tf.entry(1, [32], 0, 0, 0, more=tf.field(7, b"\n\0"))), "is stored as slices"),
        (lambda pairs: edited(pairs, b"\x0b"), "a field of wire type 3"),
        (lambda pairs: edited(pairs, b"\x0a\x7f"), "a field beyond the end of its message"),
        (lambda pairs: edited(pairs, b"\x08" + b"\xff" * 11), "a number of over ten bytes"),
        (lambda pairs: edited(pairs, b"\x0a\x00"), "no number in field 1"),
        (lambda pairs: tf.table({**pairs, b"": tf.HEADER + tf.field(2, 1)}), "a big-endian machine"),
        (lambda pairs: tf.table({**pairs, b"": tf.field(1, 2**31)}), "data-00000-of-2147483648, which is missing"),
        (lambda pairs: tf.table({key: value for key, value in pairs.items() if key}), "no header"),
        (lambda pairs: tf.table({b"": tf.HEADER}), "no variable of GPT-2 by the names of OpenAI"),
        (lambda pairs: tf.table(pairs, kind=1), "a block of compression 1"),
        (lambda pairs: tf.table(pairs)[:-8] + bytes(8), "it does not end as one"),
        (lambda pairs: b"\1" + tf.table(pairs)[1:], "the checksum of its block at byte 0 is wrong"),
        (lambda pairs: b"", "it does not end as one"),
    ],
)
def test_an_index_that_lies(model, tmp_path, content, says):
    folder = tf.openai_release(model, tmp_path)
    pairs, _ = tf.bundle(tf.openai_tensors(model))
    (folder / "model.ckpt.index").write_bytes(content(pairs))
    refused(folder, says)


def a_block_again_and_again():
    """A megabyte that the index names a thousand times."""
    large = tf.sealed(tf.block([(b"", tf.HEADER + tf.field(9, bytes(2**20)))], 1))
    handle = tf.varint(0) + tf.varint(len(large) - 5)
    index = tf.block([(number.to_bytes(2, "big"), handle) for number in range(1000)], 1)
    footer = tf.varint(0) + tf.varint(0) + tf.varint(len(large)) + tf.varint(len(index))
    return large + tf.sealed(index) + footer.ljust(40, b"\0") + struct.pack("<Q", tf.MAGIC)


def names_that_share_nearly_all():
    """Two thousand names of ten thousand bytes, in thirty thousand bytes."""
    own = [f"{number:04}".encode() for number in range(2000)]
    first = b"a" * 10_000 + own[0]
    raw = tf.varint(0) + tf.varint(len(first)) + tf.varint(0) + first
    raw += b"".join(tf.varint(10_000) + tf.varint(4) + tf.varint(0) + each for each in own[1:])
    large = tf.sealed(raw + struct.pack("<II", 0, 1))
    index = tf.block([(b"b", tf.varint(0) + tf.varint(len(large) - 5))], 1)
    footer = tf.varint(0) + tf.varint(0) + tf.varint(len(large)) + tf.varint(len(index))
    return large + tf.sealed(index) + footer.ljust(40, b"\0") + struct.pack("<Q", tf.MAGIC)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (a_block_again_and_again, "its blocks have more bytes than it"),
        (names_that_share_nearly_all, "names of over 16,777,216 bytes"),
    ],
)
def test_an_index_that_unpacks_to_gigabytes(model, tmp_path, content, says):
    folder = tf.openai_release(model, tmp_path)
    (folder / "model.ckpt.index").write_bytes(content())
    refused(folder, says)


def test_a_sparse_index(model, tmp_path):
    folder = tf.openai_release(model, tmp_path)
    with (folder / "model.ckpt.index").open("r+b") as file:
        file.truncate(2**30)
    refused(folder, "reads no index of over 16,777,216")


def test_what_a_download_did_not_bring(model, tmp_path):
    folder = tf.openai_release(model, tmp_path)
    (folder / "model.ckpt.data-00000-of-00001").unlink()
    refused(folder, r"has tensors in model.ckpt.data-00000-of-00001, which is missing; fetch the folder whole")
    (folder / "model.ckpt.index").unlink()
    refused(folder, r"has a hparams.json and no \*.index")


def test_hyperparameters_that_do_not_fit(model, tmp_path):
    folder = tf.openai_release(model, tmp_path)
    told = json.loads((folder / "hparams.json").read_text())
    (folder / "hparams.json").write_text(json.dumps({**told, "n_layer": 4}))
    refused(folder, "has no tensor 'h.3.ln_1.weight'")
    (folder / "hparams.json").write_text("{}")
    refused(folder, "does not tell the sizes of a GPT-2")


def test_several_steps_are_tracked(model, tmp_path):
    record = gpt2ln_cli.track(str(tf.gpt_2_simple(model, tmp_path)))
    assert [(one.name, one.step) for one in record.checkpoints] == [
        (f"model-{step}.index", step) for step in (900, 999, 1000)
    ]
    last = record.checkpoints[-1].sites[-1]
    gain = model.transformer.ln_f.weight.detach().double().numpy()
    assert last.gain.norm == pytest.approx(np.linalg.norm(gain), rel=1e-12)


@pytest.mark.parametrize("writer", tf.LAYOUTS, ids=lambda writer: writer.__name__)
def test_no_output_is_written_over_what_is_read(model, tmp_path, writer, capsys):
    path = writer(model, tmp_path)
    there = set(path.iterdir()) if path.is_dir() else {path}
    assert there <= set(files_of(str(path)))
    for file in there:
        assert main(["params", "--model", str(path), "--json", "--output", str(file)]) == 2
    capsys.readouterr()
    assert_is(model, path)


# HDF5


@pytest.mark.parametrize("writer", [tf.tf_model, tf.keras_hub_preset, tf.keras_task_file])
def test_without_h5py_the_error_says_so(model, tmp_path, monkeypatch, writer):
    path = writer(model, tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(path, r'needs h5py: pip install "\.\[h5\]"')


def external_link(file, name, folder):
    del file[name]
    file[name] = h5py.ExternalLink(str(folder / "other.h5"), "values")


def soft_link(file, name, _):
    file.move(name, "moved")
    file[name] = h5py.SoftLink("/moved")


def external_storage(file, name, folder):
    values = file[name][()]
    (folder / "raw").write_bytes(values.tobytes())
    del file[name]
    file.create_dataset(name, values.shape, "<f4", external=[(str(folder / "raw"), 0, values.nbytes)])


def virtual(file, name, folder):
    values = file[name][()]
    del file[name]
    layout = h5py.VirtualLayout(values.shape, "<f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "values", values.shape)
    file.create_virtual_dataset(name, layout)


def compressed(file, name, _):
    values = file[name][()]
    del file[name]
    file.create_dataset(name, data=values, compression="gzip")


def unwritten(file, name, _):
    del file[name]
    file.create_dataset(name, (2**40, 2**20), "<f4", chunks=(1, 2**20))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (external_link, "is a link to elsewhere, which gpt2ln does not follow"),
        (soft_link, "is a link to elsewhere, which gpt2ln does not follow"),
        (external_storage, "are not in one piece of it"),
        (virtual, "are not in one piece of it"),
        (compressed, "are not in one piece of it"),
        (unwritten, "are not in one piece of it"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("writer", [tf.tf_model, tf.keras_hub_preset], ids=lambda writer: writer.__name__)
def test_nothing_leads_out_of_a_file(model, tmp_path, writer, change, says):
    (tmp_path / "folder").mkdir()
    path = writer(model, tmp_path / "folder")
    tf.write_hdf5(tmp_path / "other.h5", {"values": np.ones(32, np.float32)})
    (weights,) = path.glob("*.h5")
    with h5py.File(weights, "a") as file:
        names = []
        file.visititems(lambda name, each: names.append(name) if getattr(each, "shape", 0) == (32,) else None)
        change(file, names[0], tmp_path)
    refused(path, f"'{names[0]}'.* {says}|{says}")


def test_groups_within_themselves(model, tmp_path):
    folder = tf.tf_model(model, tmp_path)
    with h5py.File(folder / "tf_model.h5", "a") as file:
        file["transformer/again"] = file["transformer"]
        file["transformer/all"] = file["/"]
    assert_is(model, folder)
    with h5py.File(folder / "tf_model.h5", "a") as file:
        file.create_group("/".join("a" * 100))
    refused(folder, "groups in groups, over 32 deep")


def test_a_group_of_two_links_to_one_of_two_links(model, tmp_path):
    """2^30 paths, of which each group is walked once."""
    folder = tf.tf_model(model, tmp_path)
    with h5py.File(folder / "tf_model.h5", "a") as file:
        inner = file.create_group("last")
        for number in range(30):
            outer = file.create_group(f"group{number}")
            outer["a"] = outer["b"] = inner
            inner = outer
    assert_is(model, folder)


def test_numbers_of_a_big_endian_machine_are_refused(model, tmp_path):
    folder = tf.tf_model(model, tmp_path)
    tensors = tf.tensorflow_names(model, "")
    tf.write_hdf5(folder / "tf_model.h5", {name: values.astype(">f4") for name, values in tensors.items()})
    refused(folder, "is stored as >f4")


def test_older_names_of_tensorflows_embedding_and_a_lone_file(model, tmp_path):
    names = tf.tensorflow_names(model, "")
    names["transformer/wte/weight:0"] = names.pop("transformer/wte/embeddings:0")
    tf.write_hdf5(tmp_path / "any.h5", names)
    assert "n_head 4 from --heads" in assert_is(model, tmp_path / "any.h5", heads=4).model.inferred


def test_a_shard_that_is_not_there(model, tmp_path):
    (tmp_path / "tf").mkdir()
    folder = tf.sharded_tf_model(model, tmp_path / "tf")
    (folder / "tf_model-00002-of-00003.h5").unlink()
    refused(folder, "names the shard 'tf_model-00002-of-00003.h5', which is missing")
    (tmp_path / "keras").mkdir()
    folder = tf.sharded_keras_hub_preset(model, tmp_path / "keras")
    (folder / "model_00001.weights.h5").unlink()
    refused(folder, "names the shard 'model_00001.weights.h5', which is missing")
    index = folder / "model.weights.json"
    index.write_text(index.read_text().replace("model_00001.weights.h5", "../model.h5"))
    refused(folder, "names the shard '../model.h5', which is not a file of this folder")


# Keras-Hub


def test_bfloat16_of_keras(model, tmp_path):
    """h5py sees two bytes without a meaning, and Keras' word for them beside."""
    folder = tf.keras_hub_preset(model, tmp_path)
    with h5py.File(folder / "model.weights.h5", "w") as file:
        for name, values in tf.keras_tensors(model).items():
            file.create_dataset(name, data=values.astype(ml_dtypes.bfloat16)).attrs["dtype"] = "bfloat16"
    half = GPT2LMHeadModel(model.config).to(torch.bfloat16)
    half.load_state_dict(model.state_dict())
    found = gpt2ln_cli.load(folder).checkpoint.layer_norms()
    for site, each in found.items():
        gain = half.transformer.get_submodule(site).weight.detach().double().numpy()
        assert each.gain.tobytes() == gain.tobytes()
    record = gpt2ln_cli.inspect(IDS, model=folder)
    (tmp_path / "torch").mkdir()
    expected = gpt2ln_cli.inspect(IDS, model=layouts.whole_safetensors(half, tmp_path / "torch"))
    assert record.model.dtype == expected.model.dtype == "bfloat16"
    assert record.sites == expected.sites


def test_a_lone_file_of_keras_tells_its_heads(model, tmp_path):
    assert (
        "n_head 4 from the shape of its queries" in assert_is(model, tf.keras_task_file(model, tmp_path)).model.inferred
    )
    with pytest.raises(UsageError, match="says n_head 4; leave out --heads 2"):
        gpt2ln_cli.load(tmp_path / "lm.weights.h5", heads=2)


def test_the_configuration_beside_a_file_of_keras_holds(model, tmp_path):
    folder = tf.keras_hub_preset(model, tmp_path)
    assert (
        "configuration from config.json beside the file" in assert_is(model, folder / "model.weights.h5").model.inferred
    )


def test_names_of_keras_nlp(model, tmp_path):
    folder = tf.keras_hub_preset(model, tmp_path)
    tensors = {name.replace("layer_norm/", "layernorm/"): values for name, values in tf.keras_tensors(model).items()}
    tf.write_hdf5(folder / "model.weights.h5", tensors)
    assert_is(model, folder)


@pytest.mark.parametrize("add_prefix_space", [False, True])
def test_the_tokenizer_of_a_preset(model, tmp_path, add_prefix_space):
    bpe = Tokenizer(models.BPE({chr(97 + i): i for i in range(26)} | {"ab": 26, "\u0120": 27}, [("a", "b")]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    folder = tf.keras_hub_preset(model, tmp_path)
    assets = folder / "assets" / "tokenizer"
    assets.mkdir(parents=True)
    vocabulary, _ = bpe.model.save(str(assets))
    shutil.move(vocabulary, assets / "vocabulary.json")
    settings = {"class_name": "GPT2Tokenizer", "config": {"name": "t", "add_prefix_space": add_prefix_space}}
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    assert gpt2ln_cli.inspect("ab ba", model=folder).prompts[0].token_ids == bpe.encode("ab ba").ids
    (assets / "merges.txt").write_text("no merge of these\n")
    with pytest.raises(CheckpointError, match="can't read the tokenizer in"):
        gpt2ln_cli.inspect("ab ba", model=folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"class_name": "GemmaBackbone"}, "says class_name 'GemmaBackbone'; gpt2ln reads GPT-2"),
        ({"class_name": None}, "no configuration of Keras-Hub's GPT-2"),
        ({"config": {"num_layers": 3}}, "no configuration of Keras-Hub's GPT-2"),
        ({"num_heads": 2}, "says num_heads 2, and its queries are those of 4"),
        ({"num_layers": 4}, "has no tensor 'h.3.ln_1.weight'"),
    ],
)
def test_a_preset_that_does_not_fit(model, tmp_path, changes, says):
    folder = tf.keras_hub_preset(model, tmp_path)
    preset = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        (preset if name in preset else preset["config"])[name] = value
    (folder / "config.json").write_text(json.dumps(preset))
    refused(folder, says)


def test_a_prefix_where_there_is_nothing_to_choose(model, tmp_path):
    for writer in (tf.openai_release, tf.keras_hub_preset):
        (tmp_path / writer.__name__).mkdir()
        with pytest.raises(UsageError, match="holds one body; leave out --prefix a"):
            gpt2ln_cli.load(writer(model, tmp_path / writer.__name__), prefix="a")
    assert load_file(tf.tf_safetensors(model, tmp_path) / "model.safetensors")
    with pytest.raises(UsageError, match="no body of GPT-2 under --prefix 'a'; it has 'transformer'"):
        gpt2ln_cli.load(tmp_path, prefix="a")
