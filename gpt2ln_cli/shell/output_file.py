"""Where a command's output goes: standard output, a file, whole or not at all, or a pipe or device as it is."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

import click

from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.leaving import tidied

try:
    import fcntl
except ImportError:  # Windows, where no file is locked, so that nothing is ever known to be a leftover
    fcntl = None  # type: ignore[assignment]

# What is not yet whole has a short name of its own: the output's may have all the bytes that a file system allows.
PREFIX, SUFFIX = ".gpt2ln-", ".partial"
# As many as Linux follows.
MAX_LINKS = 40
MODELS = ("model", "model_a", "model_b")


def check(output: str | None) -> None:
    """Find out before the work whether the output file can be written.

    Raises:
        UsageError: it can't, or it is of the checkpoint that the command reads.
    """
    if output is None:
        return
    if not output:
        raise UsageError("the name of the output file is empty.")
    with _told(output):
        descriptor = _descriptor(output)
        if descriptor is not None:
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise _error(errno.EBADF)
            return
        there = _status(output)
        if there is not None and not stat.S_ISREG(there.st_mode):
            _check_special(output, there)
            return
        target = Path(output).resolve()
        if not target.parent.is_dir():
            raise UsageError(f"can't write {output}: there is no folder {target.parent}.")
        if there is not None:
            _check_replaceable(output, target, there)
        with tempfile.TemporaryFile(dir=target.parent):
            pass


def check_not_terminal(output: str | None, complaint: str) -> None:
    """Find out before the work whether what no terminal can show would go to one.

    Raises:
        UsageError: with the complaint; it would.
    """
    if output is None and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError(complaint)


def deliver(write: Callable[[TextIO], None], *, output: str | None, utf8: bool) -> None:
    """Have ``write`` called with the output file, which is then whole or not there at all, or with standard output.

    On a terminal, what is longer than the screen goes through a pager.

    Args:
        write: writes to the stream that it is given; a binary format takes the stream's ``buffer``.
        output: the file; None is standard output. What is there and is no file (a pipe, a device, ``/dev/stdout``) is
            written to as it is.
        utf8: whether standard output is UTF-8 whatever the locale, as it is for data; else what the locale can't write
            is escaped. A file is always UTF-8.

    Raises:
        UsageError: the file or standard output can't be written.
    """
    if output is not None:
        with _told(output), _opened(output) as stream:
            write(stream)
        return
    if sys.stdout is None:
        raise UsageError("standard output is closed; use --output FILE.")
    if utf8:
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
    else:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with _told("to standard output"):
        if sys.stdout.isatty():
            from gpt2ln_cli.shell.pager import paged

            with paged(sys.stdout) as stream:
                write(stream)
        else:
            write(sys.stdout)
        sys.stdout.flush()


@contextlib.contextmanager
def _told(output: str) -> Iterator[None]:
    """Make an error of the system's one that says what can't be written; a closed pipe is none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"can't write {output}: {error.strerror or error}.") from error


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _status(path: str | Path) -> os.stat_result | None:
    """Of what is there, through links; None where nothing is."""
    try:
        return Path(path).stat()
    except FileNotFoundError:
        return None


def _descriptor(output: str) -> int | None:
    """Which of this process's descriptors the path stands for, as ``/dev/stdout`` and ``/dev/fd/63`` do.

    Opened by such a path, a file would be written from its beginning, over what was redirected to it before.
    """
    path = output
    for _ in range(MAX_LINKS):
        folder, name = os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path)  # noqa: PTH119, PTH120
        if name.isdecimal() and folder in ("/dev/fd", f"/proc/{os.getpid()}/fd"):
            return int(name)
        try:
            path = os.path.join(folder, os.readlink(os.path.join(folder, name)))  # noqa: PTH115, PTH118
        except OSError:
            break
    return None


def _check_special(output: str, there: os.stat_result) -> None:
    if stat.S_ISDIR(there.st_mode):
        raise UsageError(f"can't write {output}: it is a folder.")
    if stat.S_ISSOCK(there.st_mode):
        raise _error(errno.ENXIO)
    # To open a pipe and close it again would end the input of whoever reads it.
    if not os.access(output, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise _error(errno.EACCES)


def _check_replaceable(output: str, target: Path, there: os.stat_result) -> None:
    os.close(os.open(target, os.O_WRONLY))
    folder = target.parent.stat()
    if folder.st_mode & stat.S_ISVTX and os.geteuid() not in (0, there.st_uid, folder.st_uid):
        raise _error(errno.EPERM)
    from gpt2ln_cli.checkpoint import files_of

    named = click.get_current_context().params
    for model in filter(None, map(named.get, MODELS)):
        for file in files_of(model):
            with contextlib.suppress(OSError):
                if os.path.samestat(file.stat(), there):
                    raise UsageError(f"can't write {output}: it is a file of the checkpoint '{model}'.")


def _opened(output: str) -> contextlib.AbstractContextManager[TextIO]:
    descriptor = _descriptor(output)
    if descriptor is not None:
        return _as_text(os.dup(descriptor))
    there = _status(output)
    if there is not None and not stat.S_ISREG(there.st_mode):
        return _as_text(os.open(output, os.O_WRONLY | getattr(os, "O_NOCTTY", 0)))
    return _replaced(Path(output).resolve())


def _as_text(descriptor: int) -> TextIO:
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="\n")


@contextlib.contextmanager
def _replaced(target: Path) -> Iterator[TextIO]:
    """A new file, which takes the target's place, and its permissions, once it is written whole."""
    _remove_leftovers(target.parent)
    descriptor, path = _new_partial(target.parent)
    with tidied(partial(path.unlink, missing_ok=True)):
        with _as_text(descriptor) as stream:
            yield stream
            stream.flush()
            there = _status(target)
            if fcntl is not None:
                os.fchmod(descriptor, stat.S_IMODE(there.st_mode) if there is not None else 0o666 & ~_umask())
            os.fsync(descriptor)
            if fcntl is not None:  # while it is locked
                path.replace(target)
        if fcntl is None:  # Windows renames no open file
            path.replace(target)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _new_partial(folder: Path) -> tuple[int, Path]:
    """An empty file of a name that nobody could foresee, held by a lock for as long as its writer lives."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, suffix=SUFFIX, dir=folder)
        if fcntl is None:
            return descriptor, Path(name)
        with contextlib.suppress(OSError):  # a file system without locks, where nothing is ever a leftover
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another run may have taken it for a leftover before it was locked.
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left in the folder: partial files that nobody holds a lock on any more."""
    if fcntl is None:
        return
    for path in folder.glob(f"{PREFIX}*{SUFFIX}"):
        # Another's, which may not be touched, or removed meanwhile, or in use.
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            finally:
                os.close(descriptor)
