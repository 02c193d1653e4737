"""Which axis this checkpoint's LayerNorms normalize, shown by trying every axis that they could have on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, prompt_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.verify.axis_trial import minibatches, try_axes
from gpt2ln_cli.commands.verify.checks import check_axis, check_gain_and_bias, check_heads
from gpt2ln_cli.commands.verify.independence import check_batch_independence, check_causality
from gpt2ln_cli.commands.verify.record import Verification
from gpt2ln_cli.measure.rounding import LEVEL
from gpt2ln_cli.measure.watching import watched
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.subject import Prompts, Running, Subject, prepare
from gpt2ln_cli.records import strictly
from gpt2ln_cli.sites import all_sites

VERIFIED = ("The war was over, but the hatred was not.", "war violence hate fear")


# Infinity minus infinity and the like: the record says what is not finite.
@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def try_all(subject: Subject) -> Verification:
    """Try every axis and run every check on one model.

    Args:
        subject: the model and the contexts; the first context stands for all in batch independence and causality.
    """
    body, info = subject.model.body, subject.model.info
    batches, added = minibatches(subject)
    first = subject.contexts[0].token_ids
    axes, trials, rounding = try_axes(body, batches)
    axis = check_axis(trials, info)
    checks = [
        axis,
        check_batch_independence(body, first),
        check_causality(body, first),
        check_heads(body, axes, trials),
        check_gain_and_bias(body, trials),
    ]
    return Verification(
        model=info,
        bos=subject.bos,
        prompts=subject.prompts,
        companion=added,
        readings=axes,
        rounding=rounding,
        level=LEVEL,
        sites=trials,
        checks=checks,
        behaves_as_gpt2=bool(axis.passed) and all(check.passed is not False for check in checks),
        warnings=watched(subject, all_sites(body.config.n_layer)),
    )


@checked
def verify(
    prompts: Prompts | None = None,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    **running: Unpack[Running],
) -> Verification:
    """Try every axis that LayerNorm could have on what the model computes; ``gpt2ln verify``.

    Args:
        prompts: as for :func:`gpt2ln_cli.inspect`; None is the bundled sample and a second line.
        model: as for :func:`gpt2ln_cli.inspect`.
        **running: see :class:`gpt2ln_cli.model.subject.Running`.

    Raises:
        UsageError: an argument has no meaning, or the device is not there.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`.
        PromptError: as for :func:`gpt2ln_cli.inspect`.
    """
    subject = prepare(prompt_list(VERIFIED if prompts is None else prompts), as_model(model), **running)
    return strictly(try_all(subject))
