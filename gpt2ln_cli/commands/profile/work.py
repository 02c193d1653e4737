"""From a shard to its part: what every engine maps over the shards of a run."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2ln_cli.commands.profile import manifest as manifests
from gpt2ln_cli.commands.profile import parts
from gpt2ln_cli.commands.profile.manifest import Manifest
from gpt2ln_cli.commands.profile.measured import measure
from gpt2ln_cli.errors import CheckpointError, UsageError
from gpt2ln_cli.model.memory import make_room
from gpt2ln_cli.text.corpus.shards import Reader

if TYPE_CHECKING:
    from gpt2ln_cli.model import Model

Report = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """What a worker must know to work at a run, wherever it is."""

    folder: str
    model: dict[str, Any]
    """What :func:`gpt2ln_cli.load` takes."""
    skip_bad: bool


class Worker:
    """Works at the shards of a run with one model in memory.

    Args:
        job: the run.
        model: the model where it is loaded already; it is held to be the run's.

    Raises:
        UsageError: this machine, or what is installed on it, would give other bits.
        CheckpointError: the model can't be read, or is another one.
    """

    def __init__(self, job: Job, model: Model | None = None) -> None:
        self._folder, self._skip_bad = Path(job.folder), job.skip_bad
        found = manifests.read(self._folder)
        if found is None:
            raise UsageError(
                f"{self._folder} holds no run on {platform.node()}: its manifest is gone, or out of sight."
            )
        self.manifest: Manifest = found
        settings = found.settings
        if model is None:
            from gpt2ln_cli.model import load

            model = load(**job.model)
            make_room(model.lazy_body, model.checkpoint, settings.batch_tokens)
            if manifests.weights_hash(model) != settings.weights:
                raise CheckpointError(f"'{settings.model.name}' is another model than the run was begun with.")
        self._model = model
        here = manifests.environment(str(model.lazy_body.device))
        different = list(manifests.environment_differences(settings.environment, here))
        if different:
            raise UsageError(
                f"a worker on {platform.node()} would give other numbers than the run's: {'; '.join(different)}; leave "
                "that machine out, or make it like the one that the run was begun on."
            )
        self._reader = Reader(found.sources, separator=settings.separator, column=settings.column)

    def close(self) -> None:
        """Close what is read from."""
        self._reader.close()

    def do(self, shard: int, report: Report) -> int | None:
        """Have the shard's part there, and tell how many tokens that took; None where another process is at it.

        Raises:
            UsageError: the part can't be written.
            PromptError: a source can't be used, or has changed.
        """
        settings, cut = self.manifest.settings, self.manifest.cut
        with parts.claimed(self._folder, shard, self.manifest.digest) as claim:
            if claim is None:
                return None
            if is_done(self._folder, shard, self.manifest.digest):
                return 0
            limit = None
            if settings.limit_tokens is not None:
                limit = -(-settings.limit_tokens // len(cut.shards))
            with computing_in(settings.threads):
                measured = measure(
                    self._reader.read(cut.shards[shard]),
                    model=self._model,
                    settings=settings,
                    limit=limit,
                    skip_bad=self._skip_bad,
                    report=report,
                )
            claim.write(measured.state())
        return measured.counting.counts().tokens if measured.taken.windows else 0


def is_done(folder: Path, shard: int, digest: str) -> bool:
    """Whether a shard's part is there and whole."""
    try:
        return parts.read(folder, shard, digest) is not None
    except ValueError:
        return False


@contextlib.contextmanager
def computing_in(number: int) -> Iterator[None]:
    """Compute in so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
