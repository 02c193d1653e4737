"""Every number of a stream, kept column by column: a fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import Self

from gpt2ln_cli.measure.ledger import Ledger
from gpt2ln_cli.measure.stream import Block, Floats, Integers
from gpt2ln_cli.sites import Site

# A token's place is its sequence and, in the lower bits, its position.
POSITION_BITS = 32


class Columns:
    """Keeps every quantity of every token at every site, the tokens by sequence and position, whenever they came.

    Args:
        sites: those of the blocks, in forward order.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = list(sites)
        self.quantities: list[str] = []
        """What the blocks had of ``QUANTITIES``."""
        self._ledger = Ledger()

    @property
    def sequence(self) -> Integers:
        """(tokens,): which context each token is of."""
        return self._ledger.places() >> POSITION_BITS

    @property
    def position(self) -> Integers:
        """(tokens,): its position in it."""
        position: Integers = self._ledger.places() & (2**POSITION_BITS - 1)
        return position

    def add(self, block: Block) -> None:
        """Take in one more block.

        Raises:
            UsageError: there is no room for it.
        """
        assert self.quantities in ([], list(block.quantities))
        self.quantities = list(block.quantities)
        self._ledger.add(block.values, (block.sequence << POSITION_BITS) + block.position)

    def merge(self, other: Self) -> None:
        """Take in what another one of the same sites has, of other sequences.

        Raises:
            UsageError: there is no room for it.
        """
        assert self.sites == other.sites
        assert not self.quantities or not other.quantities or self.quantities == other.quantities
        self.quantities = self.quantities or other.quantities
        for values, places in other._ledger.blocks():
            self._ledger.add(values, places)

    def state(self) -> dict[str, Any]:
        """All that it holds, all of it in memory."""
        numbers = range(len(self.sites)) if self.quantities else ()
        return {
            "sites": [site.name for site in self.sites],
            "quantities": self.quantities,
            "sequence": self.sequence,
            "position": self.position,
            "values": np.array([self.site(number) for number in numbers]),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The fold that had this state."""
        fold = cls([Site.named(name) for name in state["sites"]])
        fold.quantities = list(state["quantities"])
        if fold.quantities:
            places = (np.asarray(state["sequence"]) << POSITION_BITS) + np.asarray(state["position"])
            fold._ledger.add(np.asarray(state["values"]), places)
        return fold

    def site(self, number: int) -> Floats:
        """All quantities of the numbered site, (quantities, tokens)."""
        return self._ledger.site(number)

    def column(self, site: int, quantity: str) -> Floats:
        """One quantity at the numbered site, (tokens,)."""
        return self._ledger.column(site, self.quantities.index(quantity))
