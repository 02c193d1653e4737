"""How far a run over a corpus has come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpt2ln_cli.commands.profile.manifest import Manifest
    from gpt2ln_cli.model.subject import Progress


class Meter:
    """How far a run has come, and about how far there is to go."""

    def __init__(self, there: Manifest, pending: Sequence[int], progress: Progress | None) -> None:
        self._bytes = {shard: sum(piece.bytes for piece in there.cut.shards[shard]) for shard in pending}
        self._all = sum(self._bytes.values())
        limit = there.settings.limit_tokens
        self._limit = None if limit is None else limit * len(pending) // max(1, len(there.cut.shards))
        self._progress = progress
        self._tokens = self._finished_bytes = self._finished_tokens = 0

    def report(self, tokens: int) -> None:
        """So many more tokens were run."""
        self._tokens += tokens
        if self._progress is not None:
            # Before a shard is done, nobody knows how many bytes a token has.
            a_byte = self._finished_tokens / self._finished_bytes if self._finished_bytes else 0.25
            about = int(self._all * a_byte) if self._limit is None else self._limit
            self._progress(self._tokens, max(about, self._tokens))

    def finish(self, shard: int, tokens: int) -> None:
        """A shard is done, which had so many tokens; none where another process did it."""
        if tokens:
            self._finished_bytes += self._bytes[shard]
            self._finished_tokens += tokens
