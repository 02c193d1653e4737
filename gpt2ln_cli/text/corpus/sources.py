"""Where a corpus comes from: files of text, JSON lines and Parquet, here or elsewhere, packed or not."""

from __future__ import annotations

import contextlib
import glob
import io
import stat
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import msgspec

from gpt2ln_cli.errors import PromptError, UsageError
from gpt2ln_cli.paths import path_text, user_path

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from pyarrow.parquet import ParquetFile

SourceKind = Literal["text", "lines", "table"]
Packing = Literal["gzip", "xz", "bzip2", "zstandard"]
PACKINGS: dict[str, Packing] = {
    ".gz": "gzip",
    ".xz": "xz",
    ".lzma": "xz",
    ".bz2": "bzip2",
    ".zst": "zstandard",
    ".zstd": "zstandard",
}
# What is taken of a folder; a file that is named by itself and has none of these is text.
KINDS: dict[str, SourceKind] = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".json": "lines",
    ".parquet": "table",
}
NEEDS_PYARROW = 'needs pyarrow: pip install ".[parquet]".'


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a corpus, and by what it is known again."""

    name: str
    """As it was given or found."""
    address: str
    """An absolute path, or an address of fsspec's."""
    kind: SourceKind
    packing: Packing | None
    size: int
    """In bytes, as stored."""
    stamp: str
    """Its time of change, or the store's tag of it."""


def find(given: Sequence[str]) -> list[Source]:
    """The files that were given, and those of folders and globs, these by name; each once.

    Raises:
        PromptError: there is no such file, or one can't be read.
        UsageError: a file needs a package that is not there.
    """
    found: dict[str, Source] = {}
    for one in given:
        for source in _elsewhere(one) if "://" in one else _here(one):
            found.setdefault(source.address, source)
    if not found:
        raise PromptError(f"no corpus in {', '.join(given)}: there is no file of {', '.join(KINDS)}, packed or not.")
    for source in found.values():
        if (source.kind == "table" or source.packing == "zstandard") and find_spec("pyarrow") is None:
            raise UsageError(f"{source.name} {NEEDS_PYARROW}")
        if source.kind == "table" and source.packing is not None:
            raise PromptError(f"{source.name}: Parquet packs by itself; unpack the file.")
    return list(found.values())


