"""What LayerNorm takes from a token, what it leaves, and what tokens of one context share."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, layer_list, prompt_list, refuse_without_effect
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.checkpoint.encoding import encode, encode_whole
from gpt2ln_cli.commands.compare.linear_probe import r_squared
from gpt2ln_cli.commands.compare.record import (
    ComparedToken,
    Comparison,
    Cosines,
    Finding,
    LaterReading,
    Setting,
    SharedAtSite,
    SharedDirection,
    SigmaProbe,
    SigmaReading,
    StageShape,
    TokenAtSite,
    TokenInContext,
    TokenPair,
)
from gpt2ln_cli.errors import PromptError, UsageError
from gpt2ln_cli.measure.axes import Reading
from gpt2ln_cli.measure.normalizing import normalized, standardized
from gpt2ln_cli.measure.rounding import LEVEL, arithmetic, last_place, reproduced
from gpt2ln_cli.model import Model, as_model, eps_of, layer_norm, learned
from gpt2ln_cli.model.subject import Layers, Progress, Prompts, Running, Subject, prepare
from gpt2ln_cli.model.tracing import Floats, Passage, passes, trace
from gpt2ln_cli.model.watching import Watch
from gpt2ln_cli.records import strictly
from gpt2ln_cli.sites import Site, select_sites
from gpt2ln_cli.text.prompts import HELD_OUT, LONG_SAMPLE, Context, long_sample, token_texts

COMPARED = ("ok", "hatred")
COMPARED_CONTEXT = "war violence hate fear"
CARRIER = "The word was {}."
BLANK = "{}"
# What the linear probe is tried on: sample prompts, in pieces of so many tokens.
PROBED, PIECE = (LONG_SAMPLE, HELD_OUT), 128


@dataclass(frozen=True)
class Spot:
    """A token that is to be compared: a position in one of the contexts."""

    sequence: int
    position: int


@dataclass(frozen=True)
class _Undone:
    """One site's input and output for some tokens, with gain and bias taken off the output; (tokens, features)."""

    x: Floats
    xhat: Floats
    y: Floats
    eps: float
    last_rounding: Floats
    """Half a unit of the last place of each feature of y."""
    arithmetic: Floats
    """How far the kernel's float32 arithmetic may take each feature of y before that."""
    rounding: Floats
    """What both make of each feature of x that is rebuilt from xhat."""
    rebuilt: NDArray[np.bool_]
    """Whether the feature of y is what x, mu and sigma give, rounded once."""
    gain: Floats
    bias: Floats


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


def spots(
    items: Sequence[str | Sequence[int]],
    template: str | None,
    contexts: Sequence[Context],
    tokenizer: Tokenizer | None,
    *,
    first_prompt: int,
    position: int,
    bos: bool,
) -> list[Spot]:
    """Find each item's token to compare.

    Args:
        items: what is compared.
        template: the sentence they were put into; None is none.
        contexts: of all prompts.
        tokenizer: the checkpoint's.
        first_prompt: number of the first item's prompt; the others' follow.
        position: which of the item's own tokens; negative counts from its last.
        bos: whether the contexts begin with ``<|endoftext|>``.

    Raises:
        UsageError: an item has no such position.
        PromptError: the token was cut off.
    """
    found = []
    for prompt, item in enumerate(items, start=first_prompt):
        own = _own_tokens(item, template, tokenizer)
        if not -len(own) <= position < len(own):
            name = f"'{item}'" if isinstance(item, str) else f"prompt {prompt}"
            raise UsageError(f"position {position}: {name} has tokens 0 to {len(own) - 1} (or -1 to -{len(own)}).")
        found.append(_spot(contexts, prompt, own[position], bos))
    return found


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


def _spot(contexts: Sequence[Context], prompt: int, token: int, bos: bool) -> Spot:
    for sequence, context in enumerate(contexts):
        position = token - context.offset + bos
        if context.prompt == prompt and bos <= position < len(context.token_ids):
            return Spot(sequence, position)
    raise PromptError(f"token {token} of prompt {prompt} is beyond the context and was cut off; choose --position.")


