"""Measure gpt2ln against bare forward passes, plain hooks and whole transformers scripts; print a Markdown table."""

from __future__ import annotations

import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2Model

from gpt2ln_cli.checkpoint import BUNDLED
from gpt2ln_cli.measure.feature_sums import Watcher
from gpt2ln_cli.measure.stream import stream
from gpt2ln_cli.measure.writers import Attribution
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.sites import all_sites, select_sites
from gpt2ln_cli.text.batches import in_batches
from gpt2ln_cli.text.contexts import Context

PROMPT = "The war was over, but the hatred was not."
SMALLEST_SCRIPT = """
import sys, torch
from transformers import AutoTokenizer, GPT2Model
tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[1]), GPT2Model.from_pretrained(sys.argv[1])
with torch.no_grad():
    model(**tokenizer(sys.argv[2], return_tensors="pt"))
"""
LOAD_SCRIPT = "import sys; from transformers import GPT2Model; GPT2Model.from_pretrained(sys.argv[1])"
PEER_SCRIPT = """
import sys, torch
from transformer_lens.model_bridge import TransformerBridge
model = TransformerBridge.boot_transformers(sys.argv[1], device="cpu")
with torch.no_grad():
    model.run_with_cache(sys.argv[2], names_filter=lambda name: name.endswith("hook_scale"))
"""
PEAK_SCRIPT = r"""
import re, sys, torch
from transformers import GPT2Model
model = GPT2Model.from_pretrained(sys.argv[1]).eval()
ids = torch.arange(1024 * int(sys.argv[3])).reshape(-1, 1024)
if sys.argv[2] == "attribute":
    from gpt2ln_cli.measure.writers import Attribution
    from gpt2ln_cli.model.batch import Batch
    from gpt2ln_cli.sites import all_sites
    Attribution(model, all_sites(12)).read(Batch.of(ids.tolist()))
elif sys.argv[2] == "probe":
    from gpt2ln_cli.measure.stream import stream
    from gpt2ln_cli.sites import all_sites
    from gpt2ln_cli.text.batches import in_batches
    from gpt2ln_cli.text.contexts import Context
    contexts = [Context(i, 0, 0, None, row.tolist()) for i, row in enumerate(ids)]
    blocks = list(stream(model, in_batches(contexts), all_sites(12)))
else:
    with torch.inference_mode():
        model(ids, use_cache=False)
print(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
"""
PEER_PEAK_SCRIPT = r"""
import re, sys, torch
from transformer_lens.model_bridge import TransformerBridge
model = TransformerBridge.boot_transformers(sys.argv[1], device="cpu")
with torch.no_grad():
    model.run_with_cache(torch.arange(4096).reshape(4, 1024))
print(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
"""


@dataclass
class Result:
    """One row of the table."""

    work: str
    against: str
    ratios: Sequence[float]
    target: str

    def row(self) -> str:
        low, middle, high = statistics.quantiles(self.ratios, n=4) if len(self.ratios) > 1 else self.ratios * 3
        return f"| {self.work} | {self.against} | {middle:.3f} ({low:.3f} to {high:.3f}) | {self.target} |"


def seconds(work: Callable[[], object]) -> float:
    gc.disable()
    began = time.perf_counter()
    work()
    elapsed = time.perf_counter() - began
    gc.enable()
    return elapsed


def alternate(work: Callable[[], object], against: Callable[[], object], rounds: int) -> list[float]:
    """Ratios of the two, each round in the other order than the last."""
    work(), against()
    ratios = []
    for number in range(rounds):
        if number % 2:
            a, b = seconds(work), seconds(against)
        else:
            b, a = seconds(against), seconds(work)
        ratios.append(a / b)
    return ratios


def contexts_of(ids: torch.Tensor) -> list[Context]:
    return [Context(number, 0, 0, None, row.tolist()) for number, row in enumerate(ids)]


