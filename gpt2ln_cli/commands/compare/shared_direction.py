"""The direction that the tokens of one context share, what of it any text has, and what is left of it across tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt2ln_cli.commands.compare.record import (
    Reach,
    SharedAtSite,
    SharedByOthers,
    SharedControl,
    SharedDirection,
    TokenInContext,
)
from gpt2ln_cli.commands.compare.sample import Sample, draw
from gpt2ln_cli.commands.compare.undone import Undone, see_all, undo
from gpt2ln_cli.errors import PromptError
from gpt2ln_cli.measure.axes import Axis, normalized
from gpt2ln_cli.measure.chance import DRAWS, generator, least_level, upper_threshold
from gpt2ln_cli.measure.ledger import Floats
from gpt2ln_cli.measure.watching import Watch
from gpt2ln_cli.model import Model
from gpt2ln_cli.model.instrument import Passage
from gpt2ln_cli.model.subject import Subject, prepare
from gpt2ln_cli.sites import Site
from gpt2ln_cli.text.contexts import Context, token_texts

# A longer context is a text of its own; and its control would take dozens of passes.
LONGEST = 128
# Tokens that are drawn for the controls of contexts of one length, and numbers that are shuffled at a site.
MOST_TOKENS, MOST_SHUFFLED = 4096, 2**21
LEAST_DRAWS = 19


def shared_directions(
    subject: Subject, sites: Sequence[Site], care: Watch, sample: Sample | None
) -> list[SharedDirection]:
    """Measure the direction that the tokens of each context share, and what is left of it across tokens.

    Args:
        subject: the model and the contexts.
        sites: the sites, in forward order.
        care: is shown everything that is seen.
        sample: what other tokens are drawn from for comparison; None leaves them out.

    Raises:
        PromptError: a context has one token.
    """
    for context in subject.contexts:
        if len(context.token_ids) == 1:
            raise PromptError(f"prompt {context.prompt} is one token long: there is nothing that it could share.")
    common = {} if sample is None else _common(subject.model, sites, sample)
    lengths = {len(context.token_ids) for context in subject.contexts}
    controls = {
        length: _control(subject, sites, sample, length, common)
        for length in sorted(lengths)
        if sample is not None and length <= min(LONGEST, len(sample.tokens))
    }
    found: list[list[SharedAtSite]] = [[] for _ in subject.contexts]
    shuffled: list[list[Floats]] = [[] for _ in subject.contexts]

    def measure(starts: dict[int, int], passage: Passage) -> None:
        undone = undo(subject.model, passage)
        for number, start in starts.items():
            context = subject.contexts[number]
            own = undone.part(slice(start, start + len(context.token_ids)))
            control = controls.get(len(context.token_ids))
            others = None if control is None else control[1][len(found[number])]
            found[number].append(_shared(subject.model, context, passage.site, own, common.get(passage.site), others))
            shuffled[number].append(_shuffled(own.xhat))
        care.see(passage)

    see_all(subject, sites, measure)
    return [
        SharedDirection(
            sequence=number,
            unrelated=1 / len(context.token_ids),
            shuffled=_reach(np.median(shuffled[number], axis=0)),
            control=controls[len(context.token_ids)][0] if len(context.token_ids) in controls else None,
            sites=found[number],
        )
        for number, context in enumerate(subject.contexts)
    ]


def _common(model: Model, sites: Sequence[Site], sample: Sample) -> dict[Site, Floats]:
    """The direction of the mean xhat of the sample prompts at each site, position 0 apart; as a vector of length 1."""
    sums = {site: np.zeros(model.lazy_body.config.n_embd) for site in sites}

    def add(starts: dict[int, int], passage: Passage) -> None:
        xhat = undo(model, passage).xhat
        sums[passage.site] += xhat.sum(axis=0) - xhat[list(starts.values())].sum(axis=0)

    see_all(prepare(sample.pieces, model), sites, add)
    return {site: total / np.linalg.norm(total) for site, total in sums.items()}


def _control(
    subject: Subject, sites: Sequence[Site], sample: Sample, length: int, common: dict[Site, Floats]
) -> tuple[SharedControl, list[SharedByOthers]]:
    """What other tokens share, as many and in the same positions: over all sites, and at each."""
    bos = [context.token_ids[0] for context in subject.contexts][:1] if subject.bos else []
    draws = max(LEAST_DRAWS, min(DRAWS, MOST_TOKENS // length))
    random, function = (
        _shares(subject.model, sites, [bos + row for row in draw(tokens, length - len(bos), draws)], common)
        for tokens in (sample.tokens, sample.function_words)
    )
    reached = [
        _reach(np.median(shares, axis=0)) if shares.size else None for kind in (random, function) for shares in kind
    ]
    assert reached[0] is not None
    assert reached[1] is not None
    control = SharedControl(
        random=reached[0],
        random_remaining=reached[1],
        function_words=reached[2],
        function_words_remaining=reached[3],
    )
    by_site = [
        SharedByOthers(
            random=_middle(random[0], n),
            random_remaining=_middle(random[1], n),
            function_words=_middle(function[0], n),
            function_words_remaining=_middle(function[1], n),
        )
        for n in range(len(sites))
    ]
    return control, by_site


def _shares(model: Model, sites: Sequence[Site], rows: list[list[int]], common: dict[Site, Floats]) -> Floats:
    """What each row of as many tokens shares, as it is and without the common direction: (2, sites, rows)."""
    shares = np.full((2, len(sites), len(rows)), np.nan)
    if not rows:
        return shares
    order = {site: number for number, site in enumerate(sites)}

    def measure(starts: dict[int, int], passage: Passage) -> None:
        xhat = undo(model, passage).xhat.reshape(len(starts), len(rows[0]), -1)
        for part, each in enumerate((xhat, _without(xhat, common[passage.site]))):
            shares[part, order[passage.site], list(starts)] = share(each)

    see_all(prepare(rows, model), sites, measure)
    return shares


def share(xhat: Floats) -> Floats:
    """||m||^2 / mean ||xhat||^2 of (..., tokens, features), m being the mean over the tokens."""
    of_mean = np.sum(xhat.mean(axis=-2) ** 2, axis=-1)
    shares: Floats = of_mean / np.sum(xhat**2, axis=-1).mean(axis=-1)
    return shares


def _without(xhat: Floats, direction: Floats) -> Floats:
    return xhat - (xhat @ direction)[..., None] * direction


def _shuffled(xhat: Floats) -> Floats:
    """What the tokens would share, were the features of each in any order; a token has one order at all sites."""
    draws = max(LEAST_DRAWS, min(DRAWS, MOST_SHUFFLED // xhat.size))
    orders = generator().permuted(np.tile(xhat, (draws, 1)), axis=1)
    return share(orders.reshape(draws, *xhat.shape))


def _reach(draws: Floats) -> Reach:
    level = least_level(len(draws))
    return Reach(draws=len(draws), median=float(np.median(draws)), level=level, upper=upper_threshold(draws, level))


def _middle(shares: Floats, site: int) -> float | None:
    return float(np.median(shares[site])) if shares.size else None


def _shared(
    loaded: Model,
    context: Context,
    site: Site,
    undone: Undone,
    common: Floats | None,
    others: SharedByOthers | None,
) -> SharedAtSite:
    count = len(context.token_ids)
    heads = loaded.lazy_body.config.n_head
    across = normalized(Axis.FEATURE_OVER_CONTEXT, undone.x, [count], heads=heads, eps=undone.eps)
    texts = token_texts(context.token_ids, loaded.tokenizer)
    held = [xhat @ xhat.mean(axis=0) / np.sum(xhat**2, axis=1) for xhat in (undone.xhat, across)]
    return SharedAtSite(
        site=site.name,
        real=float(share(undone.xhat)),
        across_tokens=float(share(across)),
        remaining=None if common is None else float(share(_without(undone.xhat, common))),
        others=others,
        tokens=[
            TokenInContext(
                position=position,
                token_id=context.token_ids[position],
                token=texts[position] if texts else None,
                real=float(held[0][position]),
                across_tokens=float(held[1][position]),
            )
            for position in range(count)
        ],
    )
