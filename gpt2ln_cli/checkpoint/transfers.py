"""Limits on what comes from the Hub: how long it may take, how large it may be, and what it may call itself.

huggingface_hub limits the silence between two reads and nothing else: a server that sends a byte now and then holds it
for ever, one that never ends fills the disk, and an ETag is taken for a file's name. So each transfer is watched, by
hooks on huggingface_hub's own client that see to nothing but these transfers.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

T = TypeVar("T")
# A configuration, an index of shards, or a tokenizer, of which GPT-2's takes 1.4 MB.
SMALL = (".json", ".txt")
MOST_SMALL_BYTES = 64 * 2**20
# Of huggingface_hub's own limits on silence, 10 s each unless HF_HUB_ETAG_TIMEOUT or HF_HUB_DOWNLOAD_TIMEOUT says more.
ETAG_TIMEOUTS, DOWNLOAD_TIMEOUTS = 3, 6
# What counts as progress of a large file: 1 MiB a minute.
STEP_BYTES = 2**20
POLL_S = 0.1
LEAVE_S = 2.0
PAUSE_S = 1.0
# The status of an answer to one who asks too often. The Hub's quotas are for five minutes.
TOO_MANY = 429
MOST_WAIT_S = 300.0
RESET = re.compile(r";\s*t=(\d{1,6})")
# A file's name takes 255 bytes at most, and huggingface_hub appends to it.
MOST_NAME = 200

_current: ContextVar[_Watch | None] = ContextVar("_current", default=None)
_installing = threading.Lock()


class _Watch:
    """One transfer's time, while a request is under way, and bytes."""

    def __init__(self, what: str, *, seconds: float, most_bytes: int | None = None, step_bytes: int | None = None):
        self.what, self.seconds, self.most_bytes, self.step_bytes = what, seconds, most_bytes, step_bytes
        self.left = False
        self._spent = 0.0
        self._since: float | None = None
        self._step = 0

    def begin(self) -> None:
        self.check_left()
        self.pause()
        self._since = time.monotonic()

    def pause(self) -> None:
        # What passes between two requests is not the server's: another process may hold the cache's lock.
        if self._since is not None:
            self._spent += time.monotonic() - self._since
        self._since = None

    def received(self, length: int) -> None:
        self.check_left()
        self._step += length
        if self.step_bytes is not None and self._step >= self.step_bytes:
            self._step, self._spent, self._since = 0, 0.0, time.monotonic()

    def overdue(self) -> bool:
        since = self._since
        return self._spent + (0.0 if since is None else time.monotonic() - since) > self.seconds

    def check_left(self) -> None:
        if self.left:
            raise CheckpointError(f"{self.what} was left.")

    def check_size(self, length: int) -> None:
        if self.most_bytes is not None and length > self.most_bytes:
            raise CheckpointError(
                f"{self.what} is larger on the Hub than {self.most_bytes:,} bytes, so it is not what its name says."
            )


def _begin(_: Any) -> None:
    watch = _current.get()
    if watch is not None:
        watch.begin()


def _follow(response: Any) -> None:
    watch = _current.get()
    if watch is None:
        return
    if response.request.method == "HEAD" and urlsplit(response.headers.get("Location", "//elsewhere")).netloc:
        _check_names(watch.what, response.headers)
    # As it comes, which is what progress is; and unpacked, which is what is written.
    for name, step in (("iter_raw", watch.received), ("iter_bytes", lambda _: None)):
        setattr(response, name, _counted(getattr(response, name), watch, step))


def _check_names(what: str, headers: Any) -> None:
    # What huggingface_hub makes names in its cache of, and how. A redirection within the Hub names nothing.
    etag = headers.get("X-Linked-ETag") or headers.get("ETag") or ""
    for kind, value in (("ETag", etag.lstrip("W/").strip('"')), ("commit", headers.get("X-Repo-Commit") or "")):
        if value in (".", "..") or any(mark in value for mark in "/\\:\0") or len(value) > MOST_NAME:
            raise CheckpointError(f"{what} has on the Hub the {kind} '{value}', which would lead out of the cache.")


