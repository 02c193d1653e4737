"""Checkpoints on the Hugging Face Hub, fetched file by file, as they are needed, into huggingface_hub's cache.

huggingface_hub does the fetching, resumes what breaks off, and keeps the cache; its variables hold. Before it is let
loose on a file the Hub is asked for that file once, because huggingface_hub itself waits minutes for a mute server.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from gpt2ln_cli.checkpoint.base import Checkpoint, LayerNormParameters, parse_config
from gpt2ln_cli.checkpoint.huggingface import BODY_PREFIX, DTYPE_NAMES, HuggingFaceFolder
from gpt2ln_cli.checkpoint.index import INDEX_SUFFIX, read_index
from gpt2ln_cli.checkpoint.ranges import RangesRefusedError, RemoteFile, StoredTensor
from gpt2ln_cli.checkpoint.tokenizer import read_tokenizer
from gpt2ln_cli.errors import CheckpointError
from gpt2ln_cli.sites import all_sites

if TYPE_CHECKING:
    import numpy as np
    import torch
    from huggingface_hub import HfFileMetadata
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

CONFIG = "config.json"
SAFETENSORS = "model.safetensors"
WEIGHTS = (SAFETENSORS, "pytorch_model.bin")
TOKENIZER = (("tokenizer.json",), ("vocab.json", "merges.txt"))
DEFAULT_REVISION = "main"
REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
COMMIT = re.compile(r"[0-9a-f]{40}")
PAUSE_S = 1.0


def is_repo_id(name: str) -> bool:
    """Whether the name could be one of the Hub's: ``gpt2`` or ``org/name``."""
    return REPO_ID.fullmatch(name) is not None


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository, of which the cache may hold some files.

    Attributes:
        name: the repository's id.
        commit: the commit's 40 hexadecimal digits.
        unreachable: why the Hub can't be asked and the cache alone counts; None while it can.
    """

    name: str
    commit: str
    unreachable: CheckpointError | None = None
    _answers: dict[str, HfFileMetadata | None] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def find(cls, name: str, revision: str | None) -> Snapshot:
        """Find the commit that a branch, tag or commit stands for, and bring its ``config.json`` into the cache.

        Where the Hub can't be reached, the commit that the cache last saw counts.

        Raises:
            CheckpointError: there is no such repository, revision or ``config.json``, or it can't be had.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

        asked = revision or DEFAULT_REVISION
        cached = _in_cache(name, CONFIG, asked)
        if isinstance(cached, Path) and COMMIT.fullmatch(asked):
            return cls(name, asked)
        try:
            commit = _ask(name, CONFIG, asked, patient=cached is None).commit_hash
            if not isinstance(cached, Path) or cached.parent.name != commit:
                cached = Path(hf_hub_download(name, CONFIG, revision=asked))
            return cls(name, cached.parent.name)
        except (EntryNotFoundError, RevisionNotFoundError) as error:
            raise _refusal(name, asked, error) from error
        except Exception as error:
            refusal = _refusal(name, asked, error)
            if not isinstance(cached, Path):
                raise refusal from error
            return cls(name, cached.parent.name, refusal)

    def fetch(self, file: str) -> Path | None:
        """The file's place in the cache, fetched if it is not yet there; None where the repository has no such file.

        Raises:
            CheckpointError: it can't be fetched.
        """
        from huggingface_hub import hf_hub_download

        if isinstance(cached := _in_cache(self.name, file, self.commit), Path):
            return cached
        if self.metadata(file) is None:
            return None
        try:
            return Path(hf_hub_download(self.name, file, revision=self.commit))
        except Exception as error:
            raise _refusal(self.name, self.commit, error) from error

    def cached(self, file: str) -> Path | None:
        """The file's place in the cache, or None where it is not there."""
        return path if isinstance(path := _in_cache(self.name, file, self.commit), Path) else None

    def metadata(self, file: str) -> HfFileMetadata | None:
        """What the Hub says of the file; None where the repository has no such file, or the cache alone counts.

        Raises:
            CheckpointError: the Hub fails.
        """
        from huggingface_hub.errors import EntryNotFoundError

        if self.unreachable is not None or _in_cache(self.name, file, self.commit) is False:
            return None
        if file not in self._answers:
            try:
                self._answers[file] = _ask(self.name, file, self.commit, patient=True)
            except EntryNotFoundError:
                self._answers[file] = None
            except Exception as error:
                raise _refusal(self.name, self.commit, error) from error
        return self._answers[file]

    def weights(self) -> tuple[str, ...]:
        """The files that hold the weights, safetensors first: one, or the shards that an index names.

        Raises:
            CheckpointError: there are none, or the index can't be used.
        """
        for name in WEIGHTS:
            if self.cached(name) is not None or self.metadata(name) is not None:
                return (name,)
            if (index := self.fetch(name + INDEX_SUFFIX)) is not None:
                return tuple(sorted(set(read_index(index).values())))
        raise self.unreachable or CheckpointError(
            f"'{self.name}' has no {' or '.join(WEIGHTS)} on the Hub, nor an index of shards."
        )

    def url(self, file: str) -> str:
        """Where the Hub has the file."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.name, file, revision=self.commit)


@dataclass(frozen=True)
class HubCheckpoint(Checkpoint):
    """A repository in transformers' layout. Nothing but ``config.json`` is fetched until more is asked for."""

    snapshot: Snapshot

    @classmethod
    def open(cls, name: str, revision: str | None) -> HubCheckpoint:
        """Find the repository and read its configuration.

        Args:
            name: its id, such as ``gpt2`` or ``openai-community/gpt2-xl``.
            revision: branch, tag or commit; None for ``main``.

        Raises:
            CheckpointError: it can't be found or had, or is not GPT-2.
        """
        return cls.of(Snapshot.find(name, revision))

    @classmethod
    def of(cls, snapshot: Snapshot) -> HubCheckpoint:
        """Read the configuration of a snapshot.

        Raises:
            CheckpointError: it has none or is not GPT-2.
        """
        path = snapshot.fetch(CONFIG)
        if path is None:
            raise CheckpointError(f"the Hugging Face cache has no {CONFIG} of '{snapshot.name}'.")
        config, raw = parse_config(path)
        return cls(
            name=snapshot.name,
            source="hub",
            location=path.parent,
            revision=snapshot.commit,
            config=config,
            raw_config=raw,
            snapshot=snapshot,
        )

    @property
    def is_cached(self) -> bool:
        """Whether the cache holds all weights.

        Raises:
            CheckpointError: the Hub has to be asked which they are, and fails.
        """
        return all(self.snapshot.cached(file) for file in self._files)

    @override
    def stored_dtype(self) -> str:
        if self._remote is None:
            return self._folder.stored_dtype()
        _, tensor = self._remote.get("wte.weight") or next(iter(self._remote.values()))
        return DTYPE_NAMES.get(tensor.dtype, tensor.dtype)

    @override
    def layer_norms(self) -> dict[str, LayerNormParameters]:
        if self._remote is not None:
            try:
                return self._read_layer_norms(self._remote)
            except RangesRefusedError:
                pass
        return self._folder.layer_norms()

    @override
    def state_dict(self) -> dict[str, torch.Tensor]:
        return self._folder.state_dict()

    @override
    def tokenizer(self) -> Tokenizer | None:
        for files in TOKENIZER:
            if all(self.snapshot.fetch(file) for file in files):
                break
        return read_tokenizer(self.location)

    @cached_property
    def _files(self) -> tuple[str, ...]:
        return self.snapshot.weights()

    @cached_property
    def _folder(self) -> HuggingFaceFolder:
        """The snapshot's folder, once all weights are in it."""
        for file in self._files:
            if self.snapshot.fetch(file) is None:
                raise self.snapshot.unreachable or CheckpointError(f"'{self.name}' has no {file} on the Hub.")
        return HuggingFaceFolder.open(self.location, name=self.name, source="hub", revision=self.revision)

    @cached_property
    def _remote(self) -> dict[str, tuple[RemoteFile, StoredTensor]] | None:
        """Where each tensor lies on the Hub, by its name without the prefix; None where ranges can't be read."""
        if self.is_cached or not self._files[0].endswith(".safetensors"):
            return None
        found: dict[str, tuple[RemoteFile, StoredTensor]] = {}
        try:
            for file in self._files:
                metadata = self.snapshot.metadata(file)
                if metadata is None:
                    raise self.snapshot.unreachable or CheckpointError(f"'{self.name}' has no {file} on the Hub.")
                if metadata.size is None:
                    return None
                remote = RemoteFile(f"{self.name}/{file}", self.snapshot.url(file), metadata.size)
                found |= {name.removeprefix(BODY_PREFIX): (remote, at) for name, at in remote.tensors().items()}
        except RangesRefusedError:
            return None
        except CheckpointError:
            raise
        except Exception as error:
            raise _refusal(self.name, self.snapshot.commit, error) from error
        return found

    def _read_layer_norms(self, tensors: dict[str, tuple[RemoteFile, StoredTensor]]) -> dict[str, LayerNormParameters]:
        wanted: dict[RemoteFile, dict[str, StoredTensor]] = {}
        sites = all_sites(self.config.n_layer)
        for site in sites:
            for part in ("weight", "bias"):
                name = f"{site.name}.{part}"
                if name not in tensors:
                    raise CheckpointError(f"the weights of '{self.name}' have no tensor '{name}'.")
                remote, tensor = tensors[name]
                if tensor.shape != (self.config.n_embd,):
                    raise CheckpointError(
                        f"{remote.name}: '{name}' has shape {list(tensor.shape)} where config.json says "
                        f"{[self.config.n_embd]}."
                    )
                wanted.setdefault(remote, {})[name] = tensor
        vectors: dict[str, NDArray[np.float64]] = {}
        try:
            for remote, chosen in wanted.items():
                vectors.update(zip(chosen, remote.read(list(chosen.values())), strict=True))
        except (CheckpointError, RangesRefusedError):
            raise
        except Exception as error:
            raise _refusal(self.name, self.snapshot.commit, error) from error
        return {
            site.name: LayerNormParameters(gain=vectors[f"{site.name}.weight"], bias=vectors[f"{site.name}.bias"])
            for site in sites
        }


