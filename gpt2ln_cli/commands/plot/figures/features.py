"""Which features make up sigma: sites x features, by their shares of sigma^2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from gpt2ln_cli.commands.features.record import Features
from gpt2ln_cli.commands.plot.figures.style import PALE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gpt2ln_cli.commands.plot.figures.style import Floats

RECORD = Features
COLORS = "viridis"
PARTS = {"first": "position 0", "rest": "later positions"}
NUMBERED_LAYERS = 24
# In inches: a row, and all that is no row.
ROW, AROUND = 0.075, 1.1


def draw(record: Features) -> Figure:
    """The shares of the features that the record follows, position 0 and later positions beside each other.

    Grey is a share that is not finite.
    """
    parts = [part for part in PARTS if any(getattr(site, part) is not None for site in record.sites)]
    features = sorted({one.index for one in record.across})
    figure = new_figure(AROUND + max(0.5, ROW * len(record.sites)), wide=len(parts) > 1)
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    shares = {
        part: np.array(
            [np.nan if (share := getattr(one, f"{part}_share")) is None else 100 * share for one in record.across]
        ).reshape(len(record.sites), len(features))
        for part in parts
    }
    finite = [array[np.isfinite(array)] for array in shares.values()]
    scale = Normalize(0.0, max((float(one.max()) for one in finite if one.size), default=0.0) or 1.0)
    for axes, (part, array) in zip(panels, shares.items(), strict=True):
        _cells(axes, array, scale)
        axes.set_xticks(np.arange(len(features)) + 0.5, [str(index) for index in features], rotation=90)
        axes.set_xlabel("feature")
        axes.set_title(PARTS[part])
    _site_axis(panels[0], record)
    bar = figure.colorbar(ScalarMappable(scale, COLORS), ax=list(panels), fraction=0.03)
    bar.outline.set_visible(False)
    bar.set_label("share of \N{GREEK SMALL LETTER SIGMA}\N{SUPERSCRIPT TWO}, mean over tokens (%)")
    return figure


def _cells(axes: Axes, array: Floats, scale: Normalize) -> None:
    axes.pcolormesh(
        np.ma.masked_invalid(array),
        norm=scale,
        cmap=matplotlib.colormaps[COLORS].with_extremes(bad=PALE),
        # Edges of the cells' own colours: else viewers of SVG and PDF let the background shine through the seams.
        edgecolors="face",
        linewidth=0.3,
    )
    axes.set_xlim(0, array.shape[1])
    axes.set_ylim(array.shape[0], 0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def _site_axis(axes: Axes, record: Features) -> None:
    """Number the layers, each between its sites."""
    rows: dict[int | None, list[int]] = {}
    for row, site in enumerate(record.sites):
        rows.setdefault(site.layer, []).append(row)
    step = -(-len(rows) // NUMBERED_LAYERS)
    labelled = [layer for layer in rows if layer is None or layer % step == 0]
    axes.set_yticks(
        [float(np.mean(rows[layer])) + 0.5 for layer in labelled],
        ["ln_f" if layer is None else str(layer) for layer in labelled],
    )
    kinds = dict.fromkeys(site.kind for site in record.sites if site.layer is not None)
    axes.set_ylabel(f"layer ({', '.join(kinds)})" if kinds else "")
