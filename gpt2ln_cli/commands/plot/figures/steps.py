"""Tokens through one LayerNorm, step by step: each feature a bar."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from gpt2ln_cli.commands.plot.figures import check_room
from gpt2ln_cli.commands.plot.figures.style import BLUE, GREY, PAGE, SMALL, new_figure, shown
from gpt2ln_cli.commands.plot.record import Step, Steps
from gpt2ln_cli.commands.plot.view import panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gpt2ln_cli.commands.plot.figures.style import Floats

RECORD = Steps
# Of the page's width, less the margins, a line holds so many small characters, and so many large and bold ones.
NOTE_CHARACTERS, HEAD_CHARACTERS = 84, 68
LONGEST = 40
LABELS = (
    "x\nwhat enters",
    "x \N{MINUS SIGN} mu\ncentred",
    "xhat\n(x \N{MINUS SIGN} mu) /\nsqrt(sigma^2 + eps)",
    "y\ngain * xhat\n+ bias",
)
ROOM = 1.08


def draw(record: Steps) -> Figure:
    """A row of panels for each step, a column for each token; a row has one scale, and x and x - mu the same.

    mu, sigma and the L2 norm stand in each panel.

    Raises:
        UsageError: more tokens than fit beside each other.
    """
    check_room("steps", len(record.steps))
    rows = [step.vectors for step in record.steps]
    found = panels(rows)
    figure = new_figure(1.35 * len(found) + 0.5, wide=True)
    grid = figure.subplots(len(found), len(rows), sharex=True, sharey="row", squeeze=False)
    for panel, label, axes_of_step in zip(found, LABELS, grid, strict=True):
        axes_of_step[0].set_ylabel(label)
        for axes, values, note in zip(axes_of_step, panel.vectors, panel.notes, strict=True):
            _bars(axes, values, panel.reach, beside=len(rows))
            text = "\n".join(textwrap.wrap(note, NOTE_CHARACTERS // len(rows)))
            axes.set_title(text, color=GREY, fontsize=SMALL, loc="left")
    for axes, step in zip(grid[0], record.steps, strict=True):
        _head(axes, step, HEAD_CHARACTERS // len(rows))
    figure.supxlabel(f"feature, of {len(rows[0].pre):,}, at {rows[0].site}", fontsize=8)
    return figure


def _bars(axes: Axes, values: Floats, reach: float, *, beside: int) -> None:
    """A line from 0 for each feature, as wide as there is room for; what is not finite has none."""
    shown = np.flatnonzero(np.isfinite(values))
    axes.axhline(0, color=GREY, linewidth=0.4)
    # In points, of the page's width without its margins; a hair's breadth stays visible.
    width = max(0.35, 0.7 * 72 * (PAGE - 0.8) / beside / len(values))
    ends = np.stack([np.repeat(shown, 2), np.stack([0 * values[shown], values[shown]], axis=1).ravel()], axis=1)
    # One path: in an SVG a tenth of as many lines.
    path = Path(ends, [Path.MOVETO, Path.LINETO] * len(shown))
    path.should_simplify = False
    axes.add_patch(PathPatch(path, fill=False, edgecolor=BLUE, linewidth=width, capstyle="butt"))
    axes.set_xlim(-1, len(values))
    axes.set_ylim(-ROOM * reach, ROOM * reach)


def _head(axes: Axes, step: Step, width: int) -> None:
    """The token, above what its panel's title says."""
    row = step.vectors
    token = f"id {row.token_id}" if row.token is None else f'"{shown(row.token, LONGEST)}"'
    of = "" if step.prompt in (None, row.token) else f' of "{shown(step.prompt or "", LONGEST)}"'
    text = "\n".join(textwrap.wrap(f"{token}{of}, position {row.position}", width))
    axes.annotate(
        text,
        (0, 1),
        xytext=(0, 6 + 9 * (1 + axes.get_title("left").count("\n"))),
        xycoords="axes fraction",
        textcoords="offset points",
        fontweight="bold",
        fontsize=8,
        va="bottom",
        parse_math=False,
    )
