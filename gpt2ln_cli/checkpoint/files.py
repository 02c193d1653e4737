"""Reading files that others may have made large by a lie, or may be writing at the same moment."""

from __future__ import annotations

import errno
import glob
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt2ln_cli.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

# Of what is JSON: a configuration takes some kilobytes, the index of a thousand shards a few megabytes.
MOST_JSON_BYTES = 16 * 2**20
# Of a tokenizer: the largest in use have 34 MB, for a vocabulary five times that of GPT-2.
MOST_FILE_BYTES = 2**26
# What a checkpoint's folder is read from; a tokenizer is read whole at once.
READ_FROM = (
    *("config.json", "*.safetensors*", "*.bin*", "*.h5*", "model*.weights.*"),
    *("hparams.json", "checkpoint", "*.index", "*.data-*"),
)
# How the index of a bundle of TensorFlow's ends.
BUNDLE = ".index"


def read_json(path: Path) -> bytes:
    """The bytes of a JSON file, which is small or refused: a sparse file claims terabytes and takes no room on disk.

    Raises:
        CheckpointError: it is too large.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_JSON_BYTES:
            raise CheckpointError(f"{path} has {size:,} bytes; gpt2ln reads no more than {MOST_JSON_BYTES:,} of JSON.")
        return file.read(MOST_JSON_BYTES)


def read_file(path: Path) -> bytes:
    """One of a tokenizer's files.

    Raises:
        CheckpointError: as for :func:`check_file`, or it can't be read.
    """
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}.") from error


def check_file(path: Path) -> None:
    """Refuse what would keep a reader for ever or fill the memory.

    Raises:
        CheckpointError: the path is a pipe, a device or a folder, or larger than any tokenizer's file.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}.") from error
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path} is no regular file; remove it or replace it by one.")
    if found.st_size > MOST_FILE_BYTES:
        raise CheckpointError(
            f"{path} has {found.st_size:,} bytes, more than any tokenizer's file ({MOST_FILE_BYTES:,}); replace it."
        )


def read_at(path: Path, start: int, length: int) -> bytes:
    """Bytes of a file, copied and not mapped: a mapped file that shrinks ends the process without a word.

    Raises:
        CheckpointError: it can't be read, or ends before that.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(length)
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror or error}.") from error
    if len(data) < length:
        raise changed(path)
    return data


def bytes_of(path: Path, start: int, length: int, *, mapped: bool) -> NDArray[np.uint8]:
    """Bytes of a file as an array: mapped copy-on-write, or as :func:`read_at` copies them.

    What is mapped is so many bytes and not the file: a system refuses to map more than its memory at once.

    Raises:
        CheckpointError: it can't be read, or ends before that.
    """
    import numpy as np

    if not mapped or not length:
        return np.frombuffer(read_at(path, start, length), np.uint8)
    try:
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="c", offset=start, shape=(length,)))
    except ValueError as error:  # beyond its end
        raise changed(path) from error
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError(f"no room to map {length:,} bytes of {path}") from error
        raise CheckpointError(f"can't read {path}: {error.strerror or error}.") from error


def changed(path: Path) -> CheckpointError:
    """The error for a file that another process writes to."""
    return CheckpointError(f"{path} changed while it was read: something writes to it; wait, or read a copy.")


@dataclass(frozen=True)
class Stamp:
    """Size and time of a file, by which a change shows."""

    path: Path
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The file as it is now.

        Raises:
            OSError: it is not there.
        """
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime_ns)

    def check(self) -> None:
        """See that the file is as it was.

        Raises:
            CheckpointError: it is not.
        """
        try:
            now = Stamp.of(self.path)
        except OSError as error:
            raise changed(self.path) from error
        if now != self:
            raise changed(self.path)


def stamps(location: Path) -> tuple[Stamp, ...]:
    """Stamps of what a checkpoint is read from: a file, or the files in a folder that weights and configuration are in.

    Raises:
        OSError: a file is not there.
    """
    if not location.is_dir():
        return tuple(map(Stamp.of, (location, *data_of(location))))
    return tuple(Stamp.of(path) for pattern in READ_FROM for path in sorted(location.glob(pattern)) if path.is_file())


def data_of(path: Path) -> list[Path]:
    """The files that hold the values of a bundle of TensorFlow's, beside its index; none for any other file."""
    if not path.name.endswith(BUNDLE):
        return []
    return sorted(path.parent.glob(f"{glob.escape(path.name.removesuffix(BUNDLE))}.data-*"))


def begins_with(path: Path, magic: bytes) -> bool:
    """Whether these are a file's first bytes."""
    with path.open("rb") as file:
        return file.read(len(magic)) == magic
