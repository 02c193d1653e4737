"""What a corpus's features are in the record."""

from __future__ import annotations

import numpy as np

from gpt2ln_cli.commands.profile.measured import Measured
from gpt2ln_cli.commands.profile.record import FeatureProfile, FeaturesOver, ProfiledFeatures
from gpt2ln_cli.measure.feature_sums import MASSIVE, Stage
from gpt2ln_cli.measure.features import Features
from gpt2ln_cli.measure.summary import PARTS, Part
from gpt2ln_cli.records import Claim

WHERE = {"first": "position 0", "rest": "later positions"}


def site_features(measured: Measured, site: int) -> ProfiledFeatures | None:
    """The numbered site's; None where none were measured."""
    if measured.features is None:
        return None
    first, rest = (_part(measured, site, part) for part in PARTS)
    return ProfiledFeatures(first=first, rest=rest)


def _part(measured: Measured, site: int, part: Part) -> FeaturesOver | None:
    assert measured.features is not None
    pre = measured.features.of(site, part, "pre")
    if pre is None:
        return None
    massive = np.flatnonzero(pre.massive)
    return FeaturesOver(
        tokens=int(measured.features.tokens[PARTS.index(part)]),
        massive=massive.tolist(),
        massive_share=float(pre.share[massive].sum()),
        pre=_features(measured, site, part, "pre"),
        post=_features(measured, site, part, "post"),
    )


def _features(measured: Measured, site: int, part: Part, stage: Stage) -> list[FeatureProfile]:
    assert measured.features is not None
    assert measured.places is not None
    numbers = measured.features.of(site, part, stage)
    assert numbers is not None
    columns = zip(
        *(each.tolist() for each in (numbers.mean, numbers.std, numbers.largest, numbers.share)),
        *(each.tolist() for each in (numbers.massive, numbers.massive_share)),
        measured.places.of(site, part, stage),
        strict=True,
    )
    found = []
    for index, (mean, std, largest, share, massive, held, place) in enumerate(columns):
        source, offset, position, token, _ = place
        found.append(
            FeatureProfile(
                index=index,
                mean=mean,
                std=std,
                max_abs=largest,
                source=source,
                offset=offset,
                position=position,
                token=token,
                share=share,
                massive=massive if stage == "pre" else None,
                massive_share=held if massive else None,
            )
        )
    return found


def massive(features: Features) -> Claim:
    """Whether any feature is massive anywhere: a definition, which chance plays no part in."""
    found: list[tuple[float, int, str, Part, float, bool]] = []
    finite = True
    for number, site in enumerate(features.sites):
        for part in PARTS:
            pre = features.of(number, part, "pre")
            if pre is not None:
                finite = finite and bool(np.isfinite(pre.largest).all())
                size, held, any_massive = np.nan_to_num(pre.largest), pre.massive_share, bool(pre.massive.any())
                candidates = np.flatnonzero(pre.massive).tolist() if any_massive else [int(size.argmax())]
                found += [
                    (float(size[index]), index, site.name, part, float(held[index]), any_massive)
                    for index in candidates
                ]
    those = [one for one in found if one[-1]]
    largest, index, name, part, share, _ = max(those or found, key=lambda one: one[0])
    return Claim(
        id="profile.massive",
        verdict="yes" if those else "no" if finite else "can't tell",
        statistic=float(len({one[1] for one in those})),
        threshold=1.0,
        figures={
            "feature": index,
            "largest": largest,
            "site": name,
            "where": WHERE[part],
            "share": share if those else None,
            "least": MASSIVE,
            "since": those[0][2] if those else None,
            "at_sites": len({one[2] for one in those}),
            "sites": len(features.sites),
        },
    )
