"""The engine of many machines: Ray places the shards, and does again what a lost node was at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import msgspec

from gpt2ln_cli.commands.profile.work import Job, Report, Worker
from gpt2ln_cli.errors import UsageError

# Workers that a shard may take with it, or be lost with; as many as Ray itself allows a task.
MOST_RETRIES = 3


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """In touch with a cluster, which is left as it was found.

    Args:
        address: as ``ray.init`` takes it; None is the cluster of RAY_ADDRESS, of this machine, or a new one on it.

    Raises:
        UsageError: Ray is not installed, or there is no such cluster.
    """
    if find_spec("ray") is None:
        raise UsageError('the engine ray needs ray: pip install ".[ray]".')
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f" at '{address}'" if address else ""
        raise UsageError(f"there is no Ray cluster to be reached{where}: {' '.join(str(error).split())}.") from error
    try:
        yield
    finally:
        ray.shutdown()


def on_ray(
    job: Job,
    digest: str,
    shards: Sequence[int],
    *,
    cpus: float,
    gpus: float,
    report: Report,
    say: Callable[[str], None],
) -> Iterator[tuple[int, int | None]]:
    """Do the shards as tasks of the cluster at hand; each with how many tokens that took, None where another is at it.

    Args:
        job: the run.
        digest: by which its parts know it.
        shards: which.
        cpus: that a task takes of its node.
        gpus: the same.
        report: told of the tokens of each shard.
        say: told that the cluster has no room for a task, which a node that joins may bring.

    Raises:
        UsageError: Ray takes no such task, or a shard was lost with its worker again and again.
        Gpt2lnError: what a task raised.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    nodes = (node["Resources"] for node in ray.nodes() if node["Alive"])
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        say(f"no node of the Ray cluster has {cpus:g} CPUs and {gpus:g} GPUs, as each worker asks; waiting for one.")
    try:
        # Unless told, Ray ends a process that had a GPU with each task, and each would load the model anew.
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=MOST_RETRIES, max_calls=0)(_do)
        left = {shard: task.remote(msgspec.json.encode(job), digest, shard) for shard in shards}
    except ValueError as error:
        raise UsageError(f"Ray places no task with {cpus:g} CPUs and {gpus:g} GPUs: {error}.") from error
    try:
        for shard in shards:
            try:
                tokens: int | None = ray.get(left[shard])
            except RayTaskError as error:
                raise error.cause from None
            except RayError as error:
                reason = " ".join(str(error).split())
                raise UsageError(
                    f"shard {shard} was lost on the Ray cluster ({reason}); what is done is kept."
                ) from error
            del left[shard]
            report(tokens or 0)
            yield shard, tokens
    finally:
        for reference in left.values():
            ray.cancel(reference, force=True)


def _do(job: bytes, digest: str, shard: int) -> int | None:
    """What a task is; of its passes it tells nobody, since none listens there."""
    return _worker(job, digest).do(shard, lambda _: None)


@lru_cache(maxsize=1)
def _worker(job: bytes, _: str) -> Worker:
    """The worker of this process, with its model in memory."""
    known: Any = msgspec.json.decode(job, type=Job)
    return Worker(known)
