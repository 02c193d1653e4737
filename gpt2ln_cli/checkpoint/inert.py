"""What takes the places of the classes that a pickle names beside its tensors: it keeps its fields and does nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

# Of Python's own library these alone: what else a training loop leaves in a file would be no class but a call.
PATHS = ("PurePath", "PurePosixPath", "PureWindowsPath", "Path", "PosixPath", "WindowsPath")
KEPT = {"argparse.Namespace", "types.SimpleNamespace", *(f"pathlib.{name}" for name in PATHS)}
# Whole modules of these are no state dicts.
NEVER = {*sys.stdlib_module_names, "torch"}
# torch's list of what may be loaded is one for all threads.
_LOCK = threading.RLock()


class Inert:
    """Stands for an object of a class that is not here; what the file says are its fields are kept."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Whatever a call would give it is let go."""

    def __setstate__(self, state: Any) -> None:
        """Keep the fields."""
        if isinstance(state, dict):
            self.__dict__.update({key: value for key, value in state.items() if isinstance(key, str)})


def _stand_in(name: str) -> type[Inert]:
    return type(name.rpartition(".")[2], (Inert,), {})


def _may_stand(name: str) -> bool:
    return name in KEPT or name.partition(".")[0] not in NEVER


@contextmanager
def stand_ins(file: Any) -> Iterator[None]:
    """Let torch's loader put objects of ours where an archive names classes; nothing of what is named is imported.

    What is of Python's own library or torch's is left to be refused, as ``os.system`` and ``eval`` are.

    Args:
        file: the zip archive, from its beginning; it stands there again after.
    """
    import torch

    file.seek(0)
    named: Iterable[str] = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    file.seek(0)
    allowed = [(_stand_in(name), name) for name in named if _may_stand(name)]
    if not allowed:
        yield
        return
    with _LOCK, torch.serialization.safe_globals(allowed):  # type: ignore[arg-type]
        yield
