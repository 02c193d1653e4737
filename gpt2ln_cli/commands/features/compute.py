"""Which features of x make up sigma, and what the gain makes of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, layer_list, prompt_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL, LayerNormParameters
from gpt2ln_cli.commands.features.record import Across, FeatureAt, Features, Holding, PartFeatures, SiteFeatures
from gpt2ln_cli.measure import features as folds
from gpt2ln_cli.measure.feature_sums import MASSIVE, Watcher
from gpt2ln_cli.measure.features import Numbers, Peak, holding
from gpt2ln_cli.measure.flags import Tallies, parameter_flags, run_flags
from gpt2ln_cli.measure.stream import stream
from gpt2ln_cli.measure.summary import PARTS, Part
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.subject import Layers, Prompts, Running, Subject, prepare
from gpt2ln_cli.records import Claim, strictly
from gpt2ln_cli.sites import Site, select_sites
from gpt2ln_cli.text.contexts import token_texts
from gpt2ln_cli.text.prompts import sample_prompt

# Features that are listed of each site unless told.
TOP = 5
# Features that are followed through all sites.
FOLLOWED = 12
WHERE: Mapping[Part, str] = {"first": "position 0", "rest": "a later position"}


@checked
def features(
    prompts: Prompts | None = None,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    top: int = TOP,
    **running: Unpack[Running],
) -> Features:
    """Find the features that make up sigma at every LayerNorm; ``gpt2ln features``.

    Args:
        prompts: as for :func:`gpt2ln_cli.inspect`.
        model: as for :func:`gpt2ln_cli.inspect`.
        layers: as for :func:`gpt2ln_cli.inspect`.
        sites: as for :func:`gpt2ln_cli.inspect`.
        top: how many features to list of each site, those with the greatest |x|.
        **running: see :class:`gpt2ln_cli.model.subject.Running`.

    Raises:
        UsageError: as for :func:`gpt2ln_cli.inspect`.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`.
        PromptError: as for :func:`gpt2ln_cli.inspect`.
    """
    source = as_model(model)
    chosen = select_sites(source.checkpoint.config.n_layer, layer_list(layers), sites)
    subject = prepare(prompt_list(sample_prompt() if prompts is None else prompts), source, **running)
    width, configured = source.checkpoint.config.n_embd, source.checkpoint.config.layer_norm_epsilon
    fold, tallies = folds.Features(chosen, width, peaks=top), Tallies(chosen)
    steps = subject.steps()
    for block in stream(source.lazy_body, subject.in_batches(), chosen, watcher=Watcher(peaks=top, exact=True)):
        fold.add(block)
        tallies.add(block)
        steps.add(len(block.position))
    learned = source.layer_norms()
    return strictly(
        Features(
            model=source.info,
            bos=subject.bos,
            prompts=subject.prompts,
            sites=[
                SiteFeatures(
                    name=site.name,
                    layer=site.layer,
                    kind=site.kind,
                    **{part: _part(fold, number, part, learned[site.name], subject) for part in PARTS},
                )
                for number, site in enumerate(chosen)
            ],
            across=_across(fold, chosen),
            claims=[_massive(fold, chosen)],
            warnings=[*parameter_flags(learned), *run_flags(tallies.by_site, configured)],
        )
    )


def _part(
    fold: folds.Features, site: int, part: Part, learned: LayerNormParameters, subject: Subject
) -> PartFeatures | None:
    pre, post = fold.of(site, part, "pre"), fold.of(site, part, "post")
    if pre is None or post is None:
        return None
    peaks = fold.peaks(site, part)
    ids = [subject.contexts[peak.sequence].token_ids[peak.position] for peak in peaks]
    texts = token_texts(ids, subject.model.tokenizer)
    return PartFeatures(
        tokens=int(fold.tokens[PARTS.index(part)]),
        features=[
            _feature(peak, ids[place], texts[place] if texts else None, pre, post, learned)
            for place, peak in enumerate(peaks)
        ],
        holding=_holding(pre),
        post_holding=_holding(post),
    )


def _feature(
    peak: Peak, token_id: int, token: str | None, pre: Numbers, post: Numbers, learned: LayerNormParameters
) -> FeatureAt:
    index = peak.feature
    return FeatureAt(
        index=index,
        value=peak.x,
        sequence=peak.sequence,
        position=peak.position,
        token_id=token_id,
        token=token,
        share=float(pre.share[index]),
        massive=bool(pre.massive[index]),
        massive_tokens=int(pre.massive[index]),
        gain=None if learned.gain is None else float(learned.gain[index]),
        bias=None if learned.bias is None else float(learned.bias[index]),
        post=peak.y,
        post_share=float(post.share[index]),
    )


def _holding(numbers: Numbers) -> Holding:
    half, most, nearly_all = (holding(numbers.share, part) for part in (0.5, 0.9, 0.99))
    return Holding(half=half, most=most, nearly_all=nearly_all)


def _across(fold: folds.Features, sites: Sequence[Site]) -> list[Across]:
    """The features that are massive anywhere, and then those with the largest share of any site."""
    found = {
        (number, part): (fold.of(number, part, "pre"), fold.of(number, part, "post"))
        for number in range(len(sites))
        for part in PARTS
    }
    numbers = [pre for pre, _ in found.values() if pre is not None]
    share = np.max([np.nan_to_num(one.share) for one in numbers], axis=0)
    massive = np.sum([one.massive for one in numbers], axis=0) > 0
    order = np.lexsort((-share, ~massive))
    followed = sorted(order[: max(FOLLOWED, int(massive.sum()))].tolist())

    def shares(number: int, index: int) -> dict[str, float | None]:
        return {
            f"{part}_{name}": None if one is None else float(one.share[index])
            for part in PARTS
            for name, one in zip(("share", "post_share"), found[number, part], strict=True)
        }

    return [
        Across(site=site.name, index=index, **shares(number, index))
        for number, site in enumerate(sites)
        for index in followed
    ]


def _massive(fold: folds.Features, sites: Sequence[Site]) -> Claim:
    """Whether any feature is massive at any of the sites: a definition, which chance plays no part in."""
    found: list[tuple[float, int, Site, Part, bool]] = []
    for number, site in enumerate(sites):
        for part in PARTS:
            pre = fold.of(number, part, "pre")
            if pre is not None:
                massive = np.flatnonzero(pre.massive)
                candidates = massive if len(massive) else [int(np.argmax(pre.largest))]
                found += [
                    (float(pre.largest[index]), int(index), site, part, bool(len(massive))) for index in candidates
                ]
    those = [one for one in found if one[4]]
    finite = all(np.isfinite(one[0]) for one in found)
    largest, index, site, part, _ = max(those or found, key=lambda one: one[0] if np.isfinite(one[0]) else np.inf)
    return Claim(
        id="features.massive",
        verdict="yes" if those else "no" if finite else "can't tell",
        statistic=float(len({one[1] for one in those})),
        threshold=1.0,
        figures={
            "feature": index,
            "largest": largest,
            "site": site.name,
            "where": WHERE[part],
            "least": MASSIVE,
            "since": those[0][2].name if those else None,
            "at_sites": len({one[2] for one in those}),
            "sites": len(sites),
        },
    )
