"""Where a run's numbers are kept: written pass by pass, read site by site."""

from __future__ import annotations

import tempfile
import weakref

import numpy as np
from numpy.typing import NDArray

from gpt2ln_cli.errors import UsageError

Floats = NDArray[np.float64]
# What is kept in memory; more than this goes to a temporary file.
MEMORY = 64 * 2**20


class Ledger:
    """float64 numbers for each site, quantity and token.

    At most ``MEMORY`` bytes of them are in memory: a temporary file holds more than that, and is gone with the ledger.
    Reading takes memory for one site at a time.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY)  # noqa: SIM115 - closed with the ledger
        weakref.finalize(self, self._file.close)
        self._offsets: list[int] = []
        self._shapes: list[tuple[int, ...]] = []
        self._places: list[NDArray[np.int64]] = []
        self._order: NDArray[np.int64] | None = None

    def add(self, block: Floats, places: NDArray[np.int64]) -> None:
        """Keep one pass's numbers.

        Args:
            block: (sites, quantities, tokens of the pass).
            places: (tokens of the pass,): which token of the whole run each is.

        Raises:
            UsageError: there is no room for the temporary file.
        """
        self._order = None
        self._shapes.append(block.shape)
        self._places.append(places)
        try:
            self._offsets.append(self._file.seek(0, 2))
            self._file.write(np.ascontiguousarray(block).tobytes())
        except OSError as error:
            raise UsageError(
                f"can't keep the run's numbers in {tempfile.gettempdir()}: {error.strerror}; TMPDIR can name another "
                "folder."
            ) from error

    def site(self, number: int) -> Floats:
        """One site's numbers, (quantities, tokens), the tokens in the order of the run."""
        parts = []
        for offset, (_, quantities, tokens) in zip(self._offsets, self._shapes, strict=True):
            size = quantities * tokens * 8
            self._file.seek(offset + number * size)
            parts.append(np.frombuffer(self._file.read(size)).reshape(quantities, tokens))
        if self._order is None:
            self._order = np.argsort(np.concatenate(self._places))
        joined: Floats = np.concatenate(parts, axis=1)[:, self._order]
        return joined
