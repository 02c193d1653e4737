"""Measure `gpt2ln track` on 100 revisions from a hub on the loopback; print a Markdown table.

The revisions have GPT-2 small's tensors, all zero, in files with holes. What is transferred is held against gains,
biases and headers, and the time of the whole process against that of `gpt2ln params` on one revision. The loopback has
no latency, so the time is the work that reading takes, the hub's own on the same cores included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from hub_params import FLOAT32_BYTES, write_repository
from hub_server import HubServer, Repository

from gpt2ln_cli.checkpoint.base import Config, body_shapes

REVISIONS = 100
CONFIG = Config(model_type="gpt2", n_layer=12, n_head=12, n_embd=768)
WANTED = FLOAT32_BYTES * 2 * CONFIG.n_embd * (2 * CONFIG.n_layer + 1)
SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"


def write_safetensors(folder: Path) -> int:
    """Write a repository; return the bytes of its weights that are no tensors."""
    size = write_repository(folder, CONFIG)
    return size - _tensor_bytes()


def write_zip(folder: Path) -> int:
    """The same with a file of torch.save."""
    write_repository(folder, CONFIG)
    (folder / SAFETENSORS).unlink()
    torch.save({name: torch.zeros(shape) for name, shape in body_shapes(CONFIG)}, folder / PICKLED)
    _dig_holes(folder / PICKLED)
    with zipfile.ZipFile(folder / PICKLED) as archive:
        pickle = next(entry for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
        return pickle.file_size + (folder / PICKLED).stat().st_size - archive.start_dir


def _dig_holes(path: Path) -> None:
    subprocess.run(["fallocate", "--dig-holes", path], check=False)


def _tensor_bytes() -> int:
    return FLOAT32_BYTES * sum(torch.Size(shape).numel() for _, shape in body_shapes(CONFIG))


def measure(hub: HubServer, home: Path, *words: str) -> tuple[float, int, int]:
    """Seconds, bytes and requests of one call."""
    hub.forget()
    environment = {**os.environ, "HF_HOME": str(home), "XDG_CACHE_HOME": str(home / "xdg"), "HF_ENDPOINT": hub.url}
    environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    began = time.perf_counter()
    command = [sys.executable, "-m", "gpt2ln_cli", *words, "--json"]
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began, sum(hub.sent.values()), hub.requests.total()


def row(hub: HubServer, scratch: Path, kind: str, write: Callable[[Path], int]) -> str:
    """Measure one kind of file."""
    first = scratch / kind
    first.mkdir()
    header = write(first)
    weights = next(path for path in first.iterdir() if path.name != "config.json")
    branches = {}
    for number in range(REVISIONS):
        folder = scratch / f"{kind}-{number}"
        folder.mkdir()
        (folder / "config.json").write_bytes((first / "config.json").read_bytes())
        os.link(weights, folder / weights.name)
        branches[f"checkpoint-{number}"] = folder
    hub.repositories["org/run"] = Repository(first, branches=branches)
    alone = min(measure(hub, scratch / f"home-{kind}-{again}", "params", "--model", "org/run")[0] for again in range(3))
    words = ("track", "org/run", "--revisions", "checkpoint-*")
    seconds, sent, requests = measure(hub, scratch / f"home-{kind}", *words)
    again, _, _ = measure(hub, scratch / f"home-{kind}", *words)
    least = REVISIONS * (WANTED + header + (first / "config.json").stat().st_size)
    return (
        f"| {kind} | {sent:,} | {sent / least:.2f} | {requests / REVISIONS:.1f} | {alone:.2f} | {seconds:.2f} | "
        f"{seconds / alone:.1f} | {again:.2f} |"
    )


def main() -> None:
    """Measure both kinds."""
    print(
        "| files | transferred, bytes | of gains, biases and headers | requests a checkpoint | `params`, s | "
        "`track`, s | of `params` | again, s |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with HubServer() as hub, tempfile.TemporaryDirectory() as scratch:
        for kind, write in (("safetensors", write_safetensors), ("zip", write_zip)):
            print(row(hub, Path(scratch), kind, write), flush=True)


if __name__ == "__main__":
    main()
