"""What the features of x and y add up to over one pass's tokens, site by site, as they pass.

Of no token any feature is kept but of those whose |x| is among the greatest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.model.instrument import at_once
from gpt2ln_cli.sites import Site

Stage = Literal["pre", "post"]
STAGES: tuple[Stage, ...] = ("pre", "post")
# A feature of a token is massive above both (Sun et al., "Massive Activations in Large Language Models", 2024).
MASSIVE, MASSIVE_TO_MEDIAN = 100.0, 1_000.0
# What is kept of each feature of either stage: mean over tokens, sum of squared distances from it, greatest absolute
# value, sum of shares, and (of x alone) at how many tokens it is massive, and the sum of its shares there.
NUMBERS = 6
MEAN, M2, LARGEST, SHARE, COUNT, HELD = range(NUMBERS)


@dataclass(frozen=True)
class Peaks:
    """The features with the greatest |x| of a pass, each at the token where it is greatest; (peaks,)."""

    feature: Tensor
    token: Tensor
    """Its place among the tokens that were summed."""
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Records:
    """Features of one stage whose greatest |value| in a pass may exceed all before it, and where it stands."""

    feature: Tensor
    token: Tensor
    """Its place among the tokens that were summed; of several as great the first of the stream's contexts."""


@dataclass(frozen=True)
class Sums:
    """What some tokens' features add up to, at one site."""

    numbers: Tensor
    """(stages, numbers, features)."""
    peaks: Peaks | None
    """None where none are kept."""
    records: Sequence[Records]
    """Of each stage; none where they are not looked for, or there are none."""


@dataclass
class _Part:
    """The tokens of position 0 or the later ones of a pass."""

    rows: Tensor
    """Where they stand among all tokens of the batch, padding included."""
    run: slice | None
    """The same, where they stand side by side."""
    order: Tensor
    """Of these tokens, that of the stream's contexts."""
    kept: list[tuple[Site, Tensor, Tensor]] = field(default_factory=list)
    """x and y of sites where there are too few to be worth a look at each."""
    sums: dict[Site, Sums] = field(default_factory=dict)

    def of(self, values: Tensor) -> Tensor:
        """Its rows of a batch's."""
        return values.index_select(0, self.rows) if self.run is None else values[self.run]


