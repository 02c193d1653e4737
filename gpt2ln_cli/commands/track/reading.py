"""Gains and biases of many checkpoints: several at a time from the network, and none twice."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from gpt2ln_cli.checkpoint.files import stamps
from gpt2ln_cli.checkpoint.kept import Kept, Learned
from gpt2ln_cli.commands.track.places import Place
from gpt2ln_cli.errors import CheckpointError
from gpt2ln_cli.model import Device, Dtype, Model, load
from gpt2ln_cli.paths import path_text, user_path

T = TypeVar("T")
# Checkpoints that are read from the network beside each other; each takes several connections.
AT_A_TIME = 8
# A file may change again within the tick of the clock that its stamp has; of a file this old none is left.
SETTLED_NS = 2 * 10**9


@dataclass(frozen=True)
class Loading:
    """How each checkpoint is loaded, as :func:`gpt2ln_cli.load` takes it."""

    heads: int | None = None
    prefix: str | None = None
    device: Device = "auto"
    dtype: Dtype = "auto"

    def load(self, place: Place) -> Model:
        """Load one.

        Raises:
            CheckpointError: it can't be found, read or trusted.
        """
        if isinstance(place.model, Model):
            return place.model
        return load(
            place.model,
            revision=place.revision,
            heads=self.heads,
            prefix=self.prefix,
            device=self.device,
            dtype=self.dtype,
        )


def read(place: Place, loading: Loading, kept: Kept | None) -> Learned:
    """One checkpoint's gains and biases.

    Raises:
        CheckpointError: it can't be found, read or trusted.
    """
    key = None if kept is None else _key(place, loading)
    if kept is not None and key is not None and (found := kept.get(key)) is not None:
        return found
    model = loading.load(place)
    learned = Learned(model.info.unrun(), model.layer_norms())
    if kept is not None and key is not None:
        kept.put(key, learned)
    return learned


def attempt(read_one: Callable[[Place], T], place: Place) -> T | CheckpointError:
    """What was read of one, or why it could not be."""
    try:
        return read_one(place)
    except CheckpointError as error:
        return error


def read_all(read_one: Callable[[Place], T], places: Sequence[Place], at_a_time: int) -> Iterator[T | CheckpointError]:
    """The same of all, in order."""
    if at_a_time == 1:
        yield from (attempt(read_one, place) for place in places)
        return
    pool = ThreadPoolExecutor(at_a_time)
    # Who reads a pickle silences warnings and puts back what was before, which beside others is not what it should be.
    with warnings.catch_warnings():
        try:
            yield from pool.map(partial(attempt, read_one), places)
        finally:
            # What is under way ends by itself, and nobody waits for it.
            pool.shutdown(wait=False, cancel_futures=True)


def _key(place: Place, loading: Loading) -> list[str] | None:
    """By what a checkpoint is known again; None where it may change unnoticed."""
    if isinstance(place.model, Model):
        return None
    how = [str(loading.heads), str(loading.prefix)]
    if place.revision is not None:
        return ["hub", place.model, place.revision, *how]
    if place.remote:
        return None
    path = user_path(place.model)
    try:
        found = stamps(path)
    except OSError:
        return None
    if not found or max(stamp.modified_ns for stamp in found) > time.time_ns() - SETTLED_NS:
        return None
    files = [f"{path_text(stamp.path.resolve())} {stamp.size} {stamp.modified_ns}" for stamp in found]
    return ["local", place.model, *how, *files]
