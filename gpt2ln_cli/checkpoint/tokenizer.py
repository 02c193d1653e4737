"""Reading a checkpoint folder's tokenizer with the tokenizers library alone, which spares importing transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """Load ``tokenizer.json``, or ``vocab.json`` with ``merges.txt``; None where the folder has neither.

    Raises:
        CheckpointError: the files are there and can't be read.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    whole, vocab, merges = folder / "tokenizer.json", folder / "vocab.json", folder / "merges.txt"
    # tokenizers raises bare Exception for whatever it finds wrong in a file.
    try:
        if whole.exists():
            tokenizer = Tokenizer.from_file(str(whole))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            return tokenizer
        if vocab.exists() and merges.exists():
            tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            if tokenizer.token_to_id(END_OF_TEXT) is not None:
                tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False)])
            return tokenizer
    except Exception as error:
        raise CheckpointError(f"can't read the tokenizer in {folder}: {error}.") from error
    return None
