"""What each site's quantities were over all tokens: a fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from typing_extensions import Self

from gpt2ln_cli.measure.stream import Block, Floats, Integers
from gpt2ln_cli.quantities import SUMMARIZED
from gpt2ln_cli.records import Spread
from gpt2ln_cli.sites import Site

Part = Literal["first", "rest"]
"""Position 0 of every sequence, or all later ones."""
PARTS: tuple[Part, ...] = ("first", "rest")


class Summaries:
    """Count, sum, least and greatest of each quantity that sites are summarized by.

    Position 0 and the later ones are apart. A NaN makes what it enters NaN.

    Args:
        sites: those of the blocks, in forward order.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = list(sites)
        shape = (len(PARTS), len(sites), len(SUMMARIZED))
        self.tokens: Integers = np.zeros(len(PARTS), dtype=np.int64)
        self._sum: Floats = np.zeros(shape)
        self._min: Floats = np.full(shape, np.inf)
        self._max: Floats = np.full(shape, -np.inf)

    def add(self, block: Block) -> None:
        """Take in one more block."""
        values = block.values[:, [block.quantities.index(name) for name in SUMMARIZED]]
        first = block.position == 0
        for part, chosen in enumerate((values[:, :, first], values[:, :, ~first])):
            count = chosen.shape[-1]
            if count:
                with np.errstate(invalid="ignore", over="ignore"):  # infinity minus infinity
                    total = chosen.sum(axis=-1)
                self._take_in(part, count, total, chosen.min(axis=-1), chosen.max(axis=-1))

    def merge(self, other: Self) -> None:
        """Take in what another one of the same sites has."""
        assert self.sites == other.sites
        for part, count in enumerate(other.tokens):
            self._take_in(part, int(count), other._sum[part], other._min[part], other._max[part])

    def _take_in(self, part: int, count: int, total: Floats, least: Floats, greatest: Floats) -> None:
        self.tokens[part] += count
        with np.errstate(invalid="ignore", over="ignore"):
            self._sum[part] += total
        self._min[part] = np.minimum(self._min[part], least)
        self._max[part] = np.maximum(self._max[part], greatest)

    def state(self) -> dict[str, Any]:
        """All that it holds."""
        return {
            "sites": [site.name for site in self.sites],
            "quantities": list(SUMMARIZED),
            "tokens": self.tokens.copy(),
            "sum": self._sum.copy(),
            "min": self._min.copy(),
            "max": self._max.copy(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The fold that had this state; it must be of the same quantities."""
        assert tuple(state["quantities"]) == SUMMARIZED
        fold = cls([Site.named(name) for name in state["sites"]])
        fold.tokens = np.array(state["tokens"])
        fold._sum, fold._min, fold._max = (np.array(state[name]) for name in ("sum", "min", "max"))
        return fold

    def of(self, site: int, part: Part) -> tuple[int, dict[str, Spread]] | None:
        """How many tokens a part has, and the numbered site's quantities over them; None where it has none."""
        index = PARTS.index(part)
        tokens = int(self.tokens[index])
        if not tokens:
            return None
        ends = (each[index, site].tolist() for each in (self._sum / tokens, self._min, self._max))
        return tokens, {
            name: Spread(mean=mean, min=least, max=greatest)
            for name, mean, least, greatest in zip(SUMMARIZED, *ends, strict=True)
        }
