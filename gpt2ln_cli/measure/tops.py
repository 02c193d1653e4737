"""The tokens of each site at which a quantity was greatest: a fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import Self

from gpt2ln_cli.measure.rows import POSITION_BITS
from gpt2ln_cli.measure.stream import Block, Floats
from gpt2ln_cli.measure.summary import PARTS
from gpt2ln_cli.sites import Site

RANKED = ("sigma", "max_abs", "excess_kurtosis")
"""The quantities whose greatest are kept."""


class Found(NamedTuple):
    """One token, and the number that ranks it."""

    value: float
    place: int
    """Its sequence and, in the lower bits, its position."""
    where: Any
    """What was made of its place; None before."""


class Tops:
    """The ``top`` tokens of position 0 and as many later ones, by each quantity of ``RANKED``.

    Of equal ones the first of the stream's contexts is kept. What is merged comes after what was there.

    Args:
        sites: those of the blocks, in forward order.
        top: how many.
    """

    def __init__(self, sites: Sequence[Site], top: int) -> None:
        self.sites, self.top = list(sites), top
        shape = (len(PARTS), len(sites), len(RANKED))
        self._found: dict[tuple[int, int, int], list[Found]] = {index: [] for index in np.ndindex(shape)}
        # The last of each list once it is full: what comes must be greater, or as great and before it.
        self._least: Floats = np.full(shape, -np.inf)
        self._place = np.full(shape, 2**63 - 1, dtype=np.int64)

    def add(self, block: Block) -> None:
        """Take in one more block."""
        places = (block.sequence << POSITION_BITS) + block.position
        chosen = block.values[:, [block.quantities.index(name) for name in RANKED]]
        first = np.flatnonzero(block.position == 0)
        at_first = chosen[:, :, first]
        chosen[:, :, first] = -np.inf
        for part, (values, at) in enumerate(((at_first, places[first]), (chosen, places))):
            if not at.size:
                continue
            # Of most rows not even the greatest enters; a NaN hides it.
            for site, quantity in np.argwhere(~(values.max(axis=-1) < self._least[part])).tolist():
                index = (part, site, quantity)
                row, least = values[site, quantity], self._least[index]
                better = np.flatnonzero(
                    ((row > least) | ((row == least) & (at < self._place[index]))) & np.isfinite(row)
                )
                if better.size:
                    order = better[np.lexsort((at[better], -row[better]))[: self.top]]
                    new = [Found(float(row[one]), int(at[one]), None) for one in order]
                    self._keep(index, sorted([*self._found[index], *new], key=_by_place))

    def _keep(self, index: tuple[int, int, int], found: list[Found]) -> None:
        self._found[index] = found[: self.top]
        if len(found) >= self.top:
            self._least[index], self._place[index] = self._found[index][-1][:2]

    def locate(self, where: Callable[[int, int], Any]) -> None:
        """Say of each token that came since the last time where it is: of its sequence and position."""
        for found in self._found.values():
            for number, one in enumerate(found):
                if one.where is None:
                    sequence, position = one.place >> POSITION_BITS, one.place & (2**POSITION_BITS - 1)
                    found[number] = one._replace(where=where(sequence, position))

    def describe(self, make: Callable[[list[Any]], list[Any]]) -> None:
        """Put in the place of all that was said of where tokens are what is made of it, all at once."""
        made = iter(make([one.where for found in self._found.values() for one in found]))
        for index, found in self._found.items():
            self._found[index] = [one._replace(where=next(made)) for one in found]

    def merge(self, other: Self) -> None:
        """Take in what another one of the same sites has, whose contexts come after these."""
        assert (self.sites, self.top) == (other.sites, other.top)
        for index, found in other._found.items():
            both = sorted([*self._found[index], *found], key=lambda one: -one.value)
            self._found[index] = both[: self.top]

    def of(self, site: int, quantity: str) -> list[Found]:
        """The numbered site's, greatest first."""
        both = [one for part in range(len(PARTS)) for one in self._found[part, site, RANKED.index(quantity)]]
        return sorted(both, key=lambda one: -one.value)

    def state(self) -> dict[str, Any]:
        """All that it holds."""
        return {
            "sites": [site.name for site in self.sites],
            "top": self.top,
            "found": [[list(one) for one in found] for found in self._found.values()],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The fold that had this state."""
        fold = cls([Site.named(name) for name in state["sites"]], state["top"])
        for index, found in zip(fold._found, state["found"], strict=True):
            fold._keep(index, [Found(*one) for one in found])
        return fold


def _by_place(one: Found) -> tuple[float, int]:
    return -one.value, one.place
