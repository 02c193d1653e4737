"""From the kernel's readings to statistics by token, and from those to summaries.

With mu and rstd = 1 / sqrt(sigma^2 + eps) from the kernel and d features, the rest follows without touching x again:

    sigma^2    = 1 / rstd^2 - eps
    ||x||^2    = d (sigma^2 + mu^2)
    ||xhat||^2 = d sigma^2 / (sigma^2 + eps)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2ln_cli.ledger import Floats, Ledger
from gpt2ln_cli.probe import Probe, SiteReading
from gpt2ln_cli.prompts import Context
from gpt2ln_cli.records import Counts, KindCount, Spread, Summary
from gpt2ln_cli.sites import KINDS, Site

if TYPE_CHECKING:
    from transformers import GPT2Model

Progress = Callable[[int, int], None]


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
    with Probe(body, sites, shape=shape) as probe:
        for batch in batches:
            ids, mask, positions = _pad([contexts[i].token_ids for i in batch], body.device)
            readings = probe.run(ids, mask, positions)
            real = mask.bool().cpu().numpy()
            tally.add(readings, real)
            derived = _derive(readings, real, body.config.n_embd, body.config.layer_norm_epsilon)
            ledger.add(derived.stacked(), np.concatenate([np.arange(starts[i], starts[i + 1]) for i in batch]))
            done += int(real.sum())
            if progress is not None:
                progress(done, int(starts[-1]))
    return Measured(
        sites=sites,
        sequence=np.repeat(np.arange(len(lengths)), lengths),
        position=np.concatenate([np.arange(length) for length in lengths]),
        ledger=ledger,
        statistics=list(tally.real.values()),
        counts=tally.counts(len(lengths), sum(lengths), body.config.n_embd, len(batches)),
    )


def _pad(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, mask and positions, each (sequences, longest), padded on the right.

    GPT-2's positions are absolute, so padding on the left would move them. The padding's id does not matter: no real
    token attends to a later position.
    """
    longest = max(map(len, sequences))
    ids = torch.zeros((len(sequences), longest), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    positions = torch.arange(longest).expand_as(ids)
    return ids.to(device), mask.to(device), positions.to(device)


class _Tally:
    """Counts the statistics in the kernel's own tensors."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self.real = dict.fromkeys(sites, 0)
        self.padded = dict.fromkeys(sites, 0)
        self.positions = 0

    def add(self, readings: Sequence[SiteReading], real: NDArray[np.bool_]) -> None:
        padded = int((~real).sum())
        for reading in readings:
            self.real[reading.site] += reading.rstd.numel() - padded
            self.padded[reading.site] += padded
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


def _derive(readings: Sequence[SiteReading], real: NDArray[np.bool_], features: int, eps: float) -> Quantities:
    """The quantities of one forward pass, each (sites, real tokens)."""

    def stack(tensors: Sequence[torch.Tensor]) -> Floats:
        values: Floats = torch.stack(list(tensors)).cpu().double().numpy()[:, real]
        return values

    mean = stack([reading.mean for reading in readings])
    rstd = stack([reading.rstd for reading in readings])
    shapes = [reading.shape for reading in readings if reading.shape is not None]
    lowest = stack([shape.lowest for shape in shapes]) if shapes else None
    highest = stack([shape.highest for shape in shapes]) if shapes else None
    square_norm = stack([shape.square_norm for shape in shapes]) if shapes else None
    max_deviation = excess_kurtosis = None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        variance = np.maximum(1.0 / rstd**2 - eps, 0.0)
        for index, reading in enumerate(readings):
            if reading.exact is None:
                continue
            # Among the real tokens, those that were read from x; and of those, where their values stand.
            chosen = reading.exact.rows.cpu().numpy()
            here, kept = chosen[real], real[chosen]
            mean[index, here] = reading.exact.mean.cpu().numpy()[kept]
            variance[index, here] = reading.exact.variance.cpu().numpy()[kept]
            if square_norm is not None:
                square_norm[index, here] = reading.exact.square_norm.cpu().numpy()[kept]
        sigma = np.sqrt(variance)
        if lowest is not None and highest is not None and square_norm is not None:
            max_deviation = np.maximum(highest - mean, mean - lowest) / sigma
            excess_kurtosis = square_norm**2 / features / variance**2 - 3.0
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
