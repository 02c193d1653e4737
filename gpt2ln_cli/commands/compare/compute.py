"""What LayerNorm takes from a token, what it leaves, and what tokens of one context share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, layer_list, prompt_list, refuse_without_effect
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.compare.findings import find_discarded, find_gone, find_scale, find_shape, find_shared
from gpt2ln_cli.commands.compare.linear_probe import probe_sigma
from gpt2ln_cli.commands.compare.pairs import Carried, carry, choose_template, side_by_side
from gpt2ln_cli.commands.compare.record import Comparison
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

    Of each item one token is compared, once with the item run alone, and once in a carrier sentence. A linear probe,
    fitted and tried on bundled sample prompts, says how well what was taken can be read from the network again.

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
    carried = [] if carrier is None else [carrier.replace("{}", str(item)) for item in items]
    subject = prepare([*items, *carried], source, **running)
    place = -1 if position is None else position
    surroundings = [carry(items, None, subject, first_prompt=0, position=place)]
    if carrier is not None:
        surroundings.append(carry(items, carrier, subject, first_prompt=len(items), position=place))
    return strictly(_words(subject, surroundings, chosen, probe=probe))


# What is not finite is told by the record.
@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _words(subject: Subject, surroundings: Sequence[Carried], sites: Sequence[Site], *, probe: bool) -> Comparison:
    model = subject.model
    care = Watch(model)
    begin(subject.progress, "comparing")
    settings = side_by_side(subject, surroundings, sites, care)
    probed = None
    if probe and model.tokenizer is not None:
        begin(subject.progress, "fitting linear probes")
        probed = probe_sigma(model, model.tokenizer, sites)
    tokens = [token for setting in settings for token in setting.tokens]
    return Comparison(
        model=model.info,
        bos=subject.bos,
        prompts=subject.prompts,
        settings=settings,
        probe=probed,
        contexts=[],
        findings=[
            find_discarded(tokens, model.body.config.n_embd),
            find_scale(settings, {site.name: eps_of(model.body, site) for site in sites}),
            find_shape(tokens),
            find_gone(probed, asked=probe),
        ],
        warnings=care.flags(),
    )


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _contexts(subject: Subject, sites: Sequence[Site]) -> Comparison:
    care = Watch(subject.model)
    begin(subject.progress, "comparing contexts")
    contexts = shared_directions(subject, sites, care)
    return Comparison(
        model=subject.model.info,
        bos=subject.bos,
        prompts=subject.prompts,
        settings=[],
        probe=None,
        contexts=contexts,
        findings=[find_shared(context) for context in contexts],
        warnings=care.flags(),
    )
