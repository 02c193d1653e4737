"""Tokens side by side: each one's shape at every stage, what is discarded of it, and the angles between them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from gpt2ln_cli.checkpoint.encoding import encode_whole
from gpt2ln_cli.commands.compare.record import (
    ComparedToken,
    Cosines,
    RandomWords,
    Setting,
    StageShape,
    TokenAtSite,
    TokenPair,
)
from gpt2ln_cli.commands.compare.sample import draw
from gpt2ln_cli.commands.compare.undone import Undone, see_all, undo
from gpt2ln_cli.errors import PromptError, UsageError
from gpt2ln_cli.measure.chance import DRAWS, least_level, upper_threshold
from gpt2ln_cli.measure.ledger import Floats
from gpt2ln_cli.measure.rounding import LEVEL
from gpt2ln_cli.measure.watching import Watch
from gpt2ln_cli.model import Model
from gpt2ln_cli.model.instrument import Passage
from gpt2ln_cli.model.subject import Subject, prepare
from gpt2ln_cli.sites import Site
from gpt2ln_cli.text.contexts import Context, token_texts

CARRIER = "The word was {}."
BLANK = "{}"
# Words of like kind, of which the first that is one token is compared where the word itself is several.
STAND_INS = {"ok": ("okay", "fine", "well", "good"), "hatred": ("hate", "anger", "fear")}
# Fewer random pairs tell nothing at 5%.
LEAST_PAIRS = 19


@dataclass(frozen=True)
class Spot:
    """A token that is to be compared: a position in one of the contexts."""

    sequence: int
    position: int


@dataclass(frozen=True)
class Carried:
    """The items in one surrounding, and the token of each that is compared."""

    template: str | None
    """The sentence that carries them; None is none."""
    items: Sequence[str | Sequence[int]]
    asked: Sequence[str | None]
    """The words that some of them stand for."""
    spots: Sequence[Spot]
    own_tokens: Sequence[int]
    """How many tokens each item is."""


def choose_template(items: Sequence[str | Sequence[int]], template: str | None) -> str | None:
    """The sentence to carry the items in; None is none.

    Args:
        items: what is compared, as text or token ids.
        template: text with one ``{}``, or ``{}`` alone for no sentence; None is ``CARRIER`` where every item is a word.

    Raises:
        UsageError: the template has not one ``{}``, or an item is token ids.
    """
    texts = [item for item in items if isinstance(item, str)]
    if template is None:
        one_word = len(texts) == len(items) and all(len(text.split()) == 1 for text in texts)
        return CARRIER if one_word else None
    if template.count(BLANK) != 1:
        raise UsageError(f"template '{template}' must have {BLANK} once, where the word goes.")
    if template == BLANK:
        return None
    if len(texts) < len(items):
        raise UsageError("token ids can't be put into a template; leave it out.")
    return template


def stand_ins(items: Sequence[str | Sequence[int]], tokenizer: Tokenizer | None) -> list[str | Sequence[int]]:
    """The items, with the first stand-in that is one token for each word of ``STAND_INS`` that is several."""

    def taken(item: str | Sequence[int]) -> str | Sequence[int]:
        if not isinstance(item, str) or item not in STAND_INS or tokenizer is None:
            return item
        words = (item, *STAND_INS[item])
        return next((word for word in words if len(_own_tokens(word, CARRIER, tokenizer)) == 1), item)

    return [taken(item) for item in items]


def carry(
    items: Sequence[str | Sequence[int]],
    asked: Sequence[str | Sequence[int]],
    template: str | None,
    subject: Subject,
    *,
    position: int,
) -> Carried:
    """Find each item's token to compare.

    Args:
        items: what is compared.
        asked: what was asked for.
        template: the sentence they were put into; None is none.
        subject: the model, and the contexts of all items.
        position: which of the item's own tokens; negative counts from its last.

    Raises:
        UsageError: an item has no such position.
        PromptError: the token was cut off.
    """
    found, sizes = [], []
    for prompt, item in enumerate(items):
        own = _own_tokens(item, template, subject.model.tokenizer)
        if not -len(own) <= position < len(own):
            name = f"'{item}'" if isinstance(item, str) else f"prompt {prompt}"
            raise UsageError(f"position {position}: {name} has tokens 0 to {len(own) - 1} (or -1 to -{len(own)}).")
        found.append(_place(subject.contexts, prompt, own[position], subject.bos))
        sizes.append(len(own))
    words = [word if isinstance(word, str) and word != item else None for word, item in zip(asked, items, strict=True)]
    return Carried(template, items, words, found, sizes)


def _own_tokens(item: str | Sequence[int], template: str | None, tokenizer: Tokenizer | None) -> range:
    """Which tokens of the prompt are the item's: those that hold any of its characters."""
    if not isinstance(item, str):
        return range(len(item))
    assert tokenizer is not None  # or else the text would not have become a context
    before, after = (template or BLANK).split(BLANK)
    encoding = encode_whole(tokenizer, before + item + after, f"'{item}'")
    start, end = len(before), len(before) + len(item)
    inside = [i for i, (first, last) in enumerate(encoding.offsets) if first < end and last > start]
    return range(inside[0], inside[-1] + 1)


