"""Measure `profile` against a bare loop over the same windows, its memory, and Ray; print a Markdown table."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import click
import torch
from speed import Result, seconds
from transformers import GPT2Config, GPT2Model

import gpt2ln_cli
from gpt2ln_cli.checkpoint import BUNDLED
from gpt2ln_cli.commands.profile import compute
from gpt2ln_cli.model import Model
from gpt2ln_cli.text.batches import BATCH_TOKENS, in_batches
from gpt2ln_cli.text.corpus.documents import Document
from gpt2ln_cli.text.corpus.windows import Taken, windows
from gpt2ln_cli.text.prompts import LONG_SAMPLE, sample_prompts_folder

PEAK = """
import resource, sys, gpt2ln_cli
corpus, folder, model = sys.argv[1:]
record = gpt2ln_cli.profile([corpus], output=folder, model=model, documents="packed", threads=1)
print(record.counts.tokens, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def texts(tokens: int) -> list[str]:
    """Lines of about so many tokens, of the words of the bundled sample in ever another order."""
    draw = random.Random(0)
    words = (sample_prompts_folder() / LONG_SAMPLE).read_text(encoding="utf-8").split()
    found, length = [], 0
    while length < tokens:
        line = draw.choices(words, k=draw.randint(5, 400))
        found.append(" ".join(line))
        length += int(1.3 * len(line))
    return found


def write(path: Path, tokens: int) -> str:
    """The same as a file."""
    path.write_text("\n".join(texts(tokens)), encoding="utf-8")
    return str(path)


def bare(model: Model, given: list[str]) -> Callable[[], object]:
    """Nothing but the passes of the very batches, tokenized and padded before."""
    contexts = windows(
        (Document("texts", number, text) for number, text in enumerate(given)),
        config=model.checkpoint.config,
        tokenizer=model.tokenizer,
        how="packed",
        bos=False,
        limit=None,
        skip_bad=False,
        taken=Taken(),
    )
    passes = []
    for batch in in_batches(contexts, batch_tokens=BATCH_TOKENS):
        rows = [torch.tensor(window.token_ids) for _, window in batch]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        passes.append((ids, None if mask.all() else mask))

    def run() -> None:
        with torch.inference_mode():
            for ids, mask in passes:
                model.body(ids, attention_mask=mask, use_cache=False)

    return run


Clock = Callable[[], float]
# The second counts neither what other processes do meanwhile nor the thread that reads and tokenizes ahead.
CLOCKS: dict[str, Clock] = {"tokens a second": time.perf_counter, "processor time of one thread": time.thread_time}


def clocked(function: Callable[..., object], taken: list[float]) -> Callable[..., object]:
    """The function, which adds to what it took by each of the clocks."""

    def run(*args: object, **options: object) -> object:
        began = [clock() for clock in CLOCKS.values()]
        try:
            return function(*args, **options)
        finally:
            for number, clock in enumerate(CLOCKS.values()):
                taken[number] += clock() - began[number]

    return run


def speed(model: Model, name: str, tokens: int, rounds: int, *, features: bool) -> list[Result]:
    """Reading, tokenizing, passes and folds against the loop, by each of the clocks."""
    given, threads = texts(tokens), torch.get_num_threads()
    loop, ratios = bare(model, given), []

    def profiled() -> list[float]:
        taken = [0.0 for _ in CLOCKS]
        how = {"documents": "packed", "threads": threads, "batch_tokens": BATCH_TOKENS, "features": features}
        with mock.patch.object(compute, "measure", clocked(compute.measure, taken)):
            gpt2ln_cli.profile(given, model=model, **how)
        return taken

    def looped() -> list[float]:
        taken = [0.0 for _ in CLOCKS]
        clocked(loop, taken)()
        return taken

    looped(), profiled()
    for number in range(rounds):
        if number % 2:
            ours, theirs = profiled(), looped()
        else:
            theirs, ours = looped(), profiled()
        ratios.append([their / our for their, our in zip(theirs, ours, strict=True)])
    work = f"`profile{' --features' if features else ''}`, {name}, {tokens:,} tokens"
    against = "a bare loop over the same windows, same process, same batches"
    return [
        Result(f"{work}, {clock}", against, list(found), "0.95" if features else "0.97")
        for clock, found in zip(CLOCKS, zip(*ratios, strict=True), strict=True)
        # Passes in several threads are not one thread's time.
        if threads == 1 or clock == "tokens a second"
    ]


def memory(folder: Path, tokens: int) -> Result:
    """Peak memory of the process that does all."""
    peaks = []
    for count in (100_000, tokens):
        words = [write(folder / f"{count}.txt", count), str(folder / f"run-{count}"), "demo"]
        done = subprocess.run([sys.executable, "-c", PEAK, *words], check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout.split()[1]))
    work = f"`profile`, peak memory after {tokens:,} tokens, demo"
    return Result(work, "after 100,000", [peaks[1] / peaks[0]], "1.05")


def engines(folder: Path, tokens: int, rounds: int) -> Result:
    """Tokens a second with two workers of Ray over those of two processes, their start included."""
    import ray

    corpus, ratios = write(folder / "engines.txt", tokens), []
    for number in range(rounds):
        taken = []
        for name, how in (("ray", {"engine": "ray"}), ("local", {"workers": 2})):
            if name == "ray":
                ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
            output = folder / f"{name}-{number}"
            taken.append(seconds(lambda: gpt2ln_cli.profile([corpus], output=output, threads=1, **how)))  # noqa: B023
            if name == "ray":
                ray.shutdown()
        ratios.append(taken[1] / taken[0])
    work = f"`profile` with 2 Ray workers of one thread, tokens a second, demo, {tokens:,} tokens"
    return Result(work, "local, 2 workers of one thread", ratios, "0.95")


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Of each pair.")
@click.option("--threads", default=1, show_default=True, help="Of the passes.")
@click.option("--tokens", default=100_000, show_default=True, help="Of demo's corpus.")
@click.option("--small-tokens", default=65_536, show_default=True, help="Of the corpus of GPT-2 small's shape.")
@click.option("--most-tokens", default=10_000_000, show_default=True, help="Whose peak memory is measured.")
@click.argument("parts", nargs=-1, type=click.Choice(["demo", "small", "memory", "ray"]))
def main(rounds: int, threads: int, tokens: int, small_tokens: int, most_tokens: int, parts: tuple[str, ...]) -> None:
    """Print the table, of PARTS or of all."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    began = time.strftime("%Y-%m-%d")
    click.echo(f"{began}, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    click.echo("| work | against | ratio: median (quartiles) | to reach |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in parts or ("demo", "small", "memory", "ray"):
            results = []
            if part == "demo":
                demo = gpt2ln_cli.load("demo")
                for features in (False, True):
                    results += speed(demo, "demo", tokens, rounds, features=features)
            elif part == "small":
                GPT2Model(GPT2Config()).save_pretrained(folder / "small")
                (folder / "small" / "tokenizer.json").write_bytes((BUNDLED["demo"] / "tokenizer.json").read_bytes())
                small = gpt2ln_cli.load(folder / "small")
                for features in (False, True):
                    results += speed(small, "GPT-2 small's shape", small_tokens, rounds, features=features)
            elif part == "memory":
                results.append(memory(folder, most_tokens))
            else:
                results.append(engines(folder, tokens, rounds))
            for result in results:
                click.echo(result.row())


if __name__ == "__main__":
    main()
