"""What the features of x and y add up to over one pass's tokens, site by site, as they pass.

Of no token any feature is kept but of those whose |x| is among the greatest.
"""

from __future__ import annotations

from collections.abc import Sequence
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
# greatest absolute value, and (of x alone) at how many tokens it is massive, and the sum of its shares there.
NUMBERS = 6
MEAN, M2, SHARE, LARGEST, COUNT, HELD = range(NUMBERS)


@dataclass(frozen=True)
class Peaks:
    """The features with the greatest |x| of a pass, each at the token where it is greatest; (peaks,)."""

    feature: Tensor
    token: Tensor
    """Its place among the tokens that were summed."""
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Records:
    """Features of one stage whose greatest |value| in a pass may exceed all before it, and where it stands."""

    feature: Tensor
    token: Tensor
    """Its place among the tokens that were summed; of several as great the first of the stream's contexts."""


@dataclass(frozen=True)
class Sums:
    """What some tokens' features add up to at one site."""

    numbers: Tensor
    """(stages, numbers, features)."""
    peaks: Peaks
    records: Sequence[Records]
    """Of each stage; none where they are not looked for."""


class Watcher:
    """Adds up x and y at the sites that an instrument shows it.

    Args:
        peaks: how many features to keep the greatest |x| of.
        exact: whether to compute in float64, whatever the model computes in; else in float32, which takes a third of
            the time and leaves six digits where no token's mean is large against its sigma.
        records: whether to find where the greatest absolute value of each feature stands.
    """

    def __init__(self, *, peaks: int, exact: bool, records: bool = False) -> None:
        self._peaks, self._dtype = peaks, torch.float64 if exact else torch.float32
        self._largest: dict[tuple[Site, int], Tensor] | None = {} if records else None
        self._parts: list[Tensor] = []
        # Of each part's tokens, that of the stream's contexts.
        self._orders: list[Tensor] = []
        self.sums: dict[Site, list[Sums | None]] = {}
        """By site, of position 0 and of later positions; None where the pass has no such token."""

    def begin(self, batch: Batch, device: torch.device, numbers: Sequence[int]) -> None:
        """Make ready for a pass: nothing is to be waited for in it.

        Args:
            batch: what is run.
            device: where.
            numbers: of the batch's contexts, in the stream.
        """
        self.sums = {}
        real, first = batch.mask.bool(), batch.positions == 0
        parts = [(real & part).flatten().nonzero().squeeze(1) for part in (first, ~first)]
        self._parts = [part.to(device) for part in parts]
        row = torch.tensor(numbers).repeat_interleave(real.shape[1])
        self._orders = [row[part].argsort(stable=True).to(device) for part in parts]

    def see(self, site: Site, x: Tensor, y: Tensor) -> None:
        """Add up the features of one site's tokens, (sequences, tokens, features)."""
        self.sums[site] = [
            self._added_up((site, number), *(each.flatten(0, 1).index_select(0, part) for each in (x, y)))
            if len(part)
            else None
            for number, part in enumerate(self._parts)
        ]

    def _added_up(self, of: tuple[Site, int], x: Tensor, y: Tensor) -> Sums:
        # mps has no float64.
        away = self._dtype == torch.float64 and x.device.type == "mps"
        x, y = ((each.cpu() if away else each).to(self._dtype) for each in (x, y))
        centered = x - x.mean(dim=1, keepdim=True)
        of_x, of_y = _massive(x, centered), y.new_zeros(2, y.shape[1])
        numbers = torch.stack([_numbers(x, centered, of_x), _numbers(y, y, of_y)])
        feature = numbers[0, LARGEST].topk(min(self._peaks, x.shape[1])).indices
        columns = x.index_select(1, feature)
        token = columns.abs().argmax(dim=0)
        peaks = Peaks(feature, token, columns.gather(0, token[None])[0], y[token, feature])
        return Sums(numbers, peaks, self._records(of, numbers[:, LARGEST], (x, y)))

    def _records(self, of: tuple[Site, int], largest: Tensor, stages: Sequence[Tensor]) -> Sequence[Records]:
        if self._largest is None:
            return ()
        before = self._largest.get(of)
        if before is None:
            before = torch.full_like(largest, -torch.inf)
        self._largest[of] = torch.maximum(before, largest)
        # To find where takes twenty times as long as to find how large: on a CPU, where nothing waits for it, it is
        # looked for where there may be a record alone.
        if largest.device.type == "cpu":
            chosen = [one.nonzero().squeeze(1) for one in ~(largest < before)]
        else:
            chosen = [torch.arange(largest.shape[1], device=largest.device)] * len(stages)
        order = self._orders[of[1]]
        return [
            Records(feature, order[values.index_select(1, feature).index_select(0, order).abs().argmax(dim=0)])
            for feature, values in zip(chosen, stages, strict=True)
        ]


def _numbers(values: Tensor, parts: Tensor, massive: Tensor) -> Tensor:
    """The numbers of values, (tokens, features), whose shares are those of the squares of ``parts``; (numbers, d).

    The last two, (2, d), are given.
    """
    tokens = len(values)
    mean = values.sum(dim=0) / tokens
    m2 = (values - mean).square_().sum(dim=0)
    squares = parts.square()
    share = squares.sum(dim=1).reciprocal_() @ squares
    largest = torch.maximum(values.amax(dim=0), -values.amin(dim=0))
    return torch.stack([mean, m2, share, largest, *massive])


def _massive(x: Tensor, centered: Tensor) -> Tensor:
    """At how many of the tokens, (tokens, features), each feature is massive, and the sum of its shares there; (2, d).

    A median costs as much as all the rest: on a CPU, where nothing waits for it, it is taken of those tokens alone
    whose |x| exceeds ``MASSIVE`` somewhere, since the others have no massive feature.
    """
    features = x.shape[1]
    if x.device.type == "cpu":
        chosen = (torch.maximum(x.amax(dim=1), -x.amin(dim=1)) > MASSIVE).nonzero().squeeze(1)
        if not len(chosen):
            return x.new_zeros(2, features)
        x, centered = x.index_select(0, chosen), centered.index_select(0, chosen)
    size = x.abs()
    ordered = size.sort(dim=1).values
    median = (ordered[:, (features - 1) // 2] + ordered[:, features // 2]) / 2
    limit = (MASSIVE_TO_MEDIAN * median).clamp_(min=MASSIVE)
    massive = size > limit[:, None]
    squares = centered.square()
    held = torch.where(massive, squares / squares.sum(dim=1, keepdim=True), 0.0)
    return torch.stack([massive.sum(dim=0).to(x.dtype), held.sum(dim=0)])
