"""Layers by tokens: one quantity of every token at every site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from gpt2ln_cli.commands.inspect.record import Inspection
from gpt2ln_cli.commands.inspect.view import grid
from gpt2ln_cli.commands.plot.figures import check_room
from gpt2ln_cli.commands.plot.figures.style import COLUMN, PAGE, PALE, say, shown
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.quantities import QUANTITIES, Quantity
from gpt2ln_cli.records import PromptInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gpt2ln_cli.commands.plot.figures.style import Floats

RECORD = Inspection
# For what has one end, and for what has a 0 in its middle.
COLORS, SIGNED_COLORS = "viridis", "RdBu_r"
WHERE = ("position 0", "later positions")
COLUMN_TOKENS, NAMED_TOKENS = 18, 48
LONGEST_TOKEN = 14
NUMBERED_LAYERS = 24
# As many cells in all as this are drawn one by one; more become a picture inside an SVG or PDF file.
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
    check_room("heatmap", len(record.prompts))
    values = grid(record, quantity).values(quantity, None)
    longest = max(prompt.length for prompt in record.prompts)
    named = longest <= NAMED_TOKENS
    height = max(LEAST, min(SITE * len(record.sites), MOST / len(values)))
    below = [_below(prompt) if named else POSITIONS for prompt in record.prompts]
    top = ABOVE_BAR + BAR + BELOW_BAR
    across = PAGE if longest > COLUMN_TOKENS else COLUMN
    figure = Figure(figsize=(across, top + len(values) * height + sum(below)))
    # The width of one cell, or more where that would be a hair's.
    first_width = (across - LEFT - RIGHT - GAP) * max(1 / max(longest, 2), 1 / 24)
    rest_left = LEFT + first_width + GAP
    signed = QUANTITIES[quantity].signed
    colors = SIGNED_COLORS if signed else COLORS
    scales = [_scale([one[:, part] for one in values], signed=signed) for part in (slice(1), slice(1, None))]
    as_picture = sum(array.size for array in values) > VECTOR_CELLS
    for panel, (prompt, array) in enumerate(zip(record.prompts, values, strict=True)):
        place = top + panel * height + sum(below[:panel])
        first = _axes(figure, LEFT, place, first_width, height)
        rest = _axes(figure, rest_left, place, across - RIGHT - rest_left, height)
        _cells(first, array[:, :1], 0, scales[0], colors, as_picture)
        _cells(rest, array[:, 1:], 1, scales[1], colors, as_picture)
        rest.set_xlim(0.5, max(longest, 2) - 0.5)
        _site_axis(first, record)
        rest.set_yticks([])
        _token_axes(first, rest, prompt, named=named, several=len(values) > 1)
    shown_scales = [ScalarMappable(scale, colors) for scale in (scales if longest > 1 else scales[:1])]
    _color_bars(figure, shown_scales, _named(QUANTITIES[quantity]))
    return figure


def _named(quantity: Quantity) -> str:
    unit = quantity.unit or ("share of 1" if quantity.share else "no unit")
    return f"{quantity.symbol} ({unit})"


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the figure's upper left corner."""
    across, down = figure.get_size_inches()
    axes: Axes = figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
    return axes


def _names(prompt: PromptInfo) -> list[str]:
    tokens = prompt.tokens or [str(token_id) for token_id in prompt.token_ids]
    return [shown(token, LONGEST_TOKEN) for token in tokens]


def _below(prompt: PromptInfo) -> float:
    """Room for the names of the tokens, in inches."""
    return LABEL + CHARACTER * max(map(len, _names(prompt)))


def _scale(arrays: Sequence[Floats], *, signed: bool) -> Normalize:
    """From the least to the greatest finite value of all panels; if signed, as far below 0 as above it."""
    finite = np.concatenate([array[np.isfinite(array)] for array in arrays])
    if signed and finite.size:
        reach = float(np.abs(finite).max())
        return Normalize(-reach, reach)
    return Normalize(float(finite.min()), float(finite.max())) if finite.size else Normalize(0.0, 1.0)


def _cells(axes: Axes, array: Floats, start: int, scale: Normalize, colors: str, as_picture: bool) -> None:
    """Cells of equal size, the first column centred on position ``start``."""
    sites, tokens = array.shape
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_ylim(sites - 0.5, -0.5)
    if not tokens:
        say(axes, "no later\npositions")
        return
    axes.pcolormesh(
        np.arange(tokens + 1) + start - 0.5,
        np.arange(sites + 1) - 0.5,
        np.ma.masked_invalid(array),
        norm=scale,
        cmap=matplotlib.colormaps[colors].with_extremes(bad=PALE),
        # Edges of the cells' own colours: else viewers of SVG and PDF let the background shine through the seams.
        edgecolors="face",
        linewidth=0.3,
        rasterized=as_picture,
    )


def _token_axes(first: Axes, rest: Axes, prompt: PromptInfo, *, named: bool, several: bool) -> None:
    """Name the tokens, or number their positions where there are many."""
    first.set_xticks([0])
    if named:
        names = _names(prompt)
        for axes, positions in ((first, range(1)), (rest, range(1, prompt.length))):
            # A dollar sign is a token's own and begins no formula.
            axes.set_xticks(positions, [names[place] for place in positions], rotation=90, parse_math=False)
            axes.tick_params(axis="x", length=0)
    what = "position (tokens)" if not named else "token id" if prompt.tokens is None else "token"
    (rest if prompt.length > 1 else first).set_xlabel(f"{what}, sequence {prompt.index}" if several else what)


def _site_axis(axes: Axes, record: Inspection) -> None:
    """Number the layers, each between its sites."""
    rows: dict[int | None, list[int]] = {}
    for row, site in enumerate(record.sites):
        rows.setdefault(site.layer, []).append(row)
    step = -(-len(rows) // NUMBERED_LAYERS)
    # Next to ln_f there is no room for another label, where not every layer has one.
    last = len(rows) - (step if None in rows else 0)
    labelled = [layer for place, layer in enumerate(rows) if layer is None or (layer % step == 0 and place < last)]
    axes.set_yticks(
        [float(np.mean(rows[layer])) for layer in labelled],
        ["ln_f" if layer is None else str(layer) for layer in labelled],
    )
    kinds = dict.fromkeys(site.kind for site in record.sites if site.layer is not None)
    axes.set_ylabel(f"layer ({', '.join(kinds)})" if kinds else "")
    axes.tick_params(axis="y", length=0)


def _color_bars(figure: Figure, scales: Sequence[ScalarMappable], name: str) -> None:
    """A bar for position 0 and one for the later positions, if there are any, side by side above the panels."""
    quantity, _, unit = name.partition(" (")
    across = figure.get_figwidth()
    length = (across - LEFT - RIGHT - BETWEEN_BARS) / 2
    for left, colors, where in zip((LEFT, LEFT + length + BETWEEN_BARS), scales, WHERE, strict=False):
        axes = _axes(figure, left, ABOVE_BAR, length, BAR)
        # Three numbers of six digits fit above a bar in a column.
        ticks = MaxNLocator(4 if across == PAGE else 2)
        bar = figure.colorbar(colors, cax=axes, orientation="horizontal", ticklocation="top", ticks=ticks)
        bar.outline.set_visible(False)
        bar.formatter = ScalarFormatter(useOffset=False)
        bar.set_label(f"{quantity}, {where}\n({unit}")
