"""Sequences padded to one length, as the model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Sequences padded to one length, the padding on the right unless told otherwise; int64, (sequences, tokens)."""

    ids: Tensor
    mask: Tensor
    """1 for a token, 0 for padding."""
    positions: Tensor
    left: bool = False
    """Whether the padding is on the left."""

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], *, left: bool = False) -> Batch:
        """Pad on the right: GPT-2's positions are absolute, so padding on the left would move them.

        The padding's id does not matter: no real token attends to a later position.
        """
        longest = max(map(len, sequences))
        ids = torch.zeros((len(sequences), longest), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            place = slice(longest - len(sequence), None) if left else slice(len(sequence))
            ids[row, place] = torch.tensor(sequence)
            mask[row, place] = 1
        return cls(ids, mask, torch.arange(longest).expand_as(ids), left)

    @classmethod
    def left_padded(cls, sequences: Sequence[Sequence[int]]) -> Batch:
        """Pad on the left and let positions count from the padding on, which is wrong for GPT-2."""
        return cls.of(sequences, left=True)
