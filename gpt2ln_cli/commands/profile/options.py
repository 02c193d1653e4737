"""What a call asks of a profile."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt2ln_cli.arguments import refuse_without_effect
from gpt2ln_cli.commands.profile.engine import Engine
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.text.corpus.documents import Separator
from gpt2ln_cli.text.corpus.windows import Documents


@dataclass(frozen=True)
class Options:
    """How a corpus is profiled."""

    separator: Separator = "line"
    documents: Documents = "each"
    column: str | None = None
    bos: bool = False
    limit_tokens: int | None = None
    skip_bad: bool = False
    top: int = 10
    features: bool = False
    batch_tokens: int | None = None
    """None takes what the run was begun with, and at first lets the device decide."""
    threads: int | None = None
    """None takes what the run was begun with, and at first shares the cores out."""
    workers: int = 1
    quantiles: Sequence[float] = ()
    against: str | Path | None = None
    shard: str | None = None
    """``I/N``: no more than each N-th shard, from the I-th on."""
    engine: Engine = "local"
    ray_address: str | None = None
    worker_cpus: float | None = None
    """None is as many as threads."""
    worker_gpus: float | None = None
    """None is 1 where the model is on a GPU."""

    def check_engine(self) -> None:
        """Refuse what makes no difference to the engine.

        Raises:
            UsageError: something does not.
        """
        if self.engine == "ray":
            refuse_without_effect("with the engine ray, which fills its cluster", workers=(self.workers, 1))
        else:
            asked = {name: (getattr(self, name), None) for name in ("ray_address", "worker_cpus", "worker_gpus")}
            refuse_without_effect("without the engine ray", **asked)

    def share(self) -> slice:
        """Which shards are those of ``I/N``: neighbours go to different shares, so that each has of every source.

        Raises:
            UsageError: it is no share.
        """
        if self.shard is None:
            return slice(None)
        found = re.fullmatch(r"([0-9]+)/([0-9]+)", self.shard)
        number, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise UsageError(f"shard '{self.shard}': give I/N, the I-th of N shares, such as 3/64.")
        return slice(number - 1, None, of)
