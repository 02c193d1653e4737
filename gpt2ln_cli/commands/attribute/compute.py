"""Who wrote sigma^2: each embedding's, attention's and MLP's part of it, at every site."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, layer_list, prompt_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.attribute.record import Attribution, Share, SiteAttribution, Through
from gpt2ln_cli.commands.attribute.rows import POSITION_BITS, TokenRows
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.measure import writers
from gpt2ln_cli.measure.flags import parameter_flags
from gpt2ln_cli.measure.ledger import Floats, Ledger
from gpt2ln_cli.measure.summary import PARTS
from gpt2ln_cli.measure.writers import MEAN, SHARE, TOLD, VALUE, Written
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.model.subject import Layers, Prompts, Running, prepare
from gpt2ln_cli.records import Claim, Verdict, strictly
from gpt2ln_cli.sites import Site, select_sites
from gpt2ln_cli.text.contexts import Context, token_texts
from gpt2ln_cli.text.prompts import sample_prompt

if TYPE_CHECKING:
    from gpt2ln_cli.text.batches import Numbered

# Shares in float32 add up to 1 within this, where what was written does not cancel.
CLOSES = 1e-5
# A writer made most where it made more than all others together.
MOST = 0.5
# Features that are named of a followed writer.
NAMED = 3
WHERE = {"first": "position 0", "rest": "later positions"}


@checked
def attribute(
    prompts: Prompts | None = None,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    by_head: bool = False,
    feature: int | None = None,
    per_token: bool = False,
    token: int | None = None,
    top: int | None = None,
    **running: Unpack[Running],
) -> Attribution:
    """Find out who wrote sigma^2 at every LayerNorm; ``gpt2ln attribute``.

    Args:
        prompts: as for :func:`gpt2ln_cli.inspect`.
        model: as for :func:`gpt2ln_cli.inspect`.
        layers: as for :func:`gpt2ln_cli.inspect`.
        sites: as for :func:`gpt2ln_cli.inspect`.
        by_head: whether an attention's heads, and its bias, are writers of their own.
        feature: also what each wrote into this feature of x.
        per_token: also one row for each site, token and writer.
        token: only the rows of this position of each sequence.
        top: only the rows of so many tokens of each site, those with the greatest sigma.
        **running: see :class:`gpt2ln_cli.model.subject.Running`.

    Raises:
        UsageError: as for :func:`gpt2ln_cli.inspect`; or there is no such feature, or no such position.
        CheckpointError: as for :func:`gpt2ln_cli.inspect`.
        PromptError: as for :func:`gpt2ln_cli.inspect`.
    """
    source = as_model(model)
    config = source.checkpoint.config
    chosen = select_sites(config.n_layer, layer_list(layers), sites)
    if feature is not None and not 0 <= feature < config.n_embd:
        raise UsageError(f"feature {feature}: this model has features 0 to {config.n_embd - 1}.")
    subject = prepare(prompt_list(sample_prompt() if prompts is None else prompts), source, **running)
    longest = max(len(context.token_ids) for context in subject.contexts)
    if token is not None and not 0 <= token < longest:
        raise UsageError(f"token {token}: the longest sequence has positions 0 to {longest - 1}.")
    reader = writers.Attribution(
        source.lazy_body,
        chosen,
        heads=by_head,
        rounding=source.lazy_body.dtype in (torch.float16, torch.bfloat16),
        feature=feature,
        per_token=per_token or token is not None or top is not None,
    )
    tallies = [[_Tally() for _ in PARTS] for _ in chosen]
    ledger = Ledger()
    before = [[*range(reader.before(site)), *reader.closing] for site in chosen]
    steps = subject.steps()
    for batch, numbered in subject.passes():
        found = reader.read(batch)
        for one in found:
            tallies[one.site][one.part].add(one)
        if reader.per_token:
            _keep(ledger, found, batch, numbered, before, len(reader.names), token)
        steps.add(int(batch.mask.sum()))
    described = [
        _site(site, of_site, [reader.names[place] for place in names], valued=feature is not None)
        for site, of_site, names in zip(chosen, tallies, before, strict=True)
    ]
    rows = None
    if reader.per_token:
        texts = _texts(subject.contexts, source)
        names = [(site.name, places) for site, places in zip(chosen, before, strict=True)]
        rows = TokenRows(ledger, names, reader.names, subject.contexts, texts, valued=feature is not None, top=top)
    return strictly(
        Attribution(
            model=source.info,
            bos=subject.bos,
            prompts=subject.prompts,
            by_head=by_head,
            feature=feature,
            sites=described,
            rows=rows,
            claims=_claims(described, feature),
            warnings=parameter_flags(source.layer_norms()),
        )
    )


@dataclass
class _Tally:
    """What the passes add up to at one site, of one part."""

    tokens: int = 0
    sums: Floats = field(default_factory=lambda: np.zeros(0))
    followed: Sequence[int] = ()
    through: Floats = field(default_factory=lambda: np.zeros(0))
    sigma: float = 0.0
    x: float = 0.0
    error: float = 0.0
    mean_error: float = 0.0

    def add(self, one: Written) -> None:
        sums, through = one.sums.cpu().numpy(), one.through.cpu().numpy()
        self.sums = self.sums + sums if self.tokens else sums
        self.through = self.through + through if self.tokens else through
        self.followed = one.followed.tolist()
        self.tokens += len(one.sigma)
        self.sigma += float(one.sigma.sum())
        self.x += float(one.x)
        # A NaN stays.
        self.error = float(np.maximum(self.error, float(one.error)))
        self.mean_error = float(np.maximum(self.mean_error, float(one.mean_error)))

    def shares(self, names: Sequence[str], *, valued: bool) -> list[Share]:
        if not self.tokens:
            return []
        told, through = self.sums / self.tokens, self.through / self.tokens
        return [
            Share(
                writer=name,
                share=float(told[SHARE, place]),
                mean=float(told[MEAN, place]),
                value=float(told[VALUE, place]) if valued else None,
                through=_through(through[self.followed.index(place)], told[SHARE, place])
                if place in self.followed
                else [],
            )
            for place, name in enumerate(names)
        ]


def _through(through: Floats, share: float) -> list[Through]:
    """The features through which a writer made most of its share, in its direction."""
    order = np.argsort(-through * np.sign(share), kind="stable")[:NAMED]
    return [Through(index=int(index), share=float(through[index])) for index in order]


def _site(site: Site, tallies: Sequence[_Tally], names: Sequence[str], *, valued: bool) -> SiteAttribution:
    first, rest = tallies
    return SiteAttribution(
        name=site.name,
        layer=site.layer,
        kind=site.kind,
        first_sigma=first.sigma / first.tokens,
        rest_sigma=rest.sigma / rest.tokens if rest.tokens else None,
        first_x=first.x / first.tokens if valued else None,
        rest_x=rest.x / rest.tokens if valued and rest.tokens else None,
        first=first.shares(names, valued=valued),
        rest=rest.shares(names, valued=valued),
        sum_error=float(np.maximum(first.error, rest.error)),
        mean_error=float(np.maximum(first.mean_error, rest.mean_error)),
    )


def _keep(
    ledger: Ledger,
    found: Sequence[Written],
    batch: Batch,
    numbered: Sequence[Numbered],
    before: Sequence[Sequence[int]],
    writers_in_all: int,
    token: int | None,
) -> None:
    """Keep what a pass told of each token, or of those at one position."""
    numbers = np.array([number for number, _ in numbered])
    length = batch.ids.shape[1]
    parts = [part.numpy() for part in writers.tokens(batch)]
    row, position = np.divmod(np.concatenate(parts), length)
    values = np.zeros((len(before), 1 + TOLD * writers_in_all, len(row)))
    ends = np.cumsum([0, *map(len, parts)])
    for one in found:
        assert one.told is not None
        here = slice(ends[one.part], ends[one.part + 1])
        values[one.site, 0, here] = one.sigma.cpu().numpy()
        by_writer = values[one.site, 1:, here].reshape(TOLD, writers_in_all, -1)
        by_writer[:, before[one.site]] = np.moveaxis(one.told.cpu().numpy(), 0, 2)
        values[one.site, 1:, here] = by_writer.reshape(TOLD * writers_in_all, -1)
    wanted = np.ones(len(row), dtype=bool) if token is None else position == token
    if wanted.any():
        ledger.add(values[:, :, wanted], ((numbers[row] << POSITION_BITS) + position)[wanted])


def _texts(contexts: Sequence[Context], source: Model) -> dict[int, str] | None:
    ids = sorted({token for context in contexts for token in context.token_ids})
    texts = token_texts(ids, source.tokenizer)
    return None if texts is None else dict(zip(ids, texts, strict=True))


def _claims(sites: Sequence[SiteAttribution], feature: int | None) -> list[Claim]:
    """Whether one writer made most of sigma^2 (or of a feature), where that is greatest; and whether shares add up."""
    found = []
    for part, where in WHERE.items():
        told = [(site, getattr(site, part)) for site in sites if getattr(site, part)]
        if told:
            found.append(_one_writer(part, where, told) if feature is None else _of_feature(part, where, told, feature))
    errors = [site.sum_error for site in sites if site.sum_error is not None]
    error = float(np.max(errors))
    found.append(
        Claim(
            id="attribute.shares_add_up",
            verdict="can't tell" if np.isnan(error) else "yes" if error <= CLOSES else "no",
            statistic=error,
            threshold=CLOSES,
            figures={"sites": len(sites), "mean_error": float(np.max([site.mean_error for site in sites]))},
        )
    )
    return found


def _verdict(share: float) -> Verdict:
    return "yes" if share > MOST else "no" if np.isfinite(share) else "can't tell"


def _one_writer(part: str, where: str, told: Sequence[tuple[SiteAttribution, list[Share]]]) -> Claim:
    site, shares = max(told, key=lambda one: _or_least(getattr(one[0], f"{part}_sigma")))
    most = max(shares, key=lambda one: _or_least(one.share))
    share = np.nan if most.share is None else most.share
    return Claim(
        id=f"attribute.one_writer_{part}",
        verdict=_verdict(share),
        statistic=share,
        threshold=MOST,
        figures={
            "site": site.name,
            "where": where,
            "writer": most.writer,
            "sigma": getattr(site, f"{part}_sigma"),
            "through": f", through {most.features}" if most.features else "",
        },
    )


def _of_feature(part: str, where: str, told: Sequence[tuple[SiteAttribution, list[Share]]], feature: int) -> Claim:
    site, shares = max(told, key=lambda one: _or_least(abs(getattr(one[0], f"{part}_x"))))
    x = getattr(site, f"{part}_x")
    most = max(shares, key=lambda one: _or_least((one.value or 0.0) * np.sign(x)))
    value = np.nan if most.value is None else most.value
    share = value / x if x else np.nan
    return Claim(
        id=f"attribute.feature_{part}",
        verdict=_verdict(share),
        statistic=share,
        threshold=MOST,
        figures={
            "feature": feature,
            "site": site.name,
            "where": where,
            "x": x,
            "writer": most.writer,
            "value": value,
        },
    )


def _or_least(value: float | None) -> float:
    return -np.inf if value is None or np.isnan(value) else value
