"""Reading a checkpoint's tokenizer with the tokenizers library alone, which spares importing transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2ln_cli.checkpoint.encoding import checked, guarded
from gpt2ln_cli.checkpoint.environment import import_hub
from gpt2ln_cli.checkpoint.files import check_file, read_file
from gpt2ln_cli.checkpoint.tokenizer_config import END_OF_TEXT, Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# GPT-2's own vocabulary, and the same padded to a multiple of 64 as nanoGPT does.
GPT2_VOCABULARIES = (50257, 50304)
GPT2_REPOSITORIES = ("openai-community/gpt2", "gpt2")
WHOLE, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
# The same two files as OpenAI names them.
OPENAI_VOCABULARY, OPENAI_MERGES = "encoder.json", "vocab.bpe"


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """Load ``tokenizer.json``, or a vocabulary and its merges, with the settings beside; None without either.

    Raises:
        CheckpointError: the files are there and can't be read.
    """
    from tokenizers import models

    whole = folder / WHOLE
    pairs = [(folder / VOCABULARY, folder / MERGES), (folder / OPENAI_VOCABULARY, folder / OPENAI_MERGES)]
    two = next((pair for pair in pairs if all(path.exists() for path in pair)), None)
    if whole.exists():
        content = checked(read_file(whole), str(whole))

        def read() -> Tokenizer:
            settings = Settings(folder)
            tokenizer = settings.whole(content)
            settings.add_tokens(tokenizer)
            return tokenizer

    elif two is not None:
        vocabulary, merges = two
        for path in two:
            check_file(path)

        def read() -> Tokenizer:
            settings = Settings(folder)
            found = models.BPE.read_file(str(vocabulary), str(merges))
            tokenizer = _byte_level_bpe(*found, add_prefix_space=settings.add_prefix_space)
            settings.add_tokens(tokenizer)
            return tokenizer

    else:
        return None
    return guarded(read, f"can't read the tokenizer in {folder}")


def byte_level_bpe(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], *, add_prefix_space: bool = False
) -> Tokenizer:
    """GPT-2's kind of tokenizer from its vocabulary and merges."""
    from tokenizers import AddedToken

    tokenizer = _byte_level_bpe(vocabulary, merges, add_prefix_space=add_prefix_space)
    if tokenizer.token_to_id(END_OF_TEXT) is not None:
        tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False)])
    return tokenizer


def _byte_level_bpe(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], *, add_prefix_space: bool
) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=dict(vocabulary), merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def cached_gpt2_tokenizer() -> tuple[Tokenizer, str] | None:
    """GPT-2's tokenizer from the Hugging Face cache, and its repository there; None without. Nothing is fetched.

    Raises:
        CheckpointError: the files are there and can't be read.
    """
    import_hub()
    from huggingface_hub import try_to_load_from_cache

    for repository in GPT2_REPOSITORIES:
        for names in ((WHOLE,), (VOCABULARY, MERGES)):
            paths = [try_to_load_from_cache(repository, name) for name in names]
            if all(isinstance(path, str) for path in paths):
                found = read_tokenizer(Path(str(paths[0])).parent)
                return None if found is None else (found, repository)
    return None
