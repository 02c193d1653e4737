"""Two runs of ``profile``, distribution by distribution."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from gpt2ln_cli.commands.diff.record import LargestShift, PartShift, QuantityShift, Run, RunDifference, SiteShift
from gpt2ln_cli.commands.profile import manifest
from gpt2ln_cli.commands.profile.compute import profile_files
from gpt2ln_cli.commands.profile.manifest import Settings
from gpt2ln_cli.commands.profile.options import Options
from gpt2ln_cli.commands.profile.record import Distribution, Distributions, Profile
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.measure.chance import LEVEL, two_samples
from gpt2ln_cli.paths import user_path
from gpt2ln_cli.quantities import QUANTITIES
from gpt2ln_cli.records import Claim, Verdict, strictly

PARTS: tuple[Literal["first", "rest"], ...] = ("first", "rest")
WHERE = {"first": "position 0", "rest": "later positions"}
# How a corpus becomes documents, and what of it is taken.
OF_CORPUS = ("tokenizer", "separator", "column", "limit_tokens")


def diff_runs(run_a: str | Path, run_b: str | Path) -> RunDifference:
    """Compare two runs of ``profile``: of two models on one corpus, or of one model on two; ``gpt2ln diff``.

    Args:
        run_a: the folder of a finished run.
        run_b: another; what moved is told as from A to B.

    Raises:
        UsageError: a folder holds no run, or what it holds can't be compared with the other.
    """
    folders = user_path(run_a), user_path(run_b)
    found = []
    for folder in folders:
        there = manifest.read(folder)
        if there is None:
            raise UsageError(f"{folder} holds no run of 'profile'.")
        found.append(there)
    same = _same(*found)
    a, b = (profile_files(None, folder, "", Options()) for folder in folders)
    for folder, record in zip(folders, (a, b), strict=True):
        if record.shards.missing:
            raise UsageError(
                f"{folder} lacks {len(record.shards.missing):,} of {record.shards.chosen:,} shards: finish it first."
            )
    error = _error(a)
    sites = [
        SiteShift(name=one.name, layer=one.layer, kind=one.kind, largest=_largest(parts), **parts)
        for one, other in zip(a.sites, b.sites, strict=True)
        for parts in [{part: _part(getattr(one, part), getattr(other, part), error) for part in PARTS}]
    ]
    return strictly(
        RunDifference(
            run_a=_run(folders[0], a),
            run_b=_run(folders[1], b),
            same=same,
            sketch_error=a.sketch.relative_error,
            sites=sites,
            claims=[_of_tokens(a, b, sites) if same != "model" else _of_samples(a, b, sites)],
        )
    )


def _same(a: manifest.Manifest, b: manifest.Manifest) -> Literal["corpus", "model", "both"]:
    """What two runs have in common.

    Raises:
        UsageError: nothing, or not enough.
    """
    shapes = [
        {name: getattr(one.settings.model, name) for name in ("n_layer", "n_embd", "n_positions")} for one in (a, b)
    ]
    for name in shapes[0]:
        if shapes[0][name] != shapes[1][name]:
            raise UsageError(
                f"the runs can't be compared: {name} is {shapes[0][name]} in A and {shapes[1][name]} in B."
            )
    for name, words in (("documents", "--documents"), ("bos", "--bos")):
        one, other = getattr(a.settings, name), getattr(b.settings, name)
        if one != other:
            raise UsageError(
                f"the runs can't be compared: {words} is {one} in A and {other} in B, and position 0 another thing."
            )
    model = a.settings.weights == b.settings.weights
    corpus = _corpus(a) == _corpus(b)
    if not model and not corpus:
        raise UsageError(
            "the runs can't be compared: both model and corpus differ, and nobody could tell which of them did what."
        )
    return "both" if model and corpus else "model" if model else "corpus"


def _corpus(run: manifest.Manifest) -> tuple[object, ...]:
    settings: Settings = run.settings
    sources = [(Path(source.name).name, source.size) for source in run.sources]
    return sources, *(getattr(settings, name) for name in OF_CORPUS)


def _error(record: Profile) -> float:
    """The sketch's, by which neighbouring buckets are just apart: they must not be so by a rounding error more."""
    return record.sketch.relative_error * (1 + 1e-9)


def _run(folder: Path, record: Profile) -> Run:
    corpus = record.corpus
    return Run(
        folder=str(folder),
        model=record.model,
        sources=corpus.sources,
        documents=corpus.documents,
        windows=corpus.windows,
        tokens=record.counts.tokens,
    )


def _part(a: Distributions | None, b: Distributions | None, error: float) -> PartShift | None:
    if a is None or b is None:
        return None
    return PartShift(**{name: _shift(getattr(a, name), getattr(b, name), error) for name in QUANTITIES})


