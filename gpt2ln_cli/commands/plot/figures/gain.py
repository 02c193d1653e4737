"""Learned gain and bias by layer: their distribution over features, outliers named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from gpt2ln_cli.commands.params.record import Parameters
from gpt2ln_cli.commands.plot.figures.style import (
    COLORS,
    GREY,
    MARKERS,
    SITES_IN_COLUMN,
    depth,
    floats,
    kind_handles,
    layer_axis,
    legend,
    marker,
    new_figure,
    say,
)
from gpt2ln_cli.records import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

RECORD = Parameters
# An outlier lies farther from the nearer quartile than this many times their distance (Tukey's 'far out').
FAR_OUT = 3.0
NAMED = 8
POINT: dict[str, Any] = {"marker": "x", "markeredgecolor": "black", "markersize": 2.2, "markeredgewidth": 0.5}
BOX = 0.36


@dataclass(frozen=True)
class Outlier:
    """A feature far from the others of its vector."""

    x: float
    index: int
    value: float
    distance: float
    """From the nearer quartile."""
    above: bool


def draw(record: Parameters) -> Figure:
    """Boxes from quartile to quartile with the median's marker, whiskers to the least and greatest feature.

    The features that the record lists (``params(features=...)``) are looked through for outliers: all are drawn as
    points, and those farthest out named by their index, as far as there is room.
    """
    sites, n_layer = record.sites, record.model.n_layer
    wide = len(sites) > SITES_IN_COLUMN
    figure = new_figure(3.9, wide=wide)
    upper, lower = figure.subplots(2, sharex=True)
    places = [depth(site, n_layer) for site in sites]
    kinds = [site.kind for site in sites]
    gains = _panel(upper, places, kinds, [site.gain for site in sites], start=1.0)
    biases = _panel(lower, places, kinds, [site.bias for site in sites], start=0.0)
    upper.set_ylabel("learned gain\n(factor on xhat)")
    lower.set_ylabel("learned bias\n(added to gain * xhat)")
    layer_axis(lower, sites, n_layer, most=24 if wide else 12)
    upper.set_xlabel("")
    boxes: list[Line2D | Patch] = [
        Patch(facecolor="white", edgecolor=GREY, linewidth=0.8, label="quartiles"),
        Line2D([], [], color=GREY, linewidth=0.6, label="range"),
    ]
    if gains or biases:
        boxes.append(Line2D([], [], linestyle="none", label="outlier, feature index", **POINT))
    medians = kind_handles(sites, colored=True)
    for handle in medians:
        handle.set_label(f"{handle.get_label()} median")
    legend(figure, medians, boxes)
    figure.draw_without_rendering()
    for axes, outliers in ((upper, gains), (lower, biases)):
        _name(axes, outliers)
    return figure


def _panel(
    axes: Axes, places: Sequence[float], kinds: Sequence[str], vectors: Sequence[Vector | None], *, start: float
) -> list[Outlier]:
    """Draw one vector of every site, and return the outliers."""
    axes.axhline(start, color=GREY, linewidth=0.6, linestyle=":")
    there = [(x, kind, vector) for x, kind, vector in zip(places, kinds, vectors, strict=True) if vector is not None]
    for kind in MARKERS:
        chosen = [(x, vector) for x, one, vector in there if one == kind]
        if not chosen:
            continue
        x = np.array([x for x, _ in chosen])
        low, lower, median, upper, high = (
            floats([getattr(vector, name) for _, vector in chosen])
            for name in ("min", "lower_quartile", "median", "upper_quartile", "max")
        )
        color = COLORS[kind]
        axes.vlines(x, low, high, color=color, linewidth=0.6, label=f"{kind} range")
        axes.bar(
            x, upper - lower, BOX, bottom=lower, facecolor="white", edgecolor=color, linewidth=0.8, label=f"{kind} box"
        )
        axes.plot(x, median, linestyle="none", label=f"{kind} median", **{**marker(kind, color), "markersize": 2.4})
    outliers = [outlier for x, _, vector in there for outlier in _outliers(x, vector)]
    axes.plot([one.x for one in outliers], [one.value for one in outliers], linestyle="none", label="outliers", **POINT)
    axes.margins(y=0.12)
    if not there:
        say(axes, "these LayerNorms have none")
    elif all(vector.median is None for _, _, vector in there):
        say(axes, "no finite distribution")
    return outliers


def _outliers(x: float, vector: Vector) -> Iterator[Outlier]:
    lower, upper = vector.lower_quartile, vector.upper_quartile
    if lower is None or upper is None:
        return
    for feature in vector.extremes or ():
        if feature.value is None:
            continue
        above = feature.value > upper
        distance = feature.value - upper if above else lower - feature.value
        if distance > FAR_OUT * (upper - lower):
            yield Outlier(x, feature.index, feature.value, distance, above)


def _name(axes: Axes, outliers: Sequence[Outlier]) -> None:
    """Write the index beyond the outliers that lie farthest out, but over no other name and no other outlier."""
    taken: list[Bbox] = []
    points = axes.transData.transform([(one.x, one.value) for one in outliers])
    for outlier in sorted(outliers, key=lambda one: -one.distance):
        if len(taken) == NAMED:
            return
        text = axes.annotate(
            str(outlier.index),
            (outlier.x, outlier.value),
            xytext=(0, 1.5 if outlier.above else -1.5),
            textcoords="offset points",
            ha="center",
            va="bottom" if outlier.above else "top",
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
            in_layout=False,
        )
        box = text.get_window_extent()
        if box.count_contains(points) or box.count_overlaps(taken):
            text.remove()
        else:
            taken.append(box)
