"""LayerNorms over a training run: checkpoint by checkpoint, of which no more than a few are ever in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from gpt2ln_cli.arguments import SHARED, checked, layer_list, prompt_list, refuse_without_effect
from gpt2ln_cli.checkpoint.base import LayerNormParameters
from gpt2ln_cli.checkpoint.kept import Kept, Learned
from gpt2ln_cli.commands.params.describe import describe
from gpt2ln_cli.commands.track.claims import claims
from gpt2ln_cli.commands.track.places import Place, find
from gpt2ln_cli.commands.track.reading import AT_A_TIME, Loading, attempt, read, read_all
from gpt2ln_cli.commands.track.record import Track, TrackedCheckpoint, TrackedSite
from gpt2ln_cli.errors import CheckpointError, UsageError
from gpt2ln_cli.measure.flags import eps_flags, parameter_flags
from gpt2ln_cli.model import Device, Dtype, Model
from gpt2ln_cli.records import Feature, Flag, strict
from gpt2ln_cli.sites import Site, select_sites

if TYPE_CHECKING:
    from gpt2ln_cli.commands.track.running import Seen
    from gpt2ln_cli.model.subject import Layers, Progress, Prompts, Running

Floats = NDArray[np.float64]
NONE = LayerNormParameters(gain=None, bias=None)


@checked
def track(
    checkpoints: str | Path | Model | Iterable[str | Path | Model],
    prompts: Prompts | None = None,
    *,
    revisions: str | Sequence[str] | None = None,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    features: int = 3,
    heads: int | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    cache: bool = True,
    **running: Unpack[Running],
) -> Track:
    """Follow LayerNorms over a training run; ``gpt2ln track``.

    Args:
        checkpoints: the folder of a run, or checkpoints as ``model`` of :func:`gpt2ln_cli.inspect`, or several of both.
        prompts: texts or token ids to run through each, tokenized by the last one's tokenizer; None reads gains and
            biases alone, from the Hub by ranges.
        revisions: globs over the branches and tags of a Hub id, such as ``checkpoint-*``.
        layers: as for :func:`gpt2ln_cli.inspect`.
        sites: as for :func:`gpt2ln_cli.inspect`.
        features: how many of each vector's features that are farthest from the rest to list.
        heads: as for :func:`gpt2ln_cli.load`, as are the next three, of what is not loaded yet.
        prefix: see there.
        device: see there.
        dtype: see there.
        cache: whether gains and biases that were read are kept for the next time, and taken from there.
        **running: see :class:`gpt2ln_cli.model.subject.Running`; without prompts ``progress`` counts checkpoints.

    Raises:
        UsageError: an argument has no meaning, or without prompts no effect; or there is no such layer or site.
        CheckpointError: no checkpoint can be read, or the Hub can't be asked which there are.
        PromptError: as for :func:`gpt2ln_cli.inspect`.
    """
    progress = running.get("progress")
    if type(cache) is not bool:
        raise UsageError(f"cache {cache!r}: it must be True or False.")
    if prompts is None:
        given: dict[str, object] = {**running}
        refuse_without_effect(
            "without prompts, when gains and biases alone are read",
            **{name: (given[name], SHARED[name]) for name in SHARED if name in given and name != "progress"},
            device=(device, "auto"),
            dtype=(dtype, "auto"),
        )
    if cache not in (True, False):
        raise UsageError(f"cache {cache!r}: it must be True or False.")
    places = find(checkpoints, [revisions] if isinstance(revisions, str) else revisions)
    loading = Loading(heads, prefix, device, dtype)
    if prompts is not None:
        from gpt2ln_cli.commands.track.running import Runs  # which needs torch

        runs = Runs(loading, prompt_list(prompts), layer_list(layers), sites, running, len(places))
        return _Following(layer_list(layers), sites, features).through(places, runs.run, 1)
    kept = Kept() if cache else None
    counted = _Counted(progress, len(places))

    def read_one(place: Place) -> tuple[Learned, None]:
        try:
            return read(place, loading, kept), None
        finally:
            counted.add()

    at_a_time = AT_A_TIME if any(place.remote for place in places) else 1
    record = _Following(layer_list(layers), sites, features).through(places, read_one, at_a_time)
    if kept is not None:
        kept.trim()
    return record


@dataclass
class _Counted:
    """How many checkpoints are done."""

    progress: Progress | None
    total: int
    done: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self) -> None:
        with self._lock:
            self.done += 1
            if self.progress is not None:
                self.progress(self.done, self.total)


@dataclass
class _Following:
    """One checkpoint after the other, with the vectors of the last and of the one before alone in memory."""

    layers: Sequence[int | str] | None
    kinds: Collection[str] | None
    features: int
    flags: dict[tuple[str, str | None, str], tuple[Flag, list[str]]] = field(default_factory=dict)

    def through(
        self, places: Sequence[Place], read_one: Callable[[Place], tuple[Learned, Seen | None]], at_a_time: int
    ) -> Track:
        """The record of all of them, of which the last that can be read is read first."""
        beyond: list[CheckpointError] = []
        while True:
            if len(beyond) == len(places):
                if len(places) == 1:
                    raise beyond[0]
                raise CheckpointError(f"none of the {len(places)} checkpoints can be read; of the last: {beyond[0]}")
            outcome = attempt(read_one, places[-1 - len(beyond)])
            if not isinstance(outcome, CheckpointError):
                break
            beyond.append(outcome)
        last, seen = outcome
        chosen = select_sites(last.info.n_layer, self.layers, self.kinds)
        before: Learned | None = None
        followed = []
        earlier = len(places) - 1 - len(beyond)
        outcomes = chain(read_all(read_one, places[:earlier], at_a_time), [outcome], reversed(beyond))
        for place, outcome in zip(places, outcomes, strict=True):
            error = outcome if isinstance(outcome, CheckpointError) else _differs(outcome[0], last)
            if isinstance(outcome, CheckpointError) or error is not None:
                followed.append(_row(place, error=str(error)))
                continue
            learned, seen_here = outcome
            self._flag(place, learned, seen_here)
            tracked = [_site(site, learned, before, last, seen_here, self.features) for site in chosen]
            followed.append(_row(place, loss=None if seen_here is None else seen_here.loss, sites=tracked))
            before = learned
        read, nonfinite = strict(followed)
        return Track(
            model=last.info,
            prompts=None if seen is None else seen.prompts,
            checkpoints=read,
            claims=claims(read, ran=seen is not None),
            warnings=self._warnings(),
            nonfinite=nonfinite,
        )

    def _flag(self, place: Place, learned: Learned, seen: Seen | None) -> None:
        flags = seen.flags if seen is not None else [*parameter_flags(learned.vectors), *eps_flags(learned.info.eps)]
        for flag in flags:
            self.flags.setdefault((flag.code, flag.site, flag.message), (flag, []))[1].append(place.name)

    def _warnings(self) -> list[Flag]:
        """Each flag once, with the checkpoints that it is of."""
        return [
            Flag(code=flag.code, site=flag.site, message=f"in {_several(names)}: {flag.message}")
            for flag, names in self.flags.values()
        ]


def _several(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if names[1:] else names[0]


def _differs(learned: Learned, last: Learned) -> CheckpointError | None:
    for words, one, other in (
        ("layers", learned.info.n_layer, last.info.n_layer),
        ("features of width", learned.info.n_embd, last.info.n_embd),
    ):
        if one != other:
            return CheckpointError(
                f"it has {one} {words} and the last checkpoint has {other}: they are not of one run."
            )
    return None


def _row(
    place: Place, *, error: str | None = None, loss: float | None = None, sites: Sequence[TrackedSite] = ()
) -> TrackedCheckpoint:
    assert place.step is not None
    return TrackedCheckpoint(
        name=place.name,
        step=place.step,
        step_from=place.step_from,
        revision=place.revision,
        error=error,
        loss=loss,
        sites=list(sites),
    )


def _site(
    site: Site, learned: Learned, before: Learned | None, last: Learned, seen: Seen | None, features: int
) -> TrackedSite:
    mine, ends = learned.vectors.get(site.name, NONE), last.vectors.get(site.name, NONE)
    previous = NONE if before is None else before.vectors.get(site.name, NONE)
    described = describe(site, mine)
    return TrackedSite(
        name=site.name,
        layer=site.layer,
        kind=site.kind,
        gain=described.gain,
        bias=described.bias,
        gain_cosine_last=_cosine(mine.gain, ends.gain),
        gain_cosine_previous=_cosine(mine.gain, previous.gain),
        bias_cosine_last=_cosine(mine.bias, ends.bias),
        bias_cosine_previous=_cosine(mine.bias, previous.bias),
        gain_farthest=_farthest(mine.gain, features),
        bias_farthest=_farthest(mine.bias, features),
        **({} if seen is None else seen.sites[site.name]),
    )


def _cosine(a: Floats | None, b: Floats | None) -> float | None:
    if a is None or b is None:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        norms = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
        return float(np.clip(a @ b / norms, -1.0, 1.0)) if norms else None


def _farthest(values: Floats | None, features: int) -> list[Feature]:
    if values is None:
        return []
    with np.errstate(invalid="ignore"):
        distance = np.abs(values - np.sort(values)[(len(values) - 1) // 2])
    # What is not finite is farther than anything.
    order = np.argsort(-np.where(np.isfinite(distance), distance, np.inf), kind="stable")[:features]
    return [Feature(index=int(index), value=float(values[index])) for index in order]
