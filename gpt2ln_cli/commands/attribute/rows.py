"""The rows of an attribution, made while they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, overload

import numpy as np

from gpt2ln_cli.commands.attribute.record import Row
from gpt2ln_cli.measure.ledger import Ledger
from gpt2ln_cli.records import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpt2ln_cli.measure.ledger import Floats
    from gpt2ln_cli.text.contexts import Context

# A token's place is its sequence and, in the lower bits, its position.
POSITION_BITS = 32


class TokenRows(Rows[Row]):
    """One row for each site, chosen token and writer, the tokens by sequence and position, or by sigma.

    Args:
        ledger: of each site and token sigma, then share, mean and value of each writer, one quantity after the other.
        names: each site's, with how many of the writers, the first, wrote before it; and whether the last one did too.
        writers: all writers' names.
        contexts: the sequences.
        texts: of token ids; None where there is no tokenizer.
        valued: whether a feature's values were asked for.
        top: how many tokens of each site, those with the greatest sigma first; None keeps all in the text's order.
    """

    def __init__(
        self,
        ledger: Ledger,
        names: Sequence[tuple[str, Sequence[int]]],
        writers: Sequence[str],
        contexts: Sequence[Context],
        texts: dict[int, str] | None,
        *,
        valued: bool,
        top: int | None,
    ) -> None:
        self._ledger, self._names, self._writers = ledger, names, writers
        self._contexts, self._texts, self._valued = contexts, texts, valued
        self._places = ledger.places()
        self._top = len(self._places) if top is None else min(top, len(self._places))
        self._sorted = top is not None
        self._length = self._top * sum(len(before) for _, before in names)
        self.nonfinite = sum(
            int(np.count_nonzero(~np.isfinite(told))) + (0 if np.isfinite(sigma) else told.shape[1])
            for number in range(len(names))
            for _, sigma, told in self._tokens(number)
        )

    def column(self, site: int, quantity: str) -> NDArray[np.float64]:
        """The shares of one writer, ``quantity``, of all tokens at the numbered site."""
        return self._ledger.column(site, 1 + self._writers.index(quantity))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Row]:
        for number, (site, before) in enumerate(self._names):
            for place, sigma, told in self._tokens(number):
                sequence, position = place >> POSITION_BITS, place & (2**POSITION_BITS - 1)
                token_id = self._contexts[sequence].token_ids[position]
                for writer, share, mean, value in zip(before, *told, strict=True):
                    yield Row(
                        site=site,
                        sequence=sequence,
                        position=position,
                        token_id=token_id,
                        token=None if self._texts is None else self._texts[token_id],
                        sigma=_finite(sigma),
                        writer=self._writers[writer],
                        share=_finite(share),
                        mean=_finite(mean),
                        value=_finite(value) if self._valued else None,
                    )

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        return next(islice(iter(self), range(len(self))[index], None))

    def _tokens(self, number: int) -> Iterator[tuple[int, float, Floats]]:
        """Place, sigma, and share, mean and value of the writers before the site, (3, writers)."""
        before = list(self._names[number][1])
        values = self._ledger.site(number)
        order = np.argsort(-values[0], kind="stable") if self._sorted else np.arange(values.shape[1])
        told = values[1:].reshape(3, len(self._writers), -1)[:, before]
        for token in order[: self._top].tolist():
            yield int(self._places[token]), float(values[0, token]), told[:, :, token]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
