"""Measure the memory that models take which leave little room for it, on sparse files of their shapes; print a table.

The files are zeros but for gains and the first positions, and take next to nothing on disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]
LINEAR = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
# Few: what matrices take does not depend on them.
TOKENS = 4


@dataclass(frozen=True)
class Shape:
    """Of a GPT-2."""

    layers: int
    width: int
    heads: int
    positions: int
    vocabulary: int = 50257

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of each, as transformers has them."""
        d = self.width
        yield "wte.weight", (self.vocabulary, d)
        yield "wpe.weight", (self.positions, d)
        for layer in range(self.layers):
            for name, shape in (
                ("ln_1", (d,)),
                ("attn.c_attn", (d, 3 * d)),
                ("attn.c_proj", (d, d)),
                ("ln_2", (d,)),
                ("mlp.c_fc", (d, 4 * d)),
                ("mlp.c_proj", (4 * d, d)),
            ):
                yield f"h.{layer}.{name}.weight", shape
                yield f"h.{layer}.{name}.bias", shape[-1:]
        yield "ln_f.weight", (d,)
        yield "ln_f.bias", (d,)


XL, B13 = Shape(48, 1600, 25, 1024), Shape(40, 5120, 40, 2048)


def safetensors(shape: Shape, folder: Path, kind: str = "F16") -> Path:
    """A folder with one ``model.safetensors``, in half precision."""
    import ml_dtypes
    import numpy as np

    sizes = {"n_layer": shape.layers, "n_embd": shape.width, "n_head": shape.heads, "n_positions": shape.positions}
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": shape.vocabulary, **sizes}))
    header, end = {}, 0
    for name, of in shape.tensors():
        start, end = end, end + 2 * prod(of)
        header[name] = {"dtype": kind, "shape": of, "data_offsets": (start, end)}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.truncate(8 + len(head) + end)
        for name, of in shape.tensors():
            # Else all tokens had a sigma of 0, and were read once more in float64.
            if name == "wpe.weight":
                some = np.random.default_rng(0).standard_normal((TOKENS, shape.width))
            elif "ln_" in name and name.endswith("weight"):
                some = np.ones(of)
            else:
                continue
            file.seek(8 + len(head) + header[name]["data_offsets"][0])
            file.write(some.astype("<f2" if kind == "F16" else ml_dtypes.bfloat16).tobytes())
    return folder


def bfloat16(shape: Shape, folder: Path) -> Path:
    """The same in bfloat16, in which a CPU multiplies some twenty times faster."""
    return safetensors(shape, folder, "BF16")


def nanogpt(shape: Shape, folder: Path) -> Path:
    """nanoGPT's ``ckpt.pt``, float32."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    arguments = {"n_layer": shape.layers, "n_embd": shape.width, "n_head": shape.heads, "bias": True}
    arguments |= {"block_size": shape.positions, "vocab_size": shape.vocabulary}
    with FakeTensorMode():
        state = {
            f"transformer.{name}": torch.empty(of[::-1] if name.endswith(LINEAR) else of)
            for name, of in shape.tensors()
        }
    with torch.serialization.skip_data(materialize_fake_tensors=True):
        torch.save({"model": state, "model_args": arguments}, folder / "ckpt.pt")
    return folder / "ckpt.pt"


def llmc(shape: Shape, folder: Path) -> Path:
    """llm.c's ``.bin``, float32."""
    import numpy as np

    header = np.zeros(256, dtype="<i4")
    sizes = (shape.positions, shape.vocabulary, shape.layers, shape.heads, shape.width, shape.vocabulary)
    header[:8] = 20240326, 3, *sizes
    with (folder / "gpt2.bin").open("wb") as file:
        file.write(header.tobytes())
        file.truncate(1024 + 4 * sum(prod(of) for _, of in shape.tensors()))
    return folder / "gpt2.bin"


