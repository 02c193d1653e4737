"""Everything about a checkpoint and a few prompts, in one record."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, layer_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.inspect.compute import run
from gpt2ln_cli.commands.params.claims import uses_gain_and_bias
from gpt2ln_cli.commands.params.describe import judge
from gpt2ln_cli.commands.report.record import Report
from gpt2ln_cli.commands.report.reproduction import reproduction
from gpt2ln_cli.commands.verify.compute import try_all
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.subject import Layers, Prompts, Running
from gpt2ln_cli.records import strictly
from gpt2ln_cli.text.batches import plan
from gpt2ln_cli.text.contexts import beginning

# The page's verdicts need no more, and the whole context of a large model would take minutes and gigabytes.
VERIFIED_TOKENS = 256


@checked
def report(
    prompts: Prompts | None = None,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    **running: Unpack[Running],
) -> Report:
    """Inspect prompts token by token and verify the model on their first 256 tokens; ``gpt2ln report``.

    Args:
        prompts: as for :func:`gpt2ln_cli.inspect`.
        model: as for :func:`gpt2ln_cli.inspect`.
        layers: as for :func:`gpt2ln_cli.inspect`; every site is verified.
        sites: as for :func:`gpt2ln_cli.inspect`; every site is verified.
        **running: see :class:`gpt2ln_cli.model.subject.Running`; what is verified is no progress.

    Raises:
        UsageError: as for :func:`gpt2ln_cli.inspect`.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`.
        PromptError: as for :func:`gpt2ln_cli.inspect`.
    """
    source = as_model(model)
    done = run(prompts, model=source, layers=layers, kinds=sites, per_token=True, **running)
    inspection = done.record("inspect")
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
