"""Sigma over a corpus: bands of its quantiles by layer, position 0 apart, and its quantiles by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gpt2ln_cli.commands.plot.figures.style import (
    BLUE,
    GREEN,
    GREY,
    SITES_IN_COLUMN,
    VERMILION,
    depth,
    floats,
    layer_axis,
    legend,
    log_axis,
    new_figure,
    say,
)
from gpt2ln_cli.commands.profile.record import Distribution, Profile, SiteProfile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gpt2ln_cli.commands.plot.figures.style import Floats

RECORD = Profile
# Each band from one quantile to the other, the widest first.
BANDS = ((("1", "99"), 0.15), (("5", "95"), 0.22), (("25", "75"), 0.3))
MEDIAN = "50"
FIRST, REST = "position 0", "later positions"
# Sites whose sigma is drawn by position: some of the depth.
DRAWN = 4
COLORS = (BLUE, GREEN, VERMILION, GREY)
DASHES = ("-", "--", "-.", ":")


def draw(record: Profile) -> Figure:
    """Above, the quantiles of sigma at every site; below, its median and half of its tokens by position at some."""
    sites, n_layer = record.sites, record.model.n_layer
    figure = new_figure(4.6, wide=len(sites) > SITES_IN_COLUMN)
    above, below = figure.subplots(2, 1)
    _by_layer(above, sites, n_layer, most=24 if len(sites) > SITES_IN_COLUMN else 12)
    _by_position(below, sites)
    bands = [
        Patch(color=GREY, alpha=0.15 + 0.25 * number, linewidth=0, label=f"{low} to {high}%")
        for number, ((low, high), _) in enumerate(BANDS)
    ]
    lines = [
        Line2D([], [], color=VERMILION, linestyle="--", label=f"{FIRST}, median"),
        Line2D([], [], color=BLUE, label=f"{REST}, median"),
    ]
    legend(figure, lines, bands)
    return figure


def _by_layer(axes: Axes, sites: Sequence[SiteProfile], n_layer: int, *, most: int) -> None:
    x = np.array([depth(site, n_layer) for site in sites])
    drawn = []
    for part, color, dash in (("rest", BLUE, "-"), ("first", VERMILION, "--")):
        sigmas = [None if (found := getattr(site, part)) is None else found.sigma for site in sites]
        for ends, alpha in BANDS:
            low, high = (_quantiles(sigmas, percent) for percent in ends)
            axes.fill_between(x, low, high, color=color, alpha=alpha, linewidth=0, label=f"{part} {'-'.join(ends)}")
            drawn += [low, high]
        median = _quantiles(sigmas, MEDIAN)
        axes.plot(x, median, color=color, linestyle=dash, label=f"{part} {MEDIAN}")
    _scale(axes, np.concatenate(drawn))
    axes.set_ylabel(_label(axes))
    layer_axis(axes, sites, n_layer, most=most)


def _by_position(axes: Axes, sites: Sequence[SiteProfile]) -> None:
    """A band of positions stands at the geometric mean of its ends, position 0 apart on the left."""
    chosen = sorted({round(place) for place in np.linspace(0, len(sites) - 1, min(DRAWN, len(sites)))})
    drawn = []
    for number, place in enumerate(chosen):
        site, color = sites[place], COLORS[number]
        x = np.array([_where(band.first, band.last) for band in site.bands])
        sigmas = [band.sigma for band in site.bands]
        low, median, high = (_quantiles(sigmas, percent) for percent in ("25", MEDIAN, "75"))
        later = x >= 0
        axes.fill_between(x[later], low[later], high[later], color=color, alpha=0.18, linewidth=0)
        axes.vlines(x[~later], low[~later], high[~later], color=color, alpha=0.4, linewidth=3)
        axes.plot(x[~later], median[~later], color=color, linestyle="none", marker="o", markersize=2)
        dash = DASHES[number]
        axes.plot(x[later], median[later], color=color, linestyle=dash, marker="o", markersize=2, label=site.name)
        drawn += [low, high]
    bands = max((site.bands for site in sites), key=len)
    axes.set_xticks(
        [_where(band.first, band.last) for band in bands],
        [str(band.first) if band.first == band.last else f"{band.first}\u2013{band.last}" for band in bands],
        rotation=45,
        ha="right",
    )
    _scale(axes, np.concatenate(drawn))
    axes.set_xlabel("position (median, and band from 25 to 75%)")
    axes.set_ylabel(_label(axes))
    axes.legend(loc="best", ncols=2)


def _where(first: int, last: int) -> float:
    return -1.0 if first == 0 else float(np.log2(np.sqrt(first * last)))


def _quantiles(sigmas: Sequence[Distribution | None], percent: str) -> Floats:
    return floats([None if sigma is None else sigma.quantiles[percent] for sigma in sigmas])


def _scale(axes: Axes, drawn: Floats) -> None:
    """A logarithmic axis where all is positive: residual streams grow by orders of magnitude."""
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        say(axes, "no finite sigma")
    elif finite.min() > 0:
        axes.set_yscale("log")
        log_axis(axes.yaxis, plain=True)


def _label(axes: Axes) -> str:
    scale = ", log scale" if axes.get_yscale() == "log" else ""
    return f"sigma\n(residual-stream units{scale})"
