"""OpenAI's GPT-2, where the Hugging Face cache has it already."""

from __future__ import annotations

from gpt2ln_cli.checkpoint.base import CONFIG
from gpt2ln_cli.checkpoint.hub import DEFAULT_REVISION, TOKENIZER, Snapshot
from gpt2ln_cli.errors import CheckpointError

# By size; each has two names.
NAMES = tuple(f"{owner}gpt2{size}" for size in ("", "-medium", "-large", "-xl") for owner in ("openai-community/", ""))


def at_hand() -> str | None:
    """The smallest of them that can be run from the cache alone, without asking the Hub; None where there is none."""
    nothing_else = CheckpointError("the cache alone was looked through.")
    for name in NAMES:
        snapshot = Snapshot(name, DEFAULT_REVISION, nothing_else)
        try:
            whole = snapshot.cached(CONFIG) and snapshot.holds_weights()
            if whole and any(all(map(snapshot.cached, files)) for files in TOKENIZER):
                return name
        except (CheckpointError, OSError):
            continue
    return None