class Watcher:
    """Adds up x and y at the sites that an instrument shows it.

    Args:
        peaks: how many features to keep the greatest |x| of.
        exact: whether to compute in float64, whatever the model computes in; else in float32, which takes a third of
            the time and leaves six digits where no token's mean is large against its sigma.
        records: whether to find where the greatest absolute value of each feature stands.
    """

    def __init__(self, *, peaks: int, exact: bool, records: bool = False) -> None:
        self._peaks, self._dtype = peaks, torch.float64 if exact else torch.float32
        self._largest: dict[tuple[Site, int], Tensor] | None = {} if records else None
        self._parts: list[_Part] = []

    def begin(self, batch: Batch, device: torch.device, numbers: Sequence[int]) -> None:
        """Make ready for a pass: nothing is to be waited for in it.

        Args:
            batch: what is run.
            device: where.
            numbers: of the batch's contexts, in the stream.
        """
        real, first = batch.mask.bool(), batch.positions == 0
        context = torch.tensor(numbers).repeat_interleave(real.shape[1])
        self._parts = []
        for part in (first, ~first):
            rows = (real & part).flatten().nonzero().squeeze(1)
            order = context[rows].argsort(stable=True)
            run = None
            if len(rows) and len(rows) == int(rows[-1] - rows[0]) + 1:
                run = slice(int(rows[0]), int(rows[-1]) + 1)
            self._parts.append(_Part(rows.to(device), run, order.to(device)))

    def see(self, site: Site, x: Tensor, y: Tensor) -> None:
        """Add up the features of one site's tokens, (sequences, tokens, features)."""
        x, y = x.flatten(0, 1), y.flatten(0, 1)
        most = at_once(x.device, x.shape[1])
        for number, part in enumerate(self._parts):
            tokens = len(part.rows)
            if 2 * tokens > most:
                self._add_up(number, [site], part.of(x)[None], part.of(y)[None])
            elif tokens:
                # A copy: what is shown is not to be kept.
                part.kept.append((site, part.of(x).clone(), part.of(y).clone()))
                if (len(part.kept) + 1) * tokens > most:
                    self._add_up_kept(number)

    def end(self, sites: Sequence[Site]) -> list[list[Sums] | None]:
        """What the pass adds up to at each of the sites, of position 0 and of later ones; None where it has none."""
        for number in range(len(self._parts)):
            self._add_up_kept(number)
        return [[part.sums[site] for site in sites] if part.sums else None for part in self._parts]

    def _add_up_kept(self, number: int) -> None:
        kept, self._parts[number].kept = self._parts[number].kept, []
        if kept:
            sites, x, y = zip(*kept, strict=True)
            self._add_up(number, sites, torch.stack(x), torch.stack(y))

    def _add_up(self, number: int, sites: Sequence[Site], x: Tensor, y: Tensor) -> None:
        """Add up what is (sites, tokens, features)."""
        # mps has no float64.
        if self._dtype == torch.float64 and x.device.type == "mps":
            x, y = x.cpu(), y.cpu()
        count = -(-x.shape[1] // max(1, at_once(x.device, x.shape[2]) // len(sites)))
        pieces = list(zip(x.chunk(count, dim=1), y.chunk(count, dim=1), strict=True))
        # Used again by every piece: to ask for memory takes longer than to fill it.
        room = torch.empty_like(pieces[0][0], dtype=self._dtype)
        numbers = [
            _numbers(of_x.to(self._dtype), of_y.to(self._dtype), room[:, : of_x.shape[1]]) for of_x, of_y in pieces
        ]
        added = numbers[0] if len(numbers) == 1 else _merged(numbers, [piece.shape[1] for piece, _ in pieces])
        for place, site in enumerate(sites):
            of_site = added[place]
            peaks = self._peaks_of(of_site, x[place], y[place]) if self._peaks else None
            records = self._records(site, number, of_site[:, LARGEST], (x[place], y[place]))
            self._parts[number].sums[site] = Sums(of_site, peaks, records)

    def _peaks_of(self, numbers: Tensor, x: Tensor, y: Tensor) -> Peaks:
        feature = numbers[0, LARGEST].topk(min(self._peaks, x.shape[1])).indices
        columns = x.index_select(1, feature)
        token = columns.abs().argmax(dim=0)
        found = columns.gather(0, token[None])[0], y[token, feature]
        return Peaks(feature, token, *(each.to(self._dtype) for each in found))

    def _records(self, site: Site, number: int, largest: Tensor, stages: Sequence[Tensor]) -> Sequence[Records]:
        if self._largest is None:
            return ()
        before = self._largest.get((site, number))
        if before is None:
            before = torch.full_like(largest, -torch.inf)
        # To find where takes twenty times as long as to find how large: on a CPU, where nothing waits for it, it is
        # looked for where there may be a record alone.
        if largest.device.type == "cpu":
            beaten = ~(largest < before)
            if not beaten.any():
                return ()
            chosen = [one.nonzero().squeeze(1) for one in beaten]
        else:
            chosen = [torch.arange(largest.shape[1], device=largest.device)] * len(stages)
        self._largest[site, number] = torch.maximum(before, largest)
        order = self._parts[number].order
        return [
            Records(feature, order[values.index_select(1, feature).index_select(0, order).abs().argmax(dim=0)])
            for feature, values in zip(chosen, stages, strict=True)
        ]


def _numbers(x: Tensor, y: Tensor, room: Tensor) -> Tensor:
    """The numbers of x and y, (sites, tokens, features): (sites, stages, numbers, features); room is for as many."""
    stages = []
    for values in (x, y):
        mean = values.sum(dim=1) / values.shape[1]
        m2 = torch.sub(values, mean[:, None], out=room).square_().sum(dim=1)
        largest = torch.maximum(values.amax(dim=1), -values.amin(dim=1))
        torch.sub(x, x.mean(dim=-1, keepdim=True), out=room).square_() if values is x else torch.square(y, out=room)
        whole = room.sum(dim=-1, keepdim=True)
        share = (whole.reciprocal().mT @ room)[:, 0]
        massive = _massive(x, largest, room, whole) if values is x else y.new_zeros(2, len(y), y.shape[2])
        stages.append(torch.stack([mean, m2, largest, share, *massive], dim=1))
    return torch.stack(stages, dim=1)


def _merged(numbers: Sequence[Tensor], tokens: Sequence[int]) -> Tensor:
    """The numbers of all the tokens, of those of pieces of so many tokens."""
    pieces = torch.stack(list(numbers))
    merged = pieces.sum(dim=0)
    counts = torch.tensor(tokens, dtype=pieces.dtype, device=pieces.device)[:, None, None, None]
    means = pieces[..., MEAN, :]
    mean = (means * counts).sum(dim=0) / sum(tokens)
    merged[..., M2, :] += ((means - mean).square_() * counts).sum(dim=0)
    merged[..., MEAN, :] = mean
    merged[..., LARGEST, :] = pieces[..., LARGEST, :].amax(dim=0)
    return merged


def _massive(x: Tensor, largest: Tensor, squares: Tensor, whole: Tensor) -> Tensor:
    """At how many tokens each feature of x is massive, and the sum of its shares there; (2, sites, features).

    A median costs as much as all the rest: on a CPU, where nothing waits for it, it is taken of those tokens alone
    whose |x| exceeds ``MASSIVE`` somewhere, since the others have no massive feature.
    """
    if x.device.type != "cpu":
        return _counted(x, squares, whole)
    found = x.new_zeros(2, len(x), x.shape[2])
    # Where there is a NaN, any other may be.
    for site in (~(largest <= MASSIVE).all(dim=1)).nonzero().flatten().tolist():
        rows = (torch.maximum(x[site].amax(dim=1), -x[site].amin(dim=1)) > MASSIVE).nonzero().squeeze(1)
        found[:, site] = _counted(*(each[site].index_select(0, rows) for each in (x, squares, whole)))
    return found


def _counted(x: Tensor, squares: Tensor, whole: Tensor) -> Tensor:
    """The same, of all tokens, (..., tokens, features): (2, ..., features)."""
    features = x.shape[-1]
    size = x.abs()
    ordered = size.sort(dim=-1).values
    median = (ordered[..., (features - 1) // 2] + ordered[..., features // 2]) / 2
    limit = (MASSIVE_TO_MEDIAN * median).clamp_(min=MASSIVE)
    massive = size > limit[..., None]
    held = torch.where(massive, squares / whole, 0.0)
    return torch.stack([massive.sum(dim=-2).to(x.dtype), held.sum(dim=-2)])
