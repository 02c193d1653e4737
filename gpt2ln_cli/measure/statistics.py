"""From the kernel's readings to statistics by token, and from those to summaries.

With mu and rstd = 1 / sqrt(sigma^2 + eps) from the kernel and d features, the rest follows without touching x again:

    sigma^2    = 1 / rstd^2 - eps
    ||x||^2    = d (sigma^2 + mu^2)
    ||xhat||^2 = d sigma^2 / (sigma^2 + eps)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2ln_cli.commands.inspect.record import Summary
from gpt2ln_cli.measure.ledger import Floats, Ledger
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.model.instrument import Exact, Instrument, Reading
from gpt2ln_cli.records import Counts, KindCount, Spread
from gpt2ln_cli.sites import KINDS, Site
from gpt2ln_cli.text.prompts import Context

if TYPE_CHECKING:
    from transformers import GPT2Model

Progress = Callable[[int, int], None]

# Where eps makes up this much of variance + eps, too few digits of the variance are left in the kernel's rstd ...
EPS_SHARE = 0.9
# ... as above this rstd whatever eps is, since float32 has no variance so small ...
LARGEST_RSTD = 1e17
# ... and where |mean| exceeds sigma so many times, too few in the kernel's float32 variance.
MEAN_TO_SIGMA = 30.0


@dataclass(frozen=True)
class Quantities:
    """float64 arrays of shape (sites, tokens) for one forward pass, or (tokens,) for one site; without padding."""

    mean: Floats
    sigma: Floats
    pre_norm: Floats
    normalized_norm: Floats
    post_norm: Floats
    mean_share: Floats
    max_deviation: Floats | None
    """max|x - mu| / sigma; None, as the kurtosis is, where it was not asked for."""
    excess_kurtosis: Floats | None

    def stacked(self) -> Floats:
        """What is there of the fields, in their order, along a new axis before the last."""
        values = (getattr(self, field.name) for field in fields(self))
        return np.stack([value for value in values if value is not None], axis=-2)


@dataclass(frozen=True)
class Measured:
    """Everything a run measured."""

    sites: Sequence[Site]
    sequence: NDArray[np.int64]
    """(tokens,): which sequence each token is of."""
    position: NDArray[np.int64]
    """(tokens,): its position in it."""
    ledger: Ledger
    statistics: Sequence[int]
    """By site: (mu, sigma) pairs that the kernel returned for real tokens."""
    eps: Sequence[float]
    """By site: the module's own."""
    counts: Counts

    def at(self, number: int) -> Quantities:
        """The quantities at the numbered site, each (tokens,), the tokens of all sequences in order."""
        values = list(self.ledger.site(number))
        return Quantities(*values, *[None] * (len(fields(Quantities)) - len(values)))


def measure(
    body: GPT2Model,
    contexts: Sequence[Context],
    batches: Sequence[Sequence[int]],
    sites: Sequence[Site],
    *,
    shape: bool = False,
    progress: Progress | None = None,
) -> Measured:
    """Run the contexts through the model and measure the wanted sites.

    Args:
        body: the model.
        contexts: the sequences, none longer than the model's context.
        batches: which of them to run together, each in exactly one batch.
        sites: the sites to read, in forward order; the forward pass stops after the last.
        shape: also the largest deviation and the kurtosis.
        progress: called with (tokens done, tokens in all) after every forward pass.
    """
    lengths = [len(context.token_ids) for context in contexts]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tally = _Tally(sites)
    ledger = Ledger()
    done = 0
    instrument = Instrument(body, sites, shape=shape)
    for numbers in batches:
        batch = Batch.of([contexts[i].token_ids for i in numbers])
        readings = instrument.read(batch)
        real = batch.mask.bool().numpy()
        tally.add(readings, real)
        derived = _derive(readings, real, body.config.n_embd, functools.partial(instrument.read_exactly, batch))
        ledger.add(derived.stacked(), np.concatenate([np.arange(starts[i], starts[i + 1]) for i in numbers]))
        done += int(real.sum())
        if progress is not None:
            progress(done, int(starts[-1]))
    return Measured(
        sites=sites,
        sequence=np.repeat(np.arange(len(lengths)), lengths),
        position=np.concatenate([np.arange(length) for length in lengths]),
        ledger=ledger,
        statistics=list(tally.real.values()),
        eps=list(tally.eps.values()),
        counts=tally.counts(len(lengths), sum(lengths), body.config.n_embd, len(batches)),
    )


