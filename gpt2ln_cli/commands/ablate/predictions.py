"""What the model predicts after a run, held against what it predicts as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2ln_cli.measure.axes import Floats
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
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """Those of several parts, in order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def predict(outcomes: Sequence[Outcome], targets: torch.Tensor, head: torch.Tensor) -> list[list[Predictions]]:
    """Every outcome's predictions, held against the first's, in chunks."""
    parts: list[list[Predictions]] = [[] for _ in outcomes]
    with undisturbed(head.device):
        for start in range(0, len(targets), CHUNK):
            chunk = slice(start, start + CHUNK)
            real: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
            for outcome, predicted in zip(outcomes, parts, strict=True):
                logits = torch.nn.functional.linear(outcome.hidden[chunk], head)
                finite, top = logits.isfinite().all(dim=-1), logits.argmax(dim=-1)
                log_probability = logits.log_softmax(dim=-1, dtype=torch.float64)
                del logits
                loss = -log_probability.gather(1, targets[chunk, None])[:, 0]
                real = (log_probability, log_probability.exp(), top) if real is None else real
                # In place: a row over the vocabulary is what takes the memory here.
                kl = (real[0] - log_probability).mul_(real[1]).sum(dim=-1)
                predicted.append(
                    Predictions(
                        loss=loss.cpu().numpy(),
                        kl=kl.cpu().numpy(),
                        same_top=((top == real[2]) & finite).cpu().numpy(),
                        finite=finite.cpu().numpy(),
                        residual=outcome.residual[chunk],
                    )
                )
    return parts
