"""Whether a run has the memory that it takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gpt2ln_cli.errors import UsageError

if TYPE_CHECKING:
    from transformers import GPT2Model

    from gpt2ln_cli.checkpoint import Checkpoint

# The share of what is free that all deferred matrices may take and still be kept: a run has more than a model to keep.
SHARE_KEPT = 0.5
# The memory of a process in a container, or of a batch system's job.
CGROUPS = Path("/sys/fs/cgroup")


def free(device: torch.device) -> int | None:
    """Bytes that a run may take on a device; None where the system does not tell."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return min(_on_host(), default=None)


def _on_host() -> Iterator[int]:
    """What the machine has, and what is left of each limit that this process is under."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        yield int(lines["MemAvailable"].split()[0]) * 1024
        own = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].partition("\n")[0]
    except (OSError, ValueError, KeyError):
        if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
            yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return
    for group in (CGROUPS / own, *(CGROUPS / own).parents):
        try:
            limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such group, or no limit
            continue
        # Pages of files make room.
        yield limit - used + int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))


def least_bytes_a_token(body: GPT2Model) -> int:
    """What a pass takes for each token at least: at its height, in an MLP.

    There are the residual stream, the output of ln_2, and of the inner width five tensors inside of ``gelu_new`` and
    three inside of others: measured with torch's profiler, 22 and 14 times the width.
    """
    config = body.config
    inner = config.n_inner if config.n_inner is not None else 4 * config.n_embd
    tensors = 5 if config.activation_function == "gelu_new" else 3
    return int((2 * config.n_embd + tensors * inner) * body.dtype.itemsize)


def make_room(body: GPT2Model, checkpoint: Checkpoint, tokens: int) -> None:
    """Settle whether the matrices that a run makes are kept for its next pass, and refuse a run that can't fit.

    Args:
        body: the model.
        checkpoint: where it is from.
        tokens: the most that a pass has.

    Raises:
        UsageError: a pass takes more than there is.
    """
    from gpt2ln_cli.model.deferred import deferred  # transformers, which a malformed variable of the Hub stops

    there = free(body.device)
    left = deferred(body)
    of_pass, of_matrices = tokens * least_bytes_a_token(body), [source.nbytes for source in left.values()]
    keep = there is None or sum(of_matrices) + of_pass <= SHARE_KEPT * there
    for source in left.values():
        source.keep = keep
    least = of_pass + max(of_matrices, default=0)
    if there is not None and least > there:
        ways = ["take fewer tokens at a time (--batch-tokens, shorter prompts)", *_narrower(body, checkpoint)]
        raise UsageError(
            f"a pass of {tokens:,} tokens through {checkpoint.location} takes {_bytes(least)} of memory at least, "
            f"and {_bytes(there)} are free: {', or '.join(ways)}."
        )


def settle(body: GPT2Model, checkpoint: Checkpoint) -> None:
    """Make all matrices of a body, and keep them.

    Raises:
        UsageError: the memory does not take them.
    """
    from gpt2ln_cli.model.deferred import Deferred, deferred

    left = deferred(body)
    whole = sum(source.nbytes for source in left.values())
    there = free(body.device) if left else None
    if there is not None and whole > there:
        ways = ["leave it to the commands that make its matrices one after the other", *_narrower(body, checkpoint)]
        raise UsageError(
            f"the whole body of {checkpoint.location} takes {_bytes(whole)} of memory, and {_bytes(there)} are "
            f"free: {', or '.join(ways)}."
        )
    for module in left:
        Deferred.settle(module)


def _narrower(body: GPT2Model, checkpoint: Checkpoint) -> list[str]:
    stored = checkpoint.stored_dtype()
    narrower = getattr(torch, stored).itemsize < body.dtype.itemsize
    return [f"give --dtype {stored}, in which it is stored"] if narrower else []


def _bytes(count: int) -> str:
    """A number of bytes as people read it."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
