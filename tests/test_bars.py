"""Vectors as bars: every format shows the same numbers, on the scale that it says."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.output.bars import ABOVE, ASCII_ABOVE, ASCII_BELOW, BELOW, HEIGHT, drawn, farthest, lines
from gpt2ln_cli.output.blocks import View
from gpt2ln_cli.output.pictures import Band, Bars, Lane

LEVELS = (0.0, 1 / 8, 1 / 2, 1.0)


def heights(rows, *, ascii_only=False):
    """What the characters of each column add up to, in lines; below 0 it is negative."""
    above, below = (ASCII_ABOVE, ASCII_BELOW) if ascii_only else (ABOVE, BELOW)
    columns = zip(*(row.ljust(max(map(len, rows))) for row in rows), strict=True)
    return [
        sum(LEVELS[above.index(one)] for one in column[:HEIGHT])
        - sum(LEVELS[below.index(one)] for one in column[HEIGHT:])
        for column in columns
    ]


def two_tokens(width=96):
    """A quiet vector and one ten times its size and of the same shape, and what normalizing makes of both."""
    shape = np.random.default_rng(0).standard_normal(width)
    vectors = [shape.tolist(), (10 * shape).tolist()]
    normalized = [((shape - shape.mean()) / shape.std()).tolist()] * 2
    bands = [
        Band(title, [Lane(values, f"norm {np.linalg.norm(values):.3f}") for values in lanes], farthest(lanes))
        for title, lanes in (("x", vectors), ("xhat", normalized))
    ]
    return Bars("h.0.ln_1", ['"ok"', '" hatred"'], bands)


def written(bars, output_format, demo):
    record = gpt2ln_cli.inspect("ok", model=demo, layers=0)
    stream = io.StringIO()
    output.write(View(record, [bars]), output_format, stream)
    return stream.getvalue()


@pytest.mark.parametrize("ascii_only", [False, True])
@given(values=st.lists(st.floats(-8, 8), min_size=1, max_size=60))
def test_a_bar_is_as_long_as_its_number_to_the_half_step(ascii_only, values):
    reach = farthest([values])
    for value, height in zip(
        values, heights(drawn(values, reach, ascii_only=ascii_only), ascii_only=ascii_only), strict=True
    ):
        # Steps of 0, 1/8, 1/2 and 1 line lie at most half a line apart; the least is always drawn.
        assert abs(height - HEIGHT * value / reach) <= 1 / 4 + 1e-9
        assert height > 0 if value >= 0 else height < 0


def test_above_and_below_are_drawn_alike():
    values = np.linspace(-3, 3, 61)
    np.testing.assert_allclose(
        heights(drawn(values[:30].tolist(), 3.0)), -np.array(heights(drawn((-values[:30]).tolist(), 3.0)))
    )


def test_a_column_of_neighbours_shows_the_farthest_from_0():
    values = [0.1, -4.0, 0.2, 3.0, 0.0, 0.1, 1.0]
    assert heights(drawn(values, 4.0, 3)) == heights(drawn([-4.0, 3.0, 1.0], 4.0))
    # What is not finite is never hidden by what is.
    assert drawn([1.0, None, 2.0], 2.0, 3)[HEIGHT - 1] == "?"


@pytest.mark.parametrize("width", [40, 60, 80, 140, 220])
@pytest.mark.parametrize("features", [3, 96, 768])
def test_they_fit_the_width(width, features):
    text = list(lines(two_tokens(features), width))
    assert max(map(len, text)) <= width
    beside = [line for line in text if '"ok"' in line and '" hatred"' in line]
    assert bool(beside) is (width >= 60)


def test_size_is_seen_before_and_not_after():
    """On the common scale the quiet vector's x is a tenth as long, and both xhat are alike."""
    bars = two_tokens()
    x, xhat = ([heights(drawn(lane.values, band.reach)) for lane in band.lanes] for band in bars.bands)
    assert max(map(abs, x[0])) < 1 / 2 < 3 / 2 <= max(map(abs, x[1]))
    assert xhat[0] == xhat[1]


@pytest.mark.parametrize("output_format", ["table", "markdown"])
def test_text_formats_show_the_same_lines(demo, monkeypatch, output_format):
    monkeypatch.setenv("COLUMNS", "76")
    text = [line.strip() for line in written(two_tokens(), output_format, demo).split("\n")]
    drawing = [line.strip() for line in lines(two_tokens(), 76)]
    start = text.index(drawing[0])
    assert text[start : start + len(drawing)] == drawing


def test_a_terminal_without_the_characters_gets_ascii(demo, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    record = gpt2ln_cli.inspect("ok", model=demo, layers=0)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    output.write(View(record, [two_tokens()]), "table", stream)
    assert "#" in stream.buffer.getvalue().decode("ascii")


def test_the_page_draws_each_feature(demo):
    bars = two_tokens(5)
    page = written(bars, "html", demo)
    paths = re.findall(r'<path d="([^"]*)"', page)
    lanes = [(band, lane) for place in range(2) for band in bars.bands for lane in [band.lanes[place]]]
    assert len(paths) == len(lanes)
    for path, (band, lane) in zip(paths, lanes, strict=True):
        ends = [float(end) for end in re.findall(r"V(-?[\d.]+)", path)]
        # Up is negative in SVG, and three decimals are what a screen can show.
        np.testing.assert_allclose(ends, -np.array(lane.values) / band.reach, atol=0.0005)
    assert "<script" not in page
