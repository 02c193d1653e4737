"""Tables adapt, escape what is not theirs, and lose nothing."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt2ln_cli
from gpt2ln_cli.escaping import visible
from gpt2ln_cli.records import Arithmetic, Spread, strict
from gpt2ln_cli.render import FORMATS, write
from gpt2ln_cli.render.layout import number, quoted


def table(record, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    write(record, "table", stream)
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_inspect_fits_every_width_and_shows_every_figure(demo, monkeypatch, width):
    record = gpt2ln_cli.inspect(["the war was over", "ok"], model=demo)
    text = table(record, width, monkeypatch)
    assert max(map(len, text.split("\n"))) <= width
    assert "…" not in text
    shown = set(re.split(r"\s+", text))
    for site in record.sites:
        for part in (site.first, site.rest):
            for name in ("sigma", "pre_norm", "normalized_norm", "post_norm"):
                spread = getattr(part, name)
                assert {number(spread.mean), number(spread.min), number(spread.max)} <= shown
        for name in ("mean", "std", "min", "max"):
            assert {number(getattr(site.gain, name)), number(getattr(site.bias, name))} <= shown
        assert number(site.bias.norm) in shown
        assert site.name in shown


def test_rows_of_neighbouring_tables_are_level(demo, monkeypatch):
    record = gpt2ln_cli.inspect("the war was over", model=demo)
    lines = table(record, 80, monkeypatch).split("\n")
    for site in record.sites:
        (first, *_) = [line for line in lines if line.startswith(f"{site.name} ") and "." in line[12:]]
        assert first.split()[1:5] == [
            number(site.first.sigma.mean),
            number(site.rest.sigma.mean),
            number(site.rest.sigma.min),
            number(site.rest.sigma.max),
        ]


@pytest.mark.parametrize("width", [50, 80, 140])
def test_stats_fits_and_shows_every_figure(demo, monkeypatch, width):
    record = gpt2ln_cli.stats("the war was over", layers=5, model=demo)
    text = table(record, width, monkeypatch)
    assert max(map(len, text.split("\n"))) <= width
    shown = set(re.split(r"\s+", text))
    for row in record.rows:
        for name in ("mean", "sigma", "pre_norm", "normalized_norm", "post_norm", "max_deviation", "excess_kurtosis"):
            assert number(getattr(row, name)) in shown
        assert number(100 * row.mean_share) + "%" in shown


@pytest.mark.parametrize("width", [60, 80, 140])
def test_params_and_count_fit_and_show_every_figure(monkeypatch, width):
    record = gpt2ln_cli.params(top=2)
    text = table(record, width, monkeypatch)
    assert max(map(len, text.split("\n"))) <= width
    shown = set(re.split(r"\s+", text))
    for site in record.sites:
        for vector in (site.gain, site.bias):
            for name in ("mean", "std", "min", "median", "max", "norm", "rms_distance"):
                assert number(getattr(vector, name)) in shown
            for feature in vector.extremes:
                assert f"{feature.index}:{number(feature.value)}" in shown
    counted = gpt2ln_cli.count(batch=8)
    text = table(counted, width, monkeypatch)
    assert max(map(len, text.split("\n"))) <= width
    for reading in counted.readings:
        assert {f"{reading.per_site:,}", f"{reading.per_block:,}", f"{reading.total:,}"} <= set(text.split())


def test_hostile_text_is_escaped(demo, monkeypatch):
    hostile = "\x1b[31mred\x07 [bold]not markup[/bold] \u202e\r\n"
    text = table(gpt2ln_cli.inspect(hostile, model=demo, per_token=True, layers=0), 140, monkeypatch)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)
    assert r"\x1b" in text
    assert '"["' in text or '" ["' in text


@given(st.text())
def test_visible_text_is_printable_and_keeps_printable_text(text):
    assert visible(text).isprintable()
    if text.isprintable():
        assert visible(text) == text
    assert quoted(text) == f'"{visible(text)}"'


@given(st.floats(min_value=-1e300, max_value=1e300))
def test_numbers_have_four_significant_digits(value):
    shown = float(number(value))
    assert shown == pytest.approx(value, rel=5.001e-4, abs=5e-324)


def test_numbers_read_well():
    assert [
        number(v) for v in (0, -0.0, 0.99999, 9.797959, 0.0001234, 0.00001234, 1234.5678, 25600, -2.5e9, 12.3456, None)
    ] == [
        "0",
        "0",
        "1.000",
        "9.798",
        "0.0001234",
        "1.234e-05",
        "1235",
        "25600",
        "-2.500e+09",
        "12.35",
        "-",
    ]


def test_nonfinite_numbers_are_null_and_counted():
    spread = Spread(mean=float("nan"), min=float("-inf"), max=1.0)
    cleaned, count = strict([spread, spread])
    assert count == 4
    assert cleaned[0] == Spread(mean=None, min=None, max=1.0)


def test_every_registered_format_writes():
    record = gpt2ln_cli.count()
    assert isinstance(record, Arithmetic)
    for name in FORMATS:
        stream = io.StringIO()
        write(record, name, stream)
        assert stream.getvalue().endswith("\n")
