"""Gains and biases that were read before, in a cache of their own: a few hundred kilobytes of each checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
import zipfile
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
PARTS: tuple[Literal["gain", "bias"], ...] = ("gain", "bias")


@dataclass(frozen=True)
class Learned:
    """What of a checkpoint is kept."""

    info: ModelInfo
    vectors: Mapping[str, LayerNormParameters]
    """By site name."""


class _About(msgspec.Struct, frozen=True):
    key: list[str]
    info: ModelInfo
    rows: list[tuple[str, Literal["gain", "bias"]]]
    """What each row of the numbers is."""
    sites: list[str]


class Kept:
    """The cache; whatever is damaged in it is as if it were not there, and what can't be written is not."""

    def __init__(self) -> None:
        self._folder = cache_folder() / "learned"

    def get(self, key: Sequence[str]) -> Learned | None:
        """What was kept under a key."""
        import numpy as np

        path = self._path(key)
        try:
            # A zip file: each of its parts has a checksum, which is checked.
            with np.load(path, allow_pickle=False) as file:
                about = msgspec.json.decode(file["about"].tobytes(), type=_About)
                numbers = file["numbers"].astype(np.float64)
            if about.key != [*key] or numbers.shape != (len(about.rows), about.info.n_embd):
                return None
            os.utime(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, msgspec.MsgspecError):
            return None
        rows = dict(zip(about.rows, numbers, strict=True))
        return Learned(
            about.info,
            {site: LayerNormParameters(**{part: rows.get((site, part)) for part in PARTS}) for site in about.sites},
        )

    def put(self, key: Sequence[str], learned: Learned) -> None:
        """Keep something, whole or not at all."""
        import numpy as np

        rows: dict[tuple[str, Literal["gain", "bias"]], NDArray[np.float64]] = {}
        for site, parameters in learned.vectors.items():
            for part in PARTS:
                vector = getattr(parameters, part)
                if vector is not None:
                    rows[site, part] = vector
        numbers = np.array([*rows.values()]).reshape(len(rows), learned.info.n_embd)
        with np.errstate(over="ignore"):
            narrow = numbers.astype(np.float32)
        if np.array_equal(narrow, numbers, equal_nan=True):
            numbers = narrow
        about = msgspec.json.encode(_About([*key], learned.info, [*rows], [*learned.vectors]))
        data = io.BytesIO()
        np.savez(data, about=np.frombuffer(about, np.uint8), numbers=numbers)
        path = self._path(key)
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            # One that dies here leaves a file that `trim` takes for any other.
            unfinished = self._folder / f"{path.name}.{os.getpid()}.{threading.get_ident()}"
            try:
                unfinished.write_bytes(data.getbuffer())
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
        name = hashlib.sha256(msgspec.json.encode([VERSION, *key])).hexdigest()
        return self._folder / f"{name}.npz"
