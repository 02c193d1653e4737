"""What the model predicts after a run, held against what it predicts as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2ln_cli.measure.ledger import Floats
from gpt2ln_cli.model.stand_in import undisturbed

# Positions whose predictions are held in memory at a time: a row of float64 over the vocabulary each.
CHUNK = 128


@dataclass(frozen=True)
class Outcome:
    """What a run of one batch left, for the real tokens in the order of its rows."""

    hidden: torch.Tensor
    """Output of ln_f, (tokens, features)."""
    residual: Floats
    """L2 norm of what enters ln_f, (tokens,); finite where all its features are."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of the token after each token, in float64; meaningless where there is none."""

    loss: Floats
    """Negative log-likelihood of the next token, in nats, (tokens,)."""
    kl: Floats
    """KL(real || this), in nats, (tokens,)."""
    same_top: NDArray[np.bool_]
    finite: NDArray[np.bool_]
    """Whether all logits are."""
    residual: Floats
    """As of the outcome."""

    @classmethod
    def room_for(cls, tokens: int) -> Predictions:
        """Arrays to be filled, part by part."""
        return cls(
            loss=np.empty(tokens),
            kl=np.empty(tokens),
            same_top=np.empty(tokens, dtype=bool),
            finite=np.empty(tokens, dtype=bool),
            residual=np.empty(tokens),
        )


def predict(
    outcomes: Sequence[Outcome],
    targets: torch.Tensor,
    head: torch.Tensor,
    predictions: Sequence[Predictions],
    first: int,
) -> None:
    """Predict from every outcome of a batch, and hold it against the first's.

    Args:
        outcomes: of the batch.
        targets: the token after each.
        head: (vocabulary, features).
        predictions: of each outcome, to be filled. What is kept must not be made between tensors over the vocabulary:
            it would stand between them on the heap, and nothing large would fit where something large was.
        first: where in them the batch's tokens begin.
    """
    with undisturbed(head.device):
        for start in range(0, len(targets), CHUNK):
            chunk = slice(start, start + CHUNK)
            real: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
            for outcome, predicted in zip(outcomes, predictions, strict=True):
                logits = torch.nn.functional.linear(outcome.hidden[chunk], head)
                finite, top = logits.isfinite().all(dim=-1), logits.argmax(dim=-1)
                log_probability = logits.log_softmax(dim=-1, dtype=torch.float64)
                del logits
                loss = -log_probability.gather(1, targets[chunk, None])[:, 0]
                real = (log_probability, log_probability.exp(), top) if real is None else real
                # In place: a row over the vocabulary is what takes the memory here.
                kl = (real[0] - log_probability).mul_(real[1]).sum(dim=-1)
                part = slice(first + start, first + start + len(top))
                predicted.loss[part] = loss.cpu().numpy()
                predicted.kl[part] = kl.cpu().numpy()
                predicted.same_top[part] = ((top == real[2]) & finite).cpu().numpy()
                predicted.finite[part] = finite.cpu().numpy()
                predicted.residual[part] = outcome.residual[chunk]
