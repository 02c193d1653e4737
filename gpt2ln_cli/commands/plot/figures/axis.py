"""The axis trial: how well each axis that LayerNorm could have reproduces what the model computed."""

from __future__ import annotations

import itertools
import math
import textwrap
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gpt2ln_cli.commands.plot.figures.style import (
    BESIDE,
    BLUE,
    GREY,
    PALE,
    VERMILION,
    legend,
    log_axis,
    new_figure,
    rows_axis,
    short,
)
from gpt2ln_cli.commands.verify.record import Verification

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD = Verification
# Room for the values beside the marks, in shares of the scale.
ROOM = 0.4


def draw(record: Verification) -> Figure:
    """The error of every axis at the site it fits worst, on a log scale, against the most that rounding leaves.

    Beside it stands the share of the numbers that the axis reproduces there, which decides whether it fits.
    An error of exactly zero stands at the left edge, as an arrow.
    """
    readings, rounding = record.readings, record.rounding
    figure = new_figure(0.85 + 0.29 * len(readings))
    axes = figure.subplots()
    seen = [one.rms for one in readings if one.rms]
    left, right = min(rounding, *seen, rounding) / 10, max(rounding, *seen, 1.0)
    axes.set_xscale("log")
    axes.set_xlim(left, right * (right / left) ** ROOM)
    axes.axvspan(left, rounding, color=PALE, alpha=0.6, linewidth=0)
    for row, one in enumerate(readings):
        if one.rms is None:
            axes.annotate("not finite", (left, row), xytext=(5, 0), **BESIDE)
            continue
        place = one.rms or left
        mark = _mark(is_gpt2=one.is_gpt2) | ({} if one.rms else {"marker": "<"})
        axes.hlines(row, left, place, color=GREY, linewidth=0.4, linestyle=":")
        axes.plot([place], [row], clip_on=False, label=one.reading, **mark)
        value = short(one.rms) if one.rms else "0"
        axes.annotate(f"{value} ({_whole_percent(one.reproduced or 0.0)})", (place, row), xytext=(5, 0), **BESIDE)
    rows_axis(axes, [_in_two_lines(one.reading) for one in readings], bold=[one.is_gpt2 for one in readings])
    log_axis(axes.xaxis, plain=False)
    axes.set_xlabel("rms error of y / rms(y) (log scale),\nshare of numbers reproduced")
    own, other = (
        Line2D([], [], linestyle="none", label=label, **_mark(is_gpt2=is_gpt2))
        for is_gpt2, label in ((True, "what GPT-2 does"), (False, "rival axis"))
    )
    legend(figure, [own, other, Patch(color=PALE, alpha=0.6, linewidth=0, label=f"rounding ({record.model.dtype})")])
    return figure


def _in_two_lines(name: str) -> str:
    """The name in two lines at most, as narrow as they can be."""
    lines = next(lines for width in itertools.count(1) if len(lines := textwrap.wrap(name, width)) <= 2)
    return "\n".join(lines)


def _whole_percent(share: float) -> str:
    """Rounded down, so that only what is all is called 100%."""
    return f"{math.floor(100 * share)}%"


def _mark(*, is_gpt2: bool) -> dict[str, Any]:
    color = BLUE if is_gpt2 else VERMILION
    return {
        "color": color,
        "marker": "D" if is_gpt2 else "o",
        "markerfacecolor": color if is_gpt2 else "white",
        "markersize": 4,
    }
