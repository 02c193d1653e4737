"""A file of torch.save, on disk or on the Hub, read by torch's loader for tensors alone.

Nothing that a file wants to import or call is; where it names classes beside its tensors, stand-ins of ours take their
places (``inert.py``). Of a zip archive, which torch.save has written since 1.6, the loader is given the pickle without
the tensors' values: it says where each storage lies, and what is asked for is read from there.
"""

from __future__ import annotations

import io
import mmap
import pickle
import pickletools
import re
import warnings
import zipfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

from gpt2ln_cli.checkpoint.files import Stamp, begins_with
from gpt2ln_cli.checkpoint.inert import Inert, stand_ins
from gpt2ln_cli.checkpoint.tensors import Place, StoredTensor, as_array, dtype_of, from_torch
from gpt2ln_cli.errors import CheckpointError, is_want_of_memory

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from gpt2ln_cli.checkpoint.tensors import Array

    Read = Callable[[int, int], bytes]

ZIP_MAGIC = b"PK\x03\x04"
# Read at once of a file that is elsewhere: a GPT-2's pickle and directory take some twenty thousand bytes each.
BLOCK_BYTES = 2**15
# The limit of safetensors, for a header.
MOST_HEADER_BYTES = 100_000_000
REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+)|Can only .* got (<class .*>|\S+)")
# Its weights may be tied: save_file refuses memory that two tensors share.
MODULE_ADVICE = (
    "where you trust it, load it with torch once and write the model with safetensors.torch.save_model, or save its "
    "state_dict()."
)
# Where training loops, Lightning and DeepSpeed keep the model's state dict.
KEYS = ("model_state_dict", "state_dict", "module", "model")


@dataclass(frozen=True)
class Pickle:
    """A file of torch.save that was opened; of a zip archive no tensor's values were read."""

    path: Path
    content: Any
    """What was saved; in a zip archive its tensors have shapes and types alone."""
    entries: Sequence[int] | None
    """Where an archive's entries begin, and where the last ends; None where torch tells no places."""

    @cached_property
    def _loaded(self) -> Any:
        return self.content if self.entries is None else _load(self.path)

    def state_dict(self) -> tuple[str, ...]:
        """The keys under which the state dict stands; none where it is all that was saved."""
        keys: tuple[str, ...] = ()
        content = self.content
        while isinstance(content, Mapping) and not _has_tensors(content):
            key = next((key for key in KEYS if isinstance(content.get(key), Mapping)), None)
            if key is None:
                return ()
            keys, content = (*keys, key), content[key]
        return keys

    def tensors(self, *keys: str) -> dict[str, StoredTensor]:
        """The plain tensors of the state dict that stands under the keys, by their names.

        Raises:
            CheckpointError: it is no mapping, or a tensor claims more elements than are stored.
        """
        stamp = Stamp.of(self.path)

        def tensor(name: str) -> torch.Tensor:
            values: torch.Tensor = _within(self._loaded, keys)[name]
            return values

        def array(name: str) -> Array:
            # Mapped by torch, which offers no other way: what has shrunk is at least not touched.
            stamp.check()
            return as_array(tensor(name))

        found = {}
        for name, values in _plain(str(self.path), _within(self.content, keys)).items():
            place = None if self.entries is None else _place(str(self.path), name, values, self.entries)
            found[name] = (
                replace(from_torch(values), array=partial(array, name), tensor=partial(tensor, name))
                if place is None
                else place.stored(self.path)
            )
        return found


def open_pickle(path: Path) -> Pickle:
    """Open a ``.bin``, ``.pt`` or ``.pth`` file.

    Raises:
        CheckpointError: the file can't be read, is damaged, or wants more than tensors.
    """
    try:
        zipped = begins_with(path, ZIP_MAGIC)
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror or error}.") from error
    if not zipped or not _tells_places():
        return Pickle(path, _load(path), None)
    with _explained(str(path)), path.open("rb") as file:
        return Pickle(path, *_skeleton(str(path), path.stat().st_size, file))


def read_archive(name: str, size: int, read: Read) -> dict[str, Place] | None:
    """Where each plain tensor lies of a state dict in a zip archive, by its name.

    Args:
        name: what messages call the file.
        size: its length in bytes.
        read: reads the bytes [start, stop).

    Returns:
        None where the file is no such archive, a tensor's values are not in order, or this torch tells no places.

    Raises:
        CheckpointError: the file is damaged, or wants more than tensors.
    """
    file = _Elsewhere(name, size, read)
    if file.read(len(ZIP_MAGIC)) != ZIP_MAGIC or not _tells_places():
        return None
    with _explained(name):
        content, entries = _skeleton(name, size, file)
    places = {tensor: _place(name, tensor, values, entries) for tensor, values in _plain(name, content).items()}
    found = {tensor: place for tensor, place in places.items() if place is not None}
    return found if len(found) == len(places) else None


