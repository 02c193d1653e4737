"""A view as one page of HTML that loads nothing.

The page is ``page.html`` (Jinja2, everything escaped) with ``page.css``; where the view has pictures, also ``page.js``,
their numbers as JSON, and Apache ECharts. A Content-Security-Policy lets nothing else run or load. Tables, verdicts and
text need no script.

ECharts draws because it has a heatmap with zoom by hand and by slider, a colour scale, and hit testing on one canvas,
and can be cut to what is used: ``echarts/`` holds that build (573 kB of the whole library's 1,122 kB), made from
``entry.js`` by ``npm ci && npm run build``. Weighed and left, minified sizes of their newest versions: plotly.js 4.1
(1,500 kB for the cartesian charts alone), Bokeh 3.10 (1,388 kB), Vega 6 with Vega-Lite and its embedder (832 kB, and it
builds functions from strings, which the policy would have to allow), Observable Plot 0.6 with D3 (490 kB, one SVG
element a cell: 25,600 of them), and Chart.js 4.6 with chartjs-chart-matrix (214 kB, without zoom, slider or colour
scale, which would be two more plugins and code of our own).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, TextIO

import jinja2
import numpy as np
from markupsafe import Markup

from gpt2ln_cli.output.blocks import Facts, Grid, Heading, Paragraph, Quotes
from gpt2ln_cli.output.colors import DIVERGING, VIRIDIS
from gpt2ln_cli.output.layout import sheets
from gpt2ln_cli.output.pictures import Boxes
from gpt2ln_cli.output.text import integer, isolated, number, visible

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpt2ln_cli.output.blocks import Block, View

# Cells (sites x tokens) of a page's heatmaps, each of all quantities: 140 kB for each of these. The 25 sites of GPT-2
# small leave 1,040 tokens.
CELLS = 26_000
# Digits that hovering shows. A number of six digits survives being a float32, so what is shown is the record's.
DIGITS = 6
STEPS = ("min", "lower quartile", "median", "upper quartile", "max")
# Texts of more characters take several lines of a table's cell.
LONG = 40


def write(view: View, stream: TextIO, *, everything: bool = False) -> None:
    """Write the page; a heatmap of 1,024 tokens leaves it less than 2 MB.

    Args:
        view: what to show.
        stream: where to.
        everything: whether the columns that are for data alone are shown, too.
    """
    pictures = _Pictures()
    for block in view.blocks:
        pictures.add(block)
    style, scripts = _read("page.css"), pictures.scripts()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"visible": _visible, "integer": integer, "number": number, "isolated": _isolated}
    parts = environment.from_string(_read("page.html")).generate(
        policy=_policy(style, scripts),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        data=_json_for_html(pictures.data()) if scripts else None,
        title=view.title or f"gpt2ln {view.record.command}",
        command=view.record.command,
        version=version("gpt2ln"),
        sections=_sections(view.blocks),
        kind=lambda block: type(block).__name__,
        sheets=lambda table: sheets(table, everything=everything),
        shown=pictures.shown,
        bar_path=_bar_path,
        long=LONG,
    )
    for part in parts:
        stream.write(part)
    stream.write("\n")


@dataclass(frozen=True)
class Section:
    """What stands under one heading; the first, which has none, is the page's head."""

    id: str
    heading: str | None
    blocks: Sequence[Block]

    @property
    def runs(self) -> Iterator[tuple[bool, list[Block]]]:
        """Blocks, warnings together, and whether they are."""
        return ((warns, list(run)) for warns, run in groupby(self.blocks, _warns))


def _sections(blocks: Sequence[Block]) -> list[Section]:
    """The head of the page, then its sections; what comes before the first heading and is no head has none."""
    heads = next((place for place, block in enumerate(blocks) if not _is_head(block)), len(blocks))
    starts = [place for place in range(heads, len(blocks)) if place == heads or _begins(blocks[place])]
    sections = [Section("head", None, blocks[:heads])]
    for count, (start, stop) in enumerate(pairwise([*starts, len(blocks)]), 1):
        first = blocks[start]
        titled = isinstance(first, Heading) and _begins(first)
        sections.append(
            Section(
                f"section-{count}",
                first.text if isinstance(first, Heading) and titled else None,
                blocks[start + titled : stop],
            )
        )
    return sections


def _is_head(block: Block) -> bool:
    return isinstance(block, Facts | Quotes) or _warns(block) or (isinstance(block, Heading) and block.level > 2)


def _warns(block: Block) -> bool:
    return isinstance(block, Paragraph) and block.tone == "warning"


def _begins(block: Block) -> bool:
    return isinstance(block, Heading) and block.level == 2


def _isolated(text: str) -> Markup:
    """The text as an element of its own direction, where it has letters that are written from right to left."""
    shown = _visible(text)
    return Markup("<bdi>{}</bdi>").format(shown) if isolated(shown) != shown else Markup.escape(shown)


def _visible(text: str) -> str:
    return "\n".join(map(visible, text.split("\n")))


