"""How many statistics a stream had: a fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import Self

from gpt2ln_cli.measure.stream import Block
from gpt2ln_cli.records import Counts, KindCount
from gpt2ln_cli.sites import KINDS, Site


class Counting:
    """Counts the statistics that the kernel returned.

    Args:
        sites: those of the blocks, in forward order.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = list(sites)
        self.statistics = np.zeros(len(sites), dtype=np.int64)
        """(sites,)."""
        self._totals = dict.fromkeys(("sequences", "tokens", "padding", "batches"), 0)
        self._features = 0

    def add(self, block: Block) -> None:
        """Take in one more block."""
        self.statistics += block.statistics
        # Every context is in one block and has a position 0.
        self._totals["sequences"] += int(np.count_nonzero(block.position == 0))
        self._totals["tokens"] += len(block.position)
        self._totals["padding"] += block.padding
        self._totals["batches"] += 1
        self._features = block.features

    def merge(self, other: Self) -> None:
        """Take in what another one of the same sites has."""
        assert self.sites == other.sites
        self.statistics += other.statistics
        for name, count in other._totals.items():
            self._totals[name] += count
        self._features = self._features or other._features

    def state(self) -> dict[str, Any]:
        """All that it holds."""
        names = [site.name for site in self.sites]
        return {
            "sites": names,
            "statistics": self.statistics.copy(),
            "totals": dict(self._totals),
            "features": self._features,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The fold that had this state."""
        fold = cls([Site.named(name) for name in state["sites"]])
        fold.statistics = np.array(state["statistics"])
        fold._totals, fold._features = dict(state["totals"]), state["features"]
        return fold

    def counts(self) -> Counts:
        """What was counted, as a record has it."""
        by_site = {site: int(count) for site, count in zip(self.sites, self.statistics, strict=True)}
        blocks: dict[int, int] = {}
        for site, count in by_site.items():
            if site.layer is not None:
                blocks[site.layer] = blocks.get(site.layer, 0) + count
        total, per_site = sum(by_site.values()), set(by_site.values())
        tokens, padding = self._totals["tokens"], self._totals["padding"]
        formula = len(by_site) * tokens
        return Counts(
            sites=len(by_site),
            sequences=self._totals["sequences"],
            tokens=tokens,
            per_site=max(per_site),
            per_block=next(iter(blocks.values())) if len(set(blocks.values())) == 1 else None,
            total=total,
            by_kind=[
                KindCount(
                    kind=kind,
                    sites=sum(site.kind == kind for site in by_site),
                    statistics=sum(count for site, count in by_site.items() if site.kind == kind),
                )
                for kind in KINDS
                if any(site.kind == kind for site in by_site)
            ],
            padding=padding,
            padding_statistics=len(by_site) * padding,
            features=self._features,
            batches=self._totals["batches"],
            formula=formula,
            formula_agrees=len(per_site) == 1 and total == formula,
        )