def _place(contexts: Sequence[Context], prompt: int, token: int, bos: bool) -> Spot:
    for sequence, context in enumerate(contexts):
        position = token - context.offset + bos
        if context.prompt == prompt and bos <= position < len(context.token_ids):
            return Spot(sequence, position)
    raise PromptError(f"token {token} of prompt {prompt} is beyond the context and was cut off; choose --position.")


def side_by_side(subject: Subject, carried: Carried, sites: Sequence[Site], care: Watch, words: list[int]) -> Setting:
    """Set tokens side by side through the sites.

    Args:
        subject: the model, and the contexts of all items.
        carried: which tokens.
        sites: the sites, in forward order.
        care: is shown everything that is seen.
        words: tokens that random words are drawn from.
    """
    kept: dict[Site, dict[Spot, tuple[Floats, Floats]]] = {site: {} for site in sites}

    def keep(starts: dict[int, int], passage: Passage) -> None:
        for spot in carried.spots:
            if spot.sequence in starts:
                row = starts[spot.sequence] + spot.position
                # Copies: a view would keep the whole passage.
                kept[passage.site][spot] = (passage.x[row].copy(), passage.y[row].copy())
        care.see(passage)

    see_all(subject, sites, keep)
    seen = {
        site: undo(
            subject.model,
            Passage(site, *(np.stack([by_spot[spot][part] for spot in carried.spots]) for part in (0, 1))),
        )
        for site, by_spot in kept.items()
    }
    tokens = []
    for number, (item, spot) in enumerate(zip(carried.items, carried.spots, strict=True)):
        token_id = subject.contexts[spot.sequence].token_ids[spot.position]
        texts = token_texts([token_id], subject.model.tokenizer)
        tokens.append(
            ComparedToken(
                text=item if isinstance(item, str) else None,
                stands_for=carried.asked[number],
                own_tokens=carried.own_tokens[number],
                sequence=spot.sequence,
                position=spot.position,
                token_id=token_id,
                token=texts[0] if texts else None,
                sites=[_token(site, undone, number) for site, undone in seen.items()],
            )
        )
    pairs = [
        TokenPair(
            first=one,
            second=other,
            sites=[
                Cosines(
                    site=site.name,
                    pre=_cosine(undone.x[one], undone.x[other]),
                    normalized=_cosine(undone.xhat[one], undone.xhat[other]),
                    post=_cosine(undone.y[one], undone.y[other]),
                )
                for site, undone in seen.items()
            ],
        )
        for one, other in itertools.combinations(range(len(tokens)), 2)
    ]
    before = [subject.contexts[spot.sequence].token_ids[: spot.position] for spot in carried.spots]
    alike = set(carried.own_tokens) == {1} and before[0] != [] and all(ids == before[0] for ids in before)
    return Setting(
        template=carried.template,
        alike=alike,
        tokens=tokens,
        pairs=pairs,
        random=random_words(subject.model, sites, before[0], words) if alike else None,
    )


