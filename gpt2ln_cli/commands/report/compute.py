"""Everything about a checkpoint and a few prompts, in one record."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, layer_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.inspect.compute import run
from gpt2ln_cli.commands.params.claims import uses_gain_and_bias
from gpt2ln_cli.commands.params.describe import judge
from gpt2ln_cli.commands.report.record import Report
from gpt2ln_cli.commands.report.reproduction import reproduction
from gpt2ln_cli.commands.verify.compute import try_all
from gpt2ln_cli.measure.stream import Integers
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.subject import Layers, Prompts, Running, begin
from gpt2ln_cli.records import Counts, strictly
from gpt2ln_cli.sites import Site
from gpt2ln_cli.text.batches import plan
from gpt2ln_cli.text.contexts import beginning

# The page's verdicts need no more, and the whole context of a large model would take minutes and gigabytes.
VERIFIED_TOKENS = 256
# Features of x, and as many of y, that a page holds: 430 kB of it.
PAGE_FEATURES = 160_000
# Of sites whose vectors it holds, it holds at least those of so many tokens.
PAGE_TOKENS = 8


@checked
def report(
    prompts: Prompts | None = None,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    vectors: bool = False,
    **running: Unpack[Running],
) -> Report:
    """Inspect prompts token by token and verify the model on their first 256 tokens; ``gpt2ln report``.

    Args:
        prompts: as for :func:`gpt2ln_cli.inspect`.
        model: as for :func:`gpt2ln_cli.inspect`.
        layers: as for :func:`gpt2ln_cli.inspect`; every site is verified.
        sites: as for :func:`gpt2ln_cli.inspect`; every site is verified.
        vectors: also x, xhat and y of as many tokens and sites as a page has room for, in ``inspection.vectors``.
        **running: see :class:`gpt2ln_cli.model.subject.Running`; what is verified is no progress but has a phase.

    Raises:
        UsageError: as for :func:`gpt2ln_cli.inspect`.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`.
        PromptError: as for :func:`gpt2ln_cli.inspect`.
    """
    source = as_model(model)
    begin(running.get("progress"), "inspecting")
    done = run(prompts, model=source, layers=layers, kinds=sites, per_token=True, **running)
    inspection = done.record("inspect")
    if vectors:
        begin(done.subject.progress, "reading vectors")
        kept = done.vectors(within_a_page(done.counting.sites, inspection.counts))
        nonfinite = inspection.nonfinite + kept.nonfinite
        inspection = msgspec.structs.replace(inspection, vectors=kept, nonfinite=nonfinite)
    begin(done.subject.progress, "verifying")
    contexts = beginning(done.subject.contexts, VERIFIED_TOKENS)
    batches = plan(contexts, batch_size=running.get("batch_size"))
    verification = strictly(try_all(replace(done.subject, contexts=contexts, batches=batches)))
    verdict = judge(inspection.sites)
    return Report(
        inspection=inspection,
        verdict=verdict,
        claims=[uses_gain_and_bias(verdict, inspection.sites)],
        verification=verification,
        reproduction=reproduction(inspection, source, layers=layer_list(layers), kinds=sites, running=running),
        nonfinite=inspection.nonfinite + verification.nonfinite,
    )


def within_a_page(sites: Sequence[Site], counts: Counts) -> list[Integers]:
    """Of each site the tokens whose vectors a page holds: the first ones, at all sites or evenly among them."""
    least = min(PAGE_TOKENS, counts.tokens)
    step = max(1, -(-len(sites) * least * counts.features // PAGE_FEATURES))
    chosen = range(0, len(sites), step)
    tokens = min(counts.tokens, max(least, PAGE_FEATURES // (len(chosen) * counts.features)))
    return [np.arange(tokens if number in chosen else 0) for number in range(len(sites))]
