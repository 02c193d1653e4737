"""Where a run's numbers are kept: written pass by pass, read site by site."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gpt2ln_cli.errors import UsageError

Floats = NDArray[np.float64]
# What is kept in memory; more than this goes to a temporary file.
MEMORY = 64 * 2**20


class Ledger:
    """float64 numbers for each site, quantity and token.

    At most ``MEMORY`` bytes of them are in memory: a temporary file holds more than that, and is gone with the ledger.
    Reading takes memory for one site, or one pass, at a time.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY)  # noqa: SIM115 - closed with the ledger
        weakref.finalize(self, self._file.close)
        self._offsets: list[int] = []
        self._shapes: list[tuple[int, int, int]] = []
        self._places: list[NDArray[np.int64]] = []
        self._order: NDArray[np.int64] | None = None

    def add(self, block: Floats, places: NDArray[np.int64]) -> None:
        """Keep one pass's numbers.

        Args:
            block: (sites, quantities, tokens of the pass).
            places: (tokens of the pass,): by which the tokens of the whole run are ordered, none like another.

        Raises:
            UsageError: there is no room for the temporary file.
        """
        self._order = None
        sites, quantities, tokens = block.shape
        self._shapes.append((sites, quantities, tokens))
        self._places.append(places)
        try:
            self._offsets.append(self._file.seek(0, 2))
            self._file.write(np.ascontiguousarray(block).tobytes())
        except OSError as error:
            raise UsageError(
                f"can't keep the run's numbers in {tempfile.gettempdir()}: {error.strerror}; TMPDIR can name another "
                "folder."
            ) from error

    def places(self) -> NDArray[np.int64]:
        """The places of all tokens, in their order."""
        return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *self._places]))

    def site(self, number: int) -> Floats:
        """One site's numbers, (quantities, tokens), the tokens in the order of their places."""
        return self._in_order(
            [self._read(index, number * shape[1], shape[1]) for index, shape in enumerate(self._shapes)]
        )

    def column(self, site: int, quantity: int) -> Floats:
        """One quantity at one site, (tokens,), the tokens in the order of their places."""
        parts = [self._read(index, site * shape[1] + quantity, 1) for index, shape in enumerate(self._shapes)]
        column: Floats = self._in_order(parts)[0]
        return column

    def blocks(self) -> Iterator[tuple[Floats, NDArray[np.int64]]]:
        """What was added, as it was."""
        for index, (places, (sites, quantities, tokens)) in enumerate(zip(self._places, self._shapes, strict=True)):
            yield self._read(index, 0, sites * quantities).reshape(sites, quantities, tokens), places

    def _read(self, index: int, start: int, count: int) -> Floats:
        """Some neighbouring columns of the numbered block, (count, tokens)."""
        tokens = self._shapes[index][2]
        self._file.seek(self._offsets[index] + start * tokens * 8)
        return np.frombuffer(self._file.read(count * tokens * 8)).reshape(count, tokens)

    def _in_order(self, parts: list[Floats]) -> Floats:
        if self._order is None:
            self._order = np.argsort(np.concatenate(self._places))
        joined: Floats = np.concatenate(parts, axis=1)[:, self._order]
        return joined
