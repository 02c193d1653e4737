"""What the features of x and y add up to over one pass's tokens, site by site, as they pass.

Of no token any feature is kept but of those whose |x| is among the greatest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.sites import Site

Stage = Literal["pre", "post"]
STAGES: tuple[Stage, ...] = ("pre", "post")
# A feature of a token is massive above both (Sun et al., "Massive Activations in Large Language Models", 2024).
MASSIVE, MASSIVE_TO_MEDIAN = 100.0, 1_000.0
# What is kept of each feature of either stage: mean over tokens, sum of squared distances from it, sum of shares,
# greatest absolute value, and (of x alone) at how many tokens it is massive.
NUMBERS = 5
MEAN, M2, SHARE, LARGEST, COUNT = range(NUMBERS)


@dataclass(frozen=True)
class Peaks:
    """The features with the greatest |x| of a pass, each at the token where it is greatest; (peaks,)."""

    feature: Tensor
    token: Tensor
    """Its place among the tokens that were summed."""
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Sums:
    """What some tokens' features add up to at one site."""

    numbers: Tensor
    """(stages, numbers, features)."""
    peaks: Peaks


class Watcher:
    """Adds up x and y at the sites that an instrument shows it.

    Args:
        peaks: how many features to keep the greatest |x| of.
        exact: whether to compute in float64, whatever the model computes in; else in float32, which takes a third of
            the time and leaves six digits where no token's mean is large against its sigma.
    """

    def __init__(self, *, peaks: int, exact: bool) -> None:
        self._peaks, self._dtype = peaks, torch.float64 if exact else torch.float32
        self._parts: list[Tensor] = []
        self.sums: dict[Site, list[Sums | None]] = {}
        """By site, of position 0 and of later positions; None where the pass has no such token."""

    def begin(self, batch: Batch, device: torch.device) -> None:
        """Make ready for a pass: nothing is to be waited for in it."""
        self.sums = {}
        real, first = batch.mask.bool(), batch.positions == 0
        self._parts = [(real & part).flatten().nonzero().squeeze(1).to(device) for part in (first, ~first)]

    def see(self, site: Site, x: Tensor, y: Tensor) -> None:
        """Add up the features of one site's tokens, (sequences, tokens, features)."""
        self.sums[site] = [
            self._added_up(*(each.flatten(0, 1).index_select(0, part) for each in (x, y))) if len(part) else None
            for part in self._parts
        ]

    def _added_up(self, x: Tensor, y: Tensor) -> Sums:
        # mps has no float64.
        away = self._dtype == torch.float64 and x.device.type == "mps"
        x, y = ((each.cpu() if away else each).to(self._dtype) for each in (x, y))
        centered = x - x.mean(dim=1, keepdim=True)
        numbers = torch.stack([_numbers(x, centered, _massive(x)), _numbers(y, y, torch.zeros_like(x[0]))])
        feature = numbers[0, LARGEST].topk(min(self._peaks, x.shape[1])).indices
        columns = x.index_select(1, feature)
        token = columns.abs().argmax(dim=0)
        return Sums(numbers, Peaks(feature, token, columns.gather(0, token[None])[0], y[token, feature]))


def _numbers(values: Tensor, parts: Tensor, massive: Tensor) -> Tensor:
    """The numbers of values, (tokens, features), whose shares are those of the squares of ``parts``; (numbers, d)."""
    tokens = len(values)
    mean = values.sum(dim=0) / tokens
    m2 = (values - mean).square_().sum(dim=0)
    squares = parts.square()
    share = squares.sum(dim=1).reciprocal_() @ squares
    return torch.stack([mean, m2, share, torch.maximum(values.amax(dim=0), -values.amin(dim=0)), massive])


def _massive(x: Tensor) -> Tensor:
    """At how many of the tokens, (tokens, features), each feature is massive.

    A median costs as much as all the rest: on a CPU, where nothing waits for it, it is taken of those tokens alone
    whose |x| exceeds ``MASSIVE`` somewhere, since the others have no massive feature.
    """
    features = x.shape[1]
    if x.device.type == "cpu":
        chosen = (torch.maximum(x.amax(dim=1), -x.amin(dim=1)) > MASSIVE).nonzero().squeeze(1)
        if not len(chosen):
            return torch.zeros_like(x[0])
        x = x.index_select(0, chosen)
    size = x.abs()
    ordered = size.sort(dim=1).values
    median = (ordered[:, (features - 1) // 2] + ordered[:, features // 2]) / 2
    limit = (MASSIVE_TO_MEDIAN * median).clamp_(min=MASSIVE)
    return (size > limit[:, None]).sum(dim=0).to(x.dtype)
