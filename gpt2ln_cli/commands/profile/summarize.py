"""From what shards add up to, to the record."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gpt2ln_cli.commands.profile.against import hold
from gpt2ln_cli.commands.profile.features import massive, site_features
from gpt2ln_cli.commands.profile.manifest import Settings
from gpt2ln_cli.commands.profile.measured import Measured
from gpt2ln_cli.commands.profile.record import (
    BadDocument,
    Band,
    Corpus,
    Distribution,
    Distributions,
    Profile,
    Published,
    Shards,
    SiteProfile,
    Sketch,
    Speed,
    Top,
    TopToken,
)
from gpt2ln_cli.errors import PromptError, UsageError
from gpt2ln_cli.measure.distributions import Moments, band_ends
from gpt2ln_cli.measure.flags import run_flags
from gpt2ln_cli.measure.sketch import RELATIVE_ERROR
from gpt2ln_cli.measure.tops import RANKED
from gpt2ln_cli.records import strictly
from gpt2ln_cli.text.corpus.documents import Bad

QUANTILES = (0.1, 1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 99.9)


def percents(others: Sequence[float]) -> list[float]:
    """The percents whose quantiles are told, in order: the usual ones and others.

    Raises:
        UsageError: one is no percent.
    """
    for other in others:
        if isinstance(other, bool) or not isinstance(other, (int, float)) or not 0 <= other <= 100:
            raise UsageError(f"quantile {other!r}: it must be a percent, 0 to 100.")
    return sorted({*QUANTILES, *map(float, others)})


def summarize(
    settings: Settings,
    measured: Measured,
    *,
    sources: list[str],
    shards: Shards,
    bad: list[Bad],
    quantiles: Sequence[float],
    figures: list[Published] | None,
) -> Profile:
    """The record of what was measured.

    Args:
        settings: how it was.
        measured: of all shards that are done, in their order.
        sources: names of the files.
        shards: how many are done.
        bad: sources that could not be read.
        quantiles: in percent.
        figures: published ones to hold it against.

    Raises:
        PromptError: nothing was measured.
        UsageError: none of the figures is of this model, or one is of no number of this run.
    """
    taken = measured.taken
    if not taken.windows:
        raise PromptError("there is no token in what was read of the corpus, so there is nothing to show.")
    counts = measured.counting.counts()
    sites = [_site(measured, number, quantiles) for number in range(counts.sites)]
    claims = [] if measured.features is None else [massive(measured.features)]
    held = None
    if figures is not None:
        held, further = hold(settings.model, sites, taken.windows, figures)
        claims += further
    return strictly(
        Profile(
            model=settings.model,
            bos=settings.bos,
            corpus=Corpus(
                sources=sources,
                documents=taken.documents,
                empty=taken.empty,
                windows=taken.windows,
                tokens=taken.tokens,
                how=settings.documents,
                separator=settings.separator,
                limit_tokens=settings.limit_tokens,
                bad=[BadDocument(**vars(one)) for one in [*bad, *taken.bad]],
            ),
            shards=shards,
            counts=counts,
            sketch=Sketch(relative_error=RELATIVE_ERROR),
            sites=sites,
            claims=claims,
            against=held,
            speed=Speed(
                seconds=measured.seconds,
                tokens_a_second=counts.tokens / measured.seconds if measured.seconds else None,
            ),
            warnings=[*settings.flags, *run_flags(measured.tallies.by_site, settings.model.eps)],
        )
    )


def _site(measured: Measured, number: int, quantiles: Sequence[float]) -> SiteProfile:
    distributions = measured.distributions
    site = distributions.sites[number]
    present = [band for band in range(distributions.bands) if distributions.tokens[band]]
    later = [band for band in present if band]

    def over(bands: Sequence[int]) -> Distributions | None:
        if not bands:
            return None
        return Distributions(tokens=_tokens(measured, bands), **_each(measured, number, bands, quantiles))

    bands = []
    for band in present:
        first, last = band_ends(band, distributions.positions)
        each = _each(measured, number, [band], quantiles)
        bands.append(Band(first=first, last=last, tokens=_tokens(measured, [band]), **each))
    return SiteProfile(
        name=site.name,
        layer=site.layer,
        kind=site.kind,
        statistics=int(measured.counting.statistics[number]),
        first=over([band for band in present if band == 0]),
        rest=over(later),
        bands=bands,
        top=Top(**{name: _top(measured, number, name) for name in RANKED}),
        features=site_features(measured, number),
    )


def _tokens(measured: Measured, bands: Sequence[int]) -> int:
    return int(measured.distributions.tokens[list(bands)].sum())


def _each(measured: Measured, site: int, bands: Sequence[int], quantiles: Sequence[float]) -> dict[str, Distribution]:
    """Each quantity of a site over some bands together."""
    names = measured.distributions.quantities
    return {name: _distribution(measured, site, number, bands, quantiles) for number, name in enumerate(names)}


def _distribution(
    measured: Measured, site: int, quantity: int, bands: Sequence[int], quantiles: Sequence[float]
) -> Distribution:
    folded = measured.distributions
    chosen = list(bands)
    cells = Moments(*(array[site, quantity, chosen] for array in vars(folded.moments).values()))
    all_of = cells.over(0)
    count, mean, squares, least, greatest = (float(array) for array in vars(all_of).values())
    known = count > 0
    variance = squares / count if known else math.nan
    keys = [f"{percent:.12g}" for percent in quantiles]
    shares = [percent / 100 for percent in quantiles]
    found: Sequence[float | None] = folded.quantiles(site, quantity, chosen, shares) if known else [None] * len(shares)
    return Distribution(
        tokens=int(count),
        nonfinite=int(folded.nonfinite[site, quantity, chosen].sum()),
        mean=mean if known else None,
        std=math.sqrt(variance) if known else None,
        rms=math.sqrt(variance + mean**2) if known else None,
        min=least if known else None,
        max=greatest if known else None,
        quantiles=dict(zip(keys, found, strict=True)),
    )


def _top(measured: Measured, site: int, quantity: str) -> list[TopToken]:
    listed = []
    for found in measured.tops.of(site, quantity):
        source, offset, position, token, around = found.where
        listed.append(
            TopToken(value=found.value, source=source, offset=offset, position=position, token=token, around=around)
        )
    return listed
