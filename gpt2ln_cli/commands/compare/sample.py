"""The sample prompts as a corpus: what a linear probe is tried on, and what random tokens are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from gpt2ln_cli.checkpoint.encoding import encode
from gpt2ln_cli.measure.chance import DRAWS, generator
from gpt2ln_cli.model import Model
from gpt2ln_cli.text.contexts import token_texts
from gpt2ln_cli.text.prompts import HELD_OUT, LONG_SAMPLE, long_sample

# In pieces of so many tokens.
TEXTS, PIECE = (LONG_SAMPLE, HELD_OUT), 128
# The commonest of English that carry grammar rather than things.
FUNCTION_WORDS = (
    "the of and to in a that it is was for with as on by at from but not or which his her be this had have were are an "
    "they their there if when who no so than all would been will more"
)


class Sample:
    """The sample prompts under one model's tokenizer; what is drawn of them is the same each time."""

    def __init__(self, model: Model) -> None:
        assert model.tokenizer is not None
        self._tokenizer = model.tokenizer
        self.size = min(PIECE, model.checkpoint.config.n_positions)
        self.pieces: list[list[int]] = []
        for name in TEXTS:
            ids, _ = encode(self._tokenizer, long_sample(name), f"the passage {name}")
            pieces = [ids[start : start + self.size] for start in range(0, len(ids), self.size)]
            # Position 0 is looked at nowhere here.
            self.pieces += [piece for piece in pieces if len(piece) > 1]

    @cached_property
    def tokens(self) -> list[int]:
        """Every token that occurs, once."""
        return sorted({token for piece in self.pieces for token in piece})

    @cached_property
    def words(self) -> list[int]:
        """Those that are a word, or begin one, as it stands in a text."""
        texts = token_texts(self.tokens, self._tokenizer) or []
        return [token for token, text in zip(self.tokens, texts, strict=True) if text[:1] == " " and text[1:].isalpha()]

    @cached_property
    def function_words(self) -> list[int]:
        """The function words that are one token."""
        found = [encode(self._tokenizer, f" {word}", f"'{word}'")[0] for word in FUNCTION_WORDS.split()]
        known = set(self.tokens)
        return sorted({ids[0] for ids in found if len(ids) == 1 and ids[0] in known})


def sample_of(model: Model) -> Sample | None:
    """The sample prompts under the model's tokenizer; None where it has none, or one that the model does not fit."""
    if model.tokenizer is None:
        return None
    sample = Sample(model)
    fits = len(sample.pieces) > 1 and sample.tokens[-1] < model.checkpoint.config.vocab_size
    return sample if fits else None


def draw(tokens: Sequence[int], length: int, draws: int = DRAWS) -> list[list[int]]:
    """So many random rows of tokens, no two in a row alike; none where the tokens are too few."""
    if len(tokens) < length:
        return []
    random = generator()
    return [random.choice(np.asarray(tokens), length, replace=False).tolist() for _ in range(draws)]
