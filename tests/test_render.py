"""Tables adapt, escape what is not theirs, and lose nothing."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.commands.diff.view import SAYS as DIFF_SAYS
from gpt2ln_cli.commands.inspect import view as inspect_view
from gpt2ln_cli.commands.verify.view import SAYS
from gpt2ln_cli.output.blocks import Column, Look, Table, table_of
from gpt2ln_cli.output.text import number, percent, quoted, share, visible
from gpt2ln_cli.quantities import QUANTITIES
from gpt2ln_cli.records import Spread, strict

WIDTHS = (60, 80, 120, 200)


def table(record, width, monkeypatch, *, everything=False):
    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    output.write(gpt2ln_cli.view(record), "table", stream, everything=everything)
    return stream.getvalue()


def words_of_fitting_table(record, width, monkeypatch, *, everything=False):
    """The words of the table, whose lines must keep the width and of which nothing may be cut."""
    text = table(record, width, monkeypatch, everything=everything)
    assert max(map(len, text.split("\n"))) <= width
    assert "…" not in text
    return set(text.split())


@pytest.mark.parametrize("width", WIDTHS)
def test_inspect_fits_every_width_and_shows_every_figure_with_all(demo, monkeypatch, width):
    record = gpt2ln_cli.inspect(["the war was over", "ok"], model=demo)
    text = table(record, width, monkeypatch, everything=True)
    assert max(map(len, text.split("\n"))) <= width
    assert "…" not in text
    shown = set(re.split(r"\s+", text))
    for site in record.sites:
        for part in (site.first, site.rest):
            for name in ("mean", "sigma", "pre_norm", "normalized_norm", "post_norm"):
                spread = getattr(part, name)
                assert {number(spread.mean), number(spread.min), number(spread.max)} <= shown
        for name in ("mean", "std", "min", "max"):
            assert {number(getattr(site.gain, name)), number(getattr(site.bias, name))} <= shown
        assert number(site.bias.norm) in shown
        assert site.name in shown


def lines_of(text, first):
    """The words of each line that begins with one of the words, without it."""
    return {words[0]: words[1:] for line in text.split("\n") if (words := line.split()) and words[0] in first}


@pytest.mark.parametrize(("width", "columns"), [(60, 4), (80, 5), (140, 9)])
def test_inspect_has_a_row_a_layer_in_one_table(demo, monkeypatch, width, columns):
    record = gpt2ln_cli.inspect("the war was over", model=demo)
    text = table(record, width, monkeypatch)
    assert max(map(len, text.split("\n"))) <= width
    lines = lines_of(text, {*map(str, range(12)), "ln_f"})
    sites = {site.name: site for site in record.sites}

    def figures(site):
        means = [site.first.sigma, site.rest.sigma, site.rest.pre_norm, site.rest.post_norm]
        learned = [site.gain.mean, site.gain.std, site.bias.norm]
        first = [site.first.pre_norm.mean, site.first.post_norm.mean]
        return [number(value) for value in [*(spread.mean for spread in means), *learned, *first][:columns]]

    for layer in range(12):
        assert lines[str(layer)] == figures(sites[f"h.{layer}.ln_1"]) + figures(sites[f"h.{layer}.ln_2"])
    assert lines["ln_f"] == figures(sites["ln_f"]) + ["-"] * columns
    left_out = ["gain mean", "gain std", "bias norm", "||x|| pos 0", "||y|| pos 0"][columns - 4 :]
    said = " ".join(text.split())
    assert (f"Left out at this width: {', '.join(left_out)}; --all has them." in said) == bool(left_out)


@pytest.mark.parametrize("width", [50, *WIDTHS])
def test_stats_fits_in_one_table_and_shows_every_figure_with_all(demo, monkeypatch, width):
    record = gpt2ln_cli.stats("the war was over", layers=5, model=demo)
    text, everything = (table(record, width, monkeypatch, everything=all_) for all_ in (False, True))
    for one in (text, everything):
        assert max(map(len, one.split("\n"))) <= width
    shown = set(re.split(r"\s+", everything))
    for row in record.rows:
        for name, quantity in QUANTITIES.items():
            assert (percent if quantity.share else number)(getattr(row, name)) in shown
    assert len(re.findall('^0 +"the" ', text, re.MULTILINE)) == len(record.sites)
    for row in record.rows:
        (line,) = [
            line for line in text.split("\n") if line.split()[:1] == [str(row.position)] and number(row.sigma) in line
        ]
        assert number(row.pre_norm) in line.split()
    assert ("partic." in text.replace("partic. is", "")) or "Left out at this width: " in text


@pytest.mark.parametrize("width", WIDTHS)
def test_params_and_count_fit_and_show_every_figure(monkeypatch, width):
    record = gpt2ln_cli.params(features=2)
    text = table(record, width, monkeypatch, everything=True)
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


@pytest.fixture(scope="session")
def verification(demo):
    return gpt2ln_cli.verify(["the war was over", "ok"], model=demo)


@pytest.mark.parametrize("width", WIDTHS)
def test_verify_fits_and_shows_every_figure(verification, monkeypatch, width):
    shown = words_of_fitting_table(verification, width, monkeypatch)
    for reading in verification.readings:
        assert {f"{reading.statistics:,}", number(reading.rms), str(reading.fits), share(reading.reproduced)} <= shown
    for claim in verification.claims:
        assert set(SAYS[claim.id].of(claim).split()) <= shown


@pytest.fixture(scope="session")
def difference(make_folder):
    def change(body):
        for name, parameter in body.named_parameters():
            if "ln_" in name:
                parameter.mul_(1.25).add_(0.0123)

    return gpt2ln_cli.diff(str(make_folder()), str(make_folder(change)), [[3, 1, 4, 1, 5], [9, 2, 6]])


@pytest.mark.parametrize("width", WIDTHS)
def test_diff_fits_and_shows_every_figure_of_position_0_and_the_rest(difference, monkeypatch, width):
    shown = words_of_fitting_table(difference, width, monkeypatch)
    for claim in difference.claims:
        assert set(DIFF_SAYS[claim.id].of(claim).split()) <= shown
    shown = words_of_fitting_table(difference, width, monkeypatch, everything=True)
    for site in difference.sites:
        for vector in (site.gain, site.bias):
            most = vector.largest[0]
            assert {number(vector.norm), percent(vector.relative), number(vector.cosine), str(vector.changed)} <= shown
            assert {f"{most.index}:", number(most.a), number(most.b)} <= shown
        for part in (site.first, site.rest):
            for name in ("sigma", "pre_norm", "normalized_norm", "post_norm"):
                spread = getattr(part, name)
                assert {number(spread.a), number(spread.b), percent(spread.relative)} <= shown


@pytest.mark.parametrize("width", WIDTHS)
def test_models_fit_whatever_their_names(monkeypatch, width):
    known = gpt2ln_cli.models()
    name = "an-organisation/" + "a-long-name-" * 8 + "end"
    other = msgspec.structs.replace(known.models[0], name=name, revision="c" * 40, n_positions=8192, size=498_123_456)
    record = msgspec.structs.replace(known, cache="/a/long/path" * 12, models=[known.models[0], other])
    shown = words_of_fitting_table(record, width, monkeypatch)
    assert {"demo", "12", "96", "1,024", "8,192", "498.1"} <= shown
    text = table(record, width, monkeypatch)
    assert "/a/long/path" * 12 in "".join(text.split())
    heading, _, *rows = text.split("\n")
    rows = rows[: rows.index("")]
    column = slice(heading.index("model"), heading.index("layers"))
    assert "".join(row[column].strip() for row in rows) == f"demo{name}"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_token_longer_than_the_terminal_is_shown_whole_and_the_rows_stay_level(demo, monkeypatch, width):
    """GPT-2 has tokens of 128 characters; here they are columns' headings."""
    record = gpt2ln_cli.compare("war violence hate fear", model=demo, context=True, layers=5)
    (context,) = record.contexts
    token = "".join(chr(ord("A") + index % 26) for index in range(128))

    def renamed(site):
        first, *others = site.tokens
        return msgspec.structs.replace(site, tokens=[msgspec.structs.replace(first, token=token), *others])

    sites = [renamed(site) for site in context.sites]
    record = msgspec.structs.replace(record, contexts=[msgspec.structs.replace(context, sites=sites)])
    words_of_fitting_table(record, width, monkeypatch)
    lines = table(record, width, monkeypatch).split("\n")
    top = next(index for index, line in enumerate(lines) if '"ABC' in line)
    bottom = next(index for index, line in enumerate(lines) if index > top and line.startswith("site"))
    left = lines[top].index('"ABC')
    column = slice(left, left + 24)
    assert "".join(line[column].strip() for line in lines[top : bottom + 1]) == f'"{token}"'
    for line, site in zip(lines[bottom + 2 :], sites, strict=False):
        assert line.startswith(f"{site.site} ")
        assert line[column].strip() == percent(site.tokens[0].real)


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


