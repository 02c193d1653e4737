"""Checkpoints on the Hugging Face Hub, fetched file by file, as they are needed, into huggingface_hub's cache.

huggingface_hub does the fetching, resumes what breaks off, and keeps the cache; its variables hold. Before it is let
loose on a file the Hub is asked for that file once, because huggingface_hub itself waits minutes for a mute server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from gpt2ln_cli.checkpoint import huggingface
from gpt2ln_cli.checkpoint.base import CONFIG, Checkpoint, Config, Contents, check_tensors, parse_config
from gpt2ln_cli.checkpoint.environment import check_variables, import_hub
from gpt2ln_cli.checkpoint.huggingface import INDEX_SUFFIX, PICKLED_WEIGHTS, WEIGHTS, read_index
from gpt2ln_cli.checkpoint.ranges import RangesRefusedError, RemoteFile
from gpt2ln_cli.checkpoint.tensors import Place, StoredTensor, body_names, chosen_body
from gpt2ln_cli.checkpoint.tokenizer import MERGES, VOCABULARY, WHOLE, read_tokenizer
from gpt2ln_cli.checkpoint.tokenizer_config import ADDED_TOKENS, SETTINGS, SPECIAL_TOKENS
from gpt2ln_cli.checkpoint.transfers import ask, download
from gpt2ln_cli.errors import CheckpointError
from gpt2ln_cli.sites import all_sites

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata
    from tokenizers import Tokenizer

    from gpt2ln_cli.checkpoint.tensors import Array

TOKENIZER = ((WHOLE,), (VOCABULARY, MERGES))
DEFAULT_REVISION = "main"
REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
COMMIT = re.compile(r"[0-9a-f]{40}")


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
        check_variables()
        from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

        asked = revision or DEFAULT_REVISION
        cached = _in_cache(name, CONFIG, asked)
        if isinstance(cached, Path) and COMMIT.fullmatch(asked):
            return cls(name, asked)
        try:
            known = COMMIT.fullmatch(asked) is not None
            commit = asked if known else ask(name, CONFIG, asked, patient=cached is None).commit_hash
            if not isinstance(cached, Path) or cached.parent.name != commit:
                cached = download(name, CONFIG, asked)
            return cls(name, cached.parent.name)
        except (EntryNotFoundError, RevisionNotFoundError) as error:
            raise refusal(name, asked, error) from error
        except Exception as error:
            why = refusal(name, asked, error)
            if not isinstance(cached, Path):
                raise why from error
            return cls(name, cached.parent.name, why)

    def fetch(self, file: str) -> Path | None:
        """The file's place in the cache, fetched if it is not yet there; None where the repository has no such file.

        Raises:
            CheckpointError: it can't be fetched.
        """
        if isinstance(cached := _in_cache(self.name, file, self.commit), Path):
            return cached
        if self.metadata(file) is None:
            return None
        try:
            return download(self.name, file, self.commit)
        except Exception as error:
            raise refusal(self.name, self.commit, error) from error

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
                self._answers[file] = ask(self.name, file, self.commit, patient=True)
            except EntryNotFoundError:
                self._answers[file] = None
            except Exception as error:
                raise refusal(self.name, self.commit, error) from error
        return self._answers[file]

    def weights(self) -> tuple[str, ...]:
        """The files that hold the weights, safetensors first: one, or the shards that an index names.

        Raises:
            CheckpointError: there are none, or the index can't be used.
        """
        for name in (WEIGHTS, PICKLED_WEIGHTS):
            if self.cached(name) is not None or self.metadata(name) is not None:
                return (name,)
            if (index := self.fetch(name + INDEX_SUFFIX)) is not None:
                return tuple(sorted(set(read_index(index).values())))
        raise self.unreachable or CheckpointError(
            f"'{self.name}' has no {WEIGHTS} or {PICKLED_WEIGHTS} on the Hub, nor an index of shards."
        )

    def holds_weights(self) -> bool:
        """Whether the cache holds all files of the weights.

        Raises:
            CheckpointError: there are none, or the index can't be used.
        """
        return all(map(self.cached, self.weights()))

    def lacks(self, file: str) -> CheckpointError:
        """The error to raise where the file is needed and could not be had."""
        return self.unreachable or CheckpointError(f"'{self.name}' has no {file} on the Hub.")


class Weights(Mapping[str, StoredTensor]):
    """The tensors of a snapshot, of which as little is fetched as what is asked of them needs.

    Names, shapes and types come from the files' headers, and LayerNorms' values by range requests; anything else brings
    the files into the cache, as does a server without ranges. What the cache holds is read from there.
    """

    def __init__(self, snapshot: Snapshot, folder: Path, config: Config, prefix: str | None) -> None:
        self._snapshot, self._folder, self._config, self._prefix = snapshot, folder, config, prefix

    @override
    def __getitem__(self, name: str) -> StoredTensor:
        return self._tensors[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    @override
    def __len__(self) -> int:
        return len(self._tensors)

    @cached_property
    def _tensors(self) -> Mapping[str, StoredTensor]:
        if self._places is None:
            return self._local
        tensors = {name: self._remote(name) for name in self._places}
        check_tensors(self._folder, self._config, tensors)
        return tensors

    @cached_property
    def _files(self) -> tuple[str, ...]:
        return self._snapshot.weights()

    @cached_property
    def _local(self) -> Mapping[str, StoredTensor]:
        for file in self._files:
            if self._snapshot.fetch(file) is None:
                raise self._snapshot.lacks(file)
        tensors = huggingface.read(self._folder, None, self._prefix).tensors
        check_tensors(self._folder, self._config, tensors)
        return tensors

    @cached_property
    def _places(self) -> dict[str, tuple[RemoteFile, Place]] | None:
        """Where each tensor of the body lies on the Hub; None where the files are cached or ranges can't be read."""
        if all(map(self._snapshot.cached, self._files)):
            return None
        found: dict[str, tuple[RemoteFile, Place]] = {}
        try:
            for file in self._files:
                metadata = self._snapshot.metadata(file)
                if metadata is None:
                    raise self._snapshot.lacks(file)
                if metadata.size is None:
                    return None
                remote = RemoteFile(f"{self._snapshot.name}/{file}", metadata.location, metadata.size)
                found |= {name: (remote, place) for name, place in remote.tensors().items()}
        except RangesRefusedError:
            return None
        except Exception as error:
            raise refusal(self._snapshot.name, self._snapshot.commit, error) from error
        return {name: found[stored] for name, stored in body_names(self._folder, found, self._prefix).items()}

    def _remote(self, name: str) -> StoredTensor:
        assert self._places is not None
        _, place = self._places[name]

        def array() -> Array:
            values = self._vectors.get(name)
            return self._local[name].array() if values is None else values

        return StoredTensor(place.shape, place.dtype, array, lambda: self._local[name].tensor(), mapped=True)

    @cached_property
    def _vectors(self) -> dict[str, Array]:
        """All gains and biases, read at once; none where the server turns out not to honour ranges."""
        assert self._places is not None
        names = [f"{site.name}.{part}" for site in all_sites(self._config.n_layer) for part in ("weight", "bias")]
        wanted: dict[RemoteFile, dict[str, Place]] = {}
        for name in names:
            if name in self._places:  # a bias may be missing
                remote, place = self._places[name]
                wanted.setdefault(remote, {})[name] = place
        vectors: dict[str, Array] = {}
        try:
            for remote, chosen in wanted.items():
                vectors.update(zip(chosen, remote.read(list(chosen.values())), strict=True))
        except RangesRefusedError:
            return {}
        except Exception as error:
            raise refusal(self._snapshot.name, self._snapshot.commit, error) from error
        return vectors


