"""Finding a checkpoint by its name and recognizing its layout.

A new layout is a module with a subclass of :class:`Checkpoint`, registered in ``LAYOUTS``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gpt2ln_cli.checkpoint import hub
from gpt2ln_cli.checkpoint.base import Checkpoint, Config, LayerNormParameters
from gpt2ln_cli.checkpoint.huggingface import HuggingFaceFolder
from gpt2ln_cli.errors import CheckpointError

__all__ = ["BUNDLED", "DEFAULT_MODEL", "Checkpoint", "Config", "LayerNormParameters", "locate"]

LAYOUTS = (HuggingFaceFolder,)
DEFAULT_MODEL = "demo"
BUNDLED = {DEFAULT_MODEL: Path(__file__).parent.parent / "bundled" / DEFAULT_MODEL}


def locate(model: str, revision: str | None = None) -> Checkpoint:
    """Find a checkpoint: a bundled name, else a folder on disk, else a repository of the Hugging Face Hub.

    A folder that is called like a bundled checkpoint is reached as ``./demo``.

    Raises:
        CheckpointError: nothing is found, or what is found is not a GPT-2 checkpoint.
    """
    if model in BUNDLED:
        return _recognize(BUNDLED[model], name=model, source="bundled")
    path = Path(model).expanduser()
    if path.exists():
        return _recognize(path, name=model, source="folder")
    if not model.startswith((".", "~")) and hub.is_repo_id(model):
        return hub.HubCheckpoint.open(model, revision)
    raise CheckpointError(f"no file or folder {model}, and the Hub can't have that name; 'demo' is bundled.")


def _recognize(
    path: Path, *, name: str, source: Literal["bundled", "hub", "folder"], revision: str | None = None
) -> Checkpoint:
    for layout in LAYOUTS:
        if layout.matches(path):
            return layout.open(path, name=name, source=source, revision=revision)
    if path.is_dir():
        raise CheckpointError(f"{path} is no checkpoint: it has no config.json.")
    raise CheckpointError(f"{path} is a file; give the folder that holds config.json and model.safetensors.")
