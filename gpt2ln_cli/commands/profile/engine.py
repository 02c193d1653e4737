"""What maps work over shards, and the local one: worker processes, each of which may be killed at any moment."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, cast

from gpt2ln_cli.commands.profile.work import Job, Report, Worker
from gpt2ln_cli.errors import Gpt2lnError, UsageError

Engine = Literal["local", "ray"]
# Workers that may end one after the other before any of them has done a shard.
MOST_DEATHS = 3


def in_this_process(worker: Worker, shards: Sequence[int], report: Report) -> Iterator[tuple[int, bool]]:
    """Do the shards one by one; each with whether it was, or another process is at it."""
    try:
        for shard in shards:
            yield shard, worker.do(shard, report)
    finally:
        worker.close()


def in_processes(job: Job, shards: Sequence[int], workers: int, report: Report) -> Iterator[tuple[int, bool]]:
    """Do the shards in so many processes, beginning with the first; as they are done.

    A process that ends is replaced, and its shard is done again. All end with this one, however that ends: each tells
    of every pass, and finds nobody to tell.

    Raises:
        UsageError: processes end again and again.
        Gpt2lnError: what a worker raised.
    """
    waiting = deque(shards)
    at: dict[Connection, int] = {}
    processes: dict[Connection, Any] = {}
    deaths = 0
    try:
        while waiting or at:
            while waiting and len(processes) < workers:
                connection, process = _start(job)
                processes[connection] = process
                _send(connection, waiting, at)
            for ready in wait(list(processes)):
                connection = cast(Connection, ready)
                try:
                    kind, value = connection.recv()
                except (EOFError, OSError):
                    deaths += 1
                    process = processes.pop(connection)
                    process.join()
                    shard = at.pop(connection, None)
                    if deaths >= MOST_DEATHS:
                        raise UsageError(
                            f"{deaths} workers ended one after the other (the last with code {process.exitcode}), "
                            "which want of memory does: give fewer --workers or --batch-tokens; what is done is kept."
                        ) from None
                    if shard is not None:
                        waiting.appendleft(shard)
                    continue
                if kind == "tokens":
                    report(value)
                elif kind == "error":
                    raise value
                else:
                    deaths = 0
                    shard = at.pop(connection)
                    if waiting:
                        _send(connection, waiting, at)
                    yield shard, value
    finally:
        for connection, process in processes.items():
            process.kill()  # what it is at is not there until it is whole
            process.join()
            connection.close()


def _start(job: Job) -> tuple[Connection, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, job), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _send(connection: Connection, waiting: deque[int], at: dict[Connection, int]) -> None:
    at[connection] = waiting.popleft()
    with contextlib.suppress(OSError):  # it has ended, which is seen when it is listened to
        connection.send(at[connection])


def serve(connection: Connection, job: Job) -> None:
    """What a worker process does: shards, as long as it is given any."""
    # Of the terminal's signal only the parent tells.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        try:
            worker = Worker(job)
            while True:
                shard = connection.recv()
                done = worker.do(shard, lambda tokens: connection.send(("tokens", tokens)))
                connection.send(("done", done))
        except (EOFError, ConnectionError):
            return
        except Gpt2lnError as error:
            connection.send(("error", error))
        except Exception as error:
            if isinstance(error, MemoryError):
                connection.send(("error", MemoryError()))
            else:
                connection.send(("error", RuntimeError("".join(traceback.format_exception(error)))))
    except ConnectionError:
        return
