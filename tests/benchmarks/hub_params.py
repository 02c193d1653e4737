"""Count the bytes that `gpt2ln params` transfers from a hub on the loopback; print a Markdown table.

The repositories have the released models' tensors, all zero, in files with holes that take no room on the disk. No time
is shown: the loopback's says nothing of a network.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from hub_server import HubServer, Repository

from gpt2ln_cli.checkpoint.base import Config, body_shapes

SHAPES = {"gpt2": (12, 12, 768), "gpt2-medium": (24, 16, 1024), "gpt2-large": (36, 20, 1280), "gpt2-xl": (48, 25, 1600)}
FLOAT32_BYTES = 4


def write_repository(folder: Path, config: Config) -> int:
    """Write the configuration and a sparse float32 model.safetensors; return the file's size in bytes."""
    fields = {name: getattr(config, name) for name in ("model_type", "n_layer", "n_head", "n_embd")}
    (folder / "config.json").write_text(json.dumps(fields))
    header, end = {}, 0
    for name, shape in sorted(body_shapes(config)):
        start, end = end, end + FLOAT32_BYTES * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    size = 8 + len(encoded) + end
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(size)
    return size


def main() -> None:
    """Run `gpt2ln params` once for each released shape, each time with an empty cache."""
    print("| model | model.safetensors, bytes | transferred, bytes | of it gains and biases | requests |")
    print("| --- | ---: | ---: | ---: | ---: |")
    with HubServer() as hub, tempfile.TemporaryDirectory() as scratch:
        for name, (layers, heads, width) in SHAPES.items():
            folder = Path(scratch, name)
            folder.mkdir()
            config = Config(model_type="gpt2", n_layer=layers, n_head=heads, n_embd=width)
            size = write_repository(folder, config)
            hub.repositories[name] = Repository(folder)
            hub.forget()
            environment = {**os.environ, "HF_HOME": str(Path(scratch, "home")), "HF_ENDPOINT": hub.url}
            command = [sys.executable, "-m", "gpt2ln_cli", "params", "--model", name, "--json"]
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
            wanted = FLOAT32_BYTES * 2 * width * (2 * layers + 1)
            sent, requests = sum(hub.sent.values()), hub.requests.total()
            print(f"| {name} | {size:,} | {sent:,} | {wanted:,} | {requests} |", flush=True)


if __name__ == "__main__":
    main()
