"""What all plots share: their style, the layer axis, and text that a figure can show."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gpt2ln_cli.output.text import visible

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.text import Text
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Widths of one column and of both in a paper set in two, in inches.
COLUMN, PAGE = 3.5, 7.0
# More sites than this need the page's width: those of 12 layers fit a column.
SITES_IN_COLUMN = 25
# Okabe and Ito's colours, told apart by the colour-blind; what they tell apart differs in shape or dash as well.
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
GREY, PALE = "#595959", "#d9d9d9"
MARKERS = {"ln_1": "o", "ln_2": "s", "ln_f": "D"}
COLORS = {"ln_1": BLUE, "ln_2": VERMILION, "ln_f": GREEN}
FONT = "DejaVu Sans"  # matplotlib brings it along
SMALL = 7
SUPERSCRIPTS = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "axes.unicode_minus": True,
    "font.family": FONT,
    "font.size": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.borderaxespad": 0.3,
    "legend.borderpad": 0.0,
    "legend.columnspacing": 1.2,
    "legend.handlelength": 1.6,
    "legend.handletextpad": 0.5,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.0,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "gpt2ln",
    "xtick.labelsize": SMALL,
    "xtick.major.width": 0.6,
    "ytick.labelsize": SMALL,
    "ytick.major.width": 0.6,
}


class Placed(Protocol):
    """A site, in any record."""

    @property
    def layer(self) -> int | None:
        """Counted from 0; None for ln_f."""

    @property
    def kind(self) -> str:
        """``ln_1``, ``ln_2`` or ``ln_f``."""


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's own defaults with ``STYLE``, whatever the user's are, and the user's again afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(height: float, *, wide: bool = False) -> Figure:
    """An empty figure of a column's or the page's width, ``height`` inches high."""
    return Figure(figsize=(PAGE if wide else COLUMN, height), layout="constrained")


def floats(values: Sequence[float | None]) -> Floats:
    """The values with NaN, which matplotlib leaves out, for None."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def short(value: float, digits: int = 3) -> str:
    """A number for a figure, with that many significant digits."""
    mantissa, _, exponent = f"{value:#.{digits}g}".partition("e")
    number = mantissa.removesuffix(".").replace("-", "\N{MINUS SIGN}")
    return f"{number} \N{MULTIPLICATION SIGN} {_power_of_ten(int(exponent))}" if exponent else number


def _power_of_ten(exponent: int) -> str:
    return "10" + str(exponent).translate(SUPERSCRIPTS)


def shown(text: str, longest: int) -> str:
    """Text from a prompt as the font can show it: spaces as open boxes, the rest escaped, cut to ``longest``."""
    # Outlines that the font lacks come out as empty boxes, and as a warning.
    drawn = "".join(
        char if ord(char) in _outlines() else char.encode("unicode_escape").decode()
        for char in visible(text).replace(" ", "\N{OPEN BOX}")
    )
    return drawn if len(drawn) <= longest else drawn[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


@functools.cache
def _outlines() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


BESIDE: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline", "color": GREY}


def say(axes: Axes, text: str) -> Text:
    """Write in the middle of the axes why there is nothing to see."""
    return axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, wrap=True)


def depth(site: Placed, n_layer: int) -> float:
    """Where a site stands on the layer axis: ln_1 and ln_2 on both sides of their layer, ln_f after the last."""
    if site.layer is None:
        return float(n_layer)
    return site.layer - 0.25 if site.kind == "ln_1" else site.layer + 0.25


def layer_axis(axes: Axes, sites: Sequence[Placed], n_layer: int, *, most: int) -> None:
    """Label the horizontal axis with the sites' layers and ln_f; no more than ``most`` layers are numbered."""
    layers = sorted({site.layer for site in sites if site.layer is not None})
    step = -(-len(layers) // most) or 1
    final = [n_layer] if any(site.layer is None for site in sites) else []
    # Next to ln_f there is no room for another label, where not every layer has one.
    layers = [layer for layer in layers[::step] if step == 1 or not final or layer <= n_layer - step]
    axes.set_xticks([*layers, *final], [*map(str, layers), *("ln_f" for _ in final)])
    places = [depth(site, n_layer) for site in sites]
    axes.set_xlim(min(places) - 0.5, max(places) + 0.5)
    axes.set_xlabel("layer")


def log_axis(axis: Any, *, plain: bool) -> None:
    """Label an axis that is logarithmic already at powers of ten, or at 1, 2 and 5 times these.

    Args:
        axis: the horizontal or vertical axis of some axes.
        plain: whether they are written out, and not as powers.
    """

    def label(value: float, _: int) -> str:
        return f"{value:g}" if plain else _power_of_ten(round(float(np.log10(value))))

    # Matplotlib's own labels are formulas, which its SVG would draw in another font.
    low, high = axis.get_view_interval()
    # Between powers of ten that lie far apart there is no room; of near ones there may be none in sight.
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 50 else (1,), numticks=7))
    axis.set_major_formatter(FuncFormatter(label))
    axis.set_minor_formatter(NullFormatter())


def kind_handles(sites: Sequence[Placed], *, colored: bool) -> list[Line2D]:
    """Legend entries for the kinds of LayerNorm that the sites are of."""
    return [
        Line2D([], [], linestyle="none", label=kind, **marker(kind, COLORS[kind] if colored else GREY))
        for kind in MARKERS
        if any(site.kind == kind for site in sites)
    ]


def marker(kind: str, color: str) -> dict[str, Any]:
    """The marker of a kind of LayerNorm, as matplotlib's arguments: that of ln_2 is hollow."""
    face = "white" if kind == "ln_2" else color
    return {"marker": MARKERS[kind], "markerfacecolor": face, "markeredgecolor": color, "markeredgewidth": 0.8}


def legend(figure: Figure, *rows: Sequence[Artist]) -> None:
    """A legend above the axes: of one row where the figure has the page's width, else of these."""
    if figure.get_figwidth() == PAGE:
        rows = (list(itertools.chain(*rows)),)
    columns = max(map(len, rows))
    blank = Line2D([], [], linestyle="none", label=" ")
    filled = [[*row, *[blank] * (columns - len(row))] for row in rows]
    # Matplotlib fills a legend column by column.
    handles = [handle for column in zip(*filled, strict=True) for handle in column]
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def rows_axis(axes: Axes, names: Sequence[str], *, bold: Sequence[bool] | None = None) -> None:
    """Name the rows of a dot plot, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for label, strong in zip(axes.get_yticklabels(), bold or [False] * len(names), strict=True):
        label.set_fontweight("bold" if strong else "normal")
