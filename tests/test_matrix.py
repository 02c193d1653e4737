"""A matrix shows its shares: whole percentages, on colours that tell above from below 0, in terminal and page."""

from __future__ import annotations

import io
import re

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.output.blocks import View
from gpt2ln_cli.output.matrix import NOTHING, Matrix
from gpt2ln_cli.output.shaded import ABOVE, BELOW, lines

MATRIX = Matrix(
    "Shares",
    ["h.0.ln_1", "ln_f"],
    ["wte", "0\nattn", "<b>\x1b"],
    [[0.8, None, 0.001], [0.404, -0.8, -0.01]],
)


def text(width=80, **how):
    return [line.plain.rstrip() for line in lines(MATRIX, width, **how)]


def test_every_share_is_a_whole_percentage_under_its_name():
    title, _, above, names, first, last = text()
    assert title == "Shares"
    assert above.split() == ["0"]
    assert above.index("0") == names.index("attn") + 3
    assert names.split() == ["wte", "attn", "<b>\\x1b"]
    assert first.split() == ["h.0.ln_1", "80", NOTHING]
    assert last.split() == ["ln_f", "40", "-80", "-1"]
    assert text(ascii_only=True)[4].split() == ["h.0.ln_1", "80", "."]


def test_what_does_not_fit_goes_on_below():
    found = text(width=22)
    assert max(map(len, found)) <= 22
    assert [line.split() for line in found if line.startswith("ln_f")] == [
        ["ln_f", "40"],
        ["ln_f", "-80"],
        ["ln_f", "-1"],
    ]


def test_colours_tell_above_from_below_and_grow_with_the_share():
    styles = {}
    for line in lines(MATRIX, 80):
        for span in line.spans:
            styles[line.plain[span.start : span.end].strip()] = str(span.style)
    red, green, blue = ABOVE
    assert f"rgb({red},{green},{blue})" in styles["80"]
    red, green, blue = BELOW
    assert f"rgb({red},{green},{blue})" in styles["-80"]
    assert "on rgb" in styles["40"]
    assert styles["40"] != styles["80"]
    assert "on rgb" in styles["-1"]  # below 0 is seen however little it is
    assert not styles.get(NOTHING)


def test_the_page_has_it_as_a_table_whose_names_are_text_alone():
    stream = io.StringIO()
    output.write(View(gpt2ln_cli.count(), [MATRIX]), "html", stream)
    page = stream.getvalue()
    cells = re.findall(r'<td(?: class="([^"]*)")?>([^<]*)</td>', page)
    assert [cell for cell in cells if cell[1]] == [
        ("above step-5", "80"),
        ("", NOTHING),
        ("above step-3", "40"),
        ("below step-5", "-80"),
        ("below step-1", "-1"),
    ]
    assert "&lt;b&gt;\\x1b" in page
    assert "<b>" not in page
    assert all(f".step-{step} " in page for step in range(1, 6))
