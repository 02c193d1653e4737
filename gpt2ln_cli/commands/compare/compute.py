"""What LayerNorm takes from a token, what it leaves, and what tokens of one context share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, layer_list, prompt_list, refuse_without_effect
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.compare.claims import (
    discarded,
    equalized,
    greater,
    shape_kept,
    shared,
    stream_keeps_sigma,
)
from gpt2ln_cli.commands.compare.linear_probe import probe_sigma
from gpt2ln_cli.commands.compare.pairs import Carried, carry, choose_template, side_by_side, stand_ins
from gpt2ln_cli.commands.compare.record import Comparison
from gpt2ln_cli.commands.compare.sample import sample_of
from gpt2ln_cli.commands.compare.shared_direction import shared_directions
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.measure.watching import Watch
from gpt2ln_cli.model import Model, as_model, eps_of
from gpt2ln_cli.model.subject import Layers, Prompts, Running, Subject, begin, prepare
from gpt2ln_cli.records import strictly
from gpt2ln_cli.sites import Site, select_sites

COMPARED = ("ok", "hatred")
COMPARED_CONTEXT = "war violence hate fear"


@checked
def compare(
    prompts: Prompts | None = None,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    context: bool = False,
    position: int | None = None,
    template: str | None = None,
    probe: bool = True,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    **running: Unpack[Running],
) -> Comparison:
    """Show what LayerNorm takes from tokens, what it leaves, and whether it is gone; ``gpt2ln compare``.

    Of each item one token is compared, in a carrier sentence where the items are words, so that it has the same
    position and the same tokens before it. Two random words in that place say what such a difference is worth. A linear
    probe, fitted and tried on bundled sample prompts, says how well what was taken can be read from the network again.

    Args:
        prompts: two or more words, texts or lists of token ids; None is "ok" and "hatred". With ``context``, one or
            more, and None is "war violence hate fear".
        model: as for :func:`gpt2ln_cli.inspect`.
        context: look at whole contexts instead: the direction that all tokens of one share, under the real LayerNorm
            and under normalization of each feature across the tokens.
        position: which token of each item, from 0; negative counts from its last, as None does.
        template: the carrier sentence, with ``{}`` where the item goes; ``"{}"`` is none. None is "The word was {}."
            where every item is one word, and otherwise none.
        probe: whether sigma is read back by a linear probe, which takes passes of its own over the sample prompts and
            most of the time; no checkpoint without a tokenizer has one.
        layers: as for :func:`gpt2ln_cli.inspect`.
        sites: as for :func:`gpt2ln_cli.inspect`.
        **running: see :class:`gpt2ln_cli.model.subject.Running`; the probe's passes are no progress but have a phase.

    Raises:
        UsageError: as for :func:`gpt2ln_cli.inspect`; or one item alone, a template without one ``{}``, no such
            position, or position, template or ``probe=False`` with ``context``.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`.
        PromptError: as for :func:`gpt2ln_cli.inspect`; or the token was cut off, or a context is one token.
    """
    if context:
        refuse_without_effect(
            "on contexts, whose tokens are all looked at",
            position=(position, None),
            template=(template, None),
            probe=(probe, True),
        )
    source = as_model(model)
    chosen = select_sites(source.checkpoint.config.n_layer, layer_list(layers), sites)
    items = prompt_list((COMPARED_CONTEXT if context else COMPARED) if prompts is None else prompts)
    if context:
        return strictly(_contexts(prepare(items, source, **running), chosen))
    if len(items) < 2:
        raise UsageError("give two or more words to compare; one context by itself goes with --context.")
    carrier = choose_template(items, template)
    # Whoever says where to look looks at the words as they are.
    plainly = template is None and position is None and carrier is not None
    taken = stand_ins(items, source.tokenizer) if plainly else items
    run = taken if carrier is None else [carrier.replace("{}", str(item)) for item in taken]
    subject = prepare(run, source, **running)
    carried = carry(taken, items, carrier, subject, position=-1 if position is None else position)
    return strictly(_words(subject, carried, chosen, probe=probe))


# What is not finite is told by the record.
@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _words(subject: Subject, carried: Carried, sites: Sequence[Site], *, probe: bool) -> Comparison:
    model = subject.model
    care = Watch(model)
    begin(subject.progress, "comparing")
    sample = sample_of(model)
    setting = side_by_side(subject, carried, sites, care, sample.words if sample is not None else [])
    probed = None
    if probe and sample is not None:
        begin(subject.progress, "fitting linear probes")
        probed = probe_sigma(model, sample, sites)
    return Comparison(
        model=model.info,
        bos=subject.bos,
        prompts=subject.prompts,
        settings=[setting],
        probe=probed,
        contexts=[],
        claims=[
            discarded(setting.tokens, model.lazy_body.config.n_embd),
            equalized([setting], {site.name: eps_of(model.lazy_body, site) for site in sites}),
            shape_kept(setting.tokens),
            *greater(setting),
            stream_keeps_sigma(probed, asked=probe),
        ],
        warnings=care.flags(),
    )


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _contexts(subject: Subject, sites: Sequence[Site]) -> Comparison:
    care = Watch(subject.model)
    begin(subject.progress, "comparing contexts")
    sample = sample_of(subject.model)
    contexts = shared_directions(subject, sites, care, sample)
    return Comparison(
        model=subject.model.info,
        bos=subject.bos,
        prompts=subject.prompts,
        settings=[],
        probe=None,
        contexts=contexts,
        claims=[claim for context in contexts for claim in shared(context)],
        warnings=care.flags(),
    )
