"""What each feature is to x and y at every site, over all tokens: a fold.

A feature's share of sigma^2 of a token is (x_j - mu)^2 / (d sigma^2), its share of ||y||^2 is y_j^2 / ||y||^2; over
several tokens it is the mean of the shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from typing_extensions import Self

from gpt2ln_cli.measure.feature_sums import COUNT, HELD, LARGEST, M2, MEAN, NUMBERS, SHARE, STAGES, Peaks, Stage
from gpt2ln_cli.measure.stream import Block, Floats, Integers
from gpt2ln_cli.measure.summary import PARTS, Part
from gpt2ln_cli.sites import Site


@dataclass(frozen=True)
class Peak:
    """A feature at the token where its |x| is greatest."""

    feature: int
    x: float
    y: float
    """What became of it."""
    sequence: int
    position: int


@dataclass(frozen=True)
class Numbers:
    """What each feature is to x or to y over some tokens, each (features,)."""

    mean: Floats
    std: Floats
    """Population standard deviation over the tokens."""
    share: Floats
    """Mean over tokens of its share of sigma^2, or of ||y||^2."""
    largest: Floats
    """Greatest absolute value."""
    massive: Integers
    """At how many tokens it is massive; of y 0."""
    massive_share: Floats
    """Mean of its share over those tokens; NaN where there are none."""


class Features:
    """Adds up a stream that has a watcher; position 0 and the later ones are apart.

    Args:
        sites: those of the blocks, in forward order.
        features: the width.
        peaks: how many features to keep the place of the greatest |x| of, at most as many as the watcher does.
    """

    def __init__(self, sites: Sequence[Site], features: int, *, peaks: int) -> None:
        self.sites, self._peaks_kept = list(sites), min(peaks, features)
        self.tokens: Integers = np.zeros(len(PARTS), dtype=np.int64)
        self._numbers: Floats = np.zeros((len(PARTS), len(sites), len(STAGES), NUMBERS, features))
        self._numbers[..., LARGEST, :] = -np.inf
        self._peaks: list[list[list[Peak]]] = [[[] for _ in sites] for _ in PARTS]

    def add(self, block: Block) -> None:
        """Take in one more block."""
        assert block.feature_sums is not None
        for part, (sums, chosen) in enumerate(
            zip(block.feature_sums, (block.position == 0, block.position != 0), strict=True)
        ):
            if sums is not None:
                numbers = torch.stack([one.numbers for one in sums]).cpu().double().numpy()
                places = list(zip(block.sequence[chosen].tolist(), block.position[chosen].tolist(), strict=True))
                peaks = [[] if one.peaks is None else _peaks(one.peaks, places) for one in sums]
                self._take_in(part, len(places), numbers, peaks)

    def merge(self, other: Self) -> None:
        """Take in what another one of the same sites has."""
        assert self.sites == other.sites
        for part, tokens in enumerate(other.tokens.tolist()):
            if tokens:
                self._take_in(part, tokens, other._numbers[part], other._peaks[part])

    def _take_in(self, part: int, tokens: int, numbers: Floats, peaks: Sequence[Sequence[Peak]]) -> None:
        mine, before = self._numbers[part], int(self.tokens[part])
        total = before + tokens
        with np.errstate(invalid="ignore", over="ignore"):
            further = numbers[:, :, MEAN] - mine[:, :, MEAN]
            mine[:, :, M2] += numbers[:, :, M2] + further**2 * (before * tokens / total)
            mine[:, :, MEAN] += further * (tokens / total)
            mine[:, :, SHARE:] += numbers[:, :, SHARE:]
            mine[:, :, LARGEST] = np.maximum(mine[:, :, LARGEST], numbers[:, :, LARGEST])
        for site, found in enumerate(peaks):
            self._peaks[part][site] = _highest([*self._peaks[part][site], *found], self._peaks_kept)
        self.tokens[part] = total

    def state(self) -> dict[str, Any]:
        """All that it holds."""
        return {
            "sites": [site.name for site in self.sites],
            "tokens": self.tokens.copy(),
            "numbers": self._numbers.copy(),
            "kept": self._peaks_kept,
            "peaks": [
                [[[one.feature, one.x, one.y, one.sequence, one.position] for one in found] for found in of_part]
                for of_part in self._peaks
            ],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The fold that had this state."""
        numbers = np.array(state["numbers"])
        fold = cls([Site.named(name) for name in state["sites"]], numbers.shape[-1], peaks=state["kept"])
        fold.tokens, fold._numbers = np.array(state["tokens"]), numbers
        fold._peaks = [[[Peak(*one) for one in found] for found in of_part] for of_part in state["peaks"]]
        return fold

    def of(self, site: int, part: Part, stage: Stage) -> Numbers | None:
        """What the numbered site's features are over a part's tokens; None where it has none."""
        index = PARTS.index(part)
        tokens = int(self.tokens[index])
        if not tokens:
            return None
        numbers = self._numbers[index, site, STAGES.index(stage)]
        with np.errstate(invalid="ignore"):
            return Numbers(
                mean=numbers[MEAN],
                std=np.sqrt(numbers[M2] / tokens),
                share=numbers[SHARE] / tokens,
                largest=numbers[LARGEST],
                massive=numbers[COUNT].astype(np.int64),
                massive_share=numbers[HELD] / numbers[COUNT],
            )

    def peaks(self, site: int, part: Part) -> Sequence[Peak]:
        """The features with the greatest |x| at the numbered site, the greatest first."""
        return self._peaks[PARTS.index(part)][site]


def _peaks(found: Peaks, places: Sequence[tuple[int, int]]) -> list[Peak]:
    columns = (each.cpu().tolist() for each in (found.feature, found.token, found.x, found.y))
    return [Peak(feature, x, y, *places[token]) for feature, token, x, y in zip(*columns, strict=True)]


def _highest(peaks: Sequence[Peak], most: int) -> list[Peak]:
    """Of each feature the greatest, of equals the first; and of those the greatest."""
    best: dict[int, Peak] = {}
    for one in peaks:
        if one.feature not in best or abs(one.x) > abs(best[one.feature].x):
            best[one.feature] = one
    return sorted(best.values(), key=lambda one: (-abs(one.x), one.feature))[:most]


def holding(share: Floats, part: float) -> int | None:
    """How many features, those with the largest shares, hold a part of the whole; None where a share is no number."""
    if not np.isfinite(share).all():
        return None
    held = np.cumsum(np.sort(share)[::-1])
    return int(np.searchsorted(held, part * held[-1])) + 1