def find(name: str, revision: str | None, prefix: str | None = None) -> Checkpoint:
    """Find a repository in transformers' layout. Nothing but ``config.json`` is fetched until more is asked for.

    Args:
        name: its id, such as ``gpt2`` or ``openai-community/gpt2-xl``.
        revision: branch, tag or commit; None for ``main``.
        prefix: what the tensors' names begin with, for weights of several bodies.

    Raises:
        CheckpointError: it can't be found or had, or is not GPT-2.
    """
    return _checkpoint(Snapshot.find(name, revision), prefix)


def _checkpoint(snapshot: Snapshot, prefix: str | None = None) -> Checkpoint:
    path = snapshot.fetch(CONFIG)
    if path is None:
        raise snapshot.lacks(CONFIG)
    config = parse_config(path)
    tensors = Weights(snapshot, path.parent, config, prefix)
    contents = Contents(config, tensors, chosen_body(prefix), partial(_tokenizer, snapshot, path.parent))
    return Checkpoint(
        name=snapshot.name, source="hub", location=path.parent, revision=snapshot.commit, contents=contents
    )


def _tokenizer(snapshot: Snapshot, folder: Path) -> Tokenizer | None:
    for files in TOKENIZER:
        if all(snapshot.fetch(file) for file in files):
            # tokenizer.json lists added and special tokens itself.
            for settings in (SETTINGS,) if files == (WHOLE,) else (SETTINGS, SPECIAL_TOKENS, ADDED_TOKENS):
                snapshot.fetch(settings)
            break
    return read_tokenizer(folder)


def cache_folder() -> Path:
    """The folder of the Hugging Face cache, which need not exist."""
    import_hub()
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached_checkpoints() -> Iterator[Checkpoint]:
    """Every GPT-2 whose configuration and weights are in the cache, by name; what is damaged or another is left out.

    huggingface_hub's ``scan_cache_dir`` fails as a whole where a single entry can't be read, so the folders of the
    cache's documented layout (``models--org--name/snapshots/commit``) are gone through one by one.
    """
    nothing_else = CheckpointError("the cache alone was looked through.")
    for folder in sorted(cache_folder().glob("models--*/snapshots/*")):
        name = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
        snapshot = Snapshot(name, folder.name, nothing_else)
        try:
            if snapshot.holds_weights():
                yield _checkpoint(snapshot)
        except (CheckpointError, OSError):
            continue


def cached_files(name: str) -> Iterator[Path]:
    """Every file that the cache holds of a repository, of whichever commit."""
    return (cache_folder() / f"models--{name.replace('/', '--')}").glob("snapshots/*/**/*")


def _in_cache(name: str, file: str, revision: str) -> Path | bool | None:
    """The file's place in the cache; False where the cache knows that there is no such file, None if it knows nothing.

    Raises:
        CheckpointError: the name can't be a repository's, or the cache can't be read.
    """
    from huggingface_hub import try_to_load_from_cache

    try:
        known = try_to_load_from_cache(name, file, revision=revision)
    except Exception as error:
        raise refusal(name, revision, error) from error
    if known is None:
        return None
    return Path(known) if isinstance(known, str) else False


def refusal(name: str, revision: str, error: Exception) -> CheckpointError:
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
    # The first line says what; huggingface_hub's further ones are advice to its own callers.
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
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
