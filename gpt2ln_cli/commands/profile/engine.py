"""What maps work over shards, and the local one: worker processes, each of which may be killed at any moment.

They are processes of their own, that import nothing of the program that began them: a script needs no guard.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Literal

from gpt2ln_cli.commands.profile.work import Job, Report, Worker
from gpt2ln_cli.errors import Gpt2lnError, UsageError

Engine = Literal["local", "ray"]
# Workers that may end one after the other before any of them has done a shard.
MOST_DEATHS = 3
# Of the terminal's signal only the parent tells.
PROGRAM = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:] = json.loads(sys.argv[1])
from gpt2ln_cli.commands.profile.engine import serve
serve()
"""


def in_this_process(worker: Worker, shards: Sequence[int], report: Report) -> Iterator[tuple[int, int | None]]:
    """Do the shards one by one; each with how many tokens that took, None where another process is at it."""
    try:
        for shard in shards:
            yield shard, worker.do(shard, report)
    finally:
        worker.close()


def in_processes(job: Job, shards: Sequence[int], workers: int, report: Report) -> Iterator[tuple[int, int | None]]:
    """Do the shards in so many processes, beginning with the first; as they are done.

    A process that ends is replaced, and its shard is done again. All end with this one, however that ends: each tells
    of every pass, and finds nobody to tell.

    Raises:
        UsageError: processes end again and again.
        Gpt2lnError: what a worker raised.
    """
    waiting = deque(shards)
    told: queue.Queue[tuple[_Process, Any]] = queue.Queue()
    at: dict[_Process, int] = {}
    deaths = 0
    try:
        while waiting or at:
            while waiting and len(at) < workers:
                process = _Process(job, told)
                at[process] = waiting.popleft()
                process.send(at[process])
            process, message = told.get()
            kind, value = message
            if kind == "tokens":
                report(value)
            elif kind == "done":
                deaths = 0
                shard = at.pop(process)
                if waiting:
                    at[process] = waiting.popleft()
                    process.send(at[process])
                else:
                    process.end()
                yield shard, value
            elif kind == "error":
                raise value
            elif process in at:  # it has ended
                deaths += 1
                waiting.appendleft(at.pop(process))
                code = process.end()
                if deaths == MOST_DEATHS:
                    raise UsageError(
                        f"{deaths} workers ended one after the other (the last with code {code}), which want of memory "
                        "does: give fewer --workers or --batch-tokens; what is done is kept."
                    )
    finally:
        for process in at:
            process.end()


class _Process:
    """A worker process.

    Args:
        job: what it works at.
        told: where what it tells is put.
    """

    def __init__(self, job: Job, told: queue.Queue[tuple[_Process, Any]]) -> None:
        words = [sys.executable, "-c", PROGRAM, json.dumps(sys.path)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._told = told
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        self.send(job)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream, suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                self._told.put((self, pickle.load(stream)))
        self._told.put((self, ("ended", None)))

    def send(self, what: Any) -> None:
        """Hand it something, unless it has ended, of which it tells by itself."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(pickle.dumps(what))
            self._process.stdin.flush()

    def end(self) -> int:
        """End it, whatever it is at, which is not there until it is whole; its exit code."""
        self._process.kill()
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        code = self._process.wait()
        self._listening.join()
        return code


def serve() -> None:
    """What a worker process does: shards, as long as it is given any."""
    given, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what else is printed is no message

    def tell(kind: str, value: Any) -> None:
        out.write(pickle.dumps((kind, value)))
        out.flush()

    with suppress(EOFError, ConnectionError):
        try:
            worker = Worker(pickle.load(given))
            while True:
                tell("done", worker.do(pickle.load(given), lambda tokens: tell("tokens", tokens)))
        except (EOFError, ConnectionError):
            raise
        except (Gpt2lnError, MemoryError) as error:
            tell("error", error)
        except Exception as error:
            tell("error", RuntimeError("".join(traceback.format_exception(error))))
    os._exit(0)  # what could not be told need not be written once more
