"""The page of ``report``: complete, self-contained, harmless, and in a browser it shows the record's numbers."""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import re
import shlex
import shutil
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
from contract import validator
from PIL import Image

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint import BUNDLED
from gpt2ln_cli.commands.report.compute import PAGE_FEATURES, within_a_page
from gpt2ln_cli.commands.report.record import Report
from gpt2ln_cli.commands.report.view import view
from gpt2ln_cli.output.colors import VIRIDIS
from gpt2ln_cli.output.text import number
from gpt2ln_cli.quantities import QUANTITIES
from gpt2ln_cli.sites import all_sites
from gpt2ln_cli.text.prompts import LONG_SAMPLE, long_sample

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>'$(false) {{ 7 * 7 }}"
PROMPTS = ["The war was over, but the hatred was not.", HOSTILE]
# Set where a missing browser is a failure, as in the gate.
BROWSER_NEEDED = "GPT2LN_TEST_BROWSER"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def page_of(record):
    stream = io.StringIO()
    output.write(view(record), "html", stream)
    return stream.getvalue()


def six_digits(value):
    return float(f"{value:.5e}")


def grid(record, quantity, sequence=0):
    """A quantity of one sequence from the record's rows, (sites, tokens)."""
    rows = [row for row in record.inspection.rows if row.sequence == sequence]
    return np.array([getattr(row, quantity) for row in rows]).reshape(len(record.inspection.sites), -1)


class Parts(HTMLParser):
    """The tables' cells by caption, what every element refers to, and the elements themselves."""

    def __init__(self):
        super().__init__()
        self.tables, self.references, self.tags, self.policy = {}, [], [], ""
        self.row, self.rows, self.text = None, None, None

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.row = []
        elif tag in ("td", "th", "caption"):
            self.text = ""

    def handle_data(self, data):
        if self.text is not None:
            self.text += data

    def handle_endtag(self, tag):
        if tag == "caption":
            self.tables[self.text] = self.rows
        elif tag in ("td", "th"):
            self.row.append(self.text)
        elif tag == "tr":
            self.rows.append(self.row)
        if tag in ("td", "th", "caption"):
            self.text = None


@pytest.fixture(scope="module")
def record(demo):
    return gpt2ln_cli.report(PROMPTS, model=demo)


@pytest.fixture(scope="module")
def carrying(demo):
    """A page's record with the vectors that the command asks for."""
    return gpt2ln_cli.report(PROMPTS, model=demo, vectors=True)


@pytest.fixture(scope="module")
def parts(record):
    parsed = Parts()
    parsed.feed(page_of(record))
    return parsed


