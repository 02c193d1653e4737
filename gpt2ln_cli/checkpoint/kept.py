"""Gains and biases that were read before, in a cache of their own: a few hundred kilobytes of each checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from gpt2ln_cli.checkpoint.base import LayerNormParameters
from gpt2ln_cli.paths import cache_folder
from gpt2ln_cli.records import ModelInfo

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

VERSION = 1
# All of it together; what was not asked for the longest goes first.
MOST_BYTES = 2**29
DIGEST_BYTES = 32
Part = Literal["gain", "bias"]


@dataclass(frozen=True)
class Learned:
    """What of a checkpoint is kept."""

    info: ModelInfo
    vectors: Mapping[str, LayerNormParameters]
    """By site name."""


class _Entry(msgspec.Struct, frozen=True):
    key: list[str]
    info: ModelInfo
    sites: list[str]
    rows: list[tuple[str, Part]]
    """What each row of the numbers is."""
    dtype: Literal["<f4", "<f8"]
    numbers: bytes


class Kept:
    """The cache; whatever is damaged in it is as if it were not there, and what can't be written is not.

    An entry is a file that begins with a checksum of all that follows.
    """

    def __init__(self) -> None:
        self._folder = cache_folder() / "learned"

    def get(self, key: Sequence[str]) -> Learned | None:
        """What was kept under a key."""
        import numpy as np

        path = self._path(key)
        try:
            data = path.read_bytes()
            if data[:DIGEST_BYTES] != hashlib.sha256(data[DIGEST_BYTES:]).digest():
                return None
            entry = msgspec.msgpack.decode(data[DIGEST_BYTES:], type=_Entry)
            os.utime(path)
        except (OSError, msgspec.MsgspecError):
            return None
        numbers = np.frombuffer(entry.numbers, entry.dtype).astype(np.float64).reshape(len(entry.rows), -1)
        rows = dict(zip(entry.rows, numbers, strict=True))
        vectors = {
            site: LayerNormParameters(gain=rows.get((site, "gain")), bias=rows.get((site, "bias")))
            for site in entry.sites
        }
        return Learned(entry.info, vectors)

    def put(self, key: Sequence[str], learned: Learned) -> None:
        """Keep something, whole or not at all."""
        import numpy as np

        rows: dict[tuple[str, Part], NDArray[np.float64]] = {}
        for site, parameters in learned.vectors.items():
            if parameters.gain is not None:
                rows[site, "gain"] = parameters.gain
            if parameters.bias is not None:
                rows[site, "bias"] = parameters.bias
        numbers = np.array([*rows.values()], dtype="<f8")
        with np.errstate(over="ignore"):
            narrow = numbers.astype("<f4")
        exact = np.array_equal(narrow, numbers, equal_nan=True)
        entry = _Entry(
            key=[*key],
            info=learned.info,
            sites=[*learned.vectors],
            rows=[*rows],
            dtype="<f4" if exact else "<f8",
            numbers=(narrow if exact else numbers).tobytes(),
        )
        data = msgspec.msgpack.encode(entry)
        path = self._path(key)
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            # What is left of one that was killed here is in time removed as any other.
            unfinished = self._folder / f"{path.name}.{os.getpid()}.{threading.get_ident()}"
            try:
                unfinished.write_bytes(hashlib.sha256(data).digest() + data)
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)

    def trim(self) -> None:
        """Remove what was not asked for the longest, where there is too much."""
        with contextlib.suppress(OSError):
            found = sorted(((file.stat(), file) for file in self._folder.iterdir()), key=lambda one: -one[0].st_mtime)
            total = 0
            for status, file in found:
                total += status.st_size
                if total > MOST_BYTES:
                    file.unlink(missing_ok=True)

    def _path(self, key: Sequence[str]) -> Path:
        return self._folder / hashlib.sha256(msgspec.json.encode([VERSION, *key])).hexdigest()