@pytest.mark.parametrize("output_format", ["table", "markdown", "html"])
def test_a_table_without_looks_is_for_data_alone(demo, output_format):
    view = gpt2ln_cli.view(gpt2ln_cli.params(model=demo))
    bare = replace(view, blocks=[table_of("bare", Spread, [Spread(mean=0.5, min=0.25, max=0.75)])])
    for everything in (False, True):
        stream = io.StringIO()
        output.write(bare, output_format, stream, everything=everything)
        assert ("0.2500" in stream.getvalue()) == everything


@pytest.mark.parametrize("everything", [False, True])
def test_no_line_ends_in_spaces(demo, monkeypatch, everything):
    monkeypatch.setenv("COLUMNS", "80")
    for record in (gpt2ln_cli.inspect("the war", model=demo, per_token=True), gpt2ln_cli.models()):
        stream = io.StringIO()
        output.write(gpt2ln_cli.view(record), "table", stream, everything=everything)
        assert not re.search(" $", stream.getvalue(), re.MULTILINE)


def test_in_colours_a_space_may_be_a_cell_of_a_picture(demo, monkeypatch):
    """Which is why nothing is taken from the ends of lines there."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    record = gpt2ln_cli.inspect("the war", model=demo, per_token=True)
    stream = io.StringIO()
    output.write(inspect_view.view(record, heatmap="sigma"), "table", stream)
    cells = re.findall(r"^h\.0\.ln_1.*$", stream.getvalue(), re.MULTILINE)
    assert re.search(r"48;5;\d+m +", cells[0])


@pytest.mark.parametrize("output_format", ["table", "markdown"])
def test_text_stands_on_the_left_and_numbers_on_the_right(monkeypatch, output_format):
    monkeypatch.setenv("COLUMNS", "80")
    columns = [
        Column("key", str, look=Look("key", key=True)),
        Column("words", str),
        Column("count", int),
        Column("list", list[str]),
    ]
    rows = [["a", "of few letters", 7, ["x"]], ["b", "few", 1234567, ["x", "y"]]]
    view = replace(gpt2ln_cli.view(gpt2ln_cli.count()), blocks=[Table("t", columns, lambda: iter(rows))])
    stream = io.StringIO()
    output.write(view, output_format, stream, table="t")
    if output_format == "markdown":
        assert "| --- | --- | ---: | --- |" in stream.getvalue()
    else:
        assert stream.getvalue().split("\n")[2:4] == [
            'a    of few letters          7  ["x"]',
            'b    few             1,234,567  ["x","y"]',
        ]