@pytest.fixture(scope="module")
def browser():
    absent = pytest.fail if os.environ.get(BROWSER_NEEDED) == "required" else pytest.skip
    try:
        from playwright import sync_api as api
    except ImportError:
        absent("playwright is not installed")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        absent(f"no browser here: none of {', '.join(BROWSERS)}")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Open a record's page; on leaving, nothing may have gone wrong in it, and nothing may have left it."""
    problems = []
    contexts = []

    def opened(record, **options):
        path = tmp_path / "report.html"
        path.write_text(page_of(record), encoding="utf-8")
        context = browser.new_context(**{"viewport": {"width": 1024, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: problems.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def spot(page, column, site):
    """Where a cell of the heatmap is, in the box of its element."""
    return page.evaluate(
        "([column, site]) => echarts.getInstanceByDom(document.getElementById('heatmap'))"
        ".convertToPixel({ seriesIndex: 0 }, [column, site])",
        [column, site],
    )


def hover(page, column, site):
    page.locator("#heatmap").scroll_into_view_if_needed()
    box = page.locator("#heatmap").bounding_box()
    x, y = spot(page, column, site)
    page.mouse.move(box["x"] + x, box["y"] + y)


def legend(page):
    text = page.evaluate(
        "echarts.getInstanceByDom(document.getElementById('heatmap')).getOption().visualMap[0].text.map(Number)"
    )
    return text[::-1]


def pixel(page, column, site):
    """The colour of a cell's middle, once the cells are drawn: ECharts spreads that over several frames."""
    return page.evaluate(
        """async ([x, y]) => {
          const one = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
          for (;;) {
            for (const canvas of document.querySelectorAll('#heatmap canvas')) {
              one.drawImage(canvas, -Math.round(x), -Math.round(y));
            }
            const [red, green, blue, alpha] = one.getImageData(0, 0, 1, 1).data;
            if (alpha === 255) return [red, green, blue];
            await new Promise(requestAnimationFrame);
          }
        }""",
        spot(page, column, site),
    )


def test_a_page_of_1024_tokens_is_small_and_loads_nothing(demo):
    text = long_sample(LONG_SAMPLE)
    record = gpt2ln_cli.report(text + text, model=demo, overflow="truncate", vectors=True)
    assert record.inspection.counts.tokens == 1024
    page = page_of(record)
    assert len(page.encode()) <= 2_600_000
    assert "This page holds the first" not in page
    parsed = Parts()
    parsed.feed(page)
    assert {reference for reference in parsed.references if not reference.startswith("#")} == {"data:,"}
    assert parsed.policy.startswith("default-src 'none'; ")
    assert not re.search(r"@import|url\(", page[page.index("<style>") : page.index("</style>")])


def test_the_tables_have_the_records_numbers(record, parts):
    statistics = {row[0]: row[1:] for row in parts.tables["In forward order"][2:]}
    assert len(statistics) == 25
    quantities = ("sigma", "pre_norm", "normalized_norm", "post_norm")
    both = {name: [grid(record, name, sequence) for sequence in (0, 1)] for name in quantities}
    for index, site in enumerate(record.inspection.sites):
        wanted = []
        for name in quantities:
            first = [values[index, 0] for values in both[name]]
            later = np.concatenate([values[index, 1:] for values in both[name]])
            wanted += [np.mean(first), min(first), max(first), later.mean(), later.min(), later.max()]
        assert statistics[site.name] == [number(value) for value in wanted]
    learned = {row[0]: row[1:] for row in parts.tables["Over the features of each"][2:]}
    for site in gpt2ln_cli.params().sites:
        names = ("mean", "std", "min", "lower_quartile", "median", "upper_quartile", "max", "norm")
        assert learned[site.name] == [number(getattr(one, name)) for one in (site.gain, site.bias) for name in names]
    readings = parts.tables["Every axis that LayerNorm could have"][1:]
    assert [row[0] for row in readings] == [reading.reading for reading in record.verification.readings]
    total = record.inspection.counts.total
    assert parts.tables["Statistics, as counted in the kernel's own tensors"][-1][-1] == f"{total:,}"


def test_too_many_tokens_are_cut_and_the_page_says_so(record, monkeypatch):
    monkeypatch.setattr("gpt2ln_cli.output.html.CELLS", 25 * 13 + 24)
    page = page_of(record)
    (data,) = json.loads(page.split('id="data">')[1].split("</script>")[0])["grids"]
    assert f"This page holds the first 13 of {record.inspection.counts.tokens} tokens" in page
    assert [sequence["ids"] for sequence in data["sequences"]] == [
        record.inspection.prompts[0].token_ids,
        record.inspection.prompts[1].token_ids[:2],
    ]
    values = np.frombuffer(base64.b64decode(data["values"]), "<f4").reshape(len(QUANTITIES), 25, 13)
    for index, name in enumerate(QUANTITIES):
        both = np.concatenate([grid(record, name, 0), grid(record, name, 1)], axis=1)
        assert values[index] == pytest.approx(both[:, :13], rel=6e-6)


def test_the_record_is_json_and_tables_too(record):
    stream = io.StringIO()
    output.write(view(record), "json", stream)
    validator("report").validate(json.loads(stream.getvalue()))
    decoded = msgspec.json.decode(stream.getvalue(), type=Report)
    assert decoded.inspection.rows == list(record.inspection.rows)
    assert decoded.verification == record.verification
    stream = io.StringIO()
    output.write(view(record), "table", stream)
    assert "Yes: this checkpoint uses a learned gain" in stream.getvalue()


@pytest.mark.browser
def test_hovering_a_cell_shows_the_records_value(record, open_page):
    page = open_page(record)
    sigma = grid(record, "sigma")
    for column, site in ((0, 0), (1, 4), (7, 12), (sigma.shape[1] - 1, 24)):
        hover(page, column, site)
        name, token = record.inspection.sites[site].name, record.inspection.prompts[0].tokens[column]
        page.wait_for_function("text => document.querySelector('.tip strong')?.textContent === text",
                               arg=f'{name}, position {column} "{token}"', timeout=5000)  # fmt: skip
        assert float(page.inner_text(".tip dd.chosen")) == six_digits(sigma[site, column])
        where, value = page.inner_text("#cell").rsplit(": sigma ", 1)
        assert where == f'{name}, position {column} "{token}"'
        assert float(value) == six_digits(sigma[site, column])
        others = [float(text) for text in page.locator(".tip dd:not(.chosen)").all_inner_texts()]
        wanted = [grid(record, quantity)[site, column] for quantity in QUANTITIES if quantity != "sigma"]
        assert others == pytest.approx(wanted, rel=6e-4)


@pytest.mark.browser
def test_the_controls_change_what_is_drawn(record, open_page):
    page = open_page(record)
    for index, quantity in enumerate(QUANTITIES):
        page.select_option("#quantity", str(index))
        later = grid(record, quantity)[:, 1:]
        reach = np.abs(later).max()
        ends = [-reach, reach] if QUANTITIES[quantity].signed else [later.min(), later.max()]
        assert legend(page) == pytest.approx(ends, rel=6e-4)
        assert page.is_disabled("#log") == bool((later < 0).any())
    page.select_option("#quantity", str(list(QUANTITIES).index("sigma")))
    sigma = grid(record, "sigma")
    site, place = np.unravel_index(sigma[:, 1:].argmax(), sigma[:, 1:].shape)
    assert pixel(page, int(place) + 1, int(site)) == list(VIRIDIS[-1])
    over = int(np.argmax(sigma[:, 0]))
    assert sigma[over, 0] > sigma[:, 1:].max()
    assert pixel(page, 0, over) == list(VIRIDIS[-1])
    middle = (np.log(sigma[:, 1:]) - np.log(sigma[:, 1:].min())) / np.log(sigma[:, 1:].max() / sigma[:, 1:].min())
    site, place = np.unravel_index(np.abs(middle - 0.5).argmin(), middle.shape)
    page.check("#log")
    share = middle[site, place] * (len(VIRIDIS) - 1)
    expected = [np.interp(share, range(len(VIRIDIS)), [color[part] for color in VIRIDIS]) for part in range(3)]
    assert pixel(page, int(place) + 1, int(site)) == pytest.approx(expected, abs=2)
    page.uncheck("#zero")
    hover(page, 0, 3)
    page.wait_for_function("document.getElementById('cell').textContent.includes('position 1 ')", timeout=5000)
    page.select_option("#sequence", "1")
    later = grid(record, "sigma", 1)[:, 1:]
    assert legend(page) == pytest.approx([later.min(), later.max()], rel=6e-4)


@pytest.mark.browser
def test_what_is_negative_is_blue_and_what_is_positive_red(record, open_page):
    page = open_page(record)
    page.select_option("#quantity", str(list(QUANTITIES).index("mean")))
    mean = grid(record, "mean")
    for extreme, warmer in ((mean[:, 1:].argmax(), 0), (mean[:, 1:].argmin(), 2)):
        site, place = np.unravel_index(extreme, mean[:, 1:].shape)
        assert bool(mean[site, place + 1] > 0) is (warmer == 0)
        color = pixel(page, int(place) + 1, int(site))
        assert color[warmer] > color[2 - warmer]


def click(page, column, site):
    hover(page, column, site)
    page.mouse.down()
    page.mouse.up()


def drawn_bars(page):
    """Of each token and each step the bars' ends in shares of the scale, and the scale's reach."""
    figures = page.locator("#steps figure")
    found = []
    for figure in (figures.nth(place) for place in range(figures.count())):
        paths = [figure.locator("svg path:not(.zero)").nth(step).get_attribute("d") for step in range(4)]
        reaches = [float(re.search(r" to ([\d.e+-]+)", text)[1]) for text in figure.locator(".band").all_inner_texts()]
        ends = [np.array([-float(end) for end in re.findall(r"V(-?[\d.]+)", path)]) for path in paths]
        found.append((figure.locator("figcaption").inner_text(), ends, reaches))
    return found


@pytest.mark.browser
def test_a_click_shows_the_token_through_the_layernorm(carrying, open_page):
    page = open_page(carrying)
    vectors = {(row.site, row.sequence, row.position): row for row in carrying.inspection.vectors}
    names = [site.name for site in carrying.inspection.sites]
    assert page.locator("#steps figure").count() == 0
    cells = [(1, 4), (7, 12)]
    click(page, *cells[0])
    page.click("#keep")
    click(page, *cells[1])
    page.wait_for_function("document.querySelectorAll('#steps figure').length === 2", timeout=5000)
    rows = [vectors[names[site], 0, position] for position, site in cells]
    stages = [
        [np.array(row.pre), np.array(row.pre) - row.mean, np.array(row.normalized), np.array(row.post)] for row in rows
    ]
    reach = [max(np.abs(one[step]).max() for one in stages) for step in range(4)]
    reach[0] = reach[1] = max(reach[:2])
    for (name, ends, reaches), row, numbers in zip(drawn_bars(page), rows, stages, strict=True):
        assert name == f'{row.site}, position {row.position} "{row.token}"'
        for step in range(4):
            # A byte holds a number to half a step of a 127th of its vector's greatest, and mu moves with that of x.
            np.testing.assert_allclose(ends[step], numbers[step] / reach[step], atol=2 / 127)
            assert reaches[step] == pytest.approx(reach[step], rel=0.06)  # two digits
    page.click("#keep")
    assert page.locator("#steps figure").count() == 1


@pytest.mark.browser
def test_a_cell_that_the_page_does_not_hold_says_how_to_draw_it(demo, open_page, monkeypatch):
    monkeypatch.setattr("gpt2ln_cli.commands.report.compute.PAGE_FEATURES", 5 * 96)
    monkeypatch.setattr("gpt2ln_cli.commands.report.compute.PAGE_TOKENS", 1)
    record = gpt2ln_cli.report(PROMPTS[0], model=demo, vectors=True)
    page = open_page(record)
    assert "the first 1 of 11 tokens at 5 of 25 LayerNorms" in page.inner_text("#steps-note")
    click(page, 3, 2)
    page.wait_for_function("document.getElementById('steps-note').textContent.includes('plot steps')", timeout=5000)
    assert "--layer 1 --site ln_1 --template {} --position 3" in page.inner_text("#steps-note")


def test_the_vectors_keep_to_their_budget(demo):
    """GPT-2 small's shape and xl's: the first tokens at all sites, or at some of them evenly."""
    counts = gpt2ln_cli.inspect(PROMPTS, model=demo).counts
    for layers, features, tokens, wanted in (
        (12, 96, 1024, (25, 66)),
        (12, 768, 1024, (25, 8)),
        (48, 1600, 1024, (13, 8)),
        (12, 768, 3, (25, 3)),
    ):
        sites = all_sites(layers)
        chosen = within_a_page(sites, msgspec.structs.replace(counts, tokens=tokens, features=features))
        assert len(chosen) == len(sites)
        assert sum(map(len, chosen)) * features <= PAGE_FEATURES + features * 8
        held = [one for one in chosen if len(one)]
        assert (len(held), len(held[0])) == wanted
        assert chosen[0].tolist() == list(range(wanted[1]))


def test_only_a_page_takes_them(tmp_path, capsys):
    words = ["report", "--token-ids", "1,2,3", "--layer", "0"]
    assert main([*words, "-o", str(tmp_path / "a.html")]) == 0
    data = json.loads((tmp_path / "a.html").read_text().split('id="data">')[1].split("</script>")[0])
    assert len(data["grids"][0]["vectors"]["places"]) == 2 * 3
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inspection"]["vectors"] is None


@pytest.mark.browser
def test_fingers_are_not_told_of_arrow_keys(record, open_page):
    page = open_page(record, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    assert not page.is_visible("#keys")
    assert "arrow" not in page.inner_text("#cell")
    page = open_page(record)
    assert page.is_visible("#keys")


def shade(page, box):
    """How dark the right inner edge of an element is, beside its caption, 0 to 255."""
    picture = Image.open(io.BytesIO(page.screenshot(clip=box))).convert("L")
    return 255 - picture.getpixel((picture.width - 3, 8))


@pytest.mark.browser
def test_a_table_that_scrolls_shows_it(record, open_page):
    page = open_page(record, color_scheme="light")
    wide = page.locator(".scroll", has_text="In forward order").first
    wide.scroll_into_view_if_needed()
    # The shadow is black of 35% at most, and fades.
    assert shade(page, wide.bounding_box()) > 0.35 * 255 / 4
    wide.evaluate("node => { node.scrollLeft = node.scrollWidth; }")
    assert shade(page, wide.bounding_box()) == 0
    narrow = page.locator(".scroll", has_text="as counted").first
    narrow.scroll_into_view_if_needed()
    assert shade(page, narrow.bounding_box()) == 0


@pytest.mark.browser
def test_the_keyboard_reaches_every_cell(record, open_page):
    page = open_page(record, viewport={"width": 390, "height": 800})
    page.select_option("#sequence", "1")
    page.focus("#heatmap")
    values = grid(record, "sigma", 1)
    last = values.shape[1] - 1
    steps = (
        ("ArrowLeft", 0, 0),
        ("ArrowRight", 0, 1),
        ("ArrowDown", 1, 1),
        ("PageDown", 1, 11),
        ("End", 1, last),
        ("ArrowRight", 1, last),
        ("Control+End", 24, last),
        ("ArrowUp", 23, last),
        ("PageUp", 23, last - 10),
        ("Home", 23, 0),
        ("Control+Home", 0, 0),
    )
    for key, site, position in steps:
        page.keyboard.press(key)
        where, value = page.inner_text("#cell").rsplit(": sigma ", 1)
        assert where.startswith(f"{record.inspection.sites[site].name}, position {position} ")
        assert float(value) == six_digits(values[site, position])
    page.click("#values summary")
    page.select_option("#site", "24")
    shown = page.locator("#values-table tbody tr").nth(last).locator("td").all_inner_texts()
    assert [float(text) for text in shown[1:]] == [six_digits(grid(record, name, 1)[24, last]) for name in QUANTITIES]


@pytest.mark.browser
def test_hostile_text_stays_text(open_page, tmp_path):
    folder = tmp_path / "<img src=x onerror=alert(1)>\u202e"
    folder.symlink_to(BUNDLED["demo"])
    record = gpt2ln_cli.report(PROMPTS, model=folder, layers=[0, "final"])
    page = open_page(record)
    assert page.evaluate("[document.images.length, document.scripts.length]") == [0, 3]
    assert page.inner_text("h1").endswith(r"<img src=x onerror=alert(1)>\u202e")
    assert "\u202e" not in page.content()
    assert HOSTILE in page.inner_text(".prompts")
    assert shlex.split(page.locator("pre code").first.inner_text())[-2:] == PROMPTS
    call = ast.parse(page.locator("pre code").last.inner_text()).body[-1].value
    assert ast.literal_eval(call.args[0]) == PROMPTS
    page.select_option("#sequence", "1")
    hover(page, 0, 0)
    page.wait_for_selector(".tip")
    assert page.inner_text(".tip strong") == 'h.0.ln_1, position 0 "<"'


@pytest.mark.browser
def test_phones_paper_and_the_dark_have_a_page_too(record, open_page):
    page = open_page(record, color_scheme="dark", viewport={"width": 320, "height": 700}, has_touch=True)
    for width in (320, 390, 1600):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).color")
    page.emulate_media(color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).color") != dark
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    pictures = page.locator(".picture")
    assert pictures.count() == 2
    box = page.locator(".picture").first.bounding_box()
    assert box["width"] > 300
    colors = pictures.first.evaluate(
        """canvas => new Set(new Uint32Array(
          canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"""
    )
    assert colors > 100
    assert not page.locator("#controls").is_visible()
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert pictures.count() == 0


@pytest.mark.browser
def test_what_is_not_finite_and_what_has_no_text_is_shown_too(make_folder, open_page):
    record = gpt2ln_cli.report(
        [[1, 2, 3], [4]], model=make_folder(lambda body: body.h[1].ln_1.weight.data.fill_(float("nan")))
    )
    assert record.nonfinite > 0
    page = open_page(record)
    assert "NaN or infinite" in page.inner_text(".warnings")
    page.focus("#heatmap")
    for key in ("Control+End", "Control+End"):
        page.keyboard.press(key)
    assert page.inner_text("#cell") == "ln_f, position 0 id 1: sigma -"
    page.select_option("#sequence", "1")
    assert page.is_disabled("#zero")


def test_the_calls_reproduce_the_record(demo, tmp_path, capsys):
    prompts = ["war\n" * 400, "-"]  # neither can be an argument as it is; the first takes two windows
    record = gpt2ln_cli.report(prompts, model=demo, layers="3,final", sites=["ln_1", "ln_f"], bos=True,
                               overflow="window", batch_size=2, batch_tokens=2000)  # fmt: skip
    assert [piece.prompt for piece in record.inspection.prompts] == [0, 0, 1]
    names: dict = {}
    exec(record.reproduction.python, names)
    again = names["record"].inspection
    assert again.sites == record.inspection.sites
    assert [piece.token_ids for piece in again.prompts] == [piece.token_ids for piece in record.inspection.prompts]
    output = tmp_path / "report.html"
    words = [str(output) if word == "report.html" else word for word in record.reproduction.command]
    assert main(words[1:]) == 0
    values = [re.search(r'"values":"([^"]*)"', page)[1] for page in (page_of(record), output.read_text("utf-8"))]
    assert values[0] == values[1]
    assert capsys.readouterr().out == ""


def test_the_page_goes_to_a_file_or_a_pipe_but_not_to_a_terminal(capsys):
    assert main(["report", "ok", "--layer", "0"]) == 0
    assert capsys.readouterr().out.startswith("<!doctype html>")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    with contextlib.redirect_stdout(terminal):
        assert main(["report", "ok"]) == 2
    assert "html is not for a terminal; use --output FILE" in capsys.readouterr().err
    assert terminal.getvalue() == ""


def test_the_calls_name_the_heads_that_the_file_does_not(make_folder, tmp_path):
    import gpt2ln_cli.model

    file = tmp_path / "alone.safetensors"
    shutil.copy(make_folder() / "model.safetensors", file)
    record = gpt2ln_cli.report([[1, 2]], model=gpt2ln_cli.model.load(file, heads=3))
    assert shlex.join(["--heads", "3"]) in shlex.join(record.reproduction.command)
    assert "heads=3" in record.reproduction.python


def test_strict_minds_the_checks(capsys, make_folder, monkeypatch, tmp_path):
    from gpt2ln_cli.commands.verify import compute as verify

    plain = verify.axis
    monkeypatch.setattr(verify, "axis", lambda *given: msgspec.structs.replace(plain(*given), verdict="no"))
    words = ["report", "--token-ids", "1,2", "--model", str(make_folder()), "-o", str(tmp_path / "page.html")]
    assert main(words) == 0
    assert main([*words, "--strict"]) == 1
    assert "otherwise than in GPT-2 came out axis" in capsys.readouterr().err
