"""Running contexts through a model: a stream of blocks of columns, one a pass, which folds add up.

With mu and rstd = 1 / sqrt(sigma^2 + eps) from the kernel, sigma^2 = 1 / rstd^2 - eps, and most quantities follow
without touching x again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import Self

from gpt2ln_cli.measure.feature_sums import Sums, Watcher
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.model.instrument import Exact, Instrument, Reading
from gpt2ln_cli.quantities import QUANTITIES, Kernel
from gpt2ln_cli.sites import Site

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import GPT2Model

    from gpt2ln_cli.text.contexts import Context

    ReadExactly = Callable[[dict[Site, torch.Tensor]], dict[Site, Exact]]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Where eps makes up this much of variance + eps, too few digits of the variance are left in the kernel's rstd ...
EPS_SHARE = 0.9
# ... as above this rstd whatever eps is, since float32 has no variance so small ...
LARGEST_RSTD = 1e17
# ... and where |mean| exceeds sigma so many times, too few in the kernel's float32 variance.
MEAN_TO_SIGMA = 30.0


@dataclass(frozen=True)
class Block:
    """What one forward pass yields; padding is left out."""

    quantities: Sequence[str]
    """Which of ``QUANTITIES`` were measured."""
    values: Floats
    """(sites, quantities, tokens)."""
    sequence: Integers
    """(tokens,): which context each token is of."""
    position: Integers
    """(tokens,): its position in it."""
    statistics: Integers
    """(sites,): (mu, sigma) pairs that the kernel returned for these tokens."""
    padding: int
    """Padded positions, for each of which every site returned a statistic, too."""
    eps: Floats
    """(sites,): each module's own."""
    features: int
    feature_sums: Sequence[Sequence[Sums] | None] | None = None
    """Of position 0 and of later ones, where there are any, what each site's features add up to; None where that is not
    watched."""

    def column(self, name: str) -> Floats:
        """One quantity, (sites, tokens)."""
        values: Floats = self.values[:, self.quantities.index(name)]
        return values


class Fold(Protocol):
    """What blocks are added up in. Merging folds of several streams gives that of all their blocks, in any grouping."""

    def add(self, block: Block) -> None:
        """Take in one more block."""

    def merge(self, other: Self) -> None:
        """Take in what another one of the same sites has."""

    def state(self) -> dict[str, Any]:
        """All that it holds: numbers, texts and lists of them, and arrays of NumPy."""

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The fold that had this state."""


def stream(
    body: GPT2Model,
    batches: Iterable[Sequence[tuple[int, Context]]],
    sites: Sequence[Site],
    *,
    shape: bool = False,
    watcher: Watcher | None = None,
) -> Iterator[Block]:
    """Run batches through the model and yield what the wanted sites computed, one block a batch.

    Args:
        body: the model.
        batches: contexts with their numbers, none longer than the model's context; they may be endless, and each is
            taken when its block is asked for.
        sites: the sites to read, in forward order; each pass stops after the last.
        shape: also the quantities that need another look at x.
        watcher: also adds up the features, for :class:`gpt2ln_cli.measure.features.Features`.

    Raises:
        UsageError: a site can't be read, or is not run.
    """
    instrument = Instrument(body, sites, shape=shape, see=watcher.see if watcher else None)
    names = [name for name, quantity in QUANTITIES.items() if shape or not quantity.shape]
    for numbered in batches:
        lengths = [len(context.token_ids) for _, context in numbered]
        batch = Batch.of([context.token_ids for _, context in numbered])
        if watcher:
            watcher.begin(batch, body.device, [number for number, _ in numbered])
        readings = instrument.read(batch)
        real = batch.mask.bool().numpy()
        padding = int((~real).sum())
        counted = dict.fromkeys(sites, 0)
        for reading in readings:
            counted[reading.site] += reading.rstd.numel() - padding
        one_each = list({reading.site: reading for reading in readings}.values())
        kernel = _kernel(one_each, real, body.config.n_embd, partial(instrument.read_exactly, batch))
        with np.errstate(all="ignore"):
            values = np.stack([QUANTITIES[name].of(kernel) for name in names], axis=1)
        yield Block(
            quantities=names,
            values=values,
            sequence=np.repeat([number for number, _ in numbered], lengths),
            position=np.concatenate([np.arange(length) for length in lengths]),
            statistics=np.array(list(counted.values())),
            padding=padding,
            eps=np.array([reading.eps for reading in one_each]),
            features=body.config.n_embd,
            feature_sums=watcher.end(sites) if watcher else None,
        )


def _kernel(readings: Sequence[Reading], real: NDArray[np.bool_], features: int, read_exactly: ReadExactly) -> Kernel:
    """The kernel's results at all sites, each (sites, real tokens).

    Where they do not determine a token's variance, the batch is run once more.
    """

    def stack(tensors: Sequence[torch.Tensor]) -> Floats:
        values: Floats = torch.stack(list(tensors)).cpu().double().numpy()[:, real]
        return values

    mean = stack([reading.mean for reading in readings])
    rstd = stack([reading.rstd for reading in readings])
    eps = np.array([[reading.eps] for reading in readings])
    shapes = [reading.shape for reading in readings if reading.shape is not None]
    square_norm = stack([shape.square_norm for shape in shapes]) if shapes else None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        variance = np.maximum(1.0 / rstd**2 - eps, 0.0)
        # sigma^2 in units of 1 / rstd^2, which the shape was scaled by.
        unit = variance * rstd**2
        # eps rstd^2 is the share of eps. A NaN is in no doubt.
        doubtful = (eps * rstd**2 > EPS_SHARE) | (rstd > LARGEST_RSTD) | (np.abs(mean * rstd) > MEAN_TO_SIGMA)
        if doubtful.any():
            places = np.flatnonzero(real)
            rows = {index: np.flatnonzero(of_site) for index, of_site in enumerate(doubtful) if of_site.any()}
            exact = read_exactly({readings[index].site: torch.from_numpy(places[row]) for index, row in rows.items()})
            for index, row in rows.items():
                found = exact[readings[index].site]
                mean[index, row] = found.mean.cpu().numpy()
                variance[index, row] = found.variance.cpu().numpy()
                unit[index, row] = 1.0
                if square_norm is not None:
                    square_norm[index, row] = found.square_norm.cpu().numpy()
        largest = furthest = fourth_moment = None
        if square_norm is not None:
            lowest, highest = stack([shape.lowest for shape in shapes]), stack([shape.highest for shape in shapes])
            largest = np.maximum(highest, -lowest)
            furthest = np.maximum(highest - mean, mean - lowest)
            fourth_moment = square_norm**2 / features / unit**2
    return Kernel(
        features=features,
        eps=eps,
        mean=mean,
        variance=variance,
        post_norm=stack([reading.post_norm for reading in readings]),
        largest=largest,
        furthest=furthest,
        fourth_moment=fourth_moment,
    )
