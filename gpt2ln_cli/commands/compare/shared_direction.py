"""The direction that the tokens of one context share, what of it any text has, and what is left of it across tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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


@dataclass
class _Shares:
    """Of some rows of tokens, at each site, what each shares; before and after the common direction is taken out."""

    whole: list[list[float]] = field(default_factory=list)
    remaining: list[list[float]] = field(default_factory=list)


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

    def measure(number: int, site: Site, undone: Undone) -> None:
        context = subject.contexts[number]
        others = controls.get(len(context.token_ids))
        found[number].append(
            _shared(subject.model, context, site, undone, common.get(site), others and others[1][len(found[number])])
        )
        shuffled[number].append(_shuffled(undone.xhat))

    _each_row(subject, sites, measure, care)
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


def _each_row(
    subject: Subject, sites: Sequence[Site], see: Callable[[int, Site, Undone], None], care: Watch | None = None
) -> None:
    """Show what each site made of each context."""

    def split(starts: dict[int, int], passage: Passage) -> None:
        undone = undo(subject.model, passage)
        for number, start in starts.items():
            see(number, passage.site, undone.part(slice(start, start + len(subject.contexts[number].token_ids))))
        if care is not None:
            care.see(passage)

    see_all(subject, sites, split)


def _common(model: Model, sites: Sequence[Site], sample: Sample) -> dict[Site, Floats]:
    """The direction of the mean xhat of the sample prompts at each site, position 0 apart; as a vector of length 1."""
    width = model.body.config.n_embd
    sums = {site: np.zeros(width) for site in sites}

    def add(_: int, site: Site, undone: Undone) -> None:
        sums[site] += undone.xhat[1:].sum(axis=0)

    _each_row(prepare(sample.pieces, model), sites, add)
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
    control = SharedControl(
        random=_reach(np.median(random.whole, axis=0)),
        random_remaining=_reach(np.median(random.remaining, axis=0)),
        function_words=_reach(np.median(function.whole, axis=0)) if function.whole else None,
        function_words_remaining=_reach(np.median(function.remaining, axis=0)) if function.remaining else None,
    )
    by_site = [
        SharedByOthers(
            random=_middle(random.whole, n),
            random_remaining=_middle(random.remaining, n),
            function_words=_middle(function.whole, n),
            function_words_remaining=_middle(function.remaining, n),
        )
        for n in range(len(sites))
    ]
    return control, by_site


def _shares(model: Model, sites: Sequence[Site], rows: list[list[int]], common: dict[Site, Floats]) -> _Shares:
    if not rows:
        return _Shares()
    order = {site: number for number, site in enumerate(sites)}
    shares = _Shares(*([[np.nan] * len(rows) for _ in sites] for _ in range(2)))

    def measure(number: int, site: Site, undone: Undone) -> None:
        shares.whole[order[site]][number] = share(undone.xhat)
        shares.remaining[order[site]][number] = share(_without(undone.xhat, common[site]))

    _each_row(prepare(rows, model), sites, measure)
    return shares


def share(xhat: Floats) -> float:
    """||m||^2 / mean ||xhat||^2, m being the mean over the tokens."""
    mean = xhat.mean(axis=0)
    return float(mean @ mean / np.mean(np.sum(xhat**2, axis=1)))


def _without(xhat: Floats, direction: Floats) -> Floats:
    return xhat - np.outer(xhat @ direction, direction)


def _shuffled(xhat: Floats) -> Floats:
    """What the tokens would share, were the features of each in any order; a token has one order at all sites."""
    random = generator()
    draws = max(LEAST_DRAWS, min(DRAWS, MOST_SHUFFLED // xhat.size))
    return np.array([share(random.permuted(xhat, axis=1)) for _ in range(draws)])


def _reach(draws: Floats) -> Reach:
    level = least_level(len(draws))
    return Reach(draws=len(draws), median=float(np.median(draws)), level=level, upper=upper_threshold(draws, level))


def _middle(shares: list[list[float]], site: int) -> float | None:
    return float(np.median(shares[site])) if shares else None


def _shared(
    loaded: Model,
    context: Context,
    site: Site,
    undone: Undone,
    common: Floats | None,
    others: SharedByOthers | None,
) -> SharedAtSite:
    count = len(context.token_ids)
    heads = loaded.body.config.n_head
    across = normalized(Axis.FEATURE_OVER_CONTEXT, undone.x, [count], heads=heads, eps=undone.eps)
    texts = token_texts(context.token_ids, loaded.tokenizer)
    held = [xhat @ xhat.mean(axis=0) / np.sum(xhat**2, axis=1) for xhat in (undone.xhat, across)]
    return SharedAtSite(
        site=site.name,
        real=share(undone.xhat),
        across_tokens=share(across),
        remaining=None if common is None else share(_without(undone.xhat, common)),
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