def random_words(model: Model, sites: Sequence[Site], before: list[int], words: list[int]) -> RandomWords | None:
    """What two random words behind the same tokens differ by; None where the sample prompts have too few."""
    pairs = min(DRAWS, len(words) // 2)
    if pairs < LEAST_PAIRS:
        return None
    (drawn,) = draw(words, 2 * pairs, 1)
    sigma, kurtosis = np.empty((2, len(sites), 2 * pairs))
    order = {site: number for number, site in enumerate(sites)}

    def measure(starts: dict[int, int], passage: Passage) -> None:
        for number, start in starts.items():
            shape = shape_of(passage.x[start + len(before)])
            sigma[order[passage.site], number], kurtosis[order[passage.site], number] = (
                shape.sigma,
                shape.excess_kurtosis,
            )

    see_all(prepare([[*before, word] for word in drawn], model), sites, measure)
    level = least_level(pairs)
    reached = [
        upper_threshold(np.abs(np.median(values[:, ::2] - values[:, 1::2], axis=0)), level)
        for values in (np.log(sigma), kurtosis)
    ]
    return RandomWords(pairs=pairs, level=level, sigma=reached[0], kurtosis=reached[1])


def _token(site: Site, undone: Undone, number: int) -> TokenAtSite:
    x, xhat, y = undone.x[number], undone.xhat[number], undone.y[number]
    rounding = undone.rounding[number]
    mean, variance = x.mean(), x.var()
    size = np.linalg.norm(x)
    difference = x - (np.sqrt(variance + undone.eps) * xhat + mean)
    return TokenAtSite(
        site=site.name,
        mean=float(mean),
        sigma=float(np.sqrt(variance)),
        mean_share=float(len(x) * mean**2 / size**2),
        sigma_share=float(len(x) * variance / size**2),
        pre=shape_of(x),
        normalized=shape_of(xhat),
        post=shape_of(y),
        rebuilt_error=float(np.linalg.norm(difference) / size),
        rounding=float(np.linalg.norm(rounding) / size),
        rebuilt=bool(undone.rebuilt[number].mean() >= LEVEL),
        shape_kept=_keeps_shape(undone, number),
    )


def _keeps_shape(undone: Undone, number: int) -> bool:
    """Whether, with some factor and offset, gain * (factor (x - mu) + offset) + bias is y to its rounding."""
    x, xhat = undone.x[number], undone.xhat[number]
    # What is not brought to sigma 1 is computed with numbers that are as much larger.
    size = max(1.0, float(xhat.std() * np.sqrt(x.var() + undone.eps) / x.std()))
    error = undone.last_rounding[number] + size * undone.arithmetic[number]
    # In units of the error of each feature, so that one of small gain, which tells little of xhat, weighs little.
    basis, _ = np.linalg.qr(np.stack([undone.gain * (x - x.mean()), undone.gain], axis=1) / error[:, None])
    given = (undone.y[number] - undone.bias) / error
    left = np.abs(given - basis @ (basis.T @ given))
    # Errors of one unit each can't move the fit at a feature by more than this (Cauchy and Schwarz, on the hat matrix).
    moved = np.sqrt(len(x) * np.sum(basis**2, axis=1))
    return bool((left <= 1 + moved).all())


def shape_of(values: Floats) -> StageShape:
    """Norm, sigma, kurtosis and largest deviation of one token's features."""
    centered = values - values.mean()
    # By the largest of them, or else the fourth powers of what is small vanish and those of what is large overflow.
    largest = np.abs(centered).max()
    scaled = centered / largest
    variance = np.mean(scaled**2)
    return StageShape(
        norm=float(np.linalg.norm(values)),
        sigma=float(largest * np.sqrt(variance)) if largest else 0.0,
        excess_kurtosis=float(np.mean(scaled**4) / variance**2 - 3),
        max_deviation=float(1 / np.sqrt(variance)),
    )


def _cosine(one: Floats, other: Floats) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
