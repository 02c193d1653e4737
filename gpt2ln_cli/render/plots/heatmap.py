"""Layers by tokens: one quantity of every token at every site."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.quantities import QUANTITIES
from gpt2ln_cli.records import Inspection, PromptInfo
from gpt2ln_cli.render.plots.style import COLUMN, PAGE, PALE, say, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

    from gpt2ln_cli.render.plots.style import Floats

RECORD = Inspection
# What a colour bar calls each of QUANTITIES, with its unit.
NAMES = {
    "mean": "mu (residual-stream units)",
    "sigma": "sigma (residual-stream units)",
    "pre_norm": "||x||, pre (residual-stream units)",
    "normalized_norm": "||xhat||, normalized (no unit)",
    "post_norm": "||y||, post (units of the output)",
    "max_deviation": "max|x - mu| / sigma (no unit)",
    "excess_kurtosis": "excess kurtosis of x (no unit)",
    "mean_share": "d mu^2 / ||x||^2 (share of 1)",
}
WHERE = ("position 0", "later positions")
PANELS = 6
COLUMN_TOKENS, NAMED_TOKENS = 18, 48
LONGEST_TOKEN = 14
NUMBERED_LAYERS = 24
# As many cells as this are drawn one by one; more become a picture inside an SVG or PDF file.
VECTOR_CELLS = 2000
# In inches: margins, gaps, the colour bars with what stands above them, and a panel's share of sites and labels.
LEFT, RIGHT, GAP = 0.52, 0.1, 0.04
BAR, ABOVE_BAR, BELOW_BAR, BETWEEN_BARS = 0.09, 0.5, 0.1, 0.2
SITE, LEAST, MOST = 0.075, 0.7, 7.0
LABEL, CHARACTER, POSITIONS = 0.24, 0.066, 0.4


def draw(record: Inspection, *, quantity: str = "sigma") -> Figure:
    """A panel for every sequence, sites from top to bottom in forward order, tokens from left to right.

    Position 0 has a panel and a scale of colours of its own. Grey is a number that is not finite.

    Raises:
        UsageError: there is no such quantity, the record has no rows, or more sequences than panels fit a page.
    """
    if quantity not in QUANTITIES:
        raise UsageError(f"no quantity '{quantity}': it is none of {', '.join(QUANTITIES)}.")
    if record.rows is None:
        raise UsageError("a heatmap needs every token's numbers: inspect(..., per_token=True).")
    if len(record.prompts) > PANELS:
        raise UsageError(f"{len(record.prompts)} sequences: a heatmap has room for {PANELS}; give fewer prompts.")
    values = _values(record, quantity)
    longest = max(prompt.length for prompt in record.prompts)
    names = [_names(prompt) for prompt in record.prompts] if longest <= NAMED_TOKENS else None
    below = POSITIONS if names is None else LABEL + CHARACTER * max(len(name) for name in itertools.chain(*names))
    height = max(LEAST, min(SITE * len(record.sites), MOST / len(values)))
    top = ABOVE_BAR + BAR + BELOW_BAR
    figure = Figure(figsize=(PAGE if longest > COLUMN_TOKENS else COLUMN, top + len(values) * (height + below)))
    width = figure.get_figwidth() - LEFT - RIGHT
    # One cell's width, or more where it would be a hair's.
    first_width = (width - GAP) * max(1 / max(longest, 2), 1 / 24)
    rest_left = LEFT + first_width + GAP
    scales = [_scale([one[:, :1] for one in values]), _scale([one[:, 1:] for one in values])]
    for panel, (prompt, array) in enumerate(zip(record.prompts, values, strict=True)):
        of_which = f" of sequence {prompt.index}" if len(values) > 1 else ""
        place = top + panel * (height + below)
        first = _axes(figure, LEFT, place, first_width, height)
        rest = _axes(figure, rest_left, place, figure.get_figwidth() - RIGHT - rest_left, height)
        meshes = [_mesh(first, array[:, :1], 0, scales[0]), _mesh(rest, array[:, 1:], 1, scales[1])]
        rest.set_xlim(0.5, max(longest, 2) - 0.5)
        _site_axis(first, record)
        rest.set_yticks([])
        if names is None:
            first.set_xticks([0])
        else:
            _name_tokens(first, names[panel], 0, 1)
            _name_tokens(rest, names[panel], 1, prompt.length)
        rest.set_xlabel(f"token{of_which}" if names else f"position{of_which} (tokens)")
        if panel == 0:
            _color_bars(figure, width, meshes, NAMES[quantity])
    return figure


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the figure's upper left corner."""
    across, down = figure.get_size_inches()
    axes: Axes = figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
    return axes


