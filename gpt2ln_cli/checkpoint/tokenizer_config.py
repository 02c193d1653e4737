"""What stands beside a tokenizer's vocabulary and changes its ids: a leading space, and tokens that are never split.

transformers rebuilds the tokenizer of a GPT-2 from its vocabulary, its merges and these settings; normalizer and
pre-tokenizer of ``tokenizer.json`` hold only for a tokenizer of another class. What this module makes of a folder gives
the ids that ``AutoTokenizer`` of transformers 5 gives, special tokens around the text left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from gpt2ln_cli.checkpoint.files import read_file

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import AddedToken, Tokenizer

SETTINGS, SPECIAL_TOKENS, ADDED_TOKENS = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
END_OF_TEXT = "<|endoftext|>"
OWN_CLASSES = (None, "GPT2Tokenizer", "GPT2TokenizerFast")
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Those that GPT2Tokenizer has without being told.
ASSUMED = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)


class Added(msgspec.Struct, frozen=True):
    """A token that is looked for in the text before anything is split."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None
    special: bool = False

    def token(self, *, special: bool) -> AddedToken:
        """The token as the library has it; one with a role is special whatever the file says."""
        from tokenizers import AddedToken

        normalized = not self.special if self.normalized is None else self.normalized
        return AddedToken(
            self.content,
            single_word=self.single_word,
            lstrip=self.lstrip,
            rstrip=self.rstrip,
            normalized=normalized,
            special=self.special or special,
        )


class Numbered(Added, frozen=True, kw_only=True):
    """The same in ``tokenizer.json``."""

    id: int


class _Model(msgspec.Struct, frozen=True):
    type: str | None = None
    merges: msgspec.Raw = msgspec.Raw()


class _Whole(msgspec.Struct, frozen=True):
    """``tokenizer.json``, of which vocabulary and merges are passed on unread."""

    model: msgspec.Raw
    added_tokens: list[Numbered] = []


class Settings:
    """The settings of a folder; those that are missing are as ``AutoTokenizer`` takes them to be."""

    def __init__(self, folder: Path) -> None:
        """Read the files.

        Raises:
            CheckpointError: one is there and can't be read.
            msgspec.MsgspecError: one is no such file.
        """
        self._told = _mapping(folder / SETTINGS)
        self._roles = self._told
        self._numbered: dict[int, Added] = {}
        if "added_tokens_decoder" in self._told:
            self._numbered = msgspec.convert(self._told["added_tokens_decoder"], dict[int, Added], strict=False)
        else:
            # Where transformers of before 4.34 wrote them.
            self._roles = {**self._told, **_mapping(folder / SPECIAL_TOKENS)}
            roles = {_added(role).content for role in self._named(assumed=False)}
            for content, number in msgspec.convert(_mapping(folder / ADDED_TOKENS), dict[str, int]).items():
                self._numbered[number] = Added(content, special=content in roles)

    @property
    def own_class(self) -> bool:
        """Whether the tokenizer is rebuilt as GPT-2's."""
        return self._told.get("tokenizer_class") in OWN_CLASSES

    @property
    def add_prefix_space(self) -> bool:
        """Whether a text that begins without a space gets one."""
        return msgspec.convert(self._told.get("add_prefix_space", False), bool)

    def whole(self, content: bytes) -> Tokenizer:
        """The tokenizer of a ``tokenizer.json``."""
        from tokenizers import Tokenizer

        file = msgspec.json.decode(content, type=_Whole)
        model = msgspec.json.decode(file.model, type=_Model)
        if "added_tokens_decoder" not in self._told:
            self._numbered |= {token.id: token for token in file.added_tokens}
        rebuilt = self.own_class and (model.type == "BPE" or (model.type is None and bool(model.merges)))
        if rebuilt:
            byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
            content = msgspec.json.encode(
                {
                    "version": "1.0",
                    "truncation": None,
                    "padding": None,
                    "added_tokens": [],
                    "normalizer": None,
                    "pre_tokenizer": {**byte_level, "add_prefix_space": self.add_prefix_space},
                    "post_processor": None,
                    "decoder": byte_level,
                    "model": file.model,
                }
            )
        tokenizer = Tokenizer.from_buffer(content)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if rebuilt:
            bpe = tokenizer.model
            bpe.dropout = bpe.unk_token = None
            bpe.fuse_unk = bpe.byte_fallback = bpe.ignore_merges = False
        return tokenizer

    def add_tokens(self, tokenizer: Tokenizer) -> None:
        """Add what the settings list, in the order of the numbers, and what has a role in them."""
        roles = [_added(role) for role in self._named(assumed=self.own_class)]
        extra = self._roles.get("extra_special_tokens") or self._roles.get("additional_special_tokens") or ()
        listed = [*map(_added, extra if isinstance(extra, list) else ())]
        special = {role.content for role in [*roles, *listed]}
        tokens = [self._numbered[number] for number in sorted(self._numbered)]
        known = {token.content for token in tokens}
        known.update(token.content for token in tokenizer.get_added_tokens_decoder().values())
        if tokenizer.token_to_id(END_OF_TEXT) is None:
            # AutoTokenizer would give the one that nobody listed a number beyond the embedding.
            known.add(END_OF_TEXT)
        for role in [*roles, *listed]:
            if role.content not in known:
                known.add(role.content)
                tokens.append(role)
        tokenizer.add_tokens([token.token(special=token.content in special) for token in tokens])
        tokenizer.encode_special_tokens = msgspec.convert(self._told.get("split_special_tokens", False), bool)

    def _named(self, *, assumed: bool) -> Iterator[Any]:
        named = {**(ASSUMED if assumed else {}), **self._roles}
        yield from (named[role] for role in SPECIAL if named.get(role) is not None)
        yield from (
            value
            for role, value in named.items()
            if role.endswith("_token") and role not in SPECIAL and isinstance(value, (str, dict))
        )
        extra = named.get("extra_special_tokens")
        yield from extra.values() if isinstance(extra, dict) else ()


def _mapping(path: Path) -> Mapping[str, Any]:
    return msgspec.json.decode(read_file(path), type=dict[str, Any]) if path.exists() else {}


def _added(role: Any) -> Added:
    """A token with a role, which is special; given as a text or as an object."""
    if isinstance(role, str):
        return Added(role, special=True)
    told = msgspec.convert(role, Added)
    return msgspec.structs.replace(told, special=True)
