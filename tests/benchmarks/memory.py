"""Measure each command's peak memory on windows of GPT-2 small's shape against `inspect`'s; print a Markdown table."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click

COMMANDS = {
    "inspect": "gpt2ln_cli.inspect(windows, model=folder)",
    "verify": "gpt2ln_cli.verify(windows, model=folder)",
    "compare": "gpt2ln_cli.compare(windows, model=folder)",
    "compare, tokenizer": "gpt2ln_cli.compare(windows, model=folder + '/with_tokenizer')",
    "compare --context": "gpt2ln_cli.compare(windows, model=folder, context=True)",
    "ablate": "gpt2ln_cli.ablate(windows, model=folder)",
}
BUILD = """
import os, shutil, sys, torch
from transformers import GPT2Config, GPT2LMHeadModel
torch.manual_seed(0)
folder, tokenizer = sys.argv[1:]
GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
os.mkdir(folder + "/with_tokenizer")
for name in ("config.json", "model.safetensors"):
    os.link(f"{folder}/{name}", f"{folder}/with_tokenizer/{name}")
shutil.copy(tokenizer, folder + "/with_tokenizer")
"""
RUN = """
import resource, sys, time, numpy, gpt2ln_cli
folder, count, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
windows = numpy.random.default_rng(0).integers(0, 50257, (count, length)).tolist()
start = time.perf_counter()
{call}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter() - start)
"""
TO_REACH = 1.5
ROOT = Path(__file__).parents[2]
TOKENIZER = ROOT / "gpt2ln_cli" / "bundled" / "demo" / "tokenizer.json"


def peak(command: str, checkout: Path, folder: str, windows: int, tokens: int) -> tuple[float, float]:
    """Peak resident memory in MB of a process that does nothing else, and the seconds that the call took."""
    words = [sys.executable, "-c", RUN.format(call=COMMANDS[command]), folder, str(windows), str(tokens)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=checkout)
    kilobytes, seconds = done.stdout.split()
    return int(kilobytes) * 1024 / 1e6, float(seconds)


@click.command()
@click.option("--windows", default=8, show_default=True, help="Sequences.")
@click.option("--tokens", default=1024, show_default=True, help="Tokens of each.")
@click.option("--checkout", type=click.Path(path_type=Path), default=ROOT, help="Another commit's, to measure that.")
@click.argument("commands", nargs=-1, type=click.Choice([*COMMANDS]))
def main(windows: int, tokens: int, checkout: Path, commands: tuple[str, ...]) -> None:
    """Run COMMANDS, or all, and `inspect` first."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", BUILD, folder, str(TOKENIZER)], check=True, cwd=Path(folder))
        base, seconds = peak("inspect", checkout, folder, windows, tokens)
        print(f"| {windows} x {tokens:,} tokens | peak, MB | of inspect's | to reach | seconds |")
        print("| --- | --- | --- | --- | --- |")
        print(f"| inspect | {base:,.0f} | 1.00 | | {seconds:.0f} |", flush=True)
        for command in commands or [*COMMANDS][1:]:
            high, seconds = peak(command, checkout, folder, windows, tokens)
            print(f"| {command} | {high:,.0f} | {high / base:.2f} | {TO_REACH} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