# What is not finite is told by the record.
@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def compare_tokens(
    subject: Subject,
    settings: Sequence[tuple[str | None, Sequence[str | Sequence[int]], Sequence[Spot]]],
    sites: Sequence[Site],
) -> Comparison:
    """Set tokens side by side through the sites.

    Args:
        subject: the model, and the contexts of all settings.
        settings: for each its template, the items and their tokens.
        sites: the sites, in forward order.
    """
    loaded = subject.model
    watch = Watch(loaded)
    wanted = [spot for _, _, found in settings for spot in found]
    kept: dict[Site, dict[Spot, tuple[Floats, Floats]]] = {site: {} for site in sites}

    def keep(starts: dict[int, int], passage: Passage) -> None:
        for spot in wanted:
            if spot.sequence in starts:
                row = starts[spot.sequence] + spot.position
                # Copies: a view would keep the whole passage.
                kept[passage.site][spot] = (passage.x[row].copy(), passage.y[row].copy())
        watch.see(passage)

    _see_all(subject, sites, keep, subject.progress)
    seen = {
        site: _undo(loaded, Passage(site, *(np.stack([by_spot[spot][part] for spot in wanted]) for part in (0, 1))))
        for site, by_spot in kept.items()
    }
    described: list[Setting] = []
    offset = 0
    for template, items, found in settings:
        described.append(_setting(subject, template, items, found, seen, offset))
        offset += len(found)
    probe = _probe_sigma(loaded, loaded.tokenizer, sites) if loaded.tokenizer is not None else None
    eps = {site.name: eps_of(loaded.body, site) for site in sites}
    tokens = [token for setting in described for token in setting.tokens]
    return Comparison(
        model=loaded.info,
        bos=subject.bos,
        prompts=subject.prompts,
        settings=described,
        probe=probe,
        contexts=[],
        findings=[
            _find_discarded(tokens, loaded.body.config.n_embd),
            _find_scale(described, eps),
            _find_shape(tokens),
            _find_gone(probe),
        ],
        warnings=watch.flags(),
    )


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def compare_contexts(subject: Subject, sites: Sequence[Site]) -> Comparison:
    """Measure the direction that the tokens of each context share, and what is left of it across tokens.

    Args:
        subject: the model and the contexts.
        sites: the sites, in forward order.

    Raises:
        PromptError: a context has one token.
    """
    for context in subject.contexts:
        if len(context.token_ids) == 1:
            raise PromptError(f"prompt {context.prompt} is one token long: there is nothing that it could share.")
    loaded = subject.model
    watch = Watch(loaded)
    shared: list[list[SharedAtSite]] = [[] for _ in subject.contexts]

    def measure(starts: dict[int, int], passage: Passage) -> None:
        for number, start in starts.items():
            part = slice(start, start + len(subject.contexts[number].token_ids))
            undone = _undo(loaded, Passage(passage.site, passage.x[part], passage.y[part]))
            shared[number].append(_shared(loaded, subject.contexts[number], passage.site, undone))
        watch.see(passage)

    _see_all(subject, sites, measure, subject.progress)
    contexts = [
        SharedDirection(sequence=number, unrelated=1 / len(subject.contexts[number].token_ids), sites=at_sites)
        for number, at_sites in enumerate(shared)
    ]
    return Comparison(
        model=loaded.info,
        bos=subject.bos,
        prompts=subject.prompts,
        settings=[],
        probe=None,
        contexts=contexts,
        findings=[_find_shared(context) for context in contexts],
        warnings=watch.flags(),
    )


def _see_all(
    subject: Subject,
    sites: Sequence[Site],
    see: Callable[[dict[int, int], Passage], None],
    progress: Progress | None = None,
) -> None:
    """Run all batches; ``see`` is shown each site's passage, and where in it each context's tokens begin."""
    total = sum(len(context.token_ids) for context in subject.contexts)
    done = 0
    for batch, rows in passes(subject):
        lengths = [len(ids) for _, ids in rows]
        starts = dict(zip((number for number, _ in rows), itertools.accumulate([0, *lengths[:-1]]), strict=True))
        trace(subject.model.body, batch, sites, functools.partial(see, starts))
        done += sum(lengths)
        if progress is not None:
            progress(done, total)


