"""What ``inspect`` would flag, seen while an experiment runs the model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gpt2ln_cli.measure.flags import SiteTally, parameter_flags, run_flags
from gpt2ln_cli.model import Model, eps_of
from gpt2ln_cli.model.instrument import Passage
from gpt2ln_cli.records import Flag
from gpt2ln_cli.sites import Site

# The kernel takes its sums in this type.
LARGEST = float(np.finfo(np.float32).max)


@dataclass
class Watch:
    """Counts, passage by passage, the tokens at each site that deserve care."""

    loaded: Model
    tallies: dict[Site, SiteTally] = field(default_factory=dict)

    def see(self, passage: Passage) -> None:
        """Count the tokens of one site in one forward pass."""
        eps = eps_of(self.loaded.lazy_body, passage.site)
        with np.errstate(all="ignore"):
            variance = passage.x.var(axis=1)
            # NaN exceeds nothing.
            entering = ~(variance * passage.x.shape[1] <= LARGEST)
        here = SiteTally(
            tokens=len(passage.x),
            entering=int(entering.sum()),
            leaving=int((~np.isfinite(passage.y).all(axis=1)).sum()),
            dominated=int((variance < eps).sum()),
            eps=eps,
        )
        self.tallies[passage.site] = self.tallies.get(passage.site, SiteTally()) + here

    def flags(self) -> list[Flag]:
        """What was seen, after what is in the model's gains and biases."""
        return [
            *parameter_flags(self.loaded.layer_norms()),
            *run_flags(self.tallies, self.loaded.checkpoint.config.layer_norm_epsilon),
        ]