def _counted(
    chunks: Callable[..., Iterator[bytes]], watch: _Watch, step: Callable[[int], None]
) -> Callable[..., Iterator[bytes]]:
    def counted(*arguments: Any, **options: Any) -> Iterator[bytes]:
        total = 0
        try:
            for chunk in chunks(*arguments, **options):
                step(len(chunk))
                total += len(chunk)
                watch.check_size(total)
                yield chunk
        finally:
            watch.pause()

    return counted


def _install() -> None:
    from huggingface_hub import get_session

    client = get_session()
    with _installing:
        hooks = client.event_hooks
        if _begin not in hooks["request"]:
            client.event_hooks = {
                "request": [*hooks["request"], _begin],
                "response": [*hooks["response"], _follow],
            }


def _watched(watch: _Watch, work: Callable[[], T]) -> T:
    """Do the work on a thread of its own, which is left where it takes too long.

    Raises:
        CheckpointError: it took too long, is too large, or would be written elsewhere.
        Exception: what the work raises.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        _current.set(watch)
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)

    _install()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(POLL_S)
            if thread.is_alive() and watch.overdue():
                raise CheckpointError(
                    f"{watch.what} comes too slowly from the Hub: {watch.seconds:g} s went by without it"
                    f"{'' if watch.step_bytes is None else ' or progress'}; try again later."
                )
    except BaseException:
        # The next bytes end the thread, and huggingface_hub then removes what it has written.
        watch.left = True
        thread.join(LEAVE_S)
        raise
    if errors:
        raise errors[0]
    return results[0]


def until_reset(headers: Mapping[str, str]) -> float:
    """Seconds after which one who asked too often may ask again, as the Hub says it, or any server."""
    told = RESET.search(headers.get("RateLimit", "")) or re.fullmatch(r"(\d{1,6})", headers.get("Retry-After", ""))
    return min(MOST_WAIT_S, float(told[1])) if told else PAUSE_S


def ask(name: str, file: str, revision: str, *, patient: bool) -> HfFileMetadata:
    """What the Hub says of a file; patient, it is asked twice where it is the Hub that fails.

    Raises:
        CheckpointError: a limit was met.
        Exception: huggingface_hub's own.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    url = hf_hub_url(name, file, revision=revision)

    def once() -> HfFileMetadata:
        watch = _Watch(f"'{name}': {file}", seconds=ETAG_TIMEOUTS * constants.HF_HUB_ETAG_TIMEOUT)
        return _watched(watch, lambda: get_hf_file_metadata(url))

    if patient:
        try:
            return once()
        except Exception as error:  # a broken connection has other names in httpx and httpx2
            status = error.response.status_code if isinstance(error, HfHubHTTPError) else 500
            if (status < 500 and status != TOO_MANY) or isinstance(error, (OfflineModeIsEnabled, CheckpointError)):
                raise
            pause = until_reset(error.response.headers) if status == TOO_MANY else PAUSE_S  # type: ignore[attr-defined]
        time.sleep(pause)
    return once()


def download(name: str, file: str, revision: str) -> Path:
    """Bring a file into the cache; return its place there.

    Raises:
        CheckpointError: a limit was met.
        Exception: huggingface_hub's own.
    """
    from huggingface_hub import constants, hf_hub_download

    small = file.endswith(SMALL)
    watch = _Watch(
        f"'{name}': {file}",
        seconds=DOWNLOAD_TIMEOUTS * constants.HF_HUB_DOWNLOAD_TIMEOUT,
        most_bytes=MOST_SMALL_BYTES if small else None,
        step_bytes=None if small else STEP_BYTES,
    )
    return Path(_watched(watch, lambda: hf_hub_download(name, file, revision=revision)))


def request(what: str, work: Callable[[], T]) -> T:
    """Do one request of a part of a file.

    Raises:
        CheckpointError: it came too slowly.
        Exception: what the work raises.
    """
    from huggingface_hub import constants

    seconds = DOWNLOAD_TIMEOUTS * constants.HF_HUB_DOWNLOAD_TIMEOUT
    return _watched(_Watch(what, seconds=seconds, step_bytes=STEP_BYTES), work)