def cache_folder() -> Path:
    """The folder of the Hugging Face cache, which need not exist."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached_checkpoints() -> Iterator[HubCheckpoint]:
    """Every GPT-2 whose configuration and weights are in the cache, by name; what is damaged or another is left out.

    huggingface_hub's ``scan_cache_dir`` fails as a whole where a single entry can't be read, so the folders of the
    cache's documented layout (``models--org--name/snapshots/commit``) are gone through one by one.
    """
    nothing_else = CheckpointError("the cache alone was looked through.")
    for folder in sorted(cache_folder().glob("models--*/snapshots/*")):
        name = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
        try:
            checkpoint = HubCheckpoint.of(Snapshot(name, folder.name, nothing_else))
            if checkpoint.is_cached:
                yield checkpoint
        except CheckpointError:
            continue


def _in_cache(name: str, file: str, revision: str) -> Path | bool | None:
    """The file's place in the cache; False where the cache knows that there is no such file, None if it knows nothing.

    Raises:
        CheckpointError: the name can't be a repository's, or the cache can't be read.
    """
    from huggingface_hub import try_to_load_from_cache

    try:
        known = try_to_load_from_cache(name, file, revision=revision)
    except Exception as error:
        raise _refusal(name, revision, error) from error
    if known is None:
        return None
    return Path(known) if isinstance(known, str) else False


def _ask(name: str, file: str, revision: str, *, patient: bool) -> HfFileMetadata:
    """What the Hub says of a file; patient, it is asked twice where it is the Hub that fails."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    url = hf_hub_url(name, file, revision=revision)
    if patient:
        try:
            return get_hf_file_metadata(url)
        except Exception as error:  # a broken connection has other names in httpx and httpx2
            refused = isinstance(error, HfHubHTTPError) and error.response.status_code < 500
            if refused or isinstance(error, OfflineModeIsEnabled):
                raise
        time.sleep(PAUSE_S)
    return get_hf_file_metadata(url)


