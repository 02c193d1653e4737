"""What a checkpoint or a run should be read with care for: findings that are reported beside the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import Self

from gpt2ln_cli.checkpoint import LayerNormParameters
from gpt2ln_cli.records import Flag
from gpt2ln_cli.sites import Site

if TYPE_CHECKING:
    from gpt2ln_cli.measure.stream import Block

# What gain and bias are before training.
GAIN_START, BIAS_START = 1.0, 0.0
# Without a run no variance is known. GPT-2's own eps is 1e-5, and no released GPT-2 has a residual stream so quiet that
# an eps of this size would leave it alone.
SUSPECT_EPS = 1.0


def parameter_flags(parameters: Mapping[str, LayerNormParameters]) -> list[Flag]:
    """Flag NaN and infinity in gains and biases, and LayerNorms whose gain is all 1 and bias all 0 or absent.

    Args:
        parameters: by site name, in forward order.
    """
    flags = []
    for site, learned in parameters.items():
        gain, bias = learned.gain, learned.bias
        for name, vector in (("gain", gain), ("bias", bias)):
            bad = 0 if vector is None else int(np.count_nonzero(~np.isfinite(vector)))
            if vector is not None and bad:
                message = f"{bad} of {vector.size} numbers of the {name} are NaN or infinite"
                flags.append(Flag(code="nonfinite_parameter", site=site, message=message))
        if (gain is None or (gain == GAIN_START).all()) and (bias is None or (bias == BIAS_START).all()):
            message = "the gain is all 1 and the bias all 0: never trained, or folded into the next layer"
            flags.append(Flag(code="identity", site=site, message=message))
    return flags


def eps_flags(eps: float) -> list[Flag]:
    """Flag an eps that by its size alone must dominate the variance; for where nothing was run."""
    if eps < SUSPECT_EPS:
        return []
    message = f"eps {eps:g} dwarfs any variance: these LayerNorms no longer normalize, they divide by sqrt(eps)"
    return [Flag(code="eps_dominates", site=None, message=message)]


@dataclass(frozen=True)
class SiteTally:
    """Of how many tokens at one site something was found."""

    tokens: int = 0
    entering: int = 0
    """Whose mu or sigma is NaN or infinite."""
    leaving: int = 0
    """Whose output is."""
    dominated: int = 0
    """Whose variance eps exceeds."""
    eps: float = 0.0
    """What the LayerNorm adds to the variance."""

    def __add__(self, other: SiteTally) -> SiteTally:
        return SiteTally(
            tokens=self.tokens + other.tokens,
            entering=self.entering + other.entering,
            leaving=self.leaving + other.leaving,
            dominated=self.dominated + other.dominated,
            eps=other.eps if other.tokens else self.eps,
        )


class Tallies:
    """What a stream has to tell of each of its sites: a fold.

    Args:
        sites: those of the blocks, in forward order.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.by_site = {site: SiteTally() for site in sites}

    def add(self, block: Block) -> None:
        """Take in one more block."""
        sigma = block.column("sigma")
        with np.errstate(over="ignore"):
            dominated = sigma**2 < block.eps[:, None]
        entering = ~np.isfinite(block.column("mean")) | ~np.isfinite(sigma)
        leaving = ~np.isfinite(block.column("post_norm"))
        for number, site in enumerate(self.by_site):
            self.by_site[site] += SiteTally(
                tokens=len(block.position),
                entering=int(entering[number].sum()),
                leaving=int(leaving[number].sum()),
                dominated=int(dominated[number].sum()),
                eps=float(block.eps[number]),
            )

    def merge(self, other: Self) -> None:
        """Take in what another one of the same sites has."""
        for site, tally in other.by_site.items():
            self.by_site[site] += tally

    def state(self) -> dict[str, Any]:
        """All that it holds."""
        return {site.name: list(astuple(tally)) for site, tally in self.by_site.items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The fold that had this state."""
        fold = cls([])
        fold.by_site = {Site.named(name): SiteTally(*numbers) for name, numbers in state.items()}
        return fold


def run_flags(seen: Mapping[Site, SiteTally], configured: float) -> list[Flag]:
    """Flag the first NaN or infinity of a run, and sites whose eps is not the configuration's or exceeds the variance.

    Args:
        seen: by site, in forward order.
        configured: eps in the model's configuration.
    """
    first: list[Flag] = []
    about_eps: list[Flag] = []
    for site, tally in seen.items():
        eps = tally.eps
        if eps != configured:
            message = f"eps is {eps:g} here and {configured:g} in the configuration: the figures go by the module's"
            about_eps.append(Flag(code="eps_differs", site=site.name, message=message))
        for where, bad in (("entering", tally.entering), ("leaving", tally.leaving)):
            if bad and not first:
                message = f"the first NaN or infinity of the run is {where} here, at {bad} of {tally.tokens} tokens"
                first.append(Flag(code="nonfinite_activation", site=site.name, message=message))
        if 2 * tally.dominated > tally.tokens:
            message = (
                f"no longer normalizes: eps {eps:g} exceeds the variance of {tally.dominated} of {tally.tokens} tokens"
            )
            about_eps.append(Flag(code="eps_dominates", site=site.name, message=message))
    return [*first, *about_eps]


def of_both(a: Sequence[Flag], b: Sequence[Flag]) -> list[Flag]:
    """The flags of checkpoint A and of checkpoint B, each said to be of its own, or of both."""

    def said(flag: Flag, where: str) -> Flag:
        return Flag(code=flag.code, site=flag.site, message=f"in {where}: {flag.message}")

    return [
        *(said(flag, "A and B" if flag in b else "A") for flag in a),
        *(said(flag, "B") for flag in b if flag not in a),
    ]
