"""Finding a checkpoint by its name and recognizing its layout.

A new layout is a module here with ``matches(path)`` and ``read(path, heads, prefix)``, and its name in ``LAYOUTS``.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from gpt2ln_cli.checkpoint.base import (
    CONFIG,
    Checkpoint,
    Config,
    Contents,
    LayerNormParameters,
    check_numbers,
    check_tensors,
)
from gpt2ln_cli.checkpoint.files import BUNDLE, data_of, stamps
from gpt2ln_cli.checkpoint.huggingface import INDEX_SUFFIX
from gpt2ln_cli.checkpoint.tensors import LM_HEAD
from gpt2ln_cli.errors import CheckpointError, UsageError
from gpt2ln_cli.paths import user_path
from gpt2ln_cli.records import Source

__all__ = [
    "BUNDLED",
    "DEFAULT_MODEL",
    "LM_HEAD",
    "Checkpoint",
    "Config",
    "LayerNormParameters",
    "at_hand",
    "files_of",
    "is_local",
    "locate",
]


class Layout(Protocol):
    """What the module of a layout offers."""

    def matches(self, path: Path) -> bool:
        """Whether the path is of this layout."""

    def read(self, path: Path, heads: int | None, prefix: str | None) -> Contents:
        """Read the configuration and the tensors' headers.

        ``heads`` is for files that do not tell, ``prefix`` for those that hold several bodies.
        """


# The first that matches reads; those that know their files by their first bytes come before those that go by the name.
LAYOUTS = (
    "keras_hub",
    "huggingface",
    "openai_release",
    "gguf_file",
    "llmc",
    "nanogpt",
    "single",
    "lone",
)
DEFAULT_MODEL = "demo"
# The files of a checkpoint's folder, and what is read beside a lone file.
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".h5", BUNDLE, INDEX_SUFFIX)
BESIDE = (
    *(CONFIG, "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
    *("hparams.json", "checkpoint", "encoder.json", "vocab.bpe"),
    *("assets/tokenizer/vocabulary.json", "assets/tokenizer/merges.txt", "model.weights.json"),
)
BUNDLED = {DEFAULT_MODEL: Path(__file__).parent.parent / "bundled" / DEFAULT_MODEL}


def locate(
    model: str, revision: str | None = None, *, heads: int | None = None, prefix: str | None = None
) -> Checkpoint:
    """Find a checkpoint: a bundled name, else a folder or file on disk, else a repository of the Hugging Face Hub.

    A folder that is called like a bundled checkpoint is reached as ``./demo``.

    Args:
        model: the name or path.
        revision: branch, tag or commit of a Hub id.
        heads: attention heads, for a file that does not tell.
        prefix: what the tensors' names begin with, for a file that holds several bodies.

    Raises:
        CheckpointError: nothing is found, or what is found is not a GPT-2 checkpoint.
        UsageError: ``heads`` or ``prefix`` contradicts the checkpoint or is needed and not given, ``revision`` is of a
            path, or the name is empty.
    """
    if revision is not None and is_local(model):
        raise UsageError(f"--revision {revision} is for a Hub id; '{model}' is on this disk, in one version.")
    if model in BUNDLED:
        return _recognize(BUNDLED[model], name=model, source="bundled", heads=heads, prefix=prefix)
    path = _on_disk(model)
    if path is not None:
        source: Source = "folder" if path.is_dir() else "file"
        return _recognize(path, name=model, source=source, heads=heads, prefix=prefix)
    from gpt2ln_cli.checkpoint import hub

    if not model.startswith((".", "~")) and hub.is_repo_id(model):
        checkpoint = hub.find(model, revision, prefix)
        _check_heads(checkpoint.location, checkpoint.config, heads)
        return checkpoint
    raise CheckpointError(f"no file or folder {model}, and the Hub can't have that name; 'demo' is bundled.")


def at_hand() -> Iterator[Checkpoint]:
    """What needs no download: the bundled checkpoints, then those in the Hub's cache by name and commit.

    Raises:
        CheckpointError: a bundled checkpoint is missing or damaged.
    """
    from gpt2ln_cli.checkpoint import hub

    yield from map(locate, BUNDLED)
    yield from hub.cached_checkpoints()


def is_local(model: str) -> bool:
    """Whether the name is a bundled one or a path that is there, so that nothing is fetched.

    Raises:
        CheckpointError: the system refuses to say whether the path is there.
    """
    return model in BUNDLED or _on_disk(model) is not None


def files_of(model: str) -> Iterator[Path]:
    """The files on this disk that may be read for a checkpoint, those of the cache for a Hub id; for a file, itself.

    Raises:
        CheckpointError: the system refuses to say what is there.
        UsageError: the name is empty.
    """
    path = BUNDLED.get(model) or _on_disk(model)
    if path is None:
        from gpt2ln_cli.checkpoint import hub

        if hub.is_repo_id(model):
            yield from hub.cached_files(model)
        return
    folder = path if path.is_dir() else path.parent
    yield from (folder / name for name in BESIDE)
    if not path.is_dir():
        yield from (path, *data_of(path))
        return
    try:
        for file in folder.iterdir():
            if file.name.endswith(WEIGHT_SUFFIXES):
                yield from (file, *data_of(file))
    except OSError as error:
        raise _unreadable(path, error) from error


def _on_disk(model: str) -> Path | None:
    """The path of that name; None where nothing is there."""
    if not model:
        raise UsageError("the name of the model is empty; leave --model out, or give a name, a folder or a file.")
    path = user_path(model)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return _bundle(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    return path


def _bundle(path: Path) -> Path | None:
    """The index of the bundle that TensorFlow calls by what its files' names have in common; None where none is."""
    try:
        index = path.with_name(path.name + BUNDLE)
        return index if index.is_file() else None
    except (OSError, ValueError):
        return None


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"can't read {path}: {error.strerror or error}.")


def _layout(name: str) -> Layout:
    return cast("Layout", import_module(f"gpt2ln_cli.checkpoint.{name}"))


def _recognize(path: Path, *, name: str, source: Source, heads: int | None, prefix: str | None) -> Checkpoint:
    try:
        layout = next((layout for layout in map(_layout, LAYOUTS) if layout.matches(path)), None)
        if layout is None:
            from gpt2ln_cli.checkpoint.advice import of_no_layout

            raise CheckpointError(of_no_layout(path))
        before = stamps(path)
        contents = layout.read(path, heads, prefix)
    except OSError as error:
        raise _unreadable(path, error) from error
    check_numbers(path, contents.config)
    check_tensors(path, contents.config, contents.tensors)
    _check_heads(path, contents.config, heads)
    return Checkpoint(name=name, source=source, location=path, revision=None, contents=contents, stamps=before)


def _check_heads(path: Path, config: Config, heads: int | None) -> None:
    if heads is not None and heads != config.n_head:
        raise UsageError(f"{path} says n_head {config.n_head}; leave out --heads {heads}.")
