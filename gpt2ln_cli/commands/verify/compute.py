"""Which axis this checkpoint's LayerNorms normalize, shown by trying every axis that they could have on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, prompt_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.verify.axis_trial import minibatches, try_axes
from gpt2ln_cli.commands.verify.claims import axis, behaves, gain_and_bias, heads
from gpt2ln_cli.commands.verify.independence import batch_independent, causal
from gpt2ln_cli.commands.verify.record import Verification
from gpt2ln_cli.measure.rounding import LEVEL
from gpt2ln_cli.measure.watching import Watch
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.instrument import Passage
from gpt2ln_cli.model.subject import Prompts, Running, Subject, prepare
from gpt2ln_cli.records import strictly

VERIFIED = ("The war was over, but the hatred was not.", "war violence hate fear")


# Infinity minus infinity and the like: the record says what is not finite.
@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def try_all(subject: Subject) -> Verification:
    """Try every axis on one model and hold every claim against it.

    Args:
        subject: the model and the contexts; the first context stands for all in batch independence and causality.
    """
    body, info = subject.model.lazy_body, subject.model.info
    batches, added = minibatches(subject)
    first = subject.contexts[0].token_ids
    care = Watch(subject.model)
    # Of the contexts that were given: one that was added comes after the only one of them.
    given = slice(None if added is None else len(first))

    def see(passage: Passage) -> None:
        care.see(Passage(passage.site, passage.x[given], passage.y[given]))

    axes, trials, rounding = try_axes(body, batches, see)
    found = [
        axis(trials, axes, info),
        batch_independent(body, first),
        causal(body, first),
        heads(body, axes, trials),
        gain_and_bias(body, trials),
    ]
    whole = behaves(found)
    return Verification(
        model=info,
        bos=subject.bos,
        prompts=subject.prompts,
        companion=added,
        readings=axes,
        rounding=rounding,
        level=LEVEL,
        sites=trials,
        claims=[whole, *found],
        behaves_as_gpt2=whole.verdict == "yes",
        warnings=care.flags(),
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
