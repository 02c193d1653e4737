"""Who wrote sigma: the writers' shares of sigma^2, stacked, at every site."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.patches import Patch

from gpt2ln_cli.commands.attribute.record import Attribution
from gpt2ln_cli.commands.plot.figures.style import GREY, PALE, depth, layer_axis, new_figure, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gpt2ln_cli.commands.plot.figures.style import Floats

RECORD = Attribution
PARTS = {"first": "position 0", "rest": "later positions"}
COLORS = "viridis"
# Writers with a colour of their own, those with the largest shares; all others are one.
NAMED = 9
OTHERS = "all others"
WIDTH = 0.4
# Neighbours in colour, which is by depth, are told apart by these as well.
HATCHES = ("", "////", "....")


def draw(record: Attribution) -> Figure:
    """A bar at every site, of position 0 above and of later positions below; negative shares hang below 0.

    Colours go by depth: the earlier a writer, the darker.
    """
    parts = [part for part in PARTS if any(getattr(site, part) for site in record.sites)]
    names = list(dict.fromkeys(one.writer for site in record.sites for part in parts for one in getattr(site, part)))
    shares = {part: _shares(record, part, names) for part in parts}
    reach = np.max([np.nan_to_num(np.abs(array)).max(axis=0) for array in shares.values()], axis=0)
    named = sorted(np.argsort(-reach, kind="stable")[:NAMED].tolist())
    figure = new_figure(0.6 + 1.7 * len(parts), wide=True)
    panels = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
    handles = _handles([names[place] for place in named], others=len(named) < len(names))
    for axes, (part, array) in zip(panels, shares.items(), strict=True):
        rest = np.delete(array, named, axis=1)
        _bars(axes, record, [*array[:, named].T, *_signed(rest)], handles)
        axes.set_title(PARTS[part])
        axes.set_ylabel("share of \N{GREEK SMALL LETTER SIGMA}\N{SUPERSCRIPT TWO} (%)")
        if not np.isfinite(array).any():
            say(axes, "no finite share")
    layer_axis(panels[-1], record.sites, record.model.n_layer, most=24)
    for axes in panels[:-1]:
        axes.set_xlabel("")
    figure.legend(handles=handles, loc="outside right center", reverse=True)
    return figure


def _shares(record: Attribution, part: str, names: Sequence[str]) -> Floats:
    """In percent, (sites, writers), 0 of those that come later."""
    array = np.zeros((len(record.sites), len(names)))
    for row, site in enumerate(record.sites):
        for one in getattr(site, part):
            array[row, names.index(one.writer)] = math.nan if one.share is None else 100 * one.share
    return array


def _signed(shares: Floats) -> list[Floats]:
    """What the others made, and what they took back."""
    return [np.where(shares > 0, shares, 0.0).sum(axis=1), np.where(shares < 0, shares, 0.0).sum(axis=1)]


def _handles(names: Sequence[str], *, others: bool) -> list[Patch]:
    colors = matplotlib.colormaps[COLORS](np.linspace(0.0, 0.95, len(names)))
    handles = [
        Patch(facecolor=tuple(color), edgecolor="white", linewidth=0.3, hatch=HATCHES[place % 3], label=name)
        for place, (name, color) in enumerate(zip(names, colors, strict=True))
    ]
    return [*handles, *([Patch(facecolor=PALE, linewidth=0, label=OTHERS)] if others else [])]


def _bars(axes: Axes, record: Attribution, shares: Sequence[Floats], handles: Sequence[Patch]) -> None:
    """One on another, the positive ones upwards from 0 and the negative ones downwards."""
    places = np.array([depth(site, record.model.n_layer) for site in record.sites])
    above, below = np.zeros(len(places)), np.zeros(len(places))
    for number, values in enumerate(shares):
        handle = handles[min(number, len(handles) - 1)]
        finite = np.nan_to_num(values)
        axes.bar(
            places,
            finite,
            WIDTH,
            bottom=np.where(finite < 0, below, above),
            facecolor=handle.get_facecolor(),
            edgecolor="white",
            linewidth=0.3,
            hatch=handle.get_hatch(),
            label=handle.get_label(),
        )
        above += np.maximum(finite, 0.0)
        below += np.minimum(finite, 0.0)
    axes.axhline(0, color=GREY, linewidth=0.6)
