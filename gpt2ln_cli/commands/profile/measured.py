"""What is measured of a shard, and what shards add up to."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import Self

from gpt2ln_cli.measure.counts import Counting
from gpt2ln_cli.measure.distributions import Distributions
from gpt2ln_cli.measure.feature_sums import Watcher
from gpt2ln_cli.measure.features import Features
from gpt2ln_cli.measure.flags import Tallies
from gpt2ln_cli.measure.places import Places
from gpt2ln_cli.measure.stream import Fold, stream
from gpt2ln_cli.measure.tops import Tops
from gpt2ln_cli.quantities import QUANTITIES
from gpt2ln_cli.sites import Site, all_sites
from gpt2ln_cli.text.batches import Numbered, in_batches
from gpt2ln_cli.text.contexts import token_texts
from gpt2ln_cli.text.corpus.documents import Bad, Document
from gpt2ln_cli.text.corpus.windows import Taken, Window, windows

if TYPE_CHECKING:
    from gpt2ln_cli.commands.profile.manifest import Settings
    from gpt2ln_cli.model import Model

T = TypeVar("T")
# Batches that are read and tokenized while the model runs.
AHEAD = 4
# Tokens before and after one that is listed.
AROUND = 5


class Measured:
    """The folds of a run's stream, and what was taken of the corpus for it.

    Args:
        sites: all of the model's, in forward order.
        positions: how many a context has.
        top: how many tokens to keep of each ranking.
        features: how many to measure of x and y; None measures none.
    """

    def __init__(self, sites: Sequence[Site], positions: int, top: int, features: int | None) -> None:
        self.counting = Counting(sites)
        self.tallies = Tallies(sites)
        self.distributions = Distributions(sites, list(QUANTITIES), positions)
        self.tops = Tops(sites, top)
        self.features = None if features is None else Features(sites, features, peaks=0)
        self.places = None if features is None else Places(sites, features)
        self.taken = Taken()
        self.seconds = 0.0
        """How long it took, which is no number of the corpus."""

    @property
    def folds(self) -> dict[str, Fold]:
        """By name."""
        others = ("taken", "seconds")
        return {name: fold for name, fold in vars(self).items() if name not in others and fold is not None}

    def merge(self, other: Self) -> None:
        """Take in what was measured of the shards that come next."""
        for fold, another in zip(self.folds.values(), other.folds.values(), strict=True):
            fold.merge(another)
        for name, value in vars(other.taken).items():
            setattr(self.taken, name, getattr(self.taken, name) + value)
        self.seconds += other.seconds

    def state(self) -> dict[str, Any]:
        """All that it holds."""
        return {
            **{name: fold.state() for name, fold in self.folds.items()},
            "taken": {**vars(self.taken), "bad": [vars(bad) for bad in self.taken.bad]},
            "seconds": self.seconds,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """What had this state."""
        measured = cls.__new__(cls)
        measured.counting = Counting.from_state(state["counting"])
        measured.tallies = Tallies.from_state(state["tallies"])
        measured.distributions = Distributions.from_state(state["distributions"])
        measured.tops = Tops.from_state(state["tops"])
        measured.features = Features.from_state(state["features"]) if "features" in state else None
        measured.places = Places.from_state(state["places"]) if "places" in state else None
        measured.taken = Taken(**{**state["taken"], "bad": [Bad(**bad) for bad in state["taken"]["bad"]]})
        measured.seconds = state["seconds"]
        return measured


def nothing(settings: Settings) -> Measured:
    """What is measured before the first shard."""
    model = settings.model
    features = model.n_embd if settings.features else None
    return Measured(all_sites(model.n_layer), model.n_positions, settings.top, features)


def measure(
    documents: Iterable[Document | Bad],
    *,
    model: Model,
    settings: Settings,
    limit: int | None,
    skip_bad: bool,
    report: Callable[[int], None],
) -> Measured:
    """Run the documents of one shard through the model.

    Args:
        documents: in their order.
        model: the settings' model.
        settings: how.
        limit: take no further document once there are so many tokens.
        skip_bad: list what can't be used; else it is an error.
        report: told of the tokens of each pass.

    Raises:
        PromptError: a document can't be used.
        CheckpointError: the tokenizer fails.
    """
    began = time.perf_counter()
    measured = nothing(settings)
    contexts = windows(
        documents,
        config=model.checkpoint.config,
        tokenizer=model.tokenizer,
        how=settings.documents,
        bos=settings.bos,
        limit=limit,
        skip_bad=skip_bad,
        taken=measured.taken,
    )
    running: dict[int, Window] = {}

    def batches() -> Iterator[list[Numbered]]:
        for batch in ahead(in_batches(contexts, batch_tokens=settings.batch_tokens), AHEAD):
            running.clear()
            running.update(batch)  # type: ignore[arg-type]
            yield batch

    def where(sequence: int, position: int) -> list[Any]:
        window = running[sequence]
        source, offset = window.place(position)
        first = max(0, position - AROUND)
        near = window.token_ids[first : position + AROUND + 1]
        return [source, offset, position, position - first, near]

    def described(places: list[Any]) -> list[Any]:
        ids = [token for *_, near in places for token in near]
        texts = token_texts(ids, model.tokenizer) or []
        found, begin = [], 0
        for source, offset, position, before, near in places:
            around = texts[begin : begin + len(near)]
            found.append([source, offset, position, around[before], "".join(around)])
            begin += len(near)
        return found

    # In float32 it takes a third of the time.
    watcher = Watcher(peaks=0, exact=False, records=True) if settings.features else None
    placed = [fold for fold in (measured.tops, measured.places) if fold is not None]
    for block in stream(model.lazy_body, batches(), measured.counting.sites, shape=True, watcher=watcher):
        for fold in measured.folds.values():
            fold.add(block)
        for fold in placed:
            fold.locate(where)
        report(len(block.position))
    for fold in placed:
        fold.describe(described)
    measured.seconds = time.perf_counter() - began
    return measured


def ahead(items: Iterable[T], most: int) -> Iterator[T]:
    """The items, of which a thread makes the next ones meanwhile, so many at most."""
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(most)
    left = threading.Event()

    def put(item: T | None, error: BaseException | None = None) -> None:
        placed = False
        while not placed and not left.is_set():
            with contextlib.suppress(queue.Full):
                made.put((item, error), timeout=0.1)
                placed = True

    def make() -> None:
        try:
            for item in items:
                put(item)
                if left.is_set():
                    return
            put(None)
        except BaseException as error:
            put(None, error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        left.set()
        thread.join()
