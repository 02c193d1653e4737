"""From prompts to the steps that one token of each takes through a LayerNorm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, layer_list, prompt_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.compare.pairs import carry, choose_template
from gpt2ln_cli.commands.inspect.compute import run
from gpt2ln_cli.commands.plot.record import Step, Steps
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.subject import Layers, Prompts, Running
from gpt2ln_cli.records import strictly
from gpt2ln_cli.sites import FINAL

# What is set side by side, with nothing given: the learner's own words.
WORDS = ("ok", "hatred")


@checked
def steps(
    prompts: Prompts | None = None,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    layers: Layers | None = None,
    sites: Sequence[str] | None = None,
    position: int = -1,
    template: str | None = None,
    **running: Unpack[Running],
) -> Steps:
    """Take one token of each prompt through one LayerNorm: x, x - mu, xhat and y, feature by feature.

    Args:
        prompts: as for :func:`gpt2ln_cli.inspect`; None is "ok" and "hatred".
        model: as for :func:`gpt2ln_cli.inspect`.
        layers: one layer from 0, or ``"final"``; None is the one in the middle.
        sites: ``["ln_1"]`` or ``["ln_2"]``; None is ``ln_1`` of a layer.
        position: which of a prompt's own tokens, from 0; -1 is the last.
        template: a sentence that carries each prompt, with ``{}`` in its place; ``{}`` alone is none; None carries
            single words in "The word was {}.", since position 0 is unlike any other.
        **running: see :class:`gpt2ln_cli.model.subject.Running`.

    Raises:
        UsageError: that is more than one LayerNorm, or an argument has no meaning.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`.
        PromptError: as for :func:`gpt2ln_cli.inspect`.
    """
    source = as_model(model)
    chosen = [source.checkpoint.config.n_layer // 2] if layers is None else layer_list(layers) or []
    kinds = list(dict.fromkeys(sites or (["ln_f"] if chosen == [FINAL] else ["ln_1"])))
    if len(set(chosen)) != 1 or len(kinds) != 1:
        raise UsageError("steps are those of one LayerNorm: give one --layer, and --site ln_1 or ln_2.")
    items = prompt_list(list(WORDS) if prompts is None else prompts)
    carried = choose_template(items, template)
    texts = [item if carried is None or not isinstance(item, str) else carried.replace("{}", item) for item in items]
    done = run(texts, model=source, layers=chosen, kinds=kinds, per_token=True, **running)
    spots = carry(items, items, carried, done.subject, position=position).spots
    starts = np.cumsum([0, *(len(context.token_ids) for context in done.subject.contexts)])
    vectors = done.vectors([np.array([starts[spot.sequence] + spot.position for spot in spots])])
    return strictly(
        Steps(
            model=done.subject.model.info,
            template=carried,
            prompts=done.subject.prompts,
            steps=[
                Step(prompt=item if isinstance(item, str) else None, vectors=row)
                for item, row in zip(items, vectors, strict=True)
            ],
            nonfinite=vectors.nonfinite,
        )
    )
