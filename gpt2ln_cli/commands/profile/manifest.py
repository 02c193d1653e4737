"""What a run is of, fixed before work begins: all that the numbers' bits depend on, and how the corpus is cut."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gpt2ln_cli import __version__
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.paths import user_path
from gpt2ln_cli.records import Flag, ModelInfo
from gpt2ln_cli.text.corpus.documents import Separator
from gpt2ln_cli.text.corpus.shards import Cut
from gpt2ln_cli.text.corpus.sources import Source
from gpt2ln_cli.text.corpus.windows import Documents

if TYPE_CHECKING:
    from gpt2ln_cli.model import Model

NAME = "manifest.json"
FORMAT = 1


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, and how; workers that differ in any of it give other bits."""

    model: ModelInfo
    weights: str
    """A hash of all parameters, as they are computed with, and of the configuration."""
    tokenizer: str
    """A hash of the tokenizer."""
    separator: Separator
    documents: Documents
    column: str | None
    bos: bool
    limit_tokens: int | None
    top: int
    features: bool
    batch_tokens: int
    threads: int
    """Of each worker: matrix products differ with it in the last bits."""
    environment: dict[str, str]
    """The kind of device, and versions of what computes."""
    flags: list[Flag]
    """What deserves care in the model's parameters, which its hash stands for."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A run."""

    format: int = FORMAT
    settings: Settings
    sources: list[Source]
    cut: Cut

    @property
    def digest(self) -> str:
        """By which its parts know it."""
        return hashlib.sha256(encoded(self)).hexdigest()


# What is told of a difference; of the model, its name stands for its weights.
WORDS = {
    "weights": "the model's weights",
    "tokenizer": "the model's tokenizer",
    "separator": "--separator",
    "documents": "--documents",
    "column": "--column",
    "bos": "--bos",
    "limit_tokens": "--limit-tokens",
    "top": "--top",
    "features": "--features",
    "batch_tokens": "--batch-tokens",
    "threads": "--threads",
}


def encoded(manifest: Manifest) -> bytes:
    """As it stands in its file."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def environment(device: str) -> dict[str, str]:
    """What of this machine and its packages a kernel's last bits depend on.

    Args:
        device: where the model is, as torch writes it.
    """
    import numpy
    import tokenizers
    import torch
    import transformers

    kind = device.partition(":")[0]
    name = torch.cuda.get_device_name(device) if kind == "cuda" else platform.machine()
    return {
        "gpt2ln": __version__,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "numpy": numpy.__version__,
        "device": f"{kind} ({name}, {torch.backends.cpu.get_cpu_capability()})",
    }


def weights_hash(model: Model) -> str:
    """A hash of all that the model computes with."""
    import torch

    from gpt2ln_cli.model.deferred import tensors

    found = hashlib.sha256(msgspec.json.encode(model.checkpoint.config))
    for name, tensor in tensors(model.lazy_body):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    for name, module in model.lazy_body.named_modules():
        found.update(f"{name} {getattr(module, 'eps', '')}".encode())
    return found.hexdigest()


def tokenizer_hash(model: Model) -> str:
    """A hash of its tokenizer."""
    tokenizer = model.tokenizer
    return hashlib.sha256(b"" if tokenizer is None else tokenizer.to_str().encode()).hexdigest()


def read(folder: Path) -> Manifest | None:
    """The manifest of a run's folder; None where there is none.

    Raises:
        UsageError: it can't be read.
    """
    path = folder / NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"can't read {path}: {error}.") from error
    if manifest.format != FORMAT:
        raise UsageError(f"{path} has format {manifest.format}, and this gpt2ln reads {FORMAT}; use another folder.")
    return manifest


def is_run(folder: str | Path) -> bool:
    """Whether a folder holds a run."""
    return (user_path(folder) / NAME).is_file()


def settle(folder: Path, manifest: Manifest) -> Manifest:
    """Write a manifest where there is none yet; what is there in the end, which may be of a run begun meanwhile.

    Raises:
        UsageError: it can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{NAME}.{socket.gethostname()}-{os.getpid()}.partial"
        try:
            with partial.open("wb") as file:
                file.write(encoded(manifest))
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, a link takes no other file's place.
            with contextlib.suppress(FileExistsError):
                os.link(partial, folder / NAME)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"can't write to {folder}: {error.strerror}.") from error
    settled = read(folder)
    assert settled is not None
    return settled


def check(folder: Path, there: Manifest, wanted: Settings, sources: list[Source] | None) -> None:
    """Refuse to go on with a folder of another run.

    Args:
        folder: the run's.
        there: its manifest.
        wanted: of this call.
        sources: of this call; None where it takes those of the manifest.

    Raises:
        UsageError: they differ, and in what.
    """
    different = [*_settings(there.settings, wanted), *(_sources(there.sources, sources) if sources is not None else ())]
    if different:
        raise UsageError(
            f"{folder} holds a run that differs from this one in {'; '.join(different)}; give what it was begun with, "
            "or another folder."
        )


def _settings(there: Settings, here: Settings) -> Iterator[str]:
    for name, word in WORDS.items():
        one, other = getattr(there, name), getattr(here, name)
        if one != other:
            if name == "weights":
                model = f"'{there.model.name}' ({there.model.dtype}) there, '{here.model.name}' ({here.model.dtype})"
                yield f"{word}: {model} here"
            else:
                hashed = name == "tokenizer"
                yield word if hashed else f"{word}: {_said(one)} there, {_said(other)} here"
    yield from environment_differences(there.environment, here.environment)


def environment_differences(there: dict[str, str], here: dict[str, str]) -> Iterator[str]:
    """In what two machines differ that a run must have alike."""
    for name, one in there.items():
        if one != here.get(name):
            yield f"{name}: {one} there, {here.get(name)} here"


def _said(value: object) -> str:
    return "none" if value is None else "given" if value is True else "not given" if value is False else str(value)


def _sources(there: list[Source], here: list[Source]) -> Iterator[str]:
    before, now = ({source.address: source for source in each} for each in (there, here))
    for address, source in before.items():
        if address not in now:
            yield f"the corpus: {source.name} is missing"
        elif (source.size, source.stamp) != (now[address].size, now[address].stamp):
            yield f"the corpus: {source.name} has changed since"
    yield from (f"the corpus: {source.name} is new" for address, source in now.items() if address not in before)
    if list(before) != list(now) and before.keys() == now.keys():
        yield "the corpus: the order of its sources"
