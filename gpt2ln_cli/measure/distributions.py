"""How each quantity is distributed over tokens, in bands of position, at each site: a fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from gpt2ln_cli.measure.sketch import Sketches
from gpt2ln_cli.measure.stream import Block, Floats, Integers
from gpt2ln_cli.sites import Site


def band_of(position: int) -> int:
    """The band that a position is in: 0, 1, 2-3, 4-7, and so on."""
    return position.bit_length()


def band_ends(band: int, positions: int) -> tuple[int, int]:
    """First and last position of a band, in a context of so many."""
    return (0, 0) if band == 0 else (2 ** (band - 1), min(2**band, positions) - 1)


@dataclass
class Moments:
    """Count, mean, sum of squared deviations, least and greatest, of arrays of cells; merged after Chan et al."""

    count: Integers
    mean: Floats
    squares: Floats
    """Sum of squared deviations from the mean."""
    least: Floats
    greatest: Floats

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> Moments:
        """Those of no value."""
        return cls(
            np.zeros(shape, dtype=np.int64),
            np.zeros(shape),
            np.zeros(shape),
            np.full(shape, np.inf),
            np.full(shape, -np.inf),
        )

    def merge(self, other: Moments, where: Any = ...) -> None:
        """Take in others, in some of the cells."""
        ours, theirs = self.count[where], other.count
        count = ours + theirs
        share = theirs / np.maximum(count, 1)
        delta = other.mean - self.mean[where]
        self.squares[where] += other.squares + delta**2 * ours * share
        # All of it where there was nothing, so that it stays what it is to the last bit.
        self.mean[where] = np.where(ours == 0, other.mean, self.mean[where] + delta * share)
        self.count[where] = count
        self.least[where] = np.minimum(self.least[where], other.least)
        self.greatest[where] = np.maximum(self.greatest[where], other.greatest)

    def over(self, axis: int) -> Moments:
        """Those of all cells along an axis, merged in its order."""
        fields = [np.moveaxis(each, axis, 0) for each in vars(self).values()]
        whole = Moments.none(fields[0].shape[1:])
        for cells in zip(*fields, strict=True):
            whole.merge(Moments(*cells))
        return whole


class Distributions:
    """Counts, moments, extremes and a sketch of each quantity, for each site and band of position.

    What is not finite is counted and enters nothing else.

    Args:
        sites: those of the blocks, in forward order.
        quantities: those of the blocks.
        positions: how many a context has.
    """

    def __init__(self, sites: Sequence[Site], quantities: Sequence[str], positions: int) -> None:
        self.sites, self.quantities, self.positions = list(sites), list(quantities), positions
        self._bands = np.array([band_of(position) for position in range(positions)])
        self.bands = int(self._bands[-1]) + 1
        shape = (len(sites), len(quantities), self.bands)
        self.tokens: Integers = np.zeros(self.bands, dtype=np.int64)
        """(bands,)."""
        self.nonfinite: Integers = np.zeros(shape, dtype=np.int64)
        """(sites, quantities, bands): numbers that were NaN or infinite."""
        self.moments = Moments.none(shape)
        self._sketches = [Sketches(len(sites) * self.bands) for _ in quantities]

    def add(self, block: Block) -> None:
        """Take in one more block."""
        assert list(block.quantities) == self.quantities
        bands = self._bands[block.position]
        values = block.values
        if (np.diff(bands) < 0).any():
            order = np.argsort(bands, kind="stable")
            bands, values = bands[order], values[:, :, order]
        starts = np.flatnonzero(np.diff(bands, prepend=-1))
        present, lengths = bands[starts], np.diff(starts, append=len(bands))
        self.tokens[present] += lengths
        cells = np.arange(len(self.sites))[:, None] * self.bands + bands
        finite = np.isfinite(values)
        if finite.all():
            self.moments.merge(_moments(values, starts, lengths), (slice(None), slice(None), present))
            for number, sketches in enumerate(self._sketches):
                sketches.add(values[:, number], cells)
            return
        self.nonfinite[:, :, present] += np.add.reduceat(~finite, starts, axis=-1, dtype=np.int64)
        self.moments.merge(_moments(values, starts, lengths, finite), (slice(None), slice(None), present))
        for number, sketches in enumerate(self._sketches):
            chosen = finite[:, number]
            sketches.add(values[:, number][chosen], cells[chosen])

    def merge(self, other: Self) -> None:
        """Take in what another one of the same sites has."""
        assert (self.sites, self.quantities, self.positions) == (other.sites, other.quantities, other.positions)
        self.tokens += other.tokens
        self.nonfinite += other.nonfinite
        self.moments.merge(other.moments)
        for mine, theirs in zip(self._sketches, other._sketches, strict=True):
            mine.merge(theirs)

    def quantiles(self, site: int, quantity: int, bands: Sequence[int], shares: Sequence[float]) -> list[float]:
        """The order statistics at floor(share (n - 1)) of what the bands hold together, which must be something.

        They are right to the sketch's relative error; least and greatest are exact.
        """
        moments = self.moments
        count = int(moments.count[site, quantity, bands].sum())
        least = float(moments.least[site, quantity, bands].min())
        greatest = float(moments.greatest[site, quantity, bands].max())
        ranks = [int(np.floor(share * (count - 1))) for share in shares]
        found = self._sketches[quantity].quantiles([site * self.bands + band for band in bands], ranks)
        return [
            least if rank == 0 else greatest if rank == count - 1 else min(max(value, least), greatest)
            for rank, value in zip(ranks, found, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        """All that it holds."""
        return {
            "sites": [site.name for site in self.sites],
            "quantities": self.quantities,
            "positions": self.positions,
            "tokens": self.tokens.copy(),
            "nonfinite": self.nonfinite.copy(),
            "moments": {name: array.copy() for name, array in vars(self.moments).items()},
            "sketches": [sketches.state() for sketches in self._sketches],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The fold that had this state."""
        fold = cls([Site.named(name) for name in state["sites"]], state["quantities"], state["positions"])
        fold.tokens, fold.nonfinite = np.array(state["tokens"]), np.array(state["nonfinite"])
        fold.moments = Moments(**{name: np.array(array) for name, array in state["moments"].items()})
        fold._sketches = [Sketches.from_state(sketches) for sketches in state["sketches"]]
        return fold


def _moments(values: Floats, starts: Integers, lengths: Integers, finite: NDArray[np.bool_] | None = None) -> Moments:
    """Those of the values between the starts, along the last axis."""
    count = np.broadcast_to(lengths, (*values.shape[:-1], len(lengths)))
    least = greatest = values
    if finite is not None:
        count = np.add.reduceat(finite, starts, axis=-1, dtype=np.int64)
        least, greatest = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
        values = np.where(finite, values, 0.0)
    mean = np.add.reduceat(values, starts, axis=-1) / np.maximum(count, 1)
    deviation = values - np.repeat(mean, lengths, axis=-1)
    if finite is not None:
        deviation *= finite
    deviation *= deviation
    return Moments(
        count,
        mean,
        np.add.reduceat(deviation, starts, axis=-1),
        np.minimum.reduceat(least, starts, axis=-1),
        np.maximum.reduceat(greatest, starts, axis=-1),
    )
