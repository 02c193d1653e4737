"""The vectors of some tokens at some sites: x, xhat and y, feature by feature."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch

from gpt2ln_cli.commands.inspect.record import VectorRow
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.model import eps_of
from gpt2ln_cli.model.instrument import read_vectors
from gpt2ln_cli.records import Rows
from gpt2ln_cli.text.contexts import token_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpt2ln_cli.measure.rows import Columns
    from gpt2ln_cli.measure.stream import Floats, Integers
    from gpt2ln_cli.model.subject import Subject
    from gpt2ln_cli.sites import Site

# Features of x, and as many of y, that are kept: 256 MiB of float32 in all. Two sites of GPT-2 small take 1.6 million
# for a full context.
MOST_FEATURES = 2**25


def check_room(tokens: int, sites: int, features: int) -> None:
    """Find out whether so many vectors fit.

    Raises:
        UsageError: they do not.
    """
    if tokens * sites * features > MOST_FEATURES:
        raise UsageError(
            f"vectors of {tokens:,} tokens at {sites} sites are {tokens * sites * features:,} features, and "
            f"{MOST_FEATURES:,} fit: choose fewer with --layer, --site, --position or --top, or shorter prompts."
        )


class VectorRows(Rows[VectorRow]):
    """The vectors of a run's tokens, site by site; a row is made when it is read.

    Args:
        subject: what was run.
        columns: the run's numbers.
        chosen: for each site which tokens, by their numbers in the order of the run; the rows keep their order.
    """

    def __init__(self, subject: Subject, columns: Columns, chosen: Sequence[Integers]) -> None:
        self._columns, self._chosen = columns, chosen
        self._ids = [token for context in subject.contexts for token in context.token_ids]
        self._texts = token_texts(self._ids, subject.model.tokenizer)
        self._sequence, self._position = columns.sequence, columns.position
        self._eps = [eps_of(subject.model.lazy_body, site) for site in columns.sites]
        self._places = [(number, place) for number, tokens in enumerate(chosen) for place in range(len(tokens))]
        self._statistics = [
            np.array([columns.column(number, name)[tokens] for name in ("mean", "sigma")])
            for number, tokens in enumerate(chosen)
        ]
        self._kept = _read(subject, columns, chosen)
        self.nonfinite = sum(
            int(np.count_nonzero(~np.isfinite(numbers)))
            for number, place in self._places
            for numbers in self._numbers(number, place)
        )

    def column(self, site: int, quantity: str) -> Floats:
        """One quantity of all tokens at the numbered site, in the order of the run."""
        return self._columns.column(site, quantity)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[VectorRow]:
        return (self._row(*place) for place in self._places)

    @overload
    def __getitem__(self, index: int) -> VectorRow: ...

    @overload
    def __getitem__(self, index: slice) -> list[VectorRow]: ...

    def __getitem__(self, index: int | slice) -> VectorRow | list[VectorRow]:
        if isinstance(index, slice):
            return [self._row(*place) for place in self._places[index]]
        return self._row(*self._places[index])

    def _numbers(self, number: int, place: int) -> tuple[Floats, Floats, Floats, Floats]:
        """What the row has of numbers: mu with sigma, x, xhat and y."""
        mean, sigma = self._statistics[number][:, place]
        x, y = (kept[place].astype(np.float64) for kept in self._kept[number])
        with np.errstate(all="ignore"):
            xhat = (x - mean) / np.sqrt(sigma**2 + self._eps[number])
        return np.array([mean, sigma]), x, xhat, y

    def _row(self, number: int, place: int) -> VectorRow:
        token = int(self._chosen[number][place])
        (mean, sigma), *vectors = map(_strict, self._numbers(number, place))
        pre, normalized, post = vectors
        return VectorRow(
            site=self._columns.sites[number].name,
            sequence=int(self._sequence[token]),
            position=int(self._position[token]),
            token_id=self._ids[token],
            token=None if self._texts is None else self._texts[token],
            mean=mean,
            sigma=sigma,
            pre=pre,
            normalized=normalized,
            post=post,
        )


def _strict(numbers: Floats) -> list[float | None]:
    return [number if math.isfinite(number) else None for number in numbers.tolist()]


def _read(subject: Subject, columns: Columns, chosen: Sequence[Integers]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Of each site x and y of its tokens, (tokens, features), in the batches of the run: else the last bits differ."""
    width, dtype = subject.model.lazy_body.config.n_embd, np.float32
    if subject.model.lazy_body.dtype == torch.float64:
        dtype = np.float64  # type: ignore[assignment]
    kept = [(np.empty((len(tokens), width), dtype), np.empty((len(tokens), width), dtype)) for tokens in chosen]
    starts = np.cumsum([0, *(len(context.token_ids) for context in subject.contexts)])
    orders = [np.argsort(tokens) for tokens in chosen]
    for batch, rows in subject.passes():
        taken: dict[Site, tuple[int, Integers]] = {}
        wanted: dict[Site, torch.Tensor] = {}
        for number, (tokens, order) in enumerate(zip(chosen, orders, strict=True)):
            places, at = [], []
            for line, (sequence, _) in enumerate(rows):
                first, last = np.searchsorted(tokens, starts[sequence : sequence + 2], sorter=order)
                places.append(order[first:last])
                at.append(tokens[order[first:last]] - starts[sequence] + line * batch.ids.shape[1])
            if any(map(len, places)):
                taken[columns.sites[number]] = (number, np.concatenate(places))
                wanted[columns.sites[number]] = torch.from_numpy(np.concatenate(at))
        found = read_vectors(subject.model.lazy_body, batch, wanted) if wanted else {}
        for site, vectors in found.items():
            number, at_places = taken[site]
            for array, tensor in zip(kept[number], vectors, strict=True):
                array[at_places] = tensor.numpy()
    return kept
