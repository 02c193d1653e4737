"""Sigma by layer, position 0 apart from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gpt2ln_cli.commands.inspect.record import Inspection, Summary
from gpt2ln_cli.commands.plot.figures.style import (
    BLUE,
    MARKERS,
    SITES_IN_COLUMN,
    VERMILION,
    depth,
    floats,
    kind_handles,
    layer_axis,
    legend,
    log_axis,
    marker,
    new_figure,
    say,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gpt2ln_cli.commands.plot.figures.style import Floats

RECORD = Inspection
# From this ratio of position 0 to the rest on, a linear axis would press the rest together.
FAR = 5.0
FIRST, REST, RANGE = "position 0", "later positions", "range of later"


def draw(record: Inspection) -> Figure:
    """The mean of sigma over tokens at every site, and the range of the later positions' sigma.

    Both lines follow the residual stream through the sites in forward order.
    """
    sites, n_layer = record.sites, record.model.n_layer
    wide = len(sites) > SITES_IN_COLUMN
    figure = new_figure(2.5, wide=wide)
    axes = figure.subplots()
    x = np.array([depth(site, n_layer) for site in sites])
    kinds = [site.kind for site in sites]
    first, rest = [site.first for site in sites], [site.rest for site in sites]
    groups: list[Line2D | Patch] = []
    if any(rest):
        low, high = _sigma(rest, "min"), _sigma(rest, "max")
        # A band over one site alone has no width but its edge's.
        edge = 3 if len(sites) == 1 else 0
        axes.fill_between(x, low, high, color=BLUE, alpha=0.2, linewidth=edge, label=RANGE)
        groups.append(_line(axes, x, _sigma(rest, "mean"), kinds, BLUE, "-", REST))
        groups.append(Patch(color=BLUE, alpha=0.2, linewidth=0, label=RANGE))
    groups.insert(0, _line(axes, x, _sigma(first, "mean"), kinds, VERMILION, "--", FIRST))
    drawn = np.concatenate([_sigma(first, "mean"), *(_sigma(rest, name) for name in ("mean", "min", "max"))])
    unit = "residual-stream units"
    if _is_far(_sigma(first, "mean"), _sigma(rest, "mean")) and np.nanmin(drawn) > 0:
        axes.set_yscale("log")
        log_axis(axes.yaxis, plain=True)
        unit += ", log scale"
    elif np.isfinite(drawn).any():
        axes.set_ylim(0, 1.06 * float(np.nanmax(drawn)) or 1.0)
    else:
        say(axes, "no finite sigma")
    axes.set_ylabel(f"mean of sigma over tokens\n({unit})")
    layer_axis(axes, sites, n_layer, most=24 if wide else 12)
    legend(figure, groups, kind_handles(sites, colored=False))
    return figure


def _sigma(summaries: Sequence[Summary | None], statistic: str) -> Floats:
    return floats([None if summary is None else getattr(summary.sigma, statistic) for summary in summaries])


def _is_far(first: Floats, rest: Floats) -> bool:
    both = np.isfinite(first) & np.isfinite(rest) & (rest > 0)
    return bool(both.any()) and float(np.max(first[both] / rest[both])) > FAR


def _line(axes: Axes, x: Floats, y: Floats, kinds: Sequence[str], color: str, dash: str, label: str) -> Line2D:
    """One line through all sites, with each kind's own marker."""
    (line,) = axes.plot(x, y, color=color, linestyle=dash, label=label)
    for kind in MARKERS:
        of_kind = np.array([one == kind for one in kinds])
        axes.plot(x[of_kind], y[of_kind], linestyle="none", label=f"{label}, {kind}", **marker(kind, color))
    return line