def _shift(a: Distribution, b: Distribution, error: float) -> QuantityShift:
    spread = None if a.std is None or b.std is None else math.sqrt((a.std**2 + b.std**2) / 2)
    shifts = {
        # What is sure of it: each of the two may be off by the sketch's error.
        percent: math.copysign(max(0.0, abs(other - one) - error * (abs(one) + abs(other))), other - one) / spread + 0.0
        for percent, one in a.quantiles.items()
        if (other := b.quantiles.get(percent)) is not None and one is not None and spread
    }
    percent = max(shifts, key=lambda each: abs(shifts[each]), default=None)
    shift = None if percent is None else shifts[percent]
    return QuantityShift(a=a.quantiles, b=b.quantiles, spread=spread, shift=shift, percent=percent)


def _largest(parts: dict[Literal["first", "rest"], PartShift | None]) -> LargestShift | None:
    moved = [
        LargestShift(part=part, quantity=name, percent=one.percent, shift=one.shift)
        for part, found in parts.items()
        if found is not None
        for name in QUANTITIES
        if (one := getattr(found, name)).shift
    ]
    return max(moved, key=lambda one: abs(one.shift), default=None)


def _sigmas(sites: Sequence[SiteShift]) -> Iterator[tuple[str, str, QuantityShift]]:
    for site in sites:
        for part in PARTS:
            found: PartShift | None = getattr(site, part)
            if found is not None:
                yield site.name, part, found.sigma


def _claim(
    verdict: Verdict,
    statistic: float | None,
    threshold: float | None,
    most: tuple[str, str, QuantityShift],
    **figures: float | int | str | None,
) -> Claim:
    site, part, sigma = most
    percent = sigma.percent
    return Claim(
        id="diff.distributions_differ",
        verdict=verdict,
        statistic=statistic,
        threshold=threshold,
        level=LEVEL if figures.get("windows") else None,
        figures={
            "site": site,
            "where": WHERE[part],
            "percent": percent,
            "a": sigma.a[percent] if percent else None,
            "b": sigma.b[percent] if percent else None,
            "shift": sigma.shift,
            **figures,
        },
    )


def _of_tokens(a: Profile, b: Profile, sites: Sequence[SiteShift]) -> Claim:
    """Whether sigma is distributed otherwise over the same tokens, by more than the sketch's error.

    Chance plays no part in it.
    """

    def beyond(one: QuantityShift) -> float:
        """The largest shift in units of what the sketch's error may be there."""
        error = _error(a)
        pairs = ((x, one.b.get(percent)) for percent, x in one.a.items())
        return max(
            (
                abs(y - x) / (error * (abs(x) + abs(y))) if x != y else 0.0
                for x, y in pairs
                if x is not None and y is not None
            ),
            default=0.0,
        )

    moved = [(beyond(sigma), name, part, sigma) for name, part, sigma in _sigmas(sites)]
    size, name, part, sigma = max(moved, key=lambda one: one[0])
    alike = all(
        one.first == other.first and one.rest == other.rest for one, other in zip(a.sites, b.sites, strict=True)
    )
    verdict: Verdict = "no" if alike else "yes" if size > 1 else "can't tell"
    return _claim(verdict, size, 1.0, (name, part, sigma))


def _of_samples(a: Profile, b: Profile, sites: Sequence[SiteShift]) -> Claim:
    """Whether sigma is distributed otherwise over two corpora, by more than chance.

    The tokens of a window depend on one another: the windows are the independent values.
    """
    every = list(_sigmas(sites))
    distances = [(_distance(sigma, _error(a)), name, part, sigma) for name, part, sigma in every]
    size, name, part, sigma = max(distances, key=lambda one: one[0])
    windows = a.corpus.windows, b.corpus.windows
    threshold = two_samples(*windows, level=LEVEL / len(every))
    return _claim(
        "yes" if size > threshold else "can't tell",
        size,
        threshold,
        (name, part, sigma),
        windows=min(windows),
    )


def _distance(shift: QuantityShift, error: float) -> float:
    """The least that the two distribution functions are apart somewhere, as the quantiles have it."""
    points = [
        [
            (float(percent) / 100, value - error * abs(value), value + error * abs(value))
            for percent, value in each.items()
            if value is not None
        ]
        for each in (shift.a, shift.b)
    ]
    found = [0.0]
    for one, other in (points, points[::-1]):
        for (share, _, high), (further, low, _) in itertools.product(one, other):
            # Below `high` is `share` of one, and no more than `further` of the other.
            if high < low:
                found.append(share - further)
    return max(found)
