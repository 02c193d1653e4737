"""Which checkpoints are at hand: the bundled ones and those in the Hugging Face cache."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from gpt2ln_cli.checkpoint import Checkpoint, at_hand
from gpt2ln_cli.checkpoint.hub import cache_folder
from gpt2ln_cli.commands.models.record import AvailableModel, Models
from gpt2ln_cli.paths import path_text


def models() -> Models:
    """The bundled checkpoints, then the cached ones by name and commit.

    Raises:
        CheckpointError: a bundled checkpoint is missing or damaged.
    """
    return Models(cache=path_text(cache_folder()), models=[_describe(checkpoint) for checkpoint in at_hand()])


def _describe(checkpoint: Checkpoint) -> AvailableModel:
    config = checkpoint.config
    return AvailableModel(
        name=checkpoint.name,
        source="hub" if checkpoint.source == "hub" else "bundled",
        location=path_text(checkpoint.location),
        revision=checkpoint.revision,
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        n_positions=config.n_positions,
        vocab_size=config.vocab_size,
        size=_bytes_on_disk(checkpoint.location),
    )


def _bytes_on_disk(folder: Path) -> int:
    # The cache's snapshots are links to its blobs; two names of one blob take its bytes once.
    sizes: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        with suppress(OSError):  # a broken link, or what may not be read, takes no bytes that anybody could use
            status = path.stat()
            if S_ISREG(status.st_mode):
                sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())
