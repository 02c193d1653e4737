"""Which checkpoints a call means, and in which order they were made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from gpt2ln_cli.arguments import checkpoint_name
from gpt2ln_cli.checkpoint import BUNDLED, is_local
from gpt2ln_cli.checkpoint.base import CONFIG
from gpt2ln_cli.checkpoint.files import BUNDLE, read_json
from gpt2ln_cli.errors import CheckpointError, UsageError
from gpt2ln_cli.model import Model
from gpt2ln_cli.paths import path_text, user_path

StepFrom = Literal["name", "trainer_state", "order"]
# As in checkpoint-500, step1000, ckpt_500.pt; the 2 of gpt2 is none. No step has more digits than 64 bits hold.
STEP = re.compile(r"(?:^|[-_]|step|iter|epoch|ckpt|checkpoint)(\d{1,18})$")
STATE = "trainer_state.json"
# What transformers and others call a checkpoint that they are still writing.
UNFINISHED = ("tmp-", ".")
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", BUNDLE)


class TrainerState(msgspec.Struct):
    """Of what transformers' Trainer writes beside a checkpoint, the step."""

    global_step: int


@dataclass(frozen=True)
class Place:
    """Where one checkpoint is."""

    name: str
    model: str | Model
    """As :func:`gpt2ln_cli.load` takes it, or loaded."""
    revision: str | None = None
    """The commit of a Hub id that was found among its branches and tags."""
    step: int | None = None
    step_from: StepFrom = "order"

    @property
    def remote(self) -> bool:
        """Whether it is on a network."""
        return isinstance(self.model, str) and (self.revision is not None or not is_local(self.model))


def find(
    checkpoints: str | Path | Model | Iterable[str | Path | Model], revisions: Sequence[str] | None
) -> list[Place]:
    """Every checkpoint that is meant, in the order of their steps.

    Args:
        checkpoints: folders of runs, checkpoints, Hub ids or loaded models.
        revisions: globs over the branches and tags of the Hub ids; None takes what each has as ``main``.

    Raises:
        UsageError: there is none, or ``revisions`` are given and nothing is a Hub id or has such revisions.
        CheckpointError: the Hub can't be asked, or the system refuses to say what is on this disk.
    """
    given = [checkpoints] if isinstance(checkpoints, (str, Path, Model)) else list(checkpoints)
    found = [place for one in given for place in _places(one, revisions)]
    if not found:
        raise UsageError("no checkpoint: give the folder of a training run, checkpoints, or a Hub id and --revisions.")
    if revisions is not None and not any(place.revision for place in found):
        raise UsageError(f"--revisions {' '.join(revisions)} is for a Hub id; these are on this disk.")
    known = [place.step for place in found if place.step is not None]
    if not known:
        return [replace(place, step=number) for number, place in enumerate(found)]
    # What tells no step, as "final" does, stands after the last that does.
    return [
        replace(place, step=max(known)) if place.step is None else place
        for place in sorted(found, key=lambda place: (place.step is None, place.step))
    ]


def _places(one: str | Path | Model, revisions: Sequence[str] | None) -> Iterator[Place]:
    if isinstance(one, Model):
        yield _with_step(Place(one.checkpoint.name, one), one.checkpoint.location)
        return
    name = checkpoint_name("checkpoint", one)
    if name in BUNDLED:
        yield Place(name, name)
    elif is_local(name):
        yield from _on_disk(name)
    elif revisions is None:
        yield _with_step(Place(path_text(name), name), Path(name))
    else:
        from gpt2ln_cli.checkpoint.revisions import matching

        for revision, commit in matching(name, revisions).items():
            step = _step(revision)
            yield Place(revision, name, commit, step, "order" if step is None else "name")


def _on_disk(name: str) -> Iterator[Place]:
    path = user_path(name)
    inside = []
    if path.is_dir():
        try:
            there = sorted(entry for entry in path.iterdir() if not entry.name.startswith(UNFINISHED))
        except OSError as error:
            raise CheckpointError(f"can't read {path}: {error.strerror or error}.") from error
        # One that lost its files is a checkpoint nevertheless, and told as damaged.
        inside = [one for one in there if one.is_dir() and (_step(one.name) is not None or (one / CONFIG).is_file())]
        if not inside and not (path / CONFIG).is_file():
            inside = [one for one in there if one.suffix in SUFFIXES and _step(one.stem) is not None]
    if not inside:
        yield _with_step(Place(path_text(name), name), path)
        return
    places = [_with_step(Place(path_text(one.name), str(one)), one) for one in inside]
    yield from sorted(places, key=lambda place: (place.step is None, place.step))


def _with_step(place: Place, path: Path) -> Place:
    step = _step(path.stem if path.suffix in SUFFIXES else path.name)
    if step is not None:
        return replace(place, step=step, step_from="name")
    try:
        state = msgspec.json.decode(read_json(path / STATE), type=TrainerState)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, CheckpointError):
        return place
    return replace(place, step=state.global_step, step_from="trainer_state")


def _step(name: str) -> int | None:
    found = STEP.search(name)
    return None if found is None else int(found[1])