def _here(given: str) -> Iterator[Source]:
    path = user_path(given)
    if path.is_dir():
        inside = sorted(one for one in path.rglob("*") if one.is_file() and _is_known(one.name))
        yield from map(_local, (one for one in inside if not _is_hidden(one.relative_to(path))))
    elif path.exists() or not glob.has_magic(given):
        yield _local(path)
    else:
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  (pathlib's globs have no folder to begin in)
        if not matches:
            raise PromptError(f"no file matches {given}.")
        yield from map(_local, filter(Path.is_file, map(Path, matches)))


def _local(path: Path) -> Source:
    try:
        status = path.stat()
    except OSError as error:
        raise PromptError(f"can't read {path_text(path)}: {error.strerror}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise PromptError(f"{path_text(path)} is no regular file; '-' reads standard input.")
    kind, packing = _recognize(path.name)
    return Source(
        name=path_text(path),
        address=str(path.absolute()),
        kind=kind,
        packing=packing,
        size=status.st_size,
        stamp=str(status.st_mtime_ns),
    )


def _elsewhere(given: str) -> Iterator[Source]:
    """What fsspec finds at an address: a file, the files of a folder, or those that match."""
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(given)
        system.invalidate_cache()  # what it once listed may have changed
        if glob.has_magic(given):
            paths = sorted(one for one in system.glob(path) if _is_known(one))
        elif system.isdir(path):
            paths = sorted(one for one in system.find(path) if _is_known(one))
        else:
            paths = [path]
        yield from (_stored(system, one) for one in paths)
    except Exception as error:  # each store has errors of its own, and of its client
        raise PromptError(f"can't read {given}: {_said(error)}.") from error


def _stored(system: AbstractFileSystem, path: str) -> Source:
    address = str(system.unstrip_protocol(path))
    info: dict[str, Any] = system.info(path)
    kind, packing = _recognize(path)
    stamp = next((str(info[tag]) for tag in ("ETag", "etag", "blob_id") if info.get(tag)), "")
    return Source(
        name=address,
        address=address,
        kind=kind,
        packing=packing,
        size=int(info["size"] or 0),
        stamp=stamp or str(system.ukey(path)),
    )


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_known(name: str) -> bool:
    path = Path(name)
    return (Path(path.stem).suffix if path.suffix in PACKINGS else path.suffix) in KINDS


def _recognize(name: str) -> tuple[SourceKind, Packing | None]:
    path = Path(name)
    packing = PACKINGS.get(path.suffix)
    return KINDS.get(Path(path.stem).suffix if packing else path.suffix, "text"), packing


def check_unchanged(source: Source) -> None:
    """Find out whether a source still is what the corpus was cut from.

    Raises:
        PromptError: it is not, or it is gone.
    """
    now = _now(source.address) if "://" in source.address else _local(Path(source.address))
    if (now.size, now.stamp) != (source.size, source.stamp):
        raise PromptError(
            f"{source.name} has changed since the run began ({source.size:,} bytes then, {now.size:,} now): its parts "
            "and what is left do not belong together; restore it, or begin a new run in another folder."
        )


def _now(address: str) -> Source:
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(address)
        system.invalidate_cache(path)
        return _stored(system, path)
    except Exception as error:  # as where it was found
        raise PromptError(f"can't read {address}: {_said(error)}.") from error


def opened(source: Source, *, by_range: bool = False) -> BinaryIO:
    """Its bytes as stored.

    Args:
        source: it.
        by_range: fetch what is asked for and no more; else what follows is fetched ahead.
    """
    if "://" in source.address:
        import fsspec

        ahead = {"cache_type": "none"} if by_range else {}
        system, path = fsspec.core.url_to_fs(source.address)
        remote: BinaryIO = system.open(path, "rb", **ahead)
        return remote
    return Path(source.address).open("rb")


class Unpacked:
    """The bytes of a source, unpacked, from the first on.

    Args:
        source: it.
    """

    def __init__(self, source: Source) -> None:
        self._raw = opened(source)
        self._stream = _unpacking(self._raw, source.packing)

    def read(self, most: int) -> bytes:
        """The next bytes; none at the end."""
        data: bytes = self._stream.read(most)
        return data

    def close(self) -> None:
        """Close it, and what it reads from."""
        self._stream.close()
        self._raw.close()


def _unpacking(raw: BinaryIO, packing: Packing | None) -> Any:
    match packing:
        case "gzip":
            import gzip

            return gzip.GzipFile(fileobj=raw)
        case "xz":
            import lzma

            return lzma.LZMAFile(raw)
        case "bzip2":
            import bz2

            return bz2.BZ2File(raw)
        case "zstandard":
            import pyarrow

            return pyarrow.CompressedInputStream(raw, "zstd")
    return raw


@contextlib.contextmanager
def parquet(source: Source) -> Iterator[ParquetFile]:
    """Its table, of which only what is asked for is read."""
    from pyarrow.parquet import ParquetFile

    with opened(source, by_range=True) as raw:
        yield ParquetFile(raw, pre_buffer=True)


def unreachable() -> tuple[type[Exception], ...]:
    """What is raised where a store can't be reached, or refuses: no fault of the file's."""
    kinds: list[type[Exception]] = [ConnectionError, TimeoutError]
    clients = (sys.modules.get(name) for name in ("httpx", "httpx2"))  # as huggingface_hub's version has it
    return (*kinds, *(client.HTTPError for client in clients if client is not None))


def damages() -> tuple[type[Exception], ...]:
    """What the libraries raise where bytes are not what they should be."""
    import lzma
    import zlib

    kinds: list[type[Exception]] = [
        EOFError,
        OSError,
        lzma.LZMAError,
        zlib.error,
        io.UnsupportedOperation,
        *unreachable(),
    ]
    if find_spec("pyarrow") is not None:
        import pyarrow

        kinds.append(pyarrow.ArrowException)
    return tuple(kinds)
