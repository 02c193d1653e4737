"""Branches and tags of a repository on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from gpt2ln_cli.checkpoint.environment import check_variables
from gpt2ln_cli.checkpoint.hub import COMMIT, DEFAULT_REVISION, is_repo_id, refusal
from gpt2ln_cli.checkpoint.transfers import request
from gpt2ln_cli.errors import CheckpointError, UsageError

# Named where none matches.
SHOWN = 5


def matching(name: str, patterns: Sequence[str]) -> dict[str, str]:
    """The commits of the branches and tags that any of some globs matches, by their names.

    Args:
        name: the repository's id.
        patterns: globs, such as ``checkpoint-*``.

    Raises:
        CheckpointError: the name is neither on this disk nor one that the Hub could have, or the Hub can't be asked.
        UsageError: none matches.
    """
    if not is_repo_id(name):
        raise CheckpointError(f"no file or folder {name}, and the Hub can't have that name.")
    check_variables()
    from huggingface_hub import HfApi

    try:
        refs = request(f"'{name}': its branches and tags", lambda: HfApi().list_repo_refs(name))
    except Exception as error:
        raise refusal(name, DEFAULT_REVISION, error) from error
    commits = {ref.name: ref.target_commit for ref in [*refs.branches, *refs.tags]}
    found = {ref: commit for ref, commit in commits.items() if any(fnmatchcase(ref, one) for one in patterns)}
    if not found:
        more = " and more" if commits.keys() - [*commits][:SHOWN] else ""
        raise UsageError(
            f"'{name}' has no branch or tag like {' or '.join(patterns)} on the Hub; it has "
            f"{', '.join([*commits][:SHOWN]) or 'none'}{more}."
        )
    if strange := next((ref for ref, commit in found.items() if not COMMIT.fullmatch(commit)), None):
        raise CheckpointError(f"'{name}' has for its revision '{strange}' no commit on the Hub.")
    return found