def _names(prompt: PromptInfo) -> list[str]:
    tokens = prompt.tokens or [str(token_id) for token_id in prompt.token_ids]
    return [shown(token, LONGEST_TOKEN) for token in tokens]


def _values(record: Inspection, quantity: str) -> list[Floats]:
    """For every sequence an array (sites, positions)."""
    row_of = {site.name: row for row, site in enumerate(record.sites)}
    values = {prompt.index: np.full((len(record.sites), prompt.length), np.nan) for prompt in record.prompts}
    for one in record.rows or ():
        value = getattr(one, quantity)
        if value is not None:
            values[one.sequence][row_of[one.site], one.position] = value
    return [values[prompt.index] for prompt in record.prompts]


def _scale(arrays: Sequence[Floats]) -> Normalize:
    """From the least to the greatest finite value of all panels."""
    finite = np.concatenate([array[np.isfinite(array)] for array in arrays])
    return Normalize(float(finite.min()), float(finite.max())) if finite.size else Normalize(0.0, 1.0)


def _mesh(axes: Axes, array: Floats, start: int, scale: Normalize) -> ScalarMappable:
    """Cells of equal size, the first column centred on position ``start``."""
    sites, tokens = array.shape
    for spine in axes.spines.values():
        spine.set_visible(False)
    if not tokens:
        say(axes, "no later\npositions")
    mesh = axes.pcolormesh(
        np.arange(tokens + 1) + start - 0.5,
        np.arange(sites + 1) - 0.5,
        np.ma.masked_invalid(array),
        norm=scale,
        cmap=matplotlib.colormaps["viridis"].with_extremes(bad=PALE),
        rasterized=array.size > VECTOR_CELLS,
    )
    axes.set_ylim(sites - 0.5, -0.5)
    return mesh


def _name_tokens(axes: Axes, names: Sequence[str], start: int, end: int) -> None:
    # A dollar sign is a token's own and begins no formula.
    axes.set_xticks(range(start, end), names[start:end], rotation=90, parse_math=False)
    axes.tick_params(axis="x", length=0)


def _site_axis(axes: Axes, record: Inspection) -> None:
    """Number the layers, each between its sites."""
    rows: dict[int | None, list[int]] = {}
    for row, site in enumerate(record.sites):
        rows.setdefault(site.layer, []).append(row)
    step = -(-len(rows) // NUMBERED_LAYERS)
    labelled = [layer for layer in rows if layer is None or layer % step == 0]
    axes.set_yticks(
        [float(np.mean(rows[layer])) for layer in labelled],
        ["ln_f" if layer is None else str(layer) for layer in labelled],
    )
    kinds = dict.fromkeys(site.kind for site in record.sites if site.layer is not None)
    axes.set_ylabel(f"layer ({', '.join(kinds)})" if kinds else "")
    axes.tick_params(axis="y", length=0)


def _color_bars(figure: Figure, width: float, meshes: Sequence[ScalarMappable], name: str) -> None:
    """A bar for position 0 and one for the later positions, side by side above the panels."""
    quantity, _, unit = name.partition(" (")
    length = (width - BETWEEN_BARS) / 2
    for left, mesh, where in zip((LEFT, LEFT + length + BETWEEN_BARS), meshes, WHERE, strict=True):
        array = mesh.get_array()
        if array is None or not array.size:
            continue
        axes = _axes(figure, left, ABOVE_BAR, length, BAR)
        bar = figure.colorbar(mesh, cax=axes, orientation="horizontal", ticklocation="top", ticks=MaxNLocator(4))
        bar.outline.set_visible(False)
        bar.formatter = ScalarFormatter(useOffset=False)
        bar.set_label(f"{quantity}, {where}\n({unit}")
