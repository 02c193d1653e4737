"""Prompts through one checkpoint after the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gpt2ln_cli.checkpoint.kept import Learned
from gpt2ln_cli.commands.ablate.predictions import Outcome, Predictions, predict
from gpt2ln_cli.commands.inspect.compute import Run, run
from gpt2ln_cli.commands.track.places import Place
from gpt2ln_cli.commands.track.reading import Loading
from gpt2ln_cli.commands.track.record import MassiveFeature
from gpt2ln_cli.errors import CheckpointError
from gpt2ln_cli.measure.feature_sums import MASSIVE, MASSIVE_TO_MEDIAN
from gpt2ln_cli.model import Model, head_weight
from gpt2ln_cli.model.instrument import Floats, Passage, watch
from gpt2ln_cli.model.subject import Progress, Running, Subject
from gpt2ln_cli.records import Flag, PromptInfo

# Passes of all tokens through each checkpoint: the kernels' own statistics, then x itself and the predictions.
PASSES = 2


@dataclass(frozen=True)
class Seen:
    """What a run of one checkpoint showed."""

    prompts: list[PromptInfo]
    sites: dict[str, dict[str, Any]]
    """Further fields of a tracked site, by its name."""
    loss: float | None
    flags: list[Flag]


@dataclass
class Massive:
    """The massive features of one site, batch by batch."""

    value: dict[int, float] = field(default_factory=dict)
    nearness: dict[int, float] = field(default_factory=dict)
    tokens: tuple[dict[int, int], dict[int, int]] = field(default_factory=lambda: ({}, {}))
    """At how many tokens each is, later and of position 0."""
    nearest: tuple[float, int] = (-1.0, 0)
    finite: bool = True

    def see(self, x: Floats, first: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        """Look at some tokens.

        Args:
            x: (tokens, features).
            first: whether each is at position 0.
        """
        self.finite &= bool(np.isfinite(x).all())
        if not self.finite:
            return
        size = np.abs(x)
        nearness = size / np.maximum(MASSIVE, MASSIVE_TO_MEDIAN * np.median(size, axis=1, keepdims=True))
        self.nearest = max(self.nearest, (float(nearness.max()), int(nearness.argmax()) % x.shape[1]))
        for token, feature in np.argwhere(nearness > 1).tolist():
            here = float(x[token, feature])
            if abs(here) > abs(self.value.get(feature, 0.0)):
                self.value[feature] = here
            self.nearness[feature] = max(self.nearness.get(feature, 0.0), float(nearness[token, feature]))
            counts = self.tokens[int(first[token])]
            counts[feature] = counts.get(feature, 0) + 1

    def fields(self) -> dict[str, Any]:
        """As a tracked site has them."""
        rest, first = self.tokens
        return {
            "massive": [
                MassiveFeature(
                    index=index,
                    value=self.value[index],
                    first=first.get(index, 0),
                    rest=rest.get(index, 0),
                    nearness=self.nearness[index],
                )
                for index in sorted(self.value, key=lambda one: -abs(self.value[one]))
            ],
            "nearest": self.nearest[1] if self.finite else None,
            "nearness": self.nearest[0] if self.finite else None,
        }


class Runs:
    """Runs the same tokens through each checkpoint, of which one is in memory at a time.

    Args:
        loading: how each is loaded.
        prompts: texts or token ids; the tokenizer of the first that is run turns them into the tokens of all.
        layers: as for :func:`gpt2ln_cli.inspect`.
        kinds: of sites.
        running: how they are run.
        checkpoints: how many there will be, for progress.
    """

    def __init__(
        self,
        loading: Loading,
        prompts: list[str | list[int]],
        layers: list[int | str] | None,
        kinds: Collection[str] | None,
        running: Running,
        checkpoints: int,
    ) -> None:
        self._loading, self._prompts, self._layers, self._kinds = loading, prompts, layers, kinds
        self._running, self._passes = running, checkpoints * PASSES
        self._infos: list[PromptInfo] | None = None
        self._done = 0

    def run(self, place: Place) -> tuple[Learned, Seen]:
        """Run one.

        Raises:
            CheckpointError: it can't be found, read or trusted.
            PromptError: a prompt can't be used.
        """
        try:
            return self._run(self._loading.load(place))
        finally:
            self._done += PASSES

    def _run(self, model: Model) -> tuple[Learned, Seen]:
        same: Running = {**self._running, "progress": self._progress(0)}
        prompts: Sequence[str | Sequence[int]] = self._prompts
        if self._infos is not None:
            prompts = [prompt.token_ids for prompt in self._infos]
            same["bos"] = False
        done = run(prompts, model=model, layers=self._layers, kinds=self._kinds, per_token=False, **same)
        record = done.record("inspect")
        if self._infos is None:
            self._infos = record.prompts
        massive, loss = self._look(done)
        sites = {site.name: {"first": site.first, "rest": site.rest, **massive[site.name]} for site in record.sites}
        return Learned(record.model, model.layer_norms()), Seen(self._infos, sites, loss, record.warnings)

    def _look(self, done: Run) -> tuple[dict[str, dict[str, Any]], float | None]:
        """Look at x, and at what is predicted."""
        subject, sites = done.subject, done.counting.sites
        massive = {site: Massive() for site in sites}
        steps = Subject(subject.model, subject.contexts, subject.batches, subject.bos, self._progress(1)).steps()
        try:
            head = head_weight(subject.model)
        except CheckpointError:
            head = None
        losses = []
        for batch, rows in subject.passes():
            lengths = [len(context.token_ids) for _, context in rows]
            ends = np.cumsum(lengths)
            first = np.zeros(ends[-1], dtype=bool)
            first[ends - lengths] = True

            def see(passage: Passage, first: np.ndarray[Any, np.dtype[np.bool_]] = first) -> None:
                massive[passage.site].see(passage.x, first)

            output = watch(subject.model.lazy_body, batch, sites, see)
            if head is not None:
                losses.append(_losses(output[batch.mask.bool().to(output.device)], rows, head, ends))
            steps.add(sum(lengths))
        of_all = np.concatenate(losses) if losses else np.empty(0)
        return {site.name: one.fields() for site, one in massive.items()}, float(of_all.mean()) if of_all.size else None

    def _progress(self, number: int) -> Progress | None:
        outer = self._running.get("progress")
        if outer is None:
            return None
        passes = self._done + number
        return lambda done, total: outer(passes * total + done, self._passes * total)


def _losses(hidden: torch.Tensor, rows: Sequence[Any], head: torch.Tensor, ends: Any) -> Floats:
    """Negative log-likelihood of every next token that there is, in nats."""
    # After the last of a sequence comes the next one's first, which is left out.
    targets = np.roll(np.concatenate([context.token_ids for _, context in rows]), -1)
    predictions = Predictions.room_for(len(targets))
    outcome = Outcome(hidden, np.zeros(len(targets)))
    predict([outcome], torch.tensor(targets, device=head.device), head, [predictions], 0)
    has_next = np.ones(len(targets), dtype=bool)
    has_next[ends - 1] = False
    return predictions.loss[has_next]