def _refusal(name: str, revision: str, error: Exception) -> CheckpointError:
    """What went wrong on the way to the Hub, in one line."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        FileMetadataError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, CheckpointError):
        return error
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    elsewhere = "give a folder, or use the bundled 'demo'"
    if isinstance(error, GatedRepoError):
        text = f"'{name}' is gated on the Hub: accept its terms there and set HF_TOKEN."
    elif isinstance(error, RepositoryNotFoundError):
        text = f"the Hub has no '{name}' that you may read (a private one needs HF_TOKEN)."
    elif isinstance(error, RevisionNotFoundError):
        text = f"'{name}' has no revision '{revision}' on the Hub."
    elif isinstance(error, HFValidationError):
        text = f"'{name}' is not a name that the Hub could have."
    elif isinstance(error, OfflineModeIsEnabled):
        text = f"'{name}' is not in the Hugging Face cache and HF_HUB_OFFLINE is set; go online, {elsewhere}."
    elif isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
        text = f"the Hub does not accept your token for '{name}'; check HF_TOKEN."
    elif isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        text = f"'{name}' has no {CONFIG} on the Hub, so it is no GPT-2 that gpt2ln could read."
    elif isinstance(error, HfHubHTTPError):
        text = f"the Hub answered {error.response.status_code} for '{name}'; try again later, {elsewhere}."
    elif isinstance(error, FileMetadataError):
        text = f"{constants.ENDPOINT} does not answer as a Hub does; check HF_ENDPOINT."
    elif isinstance(error, OSError):
        text = f"fetching '{name}' from the Hub failed: {reason}."
    else:
        text = (
            f"'{name}' is not in the Hugging Face cache and the Hub at {constants.ENDPOINT} can't be reached "
            f"({reason}); go online, {elsewhere}."
        )
    return CheckpointError(text)
