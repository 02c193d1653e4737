"""What to say of a path that is no checkpoint."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gpt2ln_cli.checkpoint.huggingface import NO_WEIGHTS, choose, weights_in
from gpt2ln_cli.checkpoint.single import PICKLED

if TYPE_CHECKING:
    from pathlib import Path

SAVED = re.compile(r"checkpoint-(\d+)")
DEEPSPEED = re.compile(r"global_step(\d+)")
STATES = "mp_rank_00_model_states.pt"
SHOWN = 6


def of_no_layout(path: Path) -> str:
    """What is wrong with a path that is read as no checkpoint, and what to give instead.

    Raises:
        OSError: it is a folder, and can't be listed.
    """
    if path.is_dir():
        return f"{path} is no checkpoint: {_what_lies_in(path)}"
    return (
        f"{path} is a file of no kind that gpt2ln reads: .safetensors, {', '.join(PICKLED)}, .gguf, .h5, llm.c's .bin, "
        "TensorFlow's .index."
    )


def _what_lies_in(folder: Path) -> str:
    """In words that follow on a colon; the folder has no ``config.json``."""
    entries = sorted(folder.iterdir())
    saved = _numbered(entries, SAVED)
    if saved:
        return (
            f"it holds {_listed(saved)} of a training run; give one, as --model {saved[-1]}, or look at all with "
            f"gpt2ln track {folder}."
        )
    steps = _numbered(entries, DEEPSPEED)
    if steps or DEEPSPEED.fullmatch(folder.name):
        file = (steps[-1] if steps else folder) / STATES
        if file.is_file():
            return f"it is DeepSpeed's; give --model {file}, or what zero_to_fp32.py makes of it."
        return "it is DeepSpeed's, with the weights in pieces; run the zero_to_fp32.py in it, and give what that makes."
    if any(entry.suffix == ".distcp" for entry in entries):
        return (
            "it is torch.distributed.checkpoint's; make one file of it with python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pt, and give that."
        )
    others = (".gguf", *PICKLED)
    files = weights_in(folder) or [one for one in entries if one.suffix in others and not NO_WEIGHTS.match(one.name)]
    if files:
        return f"it has no config.json; {choose(files)}."
    return "it has no config.json."


def _numbered(entries: list[Path], pattern: re.Pattern[str]) -> list[Path]:
    """The folders that are called so, in the order of their numbers."""
    found = {entry: int(match[1]) for entry in entries if entry.is_dir() and (match := pattern.fullmatch(entry.name))}
    return sorted(found, key=lambda entry: found[entry])


def _listed(folders: list[Path]) -> str:
    names = [folder.name for folder in folders]
    if len(names) > SHOWN:
        return f"{', '.join(names[: SHOWN - 1])} ... {names[-1]} ({len(names)} checkpoints)"
    return ", ".join(names)
