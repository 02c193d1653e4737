"""Reading a checkpoint's tokenizer with the tokenizers library alone, which spares importing transformers."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2ln_cli.checkpoint.encoding import checked, guarded
from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
# GPT-2's own vocabulary, and the same padded to a multiple of 64 as nanoGPT does.
GPT2_VOCABULARIES = (50257, 50304)
GPT2_REPOSITORIES = ("openai-community/gpt2", "gpt2")
WHOLE, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
# The largest in use have 34 MB, for a vocabulary five times that of GPT-2.
MOST_FILE_BYTES = 2**26


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """Load ``tokenizer.json``, or ``vocab.json`` with ``merges.txt``; None where the folder has neither.

    Raises:
        CheckpointError: the files are there and can't be read.
    """
    from tokenizers import Tokenizer, models

    whole, vocabulary, merges = folder / WHOLE, folder / VOCABULARY, folder / MERGES
    failure = f"can't read the tokenizer in {folder}"
    if whole.exists():
        content = checked(read_file(whole), str(whole))
        tokenizer = guarded(lambda: Tokenizer.from_buffer(content), failure)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
    if vocabulary.exists() and merges.exists():
        for path in (vocabulary, merges):
            check_file(path)
        return guarded(lambda: byte_level_bpe(*models.BPE.read_file(str(vocabulary), str(merges))), failure)
    return None


def read_file(path: Path) -> bytes:
    """A tokenizer's file.

    Raises:
        CheckpointError: as for :func:`check_file`, or it can't be read.
    """
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}.") from error


def check_file(path: Path) -> None:
    """Refuse what would keep a reader for ever or fill the memory.

    Raises:
        CheckpointError: the path is a pipe, a device or a folder, or larger than any tokenizer's file.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}.") from error
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path} is no regular file; remove it or replace it by one.")
    if found.st_size > MOST_FILE_BYTES:
        raise CheckpointError(
            f"{path} has {found.st_size:,} bytes, more than any tokenizer's file ({MOST_FILE_BYTES:,}); replace it."
        )


def byte_level_bpe(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """GPT-2's kind of tokenizer from its vocabulary and merges."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=dict(vocabulary), merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if tokenizer.token_to_id(END_OF_TEXT) is not None:
        tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False)])
    return tokenizer


def cached_gpt2_tokenizer() -> Tokenizer | None:
    """GPT-2's tokenizer from the Hugging Face cache; None where it is not there. Nothing is fetched.

    Raises:
        CheckpointError: the files are there and can't be read.
    """
    from huggingface_hub import try_to_load_from_cache

    for repository in GPT2_REPOSITORIES:
        for names in ((WHOLE,), (VOCABULARY, MERGES)):
            paths = [try_to_load_from_cache(repository, name) for name in names]
            if all(isinstance(path, str) for path in paths):
                return read_tokenizer(Path(str(paths[0])).parent)
    return None
