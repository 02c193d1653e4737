"""The rows of a run, which are columns until somebody reads them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from gpt2ln_cli.commands.inspect.record import Row
from gpt2ln_cli.quantities import POSITION, QUANTITIES
from gpt2ln_cli.records import Rows

if TYPE_CHECKING:
    from gpt2ln_cli.measure.rows import Columns
    from gpt2ln_cli.measure.stream import Floats, Integers


class RunRows(Rows[Row]):
    """The rows of a run, made from its columns one site at a time.

    Args:
        columns: the run's numbers.
        token_ids: of all tokens, in the order of the run.
        tokens: their texts; None where there is no tokenizer.
        sort: quantity to order each site's rows by, greatest first (NaN last); ``position`` keeps the text's order.
        top: rows to keep of each site; None keeps all.
        sites: the numbers of the columns' sites whose rows these are; None are all.
    """

    def __init__(
        self,
        columns: Columns,
        token_ids: Sequence[int],
        tokens: Sequence[str] | None,
        *,
        sort: str = POSITION,
        top: int | None = None,
        sites: Sequence[int] | None = None,
    ) -> None:
        self._sites = range(len(columns.sites)) if sites is None else sites
        self._columns, self._token_ids, self._tokens, self._sort = columns, token_ids, tokens, sort
        self._sequence, self._position = columns.sequence, columns.position
        self._each = len(token_ids) if top is None else min(top, len(token_ids))
        # The site that was read last by index: its neighbours are likely to be asked for next.
        self._last = (-1, np.empty(0, dtype=np.int64), np.empty((0, 0)))
        self.nonfinite = sum(int(np.count_nonzero(~np.isfinite(self._site(n)[1]))) for n in range(len(self._sites)))

    def column(self, site: int, quantity: str) -> Floats:
        """One quantity of all tokens at the numbered site, in the order of the run."""
        return self._columns.column(self._sites[site], quantity)

    def __len__(self) -> int:
        return len(self._sites) * self._each

    def __iter__(self) -> Iterator[Row]:
        for number in range(len(self._sites)):
            order, values = self._site(number)
            for place in range(self._each):
                yield self._row(number, order[place], values[:, place])

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        number, place = divmod(range(len(self))[index], self._each)
        if number != self._last[0]:
            self._last = (number, *self._site(number))
        _, order, values = self._last
        return self._row(number, order[place], values[:, place])

    def _site(self, number: int) -> tuple[Integers, Floats]:
        """Which tokens the site's rows are of, and their quantities (quantities, rows)."""
        order = np.arange(len(self._token_ids))
        if self._sort != POSITION:
            order = np.argsort(-self.column(number, self._sort), kind="stable")
        order = order[: self._each]
        return order, self._columns.site(self._sites[number])[:, order]

    def _row(self, number: int, token: int, values: Floats) -> Row:
        return Row(
            site=self._columns.sites[self._sites[number]].name,
            sequence=int(self._sequence[token]),
            position=int(self._position[token]),
            token_id=self._token_ids[token],
            token=self._tokens[token] if self._tokens else None,
            **{
                name: value if math.isfinite(value) else None
                for name, value in zip(QUANTITIES, values.tolist(), strict=True)
            },
        )
