"""Finding a checkpoint by its name and recognizing its layout.

A new layout is a module with ``matches(path)`` and ``read(path, heads)``, registered in ``LAYOUTS``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from gpt2ln_cli.checkpoint import gguf_file, huggingface, llmc, nanogpt, single
from gpt2ln_cli.checkpoint.base import Checkpoint, Config, Contents, LayerNormParameters, check_numbers, check_tensors
from gpt2ln_cli.checkpoint.files import stamps
from gpt2ln_cli.checkpoint.tensors import LM_HEAD
from gpt2ln_cli.errors import CheckpointError, UsageError
from gpt2ln_cli.records import Source

__all__ = ["BUNDLED", "DEFAULT_MODEL", "LM_HEAD", "Checkpoint", "Config", "LayerNormParameters", "is_local", "locate"]


class Layout(Protocol):
    """What the module of a layout offers."""

    def matches(self, path: Path) -> bool:
        """Whether the path is of this layout."""

    def read(self, path: Path, heads: int | None) -> Contents:
        """Read the configuration and the tensors' headers; ``heads`` is for files that do not tell."""


# The first that matches reads; those that know their files by their first bytes come before those that go by the name.
LAYOUTS: tuple[Layout, ...] = (huggingface, gguf_file, llmc, nanogpt, single)
DEFAULT_MODEL = "demo"
BUNDLED = {DEFAULT_MODEL: Path(__file__).parent.parent / "bundled" / DEFAULT_MODEL}


def locate(model: str, revision: str | None = None, *, heads: int | None = None) -> Checkpoint:
    """Find a checkpoint: a bundled name, else a folder or file on disk, else a repository of the Hugging Face Hub.

    A folder that is called like a bundled checkpoint is reached as ``./demo``.

    Args:
        model: the name or path.
        revision: branch, tag or commit of a Hub id.
        heads: attention heads, for a file that does not tell.

    Raises:
        CheckpointError: nothing is found, or what is found is not a GPT-2 checkpoint.
        UsageError: ``heads`` contradicts the checkpoint or is needed and not given, or ``revision`` is of a path.
    """
    if revision is not None and is_local(model):
        raise UsageError(f"--revision {revision} is for a Hub id; '{model}' is on this disk, in one version.")
    if model in BUNDLED:
        return _recognize(BUNDLED[model], name=model, source="bundled", heads=heads)
    path = Path(model).expanduser()
    if path.exists():
        return _recognize(path, name=model, source="folder" if path.is_dir() else "file", heads=heads)
    from gpt2ln_cli.checkpoint import hub  # what is on this disk is found sooner without it

    if not model.startswith((".", "~")) and hub.is_repo_id(model):
        checkpoint = hub.find(model, revision)
        _check_heads(checkpoint.location, checkpoint.config, heads)
        return checkpoint
    raise CheckpointError(f"no file or folder {model}, and the Hub can't have that name; 'demo' is bundled.")


def is_local(model: str) -> bool:
    """Whether the name is a bundled one or a path that is there, so that nothing is fetched."""
    return model in BUNDLED or Path(model).expanduser().exists()


def _recognize(path: Path, *, name: str, source: Source, heads: int | None) -> Checkpoint:
    try:
        layout = next((layout for layout in LAYOUTS if layout.matches(path)), None)
        if layout is None and path.is_dir():
            raise CheckpointError(f"{path} is no checkpoint: it has no config.json.")
        if layout is None:
            raise CheckpointError(
                f"{path} is a file of no kind that gpt2ln reads: .safetensors, .bin, .pt, .pth, .gguf, llm.c's .bin."
            )
        before = stamps(path)
        contents = layout.read(path, heads)
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror or error}.") from error
    check_numbers(path, contents.config)
    check_tensors(path, contents.config, contents.tensors)
    _check_heads(path, contents.config, heads)
    return Checkpoint(name=name, source=source, location=path, revision=None, contents=contents, stamps=before)


def _check_heads(path: Path, config: Config, heads: int | None) -> None:
    if heads is not None and heads != config.n_head:
        raise UsageError(f"{path} says n_head {config.n_head}; leave out --heads {heads}.")
