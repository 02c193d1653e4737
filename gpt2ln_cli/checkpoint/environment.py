"""The Hub's environment variables, which huggingface_hub reads when it is imported, and fails on if malformed.

transformers imports it too, so that without care a slip in one of them stops even what is on this disk.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from gpt2ln_cli.errors import CheckpointError

SWITCHED = ("1", "ON", "YES", "TRUE", "0", "OFF", "NO", "FALSE", "")


def _is_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _is_seconds(value: str) -> bool:
    try:
        return int(value) >= 0
    except ValueError:
        return False


def _is_switch(value: str) -> bool:
    return value.upper() in SWITCHED


VARIABLES: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "HF_ENDPOINT": (_is_address, "an address such as https://huggingface.co"),
    "HF_HUB_ETAG_TIMEOUT": (_is_seconds, "a whole number of seconds"),
    "HF_HUB_DOWNLOAD_TIMEOUT": (_is_seconds, "a whole number of seconds"),
    "HF_HUB_OFFLINE": (_is_switch, "1 or 0"),
    "TRANSFORMERS_OFFLINE": (_is_switch, "1 or 0"),
}


def _malformed() -> list[str]:
    return [name for name, (fits, _) in VARIABLES.items() if name in os.environ and not fits(os.environ[name])]


def check_variables() -> None:
    """See, before the Hub is asked, that its variables say how.

    Raises:
        CheckpointError: one is malformed.
    """
    for name in _malformed():
        raise CheckpointError(f"{name} is '{os.environ[name]}', which is not {VARIABLES[name][1]}; mend or unset it.")


def import_hub() -> None:
    """Import what reads the variables, leaving out those that are malformed: what asks nobody needs none of them."""
    if "huggingface_hub.constants" in sys.modules:
        return
    aside = {name: os.environ.pop(name) for name in _malformed()}
    try:
        import huggingface_hub.constants  # noqa: F401
    finally:
        os.environ.update(aside)