def _bar_path(values: Sequence[float | None], reach: float) -> str:
    """A vector as one path of SVG, a line for each feature from 0 on: 1 across, and as long up or down as its share."""
    shares = ((place, value / reach) for place, value in enumerate(values) if value is not None)
    return "".join(f"M{place}.5 0V{-share:.3f}" for place, share in shares)


def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Nothing loads, and only the page's own style and scripts, known by their hashes, take effect."""

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    allowed = " ".join(map(source, scripts)) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {source(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _json_for_html(value: object) -> Markup:
    """JSON that can't end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII: U+2028 and the like are escaped
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


class _Pictures:
    """The grids and box plots of a page, and their numbers."""

    def __init__(self) -> None:
        self.grids: list[Grid] = []
        self.boxes: list[Boxes] = []

    def add(self, block: Block) -> None:
        if isinstance(block, Grid):
            self.grids.append(block)
        elif isinstance(block, Boxes):
            self.boxes.append(block)

    def scripts(self) -> list[str]:
        return [_read("echarts/echarts.min.js"), _read("page.js")] if self.grids or self.boxes else []

    def shown(self, grid: Grid) -> int:
        """How many of the grid's columns the page holds."""
        return min(sum(len(strip.ids) for strip in grid.strips), CELLS // len(self.grids) // len(grid.rows))

    def data(self) -> dict[str, Any]:
        return {
            "colors": [f"rgb({red},{green},{blue})" for red, green, blue in VIRIDIS],
            "diverging": [f"rgb({red},{green},{blue})" for red, green, blue in DIVERGING],
            "digits": DIGITS,
            "grids": [_grid(grid, self.shown(grid)) for grid in self.grids],
            "steps": STEPS,
            "boxes": [
                {
                    "labels": boxes.labels,
                    "panels": [
                        {"title": panel.title, "start": panel.start, "boxes": panel.boxes} for panel in boxes.panels
                    ],
                }
                for boxes in self.boxes
            ],
        }


def _grid(grid: Grid, shown: int) -> dict[str, Any]:
    """What a heatmap is drawn from; of the columns, the first ``shown``."""
    sequences, left = [], shown
    for strip in grid.strips:
        if left:
            length = min(left, len(strip.ids))
            left -= length
            tokens = [visible(text) for text in strip.columns[:length]]
            sequences.append(
                {"title": strip.title, "length": len(strip.ids), "ids": list(strip.ids[:length]), "tokens": tokens}
            )
    return {
        "quantities": [
            {
                "label": column.look.heading if column.look else column.name,
                "description": column.description,
                "signed": column.name in grid.signed,
            }
            for column in grid.quantities
        ],
        "mean": next((place for place, column in enumerate(grid.quantities) if column.name == "mean"), None),
        "quantity": [column.name for column in grid.quantities].index(grid.chosen),
        "sites": list(grid.rows),
        "sequences": sequences,
        "values": _packed(grid, shown),
        "vectors": _vectors(grid, shown),
    }


def _vectors(grid: Grid, shown: int) -> dict[str, Any] | None:
    """The cells that have them: x and y, a byte a number, and what turns these into numbers again.

    ``scales`` are of each cell what a byte of x stands for, what x - mu is divided by, and what a byte of y stands for;
    a number that is not finite is the byte that no other is.
    """
    cells = [cell for cell in grid.vectors or () if cell.column < shown]
    if not cells:
        return None
    scales, numbers = [], []
    for cell in cells:
        (x, by_x), (y, by_y) = _in_bytes(cell.x), _in_bytes(cell.y)
        pairs = [(a, b) for a, b in zip(cell.x, cell.xhat, strict=True) if a is not None and b is not None]
        spread, spread_after = (float(np.ptp(part)) for part in zip(*pairs, strict=True)) if pairs else (1.0, 1.0)
        scales.append([by_x, spread / spread_after if spread_after else 1.0, by_y])
        numbers += [x, y]
    return {
        "places": [[cell.row, cell.column] for cell in cells],
        "features": len(cells[0].x),
        "scales": base64.b64encode(np.array(scales, dtype="<f4").tobytes()).decode(),
        "bytes": base64.b64encode(np.concatenate(numbers).tobytes()).decode(),
    }


def _in_bytes(values: Sequence[float | None]) -> tuple[NDArray[np.int8], float]:
    """The numbers in steps of a 127th of the greatest, which is finer than a bar is drawn; and that step."""
    numbers = np.array([np.nan if value is None else value for value in values])
    step = float(np.nanmax(np.abs(numbers))) / 127 if np.isfinite(numbers).any() else 0.0
    steps = np.rint(numbers / (step or 1.0))
    return np.where(np.isfinite(steps), steps, -128).astype(np.int8), step


def _packed(grid: Grid, shown: int) -> str:
    """Little-endian float32 of shape (quantities, rows, shown), in base64; null is NaN."""
    packed = b""
    for column in grid.quantities:
        numbers = np.concatenate(grid.values(column.name, shown), axis=1)
        rounded = [float(f"{value:.{DIGITS - 1}e}") for value in numbers.ravel().tolist()]
        packed += np.array(rounded, dtype="<f4").tobytes()
    return base64.b64encode(packed).decode()