def _undo(loaded: Model, passage: Passage) -> _Undone:
    """Take gain and bias off a site's output, so that what is left is what the module itself made of x."""
    module, eps = layer_norm(loaded.body, passage.site), eps_of(loaded.body, passage.site)
    dtype = loaded.body.dtype
    x, y = passage.x, passage.y
    gain, bias = learned(module, "weight", x.shape[1]), learned(module, "bias", x.shape[1])
    gain = np.ones(x.shape[1]) if gain is None else gain
    bias = np.zeros(x.shape[1]) if bias is None else bias
    by_definition, scale = standardized(Reading.PER_TOKEN, x, [len(x)], heads=1, eps=eps)
    # What is not finite is the record's to say.
    with np.errstate(invalid="ignore", over="ignore"):
        last_rounding = last_place(y, dtype) / 2
        before_it = arithmetic(x, by_definition, scale, gain, bias)
        error = last_rounding + before_it
        # Where rounding leaves less of xhat in y than its own size, it is taken by its definition.
        off = error > np.abs(gain)
        safe = np.where(off, 1.0, gain)
        return _Undone(
            x=x,
            xhat=np.where(off, by_definition, (y - bias) / safe),
            y=y,
            eps=eps,
            last_rounding=last_rounding,
            arithmetic=before_it,
            rounding=np.where(off, 0.0, scale * error / np.abs(safe)),
            rebuilt=reproduced(gain * by_definition + bias, before_it, y, dtype),
            gain=gain,
            bias=bias,
        )


def _setting(
    subject: Subject,
    template: str | None,
    items: Sequence[str | Sequence[int]],
    found: Sequence[Spot],
    seen: dict[Site, _Undone],
    offset: int,
) -> Setting:
    tokens = []
    for number, (item, spot) in enumerate(zip(items, found, strict=True), start=offset):
        token_id = subject.contexts[spot.sequence].token_ids[spot.position]
        texts = token_texts([token_id], subject.model.tokenizer)
        tokens.append(
            ComparedToken(
                text=item if isinstance(item, str) else None,
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
                    pre=_cosine(undone.x[offset + one], undone.x[offset + other]),
                    normalized=_cosine(undone.xhat[offset + one], undone.xhat[offset + other]),
                    post=_cosine(undone.y[offset + one], undone.y[offset + other]),
                )
                for site, undone in seen.items()
            ],
        )
        for one, other in itertools.combinations(range(len(found)), 2)
    ]
    return Setting(template=template, tokens=tokens, pairs=pairs)


def _token(site: Site, undone: _Undone, number: int) -> TokenAtSite:
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
        pre=_shape(x),
        normalized=_shape(xhat),
        post=_shape(y),
        rebuilt_error=float(np.linalg.norm(difference) / size),
        rounding=float(np.linalg.norm(rounding) / size),
        rebuilt=bool(undone.rebuilt[number].mean() >= LEVEL),
        shape_kept=_keeps_shape(undone, number),
    )


def _keeps_shape(undone: _Undone, number: int) -> bool:
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


def _shape(values: Floats) -> StageShape:
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


@dataclass(frozen=True)
class _Sample:
    """One site in some prompts, without position 0 of each: its residual is far larger than any other's."""

    x: NDArray[np.float32]
    """(tokens, features); float32 holds what the model computed, in half the memory."""
    y: NDArray[np.float32]
    log_sigma: Floats
    """(tokens,)."""


def _probe_sigma(loaded: Model, tokenizer: Tokenizer, sites: Sequence[Site]) -> SigmaProbe | None:
    """Read log sigma of each site back from y there, and from the residual stream there and at later sites."""
    size = min(PIECE, loaded.body.config.n_positions)
    pieces: list[list[int]] = []
    for name in PROBED:
        ids, _ = encode(tokenizer, long_sample(name), f"the passage {name}")
        pieces += [ids[start : start + size] for start in range(0, len(ids), size)]
    fitted, held = (_sample(loaded, sites, pieces[start::2]) for start in (0, 1))
    counts = [len(sample[sites[0]].x) for sample in (fitted, held)]
    if min(counts) < 2:
        return None
    log_sigma, held_log_sigma = (
        np.stack([sample[site].log_sigma for site in sites], axis=1) for sample in (fitted, held)
    )
    # One regression on each site's x reads the sigma of that site and of all before it.
    from_x = [
        r_squared(fitted[site].x, log_sigma[:, : n + 1], held[site].x, held_log_sigma[:, : n + 1])
        for n, site in enumerate(sites)
    ]
    from_y = [
        r_squared(fitted[site].y, log_sigma[:, n : n + 1], held[site].y, held_log_sigma[:, n : n + 1])
        for n, site in enumerate(sites)
    ]
    return SigmaProbe(
        texts=list(PROBED),
        piece=size,
        fitted_tokens=counts[0],
        held_out_tokens=counts[1],
        sites=[
            SigmaReading(
                site=site.name,
                pre=float(from_x[n][n]),
                post=float(from_y[n][0]),
                later=[
                    LaterReading(site=sites[m].name, r_squared=float(from_x[m][n])) for m in range(n + 1, len(sites))
                ],
            )
            for n, site in enumerate(sites)
        ],
    )


