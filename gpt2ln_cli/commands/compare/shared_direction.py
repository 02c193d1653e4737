"""The direction that the tokens of one context share, and what is left of it across tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt2ln_cli.commands.compare.record import SharedAtSite, SharedDirection, TokenInContext
from gpt2ln_cli.commands.compare.undone import Undone, see_all, undo
from gpt2ln_cli.errors import PromptError
from gpt2ln_cli.measure.axes import Axis, normalized
from gpt2ln_cli.measure.watching import Watch
from gpt2ln_cli.model import Model
from gpt2ln_cli.model.instrument import Passage
from gpt2ln_cli.model.subject import Subject
from gpt2ln_cli.sites import Site
from gpt2ln_cli.text.contexts import Context, token_texts


def shared_directions(subject: Subject, sites: Sequence[Site], care: Watch) -> list[SharedDirection]:
    """Measure the direction that the tokens of each context share, and what is left of it across tokens.

    Args:
        subject: the model and the contexts.
        sites: the sites, in forward order.
        care: is shown everything that is seen.

    Raises:
        PromptError: a context has one token.
    """
    for context in subject.contexts:
        if len(context.token_ids) == 1:
            raise PromptError(f"prompt {context.prompt} is one token long: there is nothing that it could share.")
    shared: list[list[SharedAtSite]] = [[] for _ in subject.contexts]

    def measure(starts: dict[int, int], passage: Passage) -> None:
        for number, start in starts.items():
            part = slice(start, start + len(subject.contexts[number].token_ids))
            undone = undo(subject.model, Passage(passage.site, passage.x[part], passage.y[part]))
            shared[number].append(_shared(subject.model, subject.contexts[number], passage.site, undone))
        care.see(passage)

    see_all(subject, sites, measure)
    return [
        SharedDirection(sequence=number, unrelated=1 / len(subject.contexts[number].token_ids), sites=at_sites)
        for number, at_sites in enumerate(shared)
    ]


def _shared(loaded: Model, context: Context, site: Site, undone: Undone) -> SharedAtSite:
    count = len(context.token_ids)
    heads = loaded.body.config.n_head
    across = normalized(Axis.FEATURE_OVER_CONTEXT, undone.x, [count], heads=heads, eps=undone.eps)
    texts = token_texts(context.token_ids, loaded.tokenizer)
    shares, held = [], []
    for xhat in (undone.xhat, across):
        mean = xhat.mean(axis=0)
        squares = np.sum(xhat**2, axis=1)
        shares.append(float(mean @ mean / squares.mean()))
        held.append(xhat @ mean / squares)
    return SharedAtSite(
        site=site.name,
        real=shares[0],
        across_tokens=shares[1],
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