def quantized(shape: Shape, folder: Path) -> Path:
    """A GGUF file, Q8_0."""
    import gguf
    import numpy as np

    from gpt2ln_cli.checkpoint.gguf_file import BLOCK_NAMES, NAMES

    names = {own: theirs for theirs, own in {**NAMES, **BLOCK_NAMES}.items()}
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.positions)
    writer.add_embedding_length(shape.width)
    writer.add_head_count(shape.heads)
    writer.add_layer_norm_eps(1e-5)
    end = 0
    for name, of in shape.tensors():
        module, _, part = name.rpartition(".")
        block, layer, rest = module.split(".", 2) if module.startswith("h.") else ("", "", module)
        full = f"blk.{layer}.{names[rest]}.{part}" if block else f"{names[module]}.{part}"
        if len(of) == 1:
            nbytes, kind, stored = 4 * prod(of), np.dtype(np.float32), of
            writer.add_tensor_info(full, stored, kind, nbytes)
        else:
            rows, columns = of[::-1] if name.endswith(LINEAR) else of
            stored = (rows, columns // 32 * 34)
            nbytes = prod(stored)
            kind = np.dtype(np.uint8)
            writer.add_tensor_info(full, stored, kind, nbytes, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        end += -(-nbytes // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        head = file.seek(0, 2)
        file.truncate(-(-head // 32) * 32 + end)
    return path


INSPECT, LAYER_0 = "gpt2ln_cli.inspect(ids, model=model)", "gpt2ln_cli.stats(ids, model=model, layers=0)"
CASES = {
    "13B, safetensors bfloat16: inspect": (bfloat16, B13, "auto", INSPECT),
    "13B, safetensors float16 as float32: inspect": (safetensors, B13, "float32", INSPECT),
    "13B, safetensors float16 as float32: stats --layer 0": (safetensors, B13, "float32", LAYER_0),
    "XL, safetensors float16 as float32: inspect": (safetensors, XL, "float32", INSPECT),
    "XL, safetensors float16 as float32: stats --layer 0": (safetensors, XL, "float32", LAYER_0),
    "XL, nanoGPT float32: stats --layer 0": (nanogpt, XL, "auto", LAYER_0),
    "XL, llm.c float32: stats --layer 0": (llmc, XL, "auto", LAYER_0),
    "XL, GGUF Q8_0: stats --layer 0": (quantized, XL, "auto", LAYER_0),
}
RUN = """
import pathlib, resource, sys, threading, time
import gpt2ln_cli
path, tokens, dtype = sys.argv[1], int(sys.argv[2]), sys.argv[3]
own = [0]
def look():
    while True:
        status = pathlib.Path("/proc/self/status").read_text()
        own[0] = max(own[0], int(status.partition("RssAnon:")[2].split()[0]))
        time.sleep(0.002)
threading.Thread(target=look, daemon=True).start()
start = time.perf_counter()
ids = [list(range(1, tokens + 1))]
model = gpt2ln_cli.load(path, dtype=dtype)
{call}
seconds = time.perf_counter() - start
print(own[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, seconds)
"""


@click.command()
@click.option("--checkout", type=click.Path(path_type=Path), default=ROOT, help="Another commit's, to measure that.")
@click.option("--only", default="", help="Cases whose name has this in it.")
def main(checkout: Path, only: str) -> None:
    """Run each case in a process that does nothing else."""
    print("| model: work | file, GB | peak of its own, GB | peak with the file's pages, GB | seconds |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (write, shape, dtype, call) in CASES.items():
        if only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = write(shape, Path(folder))
            largest = max(file.stat().st_size for file in Path(folder).iterdir())
            words = [sys.executable, "-c", RUN.format(call=call), str(path), str(TOKENS), dtype]
            done = subprocess.run(words, capture_output=True, text=True, cwd=checkout, check=False)
        if done.returncode:
            line = (done.stderr.splitlines() or [f"ended by signal {-done.returncode}"])[-1]
            print(f"| {name} | {largest / 1e9:.1f} | {line.replace(folder, '...')} | | |", flush=True)
            continue
        own, whole, seconds = done.stdout.split()
        figures = (int(own) * 1024 / 1e9, int(whole) * 1024 / 1e9)
        print(
            f"| {name} | {largest / 1e9:.1f} | {figures[0]:.2f} | {figures[1]:.2f} | {float(seconds):.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