def _sample(loaded: Model, sites: Sequence[Site], prompts: Sequence[Sequence[int]]) -> dict[Site, _Sample]:
    subject = prepare(prompts, model=loaded, bos=False, overflow="error", batch_size=None)
    tokens, width = sum(len(prompt) - 1 for prompt in prompts), loaded.body.config.n_embd
    samples = {
        site: _Sample(np.empty((tokens, width), np.float32), np.empty((tokens, width), np.float32), np.empty(tokens))
        for site in sites
    }
    filled = dict.fromkeys(sites, 0)

    def keep(starts: dict[int, int], passage: Passage) -> None:
        later = np.ones(len(passage.x), dtype=bool)
        later[list(starts.values())] = False
        sample, x = samples[passage.site], passage.x[later]
        part = slice(filled[passage.site], filled[passage.site] + len(x))
        sample.x[part], sample.y[part], sample.log_sigma[part] = x, passage.y[later], np.log(x.std(axis=1))
        filled[passage.site] = part.stop

    _see_all(subject, sites, keep)
    return samples


def _shared(loaded: Model, context: Context, site: Site, undone: _Undone) -> SharedAtSite:
    count = len(context.token_ids)
    heads = loaded.body.config.n_head
    across = normalized(Reading.FEATURE_OVER_CONTEXT, undone.x, [count], heads=heads, eps=undone.eps)
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


def _find_discarded(tokens: Sequence[ComparedToken], features: int) -> Finding:
    each = [one for token in tokens for one in token.sites]
    lost = [one for one in each if not one.rebuilt]
    if not lost:
        return Finding(
            name="discarded",
            holds=True,
            statement=(
                f"x is rebuilt from xhat, mu and sigma to rounding in all {len(each)} cases (off by at most "
                f"{max(_number(one.rebuilt_error) for one in each):.1e} of ||x||): of a token's {features} numbers "
                f"LayerNorm takes two, mu and sigma. mu held at most "
                f"{100 * max(_number(one.mean_share) for one in each):.3g}% of ||x||^2, sigma the rest."
            ),
        )
    worst = max(lost, key=lambda one: _number(one.rebuilt_error))
    return Finding(
        name="discarded",
        holds=False,
        statement=(
            f"in {len(lost)} of {len(each)} cases x is not rebuilt from xhat, mu and sigma (at {worst.site} it is off "
            f"by {_number(worst.rebuilt_error):.2g} of ||x||): more, or something else, is taken there."
        ),
    )


def _find_scale(settings: Sequence[Setting], eps: Mapping[str, float]) -> Finding:
    before = after = 1.0
    off = 0.0
    where = ""
    holds = True
    for setting in settings:
        for at_site in zip(*(token.sites for token in setting.tokens), strict=True):
            ratio = _ratio([_number(one.pre.sigma) for one in at_site])
            if ratio > before:
                before, where = ratio, f" (at {at_site[0].site})"
            after = max(after, _ratio([_number(one.normalized.sigma) for one in at_site]))
            for one in at_site:
                sigma = _number(one.sigma)
                scale = np.sqrt(sigma**2 + eps[one.site])
                distance = abs(_number(one.normalized.sigma) - sigma / scale)
                # Of errors of y's features no more can reach sigma of xhat than their root mean square.
                limit = _number(one.rounding) * np.sqrt(sigma**2 + _number(one.mean) ** 2) / scale
                off, holds = max(off, distance), bool(holds and distance <= limit)
    verb = "it is sigma / sqrt(sigma^2 + eps), 1 but for eps" if holds else f"it is off by {off:.2g} from 1 up to eps"
    return Finding(
        name="scale",
        holds=holds,
        statement=(
            f"sigma differs between the tokens by a factor of up to {before:.4g}{where} before, and of {after:.4g} "
            f"after normalization, where {verb}."
        ),
    )


def _find_shape(tokens: Sequence[ComparedToken]) -> Finding:
    each = [one for token in tokens for one in token.sites]
    changed = [one for one in each if not one.shape_kept]
    by_normalizing = max(
        abs(_number(one.normalized.excess_kurtosis) - _number(one.pre.excess_kurtosis)) for one in each
    )
    by_gain = max(abs(_number(one.post.excess_kurtosis) - _number(one.pre.excess_kurtosis)) for one in each)
    kept = f"keeps its shape in all {len(each)} cases" if not changed else f"changes its shape in {len(changed)} cases"
    return Finding(
        name="shape",
        holds=not changed,
        statement=(
            f"normalizing a token {kept}: excess kurtosis of x and of xhat differ by at most {by_normalizing:.1e}. "
            f"Gain and bias then change it by up to {by_gain:.3g}."
        ),
    )


