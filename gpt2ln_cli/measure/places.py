"""Where the greatest |value| of each feature of x and y stood, at every site: a fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from typing_extensions import Self

from gpt2ln_cli.measure.feature_sums import LARGEST, STAGES, Stage
from gpt2ln_cli.measure.rows import POSITION_BITS
from gpt2ln_cli.measure.stream import Block, Floats, Integers
from gpt2ln_cli.measure.summary import PARTS, Part
from gpt2ln_cli.sites import Site

# Of what has no place yet: after all others.
NOWHERE = 2**63 - 1


class Places:
    """The place of each feature's greatest |value| in a stream whose watcher looks for records.

    Of equal ones the first of the stream's contexts is kept. What is merged comes after what was there, and after a
    merge nothing is added.

    Args:
        sites: those of the blocks, in forward order.
        features: the width.
    """

    def __init__(self, sites: Sequence[Site], features: int) -> None:
        self.sites = list(sites)
        shape = (len(PARTS), len(sites), len(STAGES), features)
        self._largest: Floats = np.full(shape, -np.inf)
        # Sequence and, in the lower bits, position; after a merge numbers of what was told, in its order.
        self._place: Integers = np.full(shape, NOWHERE, dtype=np.int64)
        self._told: dict[int, Any] = {}
        self._new: set[int] = set()

    def add(self, block: Block) -> None:
        """Take in one more block."""
        assert block.feature_sums is not None
        for part, (sums, chosen) in enumerate(
            zip(block.feature_sums, (block.position == 0, block.position != 0), strict=True)
        ):
            places = (block.sequence[chosen] << POSITION_BITS) + block.position[chosen]
            for site, of_site in enumerate(sums or ()):
                for stage, records in enumerate(of_site.records):
                    features = records.feature.cpu().numpy()
                    if features.size:
                        largest = of_site.numbers[stage, LARGEST].cpu().double().numpy()[features]
                        new = places[records.token.cpu().numpy()]
                        self._new |= self._take_in((part, site, stage), features, largest, new)

    def _take_in(self, index: tuple[int, int, int], features: Any, largest: Floats, places: Integers) -> set[int]:
        before, place = self._largest[index][features], self._place[index][features]
        # A NaN is the last record.
        equal = (largest == before) | (np.isnan(largest) & np.isnan(before))
        beaten = np.where(equal, places < place, ~(largest <= before) & ~np.isnan(before))
        self._largest[index][features] = np.where(beaten, largest, before)
        self._place[index][features] = np.where(beaten, places, place)
        return set(places[beaten].tolist())

    def locate(self, where: Callable[[int, int], Any]) -> None:
        """Say of each token that came since the last time where it is: of its sequence and position."""
        for place in sorted(self._new):
            self._told[place] = where(place >> POSITION_BITS, place & (2**POSITION_BITS - 1))
        self._new = set()

    def describe(self, make: Callable[[list[Any]], list[Any]]) -> None:
        """Put in the place of all that was said of where tokens are what is made of it, all at once."""
        self._forget()
        self._told = dict(enumerate(make(list(self._told.values()))))

    def _forget(self) -> None:
        """Number what was told anew, in order, without that at which no feature stands any more."""
        used, place = np.unique(self._place, return_inverse=True)
        self._place = np.where(self._place == NOWHERE, NOWHERE, place.reshape(self._place.shape))
        self._told = {number: self._told[one] for number, one in enumerate(used.tolist()) if one != NOWHERE}

    def merge(self, other: Self) -> None:
        """Take in what another one of the same sites has, whose contexts come after these."""
        assert self.sites == other.sites
        self._forget()
        ours = len(self._told)
        self._told |= {ours + place: told for place, told in other._told.items()}
        for index in np.ndindex(self._place.shape[:-1]):
            theirs = other._place[index]
            places = np.where(theirs == NOWHERE, NOWHERE, theirs + ours)
            self._take_in(index, slice(None), other._largest[index], places)
        self._forget()

    def of(self, site: int, part: Part, stage: Stage) -> list[Any]:
        """What was told of each feature's place at the numbered site; None where there is none."""
        return [self._told.get(place) for place in self._place[PARTS.index(part), site, STAGES.index(stage)].tolist()]

    def state(self) -> dict[str, Any]:
        """All that it holds."""
        self._forget()
        return {
            "sites": [site.name for site in self.sites],
            "largest": self._largest.copy(),
            "place": self._place.copy(),
            "told": list(self._told.values()),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The fold that had this state."""
        fold = cls([Site.named(name) for name in state["sites"]], state["place"].shape[-1])
        fold._largest, fold._place = np.array(state["largest"]), np.array(state["place"])
        fold._told = dict(enumerate(state["told"]))
        return fold