def probed(
    body: GPT2Model, ids: torch.Tensor, *, shape: bool = False, layer: int | None = None
) -> Callable[[], object]:
    contexts = contexts_of(ids)
    sites = all_sites(12) if layer is None else select_sites(12, [layer])
    return lambda: list(stream(body, in_batches(contexts), sites, shape=shape))


def summed(body: GPT2Model, ids: torch.Tensor, *, exact: bool) -> Callable[[], object]:
    contexts = contexts_of(ids)
    return lambda: list(stream(body, in_batches(contexts), all_sites(12), watcher=Watcher(peaks=5, exact=exact)))


def attributed(body: GPT2Model, ids: torch.Tensor) -> Callable[[], object]:
    reader, batch = Attribution(body, all_sites(12)), Batch.of(ids.tolist())
    return lambda: reader.read(batch)


def bare(body: GPT2Model, ids: torch.Tensor) -> Callable[[], object]:
    def run() -> None:
        with torch.inference_mode():
            body(ids, use_cache=False)

    return run


def hooked(body: GPT2Model, ids: torch.Tensor) -> Callable[[], object]:
    """What a notebook does: forward hooks that compute mean, std and norms again."""
    forward = bare(body, ids)

    def run() -> None:
        kept = []

        def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            x = inputs[0]
            kept.append((x.mean(-1), x.std(-1, correction=0), x.norm(dim=-1), output.norm(dim=-1)))

        norms = [module for module in body.modules() if isinstance(module, torch.nn.LayerNorm)]
        handles = [module.register_forward_hook(hook) for module in norms]
        forward()
        for handle in handles:
            handle.remove()

    return run


def process(*words: str) -> Callable[[], object]:
    return lambda: subprocess.run(words, check=True, capture_output=True)


def peak(python: str, script: str, *words: str) -> int:
    """In kB, with each tensor in pages of its own: the holes that a pass leaves on the heap differ by 90 MiB.

    By VmHWM, since a process's ru_maxrss starts at that of the process that started it.
    """
    around = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "262144"}
    done = subprocess.run([python, "-c", script, *words], check=True, capture_output=True, text=True, env=around)
    return int(done.stdout)


def in_process(body: GPT2Model) -> list[Result]:
    results = []
    forward = "bare `GPT2Model` forward"
    for tokens, rounds, target in ((16, 100, 1.05), (128, 40, 1.02), (1024, 12, 1.02)):
        ids = torch.randint(0, 50257, (1, tokens))
        work = f"probe all sites, 1 x {tokens:,} tokens"
        plain = bare(body, ids)
        results.append(Result(work, forward, alternate(probed(body, ids), plain, rounds), f"{target}"))
        shape = alternate(probed(body, ids, shape=True), plain, rounds)
        results.append(Result(f"{work}, kurtosis and maximum too", forward, shape, "1.05"))
        results.append(
            Result(
                f"plain hooks, 1 x {tokens:,} tokens", forward, alternate(hooked(body, ids), plain, rounds), "(peer)"
            )
        )
    for work, run, target in (
        ("`features`", summed(body, ids, exact=True), ""),
        ("features of a corpus (float32)", summed(body, ids, exact=False), "1.05"),
        ("`attribute`", attributed(body, ids), "1.5"),
    ):
        results.append(Result(f"{work}, 1 x 1,024 tokens", forward, alternate(run, bare(body, ids), 8), target))
    ids = torch.randint(0, 50257, (4, 1024))
    work = "4 x 1,024 tokens, statistics included"
    results.append(
        Result(work, "one bare forward of that batch", alternate(probed(body, ids), bare(body, ids), 8), "0.85")
    )
    ids = torch.randint(0, 50257, (1, 128))
    early = alternate(probed(body, ids, shape=True, layer=5), bare(body, ids), 40)
    results.append(Result("`stats --layer 5` of 12, 1 x 128 tokens", "full forward", early, "0.47"))
    return results


