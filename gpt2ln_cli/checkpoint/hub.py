"""Fetching a checkpoint from the Hugging Face Hub into its cache, by huggingface_hub."""

from __future__ import annotations

import re
from pathlib import Path

from gpt2ln_cli.checkpoint.huggingface import WEIGHTS
from gpt2ln_cli.errors import CheckpointError

FILES = ["config.json", WEIGHTS, "tokenizer.json", "vocab.json", "merges.txt"]
REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def is_repo_id(name: str) -> bool:
    """Whether the name could be one of the Hub's: ``gpt2`` or ``org/name``."""
    return REPO_ID.fullmatch(name) is not None


def fetch(name: str, revision: str | None) -> tuple[Path, str]:
    """Bring the needed files into the Hub's cache; return the snapshot's folder and its commit.

    Raises:
        CheckpointError: there is no such repository, it can't be reached, or it is not to be had without a token.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=FILES))
    except GatedRepoError as error:
        raise CheckpointError(f"'{name}' is gated on the Hub: accept its terms there and set HF_TOKEN.") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"the Hub has no '{name}' that you may read (a private one needs HF_TOKEN).") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"'{name}' has no revision '{revision}' on the Hub.") from error
    except HFValidationError as error:
        raise CheckpointError(f"'{name}' is not a name that the Hub could have.") from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"'{name}' is not in the Hugging Face cache and the Hub can't be reached; "
            "give a folder, go online, or use the bundled 'demo'."
        ) from error
    except OSError as error:
        raise CheckpointError(f"fetching '{name}' from the Hub failed: {error}.") from error
    return folder, folder.name