def _skeleton(name: str, size: int, file: Any) -> tuple[Any, list[int]]:
    """What a zip archive holds, tensors without their values, and where its entries begin and the last ends."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with zipfile.ZipFile(file) as archive:
        listed = archive.infolist()
        end = archive.start_dir
    # A pickle that was compressed could unpack to anything.
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in listed):
        raise CheckpointError(f"{name} is a compressed archive or damaged; torch.save compresses nothing.")
    if sum(entry.file_size for entry in listed) > size:
        raise CheckpointError(f"{name} is damaged: its parts have more bytes than it.")
    with FakeTensorMode(), stand_ins(file):
        content = torch.load(file, map_location="cpu", weights_only=True)
    return content, [*sorted(entry.header_offset for entry in listed), end]


def _place(name: str, tensor: str, values: torch.Tensor, entries: Sequence[int]) -> Place | None:
    """Where a tensor lies; None where its values are not in order.

    Raises:
        CheckpointError: it lies outside of the archive's entries, or across two.
    """
    offset: int | None = getattr(values.untyped_storage(), "_checkpoint_offset", None)
    if offset is None or not values.is_contiguous():
        return None
    start = offset + int(values.storage_offset()) * values.element_size()
    stop = start + values.numel() * values.element_size()
    after = bisect_right(entries, start)
    if not 0 < after < len(entries) or stop > entries[after]:
        raise CheckpointError(f"{name} is damaged: '{tensor}' lies outside of the file's parts.")
    return Place(dtype_of(values), tuple(values.shape), start, stop)


@cache
def _tells_places() -> bool:
    """Whether this torch says where in an archive a storage lies."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    file = io.BytesIO()
    torch.save(torch.zeros(1), file)
    file.seek(0)
    with FakeTensorMode():
        storage = torch.load(file, weights_only=True).untyped_storage()
    return getattr(storage, "_checkpoint_offset", None) is not None


class _Elsewhere(io.RawIOBase):
    """A file that is read in blocks, each once."""

    def __init__(self, name: str, size: int, read: Read) -> None:
        self._name, self._size, self._read_range = name, size, read
        self._at = 0
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        # Whole, unlike what the operating system may do: zipfile takes a short read for the file's end.
        wanted = max(0, min(len(buffer), self._size - self._at))
        done = 0
        while done < wanted:
            number, within = divmod(self._at, BLOCK_BYTES)
            piece = self._block(number)[within : within + wanted - done]
            buffer[done : done + len(piece)] = piece
            done += len(piece)
            self._at += len(piece)
        return wanted

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            if len(self._blocks) * BLOCK_BYTES > MOST_HEADER_BYTES:
                raise CheckpointError(f"{self._name} has a pickle of over {MOST_HEADER_BYTES:,} bytes, or is damaged.")
            start = number * BLOCK_BYTES
            self._blocks[number] = self._read_range(start, min(start + BLOCK_BYTES, self._size))
        return self._blocks[number]


def _load(path: Path) -> Any:
    """What a file holds, its tensors mapped from it where it is a zip archive.

    Raises:
        CheckpointError: the file is damaged, or wants more than tensors.
    """
    import torch

    with _explained(str(path)), path.open("rb") as file:
        if file.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
            with stand_ins(file):
                return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        # A map reads no further than the file goes; a file sets aside as much memory as it is asked to read.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            _check_claims(path, mapped)
            return torch.load(mapped, map_location="cpu", weights_only=True)  # type: ignore[arg-type]


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Say in a line what was wrong with a file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols and deprecations, which users can't mend
            yield
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        if wanted := REFUSED_GLOBAL.search(str(error)):
            raise CheckpointError(
                f"{name} is a pickle that wants more than tensors ({wanted[1] or wanted[2]}), which gpt2ln never runs; "
                f"{MODULE_ADVICE}"
            ) from error
        raise CheckpointError(f"{name} is damaged, or no file of torch.save.") from error
    except OSError as error:
        raise CheckpointError(f"can't read {name}: {error.strerror or error}.") from error
    except Exception as error:  # torch's readers raise whatever a damaged file leads them to
        if is_want_of_memory(error):
            raise
        raise CheckpointError(f"{name} is damaged, or no file of torch.save ({type(error).__name__}).") from error


def _check_claims(path: Path, mapped: mmap.mmap) -> None:
    """Refuse a file in torch's format of before 1.6 that claims more than it has.

    That format's loader allocates what each tensor claims before it reads. The claims are integers in the fourth of
    the pickles that such a file begins with, none of which can exceed its bytes.
    """
    try:
        for _ in range(3):
            for _operation in pickletools.genops(mapped):  # type: ignore[arg-type]
                pass
        claims = [value for _, value, _ in pickletools.genops(mapped) if isinstance(value, int)]  # type: ignore[arg-type]
    except ValueError:
        claims = []  # not that format: torch says what it is
    mapped.seek(0)
    if max(claims, default=0) > len(mapped):
        raise CheckpointError(f"{path} is damaged: it claims {max(claims)} elements and has {len(mapped)} bytes.")


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    import torch

    return any(isinstance(value, torch.Tensor) for value in content.values())


def _within(content: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        content = content[key]
    return content


def _plain(name: str, content: Any) -> dict[str, torch.Tensor]:
    """The plain tensors of a state dict by their names.

    Raises:
        CheckpointError: it is no mapping, or a tensor claims more elements than are stored.
    """
    import torch

    if isinstance(content, Inert):
        raise CheckpointError(
            f"{name} holds a whole {type(content).__name__}, which gpt2ln never builds; {MODULE_ADVICE}"
        )
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{name} holds a {type(content).__name__} where a state dict of tensors was expected.")
    found = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            continue
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            continue
        # A view may repeat its elements: a terabyte, by its shape, out of four bytes.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(f"{name}: tensor '{key}' claims {value.numel()} elements and fewer are stored.")
        found[key] = value
    return found