def pickled(folder: Path) -> Path:
    """The same weights as ``pytorch_model.bin``, in a folder of their own inside the other."""
    other = folder / "pickled"
    other.mkdir()
    shutil.copy(folder / "config.json", other)
    torch.save(load_file(folder / "model.safetensors"), other / "pytorch_model.bin")
    return other


def whole_processes(folder: Path, peer: str | None) -> list[Result]:
    python = sys.executable
    gpt2ln = [python, "-m", "gpt2ln_cli"]
    load = process(python, "-c", LOAD_SCRIPT, str(folder))
    script = process(python, "-c", SMALLEST_SCRIPT, str(folder), PROMPT)
    results = [
        Result(
            "`params` on a 498 MB `model.safetensors`, whole process",
            "loading it with transformers, whole process",
            alternate(process(*gpt2ln, "params", "--model", str(folder)), load, 10),
            "0.04",
        ),
        Result(
            "the same on a `pytorch_model.bin`",
            "loading the safetensors with transformers, whole process",
            alternate(process(*gpt2ln, "params", "--model", str(pickled(folder))), load, 6),
            "",
        ),
        Result(
            "`gpt2ln --help`, whole process",
            '`python -c "import click"`',
            alternate(process(*gpt2ln, "--help"), process(python, "-c", "import click"), 40),
            "2.0",
        ),
        Result(
            "`inspect` of a short prompt, whole process",
            "smallest transformers script of the same forward",
            alternate(process(*gpt2ln, "inspect", PROMPT, "--model", str(folder)), script, 10),
            "0.75",
        ),
    ]
    if peer:
        against = "smallest transformers script of the same forward"
        ratios = alternate(process(peer, "-c", PEER_SCRIPT, str(folder), PROMPT), script, 6)
        results.append(Result("TransformerLens 4, same prompt, whole process", against, ratios, "(peer)"))
    return results


def memory(folder: Path, peer: str | None) -> list[Result]:
    against = "bare forward of that batch, whole process"
    rounds = range(3)
    base = [peak(sys.executable, PEAK_SCRIPT, str(folder), "bare", "4") for _ in rounds]
    probe = [peak(sys.executable, PEAK_SCRIPT, str(folder), "probe", "4") for _ in rounds]
    work = "peak memory, 4 x 1,024 tokens"
    results = [Result(f"{work}, probed", against, [a / b for a, b in zip(probe, base, strict=True)], "1.10")]
    one = [peak(sys.executable, PEAK_SCRIPT, str(folder), "bare", "1") for _ in rounds]
    attributed = [peak(sys.executable, PEAK_SCRIPT, str(folder), "attribute", "1") for _ in rounds]
    written = 26 * 1024 * 768 * 4 / 1024
    results.append(
        Result(
            "peak memory, 1 x 1,024 tokens, `attribute`, less that of a bare forward",
            "the outputs of its 26 writers, 82 MB",
            [(a - b) / written for a, b in zip(attributed, one, strict=True)],
            "1.0",
        )
    )
    if peer:
        ratios = [peak(peer, PEER_PEAK_SCRIPT, str(folder)) / base[0] for _ in range(2)]
        results.append(Result(f"{work}, TransformerLens 4 `run_with_cache`", against, ratios, "(peer)"))
    return results


@click.command()
@click.option("--peer-python", "peer", help="An interpreter with TransformerLens.")
def main(peer: str | None) -> None:
    """Print the table."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        GPT2Model(GPT2Config()).save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(BUNDLED["demo"] / file, folder)
        body = GPT2Model.from_pretrained(folder).eval()
        click.echo(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
        click.echo("| work | against | ratio: median (quartiles) | to reach |\n| --- | --- | --- | --- |")
        for result in (*in_process(body), *whole_processes(folder, peer), *memory(folder, peer)):
            click.echo(result.row())


if __name__ == "__main__":
    main()
