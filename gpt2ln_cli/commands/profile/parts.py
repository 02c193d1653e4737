"""Parts: the numbers of one shard in one file, which is whole or not there, and knows when it is damaged."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from gpt2ln_cli.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows, where a shard may be done twice by two runs at once
    fcntl = None  # type: ignore[assignment]

FOLDER = "parts"
MAGIC = b"gpt2ln part 1\n"
DIGITS = 64


def path_of(folder: Path, shard: int) -> Path:
    """Where a shard's part is."""
    return folder / FOLDER / f"{shard:06}.part"


def read(folder: Path, shard: int, digest: str) -> Any:
    """The state in a shard's part; None where there is none.

    Raises:
        ValueError: the part is damaged, or of another run.
    """
    path = path_of(folder, shard)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}.") from error
    start = len(MAGIC) + DIGITS + 1
    payload = content[start:]
    head = MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n"
    if content[:start] != head:
        raise ValueError("its checksum is not that of its content")
    packed = msgspec.msgpack.decode(zlib.decompress(payload))
    if (packed["run"], packed["shard"]) != (digest, shard):
        raise ValueError("it belongs to another run or shard")
    return with_arrays(packed["state"])


class Claim:
    """A shard that this process is at, and the file that is to become its part."""

    def __init__(self, folder: Path, shard: int, digest: str, partial: Path, file: BinaryIO) -> None:
        self._target, self._shard, self._digest = path_of(folder, shard), shard, digest
        self._partial, self._file = partial, file

    def write(self, state: Any) -> None:
        """Have the part there, whole.

        Raises:
            UsageError: it can't be written.
        """
        packed = {"run": self._digest, "shard": self._shard, "state": without_arrays(state)}
        payload = zlib.compress(msgspec.msgpack.encode(packed), 1)
        with told(self._target):
            self._file.seek(0)
            self._file.truncate()
            self._file.write(MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
            self._file.flush()
            os.fsync(self._file.fileno())
            if fcntl is None:  # Windows renames no open file
                self._file.close()
            self._partial.replace(self._target)
            if fcntl is not None:
                descriptor = os.open(self._target.parent, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)


@contextlib.contextmanager
def claimed(folder: Path, shard: int, digest: str) -> Iterator[Claim | None]:
    """The claim to a shard; None while another process has it, or has just done with it.

    What one leaves behind that was killed is taken over by the next.

    Raises:
        UsageError: the folder can't be written to.
    """
    partial = path_of(folder, shard).with_suffix(".partial")
    with told(partial):
        partial.parent.mkdir(parents=True, exist_ok=True)
        locked = _lock(partial)
        if locked is None:  # no file is locked here: a name of one's own keeps writers apart
            partial = partial.with_suffix(f".{socket.gethostname()}-{os.getpid()}.partial")
            locked = partial.open("w+b")
    mine = _is(partial, locked)
    try:
        yield Claim(folder, shard, digest, partial, locked) if mine else None
    finally:
        # After a rename it is another's, or none.
        if mine and _is(partial, locked):
            with contextlib.suppress(OSError):
                partial.unlink()
        if not locked.closed:
            locked.close()


def _lock(partial: Path) -> BinaryIO | None:
    """The file, locked; closed, where another has the lock; None where there are no locks."""
    if fcntl is None:
        return None
    file: BinaryIO = os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        return file if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return file


def _is(path: Path, file: BinaryIO) -> bool:
    """Whether the open file is the one of that name: meanwhile another process may have renamed it."""
    try:
        return not file.closed and os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Make an error of the system's one line.

    Raises:
        UsageError: what was attempted can't be done.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"can't write {path}: {error.strerror or error}; what is done is kept, and the same command goes on."
        ) from error


def without_arrays(value: Any) -> Any:
    """The state with arrays as their bytes."""
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "shape": list(value.shape), "bytes": value.tobytes()}
    if isinstance(value, dict):
        return {name: without_arrays(one) for name, one in value.items()}
    return [without_arrays(one) for one in value] if isinstance(value, list) else value


def with_arrays(value: Any) -> Any:
    """The state again."""
    if isinstance(value, dict):
        if value.keys() == {"dtype", "shape", "bytes"}:
            return np.frombuffer(value["bytes"], value["dtype"]).reshape(value["shape"])
        return {name: with_arrays(one) for name, one in value.items()}
    return [with_arrays(one) for one in value] if isinstance(value, list) else value