class _Tally:
    """Counts the statistics in the kernel's own tensors."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self.real = dict.fromkeys(sites, 0)
        self.padded = dict.fromkeys(sites, 0)
        self.eps = dict.fromkeys(sites, 0.0)
        self.positions = 0

    def add(self, readings: Sequence[Reading], real: NDArray[np.bool_]) -> None:
        padded = int((~real).sum())
        for reading in readings:
            self.real[reading.site] += reading.rstd.numel() - padded
            self.padded[reading.site] += padded
            self.eps[reading.site] = reading.eps
        self.positions += padded

    def counts(self, sequences: int, tokens: int, features: int, batches: int) -> Counts:
        sites = list(self.real)
        blocks: dict[int, int] = {}
        for site, count in self.real.items():
            if site.layer is not None:
                blocks[site.layer] = blocks.get(site.layer, 0) + count
        total = sum(self.real.values())
        per_site = set(self.real.values())
        return Counts(
            sites=len(sites),
            sequences=sequences,
            tokens=tokens,
            per_site=max(per_site),
            per_block=next(iter(blocks.values())) if len(set(blocks.values())) == 1 else None,
            total=total,
            by_kind=[
                KindCount(
                    kind=kind,
                    sites=sum(site.kind == kind for site in sites),
                    statistics=sum(count for site, count in self.real.items() if site.kind == kind),
                )
                for kind in KINDS
                if any(site.kind == kind for site in sites)
            ],
            padding=self.positions,
            padding_statistics=sum(self.padded.values()),
            features=features,
            batches=batches,
            formula=len(sites) * tokens,
            formula_agrees=len(per_site) == 1 and total == len(sites) * tokens,
        )


ReadExactly = Callable[[dict[Site, torch.Tensor]], dict[Site, Exact]]


def _derive(
    readings: Sequence[Reading], real: NDArray[np.bool_], features: int, read_exactly: ReadExactly
) -> Quantities:
    """The quantities of one forward pass, each (sites, real tokens).

    Where the kernel's results do not determine a token's variance, the batch is run once more.
    """

    def stack(tensors: Sequence[torch.Tensor]) -> Floats:
        values: Floats = torch.stack(list(tensors)).cpu().double().numpy()[:, real]
        return values

    mean = stack([reading.mean for reading in readings])
    rstd = stack([reading.rstd for reading in readings])
    eps = np.array([[reading.eps] for reading in readings])
    shapes = [reading.shape for reading in readings if reading.shape is not None]
    max_deviation = excess_kurtosis = None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        variance = np.maximum(1.0 / rstd**2 - eps, 0.0)
        # sigma^2 in units of 1 / rstd^2, which the shape was scaled by.
        unit = variance * rstd**2
        # eps rstd^2 is the share of eps. A NaN is in no doubt.
        doubtful = (eps * rstd**2 > EPS_SHARE) | (rstd > LARGEST_RSTD) | (np.abs(mean * rstd) > MEAN_TO_SIGMA)
        square_norm = stack([shape.square_norm for shape in shapes]) if shapes else None
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
        sigma = np.sqrt(variance)
        if square_norm is not None:
            lowest = stack([shape.lowest for shape in shapes])
            highest = stack([shape.highest for shape in shapes])
            max_deviation = np.maximum(highest - mean, mean - lowest) / sigma
            excess_kurtosis = square_norm**2 / features / unit**2 - 3.0
        pre_norm_squared = features * (variance + mean**2)
        return Quantities(
            mean=mean,
            sigma=sigma,
            pre_norm=np.sqrt(pre_norm_squared),
            normalized_norm=np.sqrt(features * variance / (variance + eps)),
            post_norm=stack([reading.post_norm for reading in readings]),
            mean_share=features * mean**2 / pre_norm_squared,
            max_deviation=max_deviation,
            excess_kurtosis=excess_kurtosis,
        )


def summarize(quantities: Quantities, tokens: NDArray[np.bool_]) -> Summary | None:
    """One site's quantities over the marked tokens; None where no token is marked."""
    if not tokens.any():
        return None

    def spread(values: Floats) -> Spread:
        chosen = values[tokens]
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            mean = float(chosen.mean())
        return Spread(mean=mean, min=float(chosen.min()), max=float(chosen.max()))

    return Summary(
        tokens=int(tokens.sum()),
        mean=spread(quantities.mean),
        sigma=spread(quantities.sigma),
        pre_norm=spread(quantities.pre_norm),
        normalized_norm=spread(quantities.normalized_norm),
        post_norm=spread(quantities.post_norm),
    )
