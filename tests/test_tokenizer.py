"""Whatever stands beside a vocabulary, the ids are those of transformers' AutoTokenizer on the same folder."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import DEMO
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

import gpt2ln_cli
from gpt2ln_cli.checkpoint.tokenizer import read_tokenizer
from gpt2ln_cli.errors import CheckpointError

END = "<|endoftext|>"
WORDS = ("[PAD]", "<user>", "<a", "hatred", " war", "ok", END)
TEXT = st.lists(st.sampled_from([*WORDS, "The", " ", "\n", " was", "not", "é", "<", "[PAD", "ﬁ", "1984"])).map("".join)
TOKEN = st.builds(
    AddedToken,
    st.sampled_from(WORDS),
    single_word=st.booleans(),
    lstrip=st.booleans(),
    rstrip=st.booleans(),
    normalized=st.booleans(),
    special=st.booleans(),
)
ROLES = st.sampled_from(["pad_token", "cls_token", "bos_token", "unk_token"])


def save_vocabulary(folder):
    """The two files that GPT-2 was released with."""
    whole = json.loads((DEMO / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "vocab.json").write_text(json.dumps({**whole["model"]["vocab"], END: 8191}), encoding="utf-8")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in whole["model"]["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges), encoding="utf-8")


def assert_same_ids(folder, texts):
    shutil.copy(DEMO / "config.json", folder)
    ours, theirs = read_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    for text in texts:
        assert ours.encode(text, add_special_tokens=False).ids == theirs(text, add_special_tokens=False).input_ids


def fresh(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizer")


FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = ("The war", " war", f"hatred{END} was not [PAD]ok <user>", "<a 1984 ﬁ é")


@FEW
@given(
    kind=st.sampled_from([GPT2Tokenizer, PreTrainedTokenizerFast]),
    prefix_space=st.booleans(),
    added=st.lists(TOKEN, max_size=4),
    roles=st.dictionaries(ROLES, st.sampled_from(["[PAD]", "<user>", END]) | TOKEN, max_size=3),
    texts=st.lists(TEXT, min_size=1, max_size=5),
)
@pytest.mark.slow
def test_folders_written_by_transformers(tmp_path_factory, kind, prefix_space, added, roles, texts):
    folder = fresh(tmp_path_factory)
    tokenizer = kind(
        tokenizer_object=Tokenizer.from_file(str(DEMO / "tokenizer.json")), add_prefix_space=prefix_space, **roles
    )
    tokenizer.add_tokens(added)
    tokenizer.save_pretrained(folder)
    assert_same_ids(folder, [*TEXTS, *texts])


@FEW
@given(
    whole=st.booleans(),
    told=st.fixed_dictionaries(
        {},
        optional={
            "add_prefix_space": st.booleans(),
            "tokenizer_class": st.sampled_from(["GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast"]),
            "additional_special_tokens": st.lists(st.sampled_from(WORDS), unique=True, max_size=2),
            "pad_token": st.sampled_from(["[PAD]", END, None]),
            "image_token": st.just("<user>"),
            "split_special_tokens": st.booleans(),
        },
    ),
    special_map=st.none()
    | st.dictionaries(
        ROLES,
        st.sampled_from(["[PAD]", "<user>"])
        | st.just({"content": "<a", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}),
    ),
    added=st.none() | st.dictionaries(st.sampled_from(WORDS[:4]), st.just(0), max_size=3),
    texts=st.lists(TEXT, min_size=1, max_size=5),
)
def test_folders_written_before_transformers_5(tmp_path_factory, whole, told, special_map, added, texts):
    """Vocabulary and merges with a file for each kind of setting, or a tokenizer.json that does not repeat them."""
    folder = fresh(tmp_path_factory)
    if whole:
        shutil.copy(DEMO / "tokenizer.json", folder)
    else:
        save_vocabulary(folder)
        told.pop("tokenizer_class", None)  # transformers needs tokenizer.json for another class
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    if special_map is not None:
        (folder / "special_tokens_map.json").write_text(json.dumps(special_map))
    if added is not None:
        numbered = {word: 8192 + number for number, word in enumerate(added)}
        (folder / "added_tokens.json").write_text(json.dumps(numbered))
    assert_same_ids(folder, [*TEXTS, *texts])


@pytest.mark.parametrize("named", [True, False])
def test_what_tokenizer_json_says_of_splitting_holds_for_other_classes_alone(tmp_path, named):
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    if named:
        (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert_same_ids(tmp_path, TEXTS)


def test_a_padding_token_without_a_row_does_no_harm_until_it_is_used(tmp_path, demo):
    """As add_special_tokens leaves a fine-tune whose embedding was not resized."""
    shutil.copytree(DEMO, tmp_path, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(tmp_path)
    ours, theirs = (gpt2ln_cli.inspect("The war", model=model) for model in (tmp_path, demo))
    assert ours.prompts == theirs.prompts
    with pytest.raises(CheckpointError, match="id 8192 and the model knows only 0 to 8191"):
        gpt2ln_cli.inspect("The [PAD]", model=tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", '{"add_prefix_space": "yes"}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"first": {"content": "x"}}}'),
        ("special_tokens_map.json", '{"pad_token": 5}'),
        ("added_tokens.json", "[]"),
    ],
)
def test_settings_that_are_none_are_refused(tmp_path, file, content):
    shutil.copytree(DEMO, tmp_path, dirs_exist_ok=True)
    (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError, match="can't read the tokenizer") as caught:
        gpt2ln_cli.inspect("ok", model=tmp_path)
    assert "\n" not in str(caught.value)
