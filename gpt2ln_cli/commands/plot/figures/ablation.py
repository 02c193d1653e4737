"""The ablation ladder: what the predictions lose where the LayerNorms compute something else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gpt2ln_cli.commands.ablate.record import Ablated, Ablation
from gpt2ln_cli.commands.plot.figures.style import BESIDE, BLUE, GREY, VERMILION, legend, new_figure, rows_axis, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RECORD = Ablation
# A difference beyond this many times the upper quartile of all is off the scale: at most a quarter of them can be.
OFF_SCALE = 4.0
# Beyond the marks on both sides, in shares of the scale.
MARGIN = 0.05


def draw(record: Ablation) -> Figure:
    """The difference of loss to the real model for every replacement, the least first, with its standard error.

    What would press the rest together is an arrow at the right edge; every value is written beside the axes, where no
    mark is and no text is cut, however small the numbers.
    """
    ladder = sorted(record.replaced, key=lambda one: math.inf if one.loss_difference is None else one.loss_difference)
    least, greatest = _scale(ladder)
    figure = new_figure(0.9 + 0.19 * len(ladder))
    axes = figure.subplots()
    axes.axvline(0, color=GREY, linewidth=0.8)
    scale = greatest - least
    axes.set_xlim(least - MARGIN * scale, greatest + MARGIN * scale)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    for row, one in enumerate(ladder):
        _rung(axes, row, one, greatest)
    rows_axis(axes, [one.name for one in ladder])
    axes.set_xlabel("loss \N{MINUS SIGN} loss of the real model\n(nats per token)")
    fair, ahead = (
        [
            Line2D([], [], linestyle="none", label=label, **_mark(looks_ahead))
            for one in ladder
            if one.looks_ahead is looks_ahead
        ][:1]
        for looks_ahead, label in ((False, "looks at no later token"), (True, "looks at later tokens"))
    )
    legend(figure, [*fair, *ahead], [Line2D([], [], color=GREY, label="\N{PLUS-MINUS SIGN} standard error")])
    return figure


def _scale(ladder: Sequence[Ablated]) -> tuple[float, float]:
    """The least and greatest difference that the axis shows, its standard error and 0 included."""
    finite = [(one.loss_difference, one.standard_error or 0.0) for one in ladder if one.loss_difference is not None]
    differences = np.array([difference for difference, _ in finite])
    if not differences.any():
        return 0.0, 1.0
    limit = OFF_SCALE * float(np.quantile(np.abs(differences), 0.75)) or math.inf
    while True:
        shown = [(difference, error) for difference, error in finite if difference <= limit]
        least = min(0.0, *(difference - error for difference, error in shown))
        greatest = max(0.0, *(difference + error for difference, error in shown))
        # With its margin the axis may reach what was left out.
        reach = greatest + MARGIN * (greatest - least)
        if all(difference <= limit or difference > reach for difference, _ in finite):
            return least, greatest
        limit = reach


def _rung(axes: Axes, row: int, one: Ablated, greatest: float) -> None:
    """One replacement: its mark, and beside the axes its value, or why there is none."""
    if one.loss_difference is None:
        text = f"not finite ({one.overflowed:,} tokens overflowed)"
        if one.loss is not None:
            text = "the real model's loss is not finite"
        axes.annotate(text, (0, row), xycoords=("axes fraction", "data"), xytext=(5, 0), **BESIDE)
        return
    error = one.standard_error or 0.0
    value = short(one.loss_difference)
    if one.standard_error is not None:
        value += f" \N{PLUS-MINUS SIGN} {short(error, 2)}"
    axes.annotate(value, (1, row), xycoords=("axes fraction", "data"), xytext=(9, 0), **BESIDE)
    mark = _mark(one.looks_ahead)
    if one.loss_difference > greatest:
        edge = axes.get_xlim()[1]
        axes.plot([edge], [row], label=one.name, clip_on=False, **{**mark, "marker": ">"})
        axes.annotate("off the scale", (edge, row), xytext=(-5, 0), ha="right", **BESIDE)
        return
    axes.hlines(row, 0, one.loss_difference, color=GREY, linewidth=0.4, linestyle=":")
    axes.errorbar([one.loss_difference], [row], xerr=[error], label=one.name, elinewidth=1.0, **mark)


def _mark(looks_ahead: bool) -> dict[str, Any]:
    color = VERMILION if looks_ahead else BLUE
    return {
        "color": color,
        "marker": "s" if looks_ahead else "o",
        "markerfacecolor": "white" if looks_ahead else color,
        "markersize": 3.5,
    }