def _find_gone(probe: SigmaProbe | None) -> Finding:
    if probe is None or not any(reading.later for reading in probe.sites):
        missing = "no text to try it on" if probe is None else "one site alone has no later one"
        return Finding(name="not gone", holds=None, statement=f"whether sigma is gone can't be told: {missing}.")
    reads = [reading for reading in probe.sites if reading.later]
    next_better = [one for one in reads if _number(one.later[0].r_squared) > _number(one.post)]
    medians = [
        float(np.median([_number(value) for value in values]))
        for values in (
            [one.post for one in reads],
            [one.later[0].r_squared for one in reads],
            [one.later[-1].r_squared for one in reads],
        )
    ]
    holds = len(next_better) > len(reads) / 2
    answer = "the residual stream keeps sigma" if holds else "the residual stream keeps sigma no better than y"
    return Finding(
        name="not gone",
        holds=holds,
        statement=(
            f"{answer}: on held-out tokens a linear probe reads a site's log sigma from y with R^2 {medians[0]:.3f}, "
            f"from the residual at the next site with {medians[1]:.3f}, at {reads[0].later[-1].site} with "
            f"{medians[2]:.3f} (medians over {len(reads)} sites); at {len(next_better)} of them the next residual "
            "tells more than y."
        ),
    )


def _find_shared(context: SharedDirection) -> Finding:
    real = [_number(one.real) for one in context.sites]
    # Where all tokens are alike, nothing at all is left across them.
    across = float(np.nanmax([0.0, *(_number(one.across_tokens) for one in context.sites)]))
    middle = float(np.median(real))
    holds = middle > context.unrelated and across < middle
    return Finding(
        name="shared direction",
        holds=holds,
        statement=(
            f"in sequence {context.sequence} the direction that its tokens share holds {100 * middle:.3g}% of their "
            f"||xhat||^2 under the real LayerNorm (median over {len(real)} sites, {100 * min(real):.3g}% to "
            f"{100 * max(real):.3g}%; tokens at right angles would have {100 * context.unrelated:.3g}%), and at most "
            f"{100 * across:.1e}% with each feature normalized across the tokens: what they have in common would be "
            "lost."
        ),
    )


def _ratio(values: Sequence[float]) -> float:
    return float(np.divide(max(values), min(values)))


def _number(value: float | None) -> float:
    return np.nan if value is None else value


@checked
def compare(
    prompts: Prompts | None = None,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    context: bool = False,
    position: int | None = None,
    template: str | None = None,
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
        layers: as for :func:`gpt2ln_cli.inspect`.
        sites: as for :func:`gpt2ln_cli.inspect`.
        **running: see :class:`gpt2ln_cli.model.subject.Running`; the probe's passes are no progress.

    Raises:
        UsageError: as for :func:`gpt2ln_cli.inspect`; or one item alone, a template without one ``{}``, no such
            position, or position or template with ``context``.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`.
        PromptError: as for :func:`gpt2ln_cli.inspect`; or the token was cut off, or a context is one token.
    """
    if context:
        refuse_without_effect(
            "on contexts, whose tokens are all looked at", position=(position, None), template=(template, None)
        )
    source = as_model(model)
    chosen = select_sites(source.checkpoint.config.n_layer, layer_list(layers), sites)
    items = prompt_list((COMPARED_CONTEXT if context else COMPARED) if prompts is None else prompts)
    if context:
        return strictly(compare_contexts(prepare(items, source, **running), chosen))
    if len(items) < 2:
        raise UsageError("give two or more words to compare; one context by itself goes with --context.")
    carrier = choose_template(items, template)
    carried = [] if carrier is None else [carrier.replace("{}", str(item)) for item in items]
    subject = prepare([*items, *carried], source, **running)
    settings = [
        (
            chosen_template,
            items,
            spots(
                items,
                chosen_template,
                subject.contexts,
                subject.model.tokenizer,
                first_prompt=first_prompt,
                position=-1 if position is None else position,
                bos=subject.bos,
            ),
        )
        for chosen_template, first_prompt in [(None, 0), *([] if carrier is None else [(carrier, len(items))])]
    ]
    return strictly(compare_tokens(subject, settings, chosen))
