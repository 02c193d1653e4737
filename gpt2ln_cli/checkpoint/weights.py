"""Opening weight files: safetensors by its header, pickles by torch's loader for tensors alone."""

from __future__ import annotations

import mmap
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from gpt2ln_cli.checkpoint.files import Stamp, read_at
from gpt2ln_cli.checkpoint.header import DTYPES, Place, read_header
from gpt2ln_cli.checkpoint.tensors import StoredTensor, as_array, from_torch
from gpt2ln_cli.errors import CheckpointError, is_want_of_memory

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from gpt2ln_cli.checkpoint.tensors import Array

ZIP_MAGIC = b"PK\x03\x04"
REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+)")


def open_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by their names; its header alone is read.

    NumPy's values are copied from the file. torch's are mapped, by safetensors' own library.

    Raises:
        CheckpointError: it can't be read, is damaged, or its header disagrees with its size.
    """
    mapped: list[Any] = []

    def tensor(name: str) -> torch.Tensor:
        from safetensors import SafetensorError, safe_open

        try:
            if not mapped:
                # Of a file that it may not open, safetensors says that it isn't there.
                path.open("rb").close()
                mapped.append(safe_open(path, framework="pt"))
            values: torch.Tensor = mapped[0].get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}.") from error
        except OSError as error:
            raise CheckpointError(f"can't read {path}: {error.strerror or error}.") from error
        return values

    def read(start: int, stop: int) -> bytes:
        return read_at(path, start, stop - start)

    def array(place: Place) -> Array:
        return place.array(read(place.start, place.stop))

    return {
        name: StoredTensor(
            place.shape, DTYPES.get(place.dtype, place.dtype), partial(array, place), partial(tensor, name)
        )
        for name, place in read_header(str(path), path.stat().st_size, read).items()
    }


def load_pickle(path: Path) -> Any:
    """What a ``.bin``, ``.pt`` or ``.pth`` file holds, its tensors mapped from the file where it is a zip archive.

    torch's loader for tensors alone reads it: nothing that the file wants to import or call is.

    Raises:
        CheckpointError: the file is damaged, or wants more than tensors.
    """
    import torch

    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols and deprecations, which users can't mend
            if file.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
                with zipfile.ZipFile(path) as archive:
                    unpacked = sum(entry.file_size for entry in archive.infolist())
                if unpacked > path.stat().st_size:
                    raise CheckpointError(f"{path} is a compressed archive or damaged; torch.save compresses nothing.")
                return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            # A map reads no further than the file goes; a file sets aside as much memory as it is asked to read.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                _check_claims(path, mapped)
                return torch.load(mapped, map_location="cpu", weights_only=True)  # type: ignore[arg-type]
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        if wanted := REFUSED_GLOBAL.search(str(error)):
            raise CheckpointError(
                f"{path} is a pickle that wants more than tensors ({wanted[1]}), which gpt2ln never runs; where you "
                "trust it, load it with torch once and write its tensors with safetensors.torch.save_file."
            ) from error
        raise CheckpointError(f"{path} is damaged, or no file of torch.save.") from error
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror or error}.") from error
    except Exception as error:  # torch's readers raise whatever a damaged file leads them to
        if is_want_of_memory(error):
            raise
        raise CheckpointError(f"{path} is damaged, or no file of torch.save ({type(error).__name__}).") from error


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


def tensors_in(path: Path, content: Any) -> dict[str, StoredTensor]:
    """The plain tensors of a loaded state dict by their names.

    Raises:
        CheckpointError: it is no mapping, or a tensor claims more elements than are stored.
    """
    import torch

    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__} where a state dict of tensors was expected.")
    found = {}
    stamp = Stamp.of(path)
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            continue
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            continue
        # A view may repeat its elements: a terabyte, by its shape, out of four bytes.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(f"{path}: tensor '{name}' claims {value.numel()} elements and fewer are stored.")
        found[name] = replace(from_torch(value), array=partial(_unchanged, stamp, value))
    return found


def _unchanged(stamp: Stamp, tensor: torch.Tensor) -> Array:
    # torch maps a zip archive and offers no other way to read a part of it: at least what has shrunk is not touched.
    stamp.check()
    return as_array(tensor)
