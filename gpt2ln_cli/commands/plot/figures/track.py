"""Gain and bias over a training run, layer by layer; with prompts also sigma."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gpt2ln_cli.commands.plot.figures.style import GREY, floats, log_axis, new_figure, say
from gpt2ln_cli.commands.track.record import Track, TrackedSite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gpt2ln_cli.commands.plot.figures.style import Floats

    Value = Callable[[TrackedSite], float | None]

RECORD = Track
# Perceived as evenly spaced by the colour-blind, too; its end is too pale for a line on white.
COLORMAP, DARKEST, PALEST = "cividis", 0.0, 0.9
# From this ratio of the last step to the first on, early steps would be pressed together.
FAR_STEPS = 100
ROW = 1.25


def draw(record: Track) -> Figure:
    """The rms distance of gains from 1 and of biases from 0, and the mean of sigma over tokens, at every step.

    Layers have their colours, ln_1 and ln_2 panels of their own; ln_f is dashed.
    """
    read = [one for one in record.checkpoints if one.error is None]
    steps = np.array([one.step for one in read], dtype=np.float64)
    rows: list[tuple[str, Value]] = [
        ("gain\n(rms from 1)", lambda site: site.gain.rms_distance if site.gain else None),
        ("bias\n(rms from 0)", lambda site: site.bias.rms_distance if site.bias else None),
    ]
    if record.prompts is not None:
        rows.append(("sigma,\nposition 0", lambda site: site.first.sigma.mean if site.first else None))
        if any(site.rest for one in read for site in one.sites):
            rows.append(("sigma,\nlater", lambda site: site.rest.sigma.mean if site.rest else None))
    sites = read[-1].sites
    panels = [kinds for kinds in (("ln_1",), ("ln_2", "ln_f")) if any(site.kind in kinds for site in sites)]
    figure = new_figure(ROW * len(rows) + 0.7)
    grid = figure.subplots(len(rows), len(panels), squeeze=False, sharex=True, sharey="row")
    scale = Normalize(0, max(1, record.model.n_layer - 1))
    for (name, of), line in zip(rows, grid, strict=True):
        line[0].set_ylabel(name)
        drawn = [
            _panel(axes, steps, [site for site in sites if site.kind in kinds], [one.sites for one in read], of, scale)
            for axes, kinds in zip(line, panels, strict=True)
        ]
        _vertical(line, drawn, log=name.startswith("sigma"))
    for axes, kinds in zip(grid[0], panels, strict=True):
        shown = [kind for kind in kinds if any(site.kind == kind for site in sites)]
        axes.set_title(" and ".join(shown))
    for axes in grid[-1]:
        _steps(axes, steps)
    if any(site.layer is not None for site in sites):
        colors = ScalarMappable(norm=scale, cmap=_colors())
        bar = figure.colorbar(colors, ax=grid, location="top", aspect=40, shrink=0.6, label="layer")
        bar.ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if any(site.layer is None for site in sites):
        dashed = Line2D([], [], color="black", linestyle="--", label="ln_f")
        grid[0][-1].legend(handles=[dashed], loc="best")
    return figure


def _panel(
    axes: Axes,
    steps: Floats,
    sites: Sequence[TrackedSite],
    at_steps: Sequence[Sequence[TrackedSite]],
    of: Value,
    scale: Normalize,
) -> Floats:
    """Draw a line for each site, and return all its numbers."""
    marker = "o" if len(steps) == 1 else None
    drawn = [np.empty(0)]
    for site in sites:
        values = floats([next(of(one) for one in here if one.name == site.name) for here in at_steps])
        color, dash = ("black", "--") if site.layer is None else (_colors()(scale(site.layer)), "-")
        axes.plot(steps, values, color=color, linestyle=dash, marker=marker, label=site.name)
        drawn.append(values)
    numbers = np.concatenate(drawn)
    if not np.isfinite(numbers).any():
        say(axes, "none, or not finite")
    return numbers


def _vertical(line: Sequence[Axes], drawn: Sequence[Floats], *, log: bool) -> None:
    numbers = np.concatenate(drawn)
    numbers = numbers[np.isfinite(numbers)]
    if log and numbers.size and numbers.min() > 0:
        for axes in line:
            axes.set_yscale("log")
        log_axis(line[0].yaxis, plain=True)
    else:
        line[0].set_ylim(bottom=0)
    for axes in line:
        axes.grid(axis="y", color=GREY, alpha=0.2, linewidth=0.4)


def _steps(axes: Axes, steps: Floats) -> None:
    far = steps.min() > 0 and steps.max() / steps.min() >= FAR_STEPS
    if far:
        axes.set_xscale("log")
        log_axis(axes.xaxis, plain=False)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.set_xlabel("step, log scale" if far else "step")


def _short(value: float, _: int) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def _colors() -> matplotlib.colors.LinearSegmentedColormap:
    spread = matplotlib.colormaps[COLORMAP](np.linspace(DARKEST, PALEST, 256))
    return matplotlib.colors.LinearSegmentedColormap.from_list("layers", spread)
