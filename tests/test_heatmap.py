"""The heatmap, read back from the terminal's codes, shows the record's numbers."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import msgspec
import numpy as np
import pytest

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.inspect.view import view
from gpt2ln_cli.output.colors import VIRIDIS, VIRIDIS_256, colored
from gpt2ln_cli.quantities import QUANTITIES

PROMPTS = ["The war was over, but the hatred was not.", "war violence hate fear"]
LONG = list(range(100, 500))
TRUECOLOR = {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color"}
EIGHT_BIT = {"FORCE_COLOR": "1", "COLORTERM": "", "TERM": "xterm-256color"}
SIXTEEN = {"FORCE_COLOR": "1", "COLORTERM": "", "TERM": "xterm-16color"}
CODE = re.compile(r"\x1b\[([\d;]*)m")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def short(demo):
    return gpt2ln_cli.inspect(PROMPTS, model=demo, per_token=True)


@pytest.fixture(scope="session")
def long(demo):
    return gpt2ln_cli.inspect([LONG], model=demo, per_token=True, layers=[5, "final"])


@pytest.fixture
def draw(monkeypatch):
    """The heatmap as text, in a terminal of the given width and kind."""

    def draw(record, quantity="sigma", *, width=80, terminal=None, stream=None):
        for name in ("FORCE_COLOR", "NO_COLOR", "COLORTERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"COLUMNS": str(width), **(terminal or {})}.items():
            monkeypatch.setenv(name, value)
        stream = stream or io.StringIO()
        output.write(view(record, heatmap=quantity), "table", stream)
        return stream.getvalue()

    return draw


def plain(text):
    return CODE.sub("", text)


def drawn(text, site):
    """The lines of a site, one for each sequence, as pairs of a character and its background's code."""
    lines = []
    for line in text.split("\n"):
        if not plain(line).startswith(f"{site} "):
            continue
        cells, background, end = [], None, 0
        for code in CODE.finditer(line):
            cells += [(character, background) for character in line[end : code.start()]]
            background = code[1] if code[1].startswith("48;") else None
            end = code.end()
        lines.append(cells + [(character, background) for character in line[end:]])
    return lines


def numbers(record, quantity):
    """Of each sequence a dictionary from (site, position) to the number."""
    found = [{} for _ in record.prompts]
    for row in record.rows:
        found[row.sequence][row.site, row.position] = getattr(row, quantity)
    return found


def shares(values):
    """Where each number lies between the least and the greatest, position 0 and the later ones apart."""
    spans = {}
    for is_first in (True, False):
        chosen = [value for one in values for (_, position), value in one.items() if (position == 0) == is_first]
        spans[is_first] = (min(chosen), max(chosen))
    return [
        {
            (site, position): (value - spans[position == 0][0]) / np.ptp(spans[position == 0])
            for (site, position), value in one.items()
        }
        for one in values
    ]


def matplotlibs_viridis(share):
    """The colour at a share of the scale, between the 256 entries of matplotlib's table."""
    table = 255 * matplotlib.colormaps["viridis"](np.arange(256))[:, :3]
    return np.stack([np.interp(share, np.linspace(0, 1, 256), table[:, channel]) for channel in range(3)], axis=-1)


def columns(cells, label, width, count):
    """A line's cells, position 0 first: each must be of one kind over its whole width."""
    body = cells[label:]
    first, gap, rest = body[:width], body[width : width + 2], body[width + 2 :]
    assert gap == [(" ", None)] * 2
    assert len(rest) == width * count
    parts = [first, *(rest[start : start + width] for start in range(0, len(rest), width))]
    assert all(len(set(part)) == 1 for part in parts)
    return [part[0] for part in parts]


@pytest.mark.parametrize("quantity", ["mean", "excess_kurtosis"])
def test_truecolor_is_blue_below_0_and_red_above(short, draw, quantity):
    text = draw(short, quantity, terminal=TRUECOLOR)
    reach = {
        first: max(abs(getattr(row, quantity)) for row in short.rows if (row.position == 0) is first)
        for first in (True, False)
    }
    values = numbers(short, quantity)
    for site in short.sites:
        for prompt, cells in zip(short.prompts, drawn(text, site.name), strict=True):
            for position, (_, code) in enumerate(columns(cells, label=11, width=4, count=prompt.length - 1)):
                value = values[prompt.index][site.name, position] / reach[position == 0]
                table = 255 * matplotlib.colormaps["RdBu_r"](np.arange(256))[:, :3]
                right = [np.interp(value, np.linspace(-1, 1, 256), table[:, channel]) for channel in range(3)]
                color = [int(part) for part in code.removeprefix("48;2;").split(";")]
                assert np.abs(np.array(color) - right).max() <= 2
    assert "0 in its middle" in plain(text)


def test_without_colours_the_sign_is_a_shape(short, draw):
    text = draw(short, "mean")
    values = numbers(short, "mean")
    for site in short.sites:
        for prompt, cells in zip(short.prompts, drawn(text, site.name), strict=True):
            for position, (character, _) in enumerate(columns(cells, label=11, width=4, count=prompt.length - 1)):
                value = values[prompt.index][site.name, position]
                assert character in ("▼▽·" if value < 0 else "·△▲")


@pytest.mark.parametrize("quantity", ["sigma", "participation"])
def test_truecolor_is_viridis_of_the_record_with_position_0_apart(short, draw, quantity):
    text = draw(short, quantity, terminal=TRUECOLOR)
    expected = shares(numbers(short, quantity))
    for site in short.sites:
        lines = drawn(text, site.name)
        assert len(lines) == len(PROMPTS)
        for prompt, cells in zip(short.prompts, lines, strict=True):
            found = columns(cells, label=11, width=4, count=prompt.length - 1)
            for position, (character, code) in enumerate(found):
                assert character == " "
                color = np.array([int(part) for part in code.removeprefix("48;2;").split(";")])
                right = matplotlibs_viridis(expected[prompt.index][site.name, position])
                assert np.abs(color - right).max() <= 2


def test_viridis_is_matplotlibs():
    table = matplotlibs_viridis(np.linspace(0, 1, 256))
    ours = np.array([colored(index / 255, VIRIDIS) for index in range(256)])
    assert np.abs(ours - table).max() <= 2
    assert (colored(-1, VIRIDIS), colored(2, VIRIDIS)) == (colored(0, VIRIDIS), colored(1, VIRIDIS))


def test_the_256_colours_grow_lighter_as_viridis_does():
    levels = np.array([0, 95, 135, 175, 215, 255])
    indices = np.array(VIRIDIS_256) - 16
    assert indices.min() >= 0
    assert indices.max() < 216  # of the colour cube, which no terminal's theme changes
    colors = levels[np.stack([indices // 36, indices // 6 % 6, indices % 6])].T
    wanted = matplotlibs_viridis(np.linspace(0, 1, len(colors)))

    def lightness(rgb):
        part = rgb / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        return 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16

    assert (np.diff(lightness(colors)) > 3).all()
    assert np.abs(lightness(colors) - lightness(wanted)).max() < 9


@pytest.mark.parametrize(
    ("terminal", "encoding", "steps"),
    [
        (EIGHT_BIT, "utf-8", [f"48;5;{color}" for color in VIRIDIS_256]),
        (SIXTEEN, "utf-8", "·░▒▓█"),
        ({**TRUECOLOR, "NO_COLOR": "1"}, "utf-8", "·░▒▓█"),
        ({**EIGHT_BIT, "TERM": "dumb"}, "utf-8", "·░▒▓█"),
        ({}, "utf-8", "·░▒▓█"),
        ({}, "ascii", ".:-=+*#%@"),
    ],
    ids=["256", "16", "NO_COLOR", "dumb", "pipe", "ascii"],
)
def test_fewer_colours_are_equal_steps_of_the_scale(short, draw, terminal, encoding, steps):
    binary = io.BytesIO()
    stream = io.TextIOWrapper(binary, encoding=encoding, write_through=True)
    stream.getvalue = lambda: binary.getvalue().decode(encoding)
    text = draw(short, terminal=terminal, stream=stream)
    expected = shares(numbers(short, "sigma"))
    seen = set()
    for site in short.sites:
        for prompt, cells in zip(short.prompts, drawn(text, site.name), strict=True):
            for position, cell in enumerate(columns(cells, label=11, width=4, count=prompt.length - 1)):
                share = expected[prompt.index][site.name, position]
                step = min(int(np.floor(share * len(steps))), len(steps) - 1)
                assert cell == ((" ", steps[step]) if terminal is EIGHT_BIT else (steps[step], None))
                seen.add(step)
    assert len(seen) >= 4
    if not terminal:
        assert "\x1b" not in text


def test_more_tokens_than_columns_are_averaged_and_said(long, draw):
    text = draw(long, width=50, terminal=TRUECOLOR)
    (size,) = re.findall(r"is the mean of (\d+) tokens", " ".join(text.split()))
    size = int(size)
    values = numbers(long, "sigma")[0]
    binned = {}
    for site in long.sites:
        for column, start in enumerate(range(1, len(LONG), size)):
            members = [values[site.name, position] for position in range(start, min(start + size, len(LONG)))]
            binned[site.name, 1 + column] = sum(members) / len(members)
    count = max(column for _, column in binned)
    assert (
        count + 2 + 2 + 10 <= 50 < -(-(len(LONG) - 1) // (size - 1)) + 2 + 2 + 10
    )  # as many columns as there is room for
    assert f"the last one of {(len(LONG) - 1) % size})" in " ".join(text.split())
    (expected,) = shares([{**{key: values[key] for key in values if key[1] == 0}, **binned}])
    for site in long.sites:
        ((*cells,),) = drawn(text, site.name)
        body = [code for _, code in cells[10:]]
        assert body[0] == body[1]
        for column, code in enumerate([body[0], *body[4:]]):
            color = np.array([int(part) for part in code.split(";")[2:]])
            assert np.abs(color - matplotlibs_viridis(expected[site.name, column])).max() <= 2
    (axis,) = [plain(line) for line in text.split("\n") if plain(line).startswith("position ") and " 1 " in line]
    for label in re.finditer(r"\d+", axis):
        place = label.start() - 10
        assert int(label[0]) == (0 if place == 0 else 1 + (place - 4) * size)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_every_width_is_kept_and_no_token_lost(short, long, draw, width):
    for record in (short, long):
        text = draw(record, "mean_share", width=width)
        assert max(map(len, text.split("\n"))) <= width
        assert "…" not in text
    text = draw(short, width=width)
    for prompt in short.prompts:
        # Its title stands above its tokens, and above its drawing too where sequences share lines.
        listed = re.findall(
            r'(\d+) "([^"]*)"', text.rpartition(f"\nsequence {prompt.index}")[2].partition("\nsequence")[0]
        )
        assert [name for _, name in listed] == prompt.tokens
        assert [int(position) for position, _ in listed] == list(range(prompt.length))
    spread = [value for (_, position), value in numbers(short, "sigma")[0].items() if position]
    spread += [value for (_, position), value in numbers(short, "sigma")[1].items() if position]
    (legend,) = [line.split() for line in text.split("\n") if line.startswith("rest ")]
    assert [float(legend[1]), float(legend[-1])] == pytest.approx([min(spread), max(spread)], rel=5e-4)


def test_positions_stand_below_their_columns(short, draw):
    axis = next(line for line in draw(short).split("\n") if line.startswith("position "))
    for label in re.finditer(r"\d+", axis):
        position = int(label[0])
        assert label.start() == (11 if position == 0 else 11 + 4 + 2 + 4 * (position - 1))
    assert [int(label) for label in re.findall(r"\d+", axis)] == list(range(short.prompts[0].length))


def test_what_is_not_finite_has_a_mark_and_equal_numbers_no_colours(short, draw):
    def changed(change):
        return msgspec.structs.replace(
            short, rows=[msgspec.structs.replace(row, sigma=change(row)) for row in short.rows]
        )

    missing = changed(lambda row: None if (row.site, row.position) == ("ln_f", 2) else row.sigma)
    cells = columns(drawn(draw(missing, terminal=TRUECOLOR), "ln_f")[0], label=11, width=4, count=10)
    assert [cell == ("?", None) for cell in cells] == [position == 2 for position in range(11)]
    assert "? stands where" in draw(missing)
    assert "? stands where" not in draw(short)
    assert draw(changed(lambda _: None)).count(" no finite number\n") == 2
    rounding = changed(lambda row: 9.797958 + 1e-7 * (row.token_id % 2))
    text = draw(rounding)
    assert text.count("9.798 ·· everywhere") == 2
    assert not set("░▒▓█") & set(text)


def test_one_token_has_no_scale_of_the_rest(demo, draw):
    text = draw(gpt2ln_cli.inspect([[5]], model=demo, per_token=True, layers=5))
    assert "\nrest" not in text
    assert [len(line) for line in drawn(text, "h.5.ln_1") + drawn(text, "h.5.ln_2")] == [10 + 4] * 2


def test_every_quantity_is_defined():
    fields = gpt2ln_cli.schema("stats")["$defs"]["Row"]["properties"]
    assert all(fields[name]["description"] for name in QUANTITIES)


def test_the_command_draws_escapes_and_refuses(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "100")
    words = ["inspect", "--heatmap", "sigma", "--layer", "5"]
    assert main([*words, "\x1b[31mred\u202e [bold]"]) == 0
    out = capsys.readouterr().out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", out)
    assert r'"\x1b"' in out
    assert "demo (bundled with gpt2ln)" in out
    assert main([*words, "x", "-o", str(tmp_path / "map.txt")]) == 0
    assert "h.5.ln_2  " in (tmp_path / "map.txt").read_text(encoding="utf-8")
    capsys.readouterr()
    for wrong in (["--json"], ["--format", "json"], ["--per-token"]):
        assert main([*words, *wrong, "x"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "--heatmap is a picture" in captured.err


def test_the_pages_pictures_are_whole_small_and_fetch_nothing():
    pages = [ROOT / "README.md", *(ROOT / "gpt2ln_cli" / "docs").glob("*.md")]
    files = [
        (page.parent / name).resolve()
        for page in pages
        for name in re.findall(r"!\[[^]]+\]\((\S+)\)", page.read_text(encoding="utf-8"))
    ]
    assert sorted(files) == sorted((ROOT / ".pictures").iterdir())
    assert sum(file.stat().st_size for file in files) < 450_000
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert not re.search(r"(?:href|src)\s*=\s*[\"'](?!#|data:)|url\((?!#)|@import", text)
    heatmap = (ROOT / ".pictures" / "heatmap.svg").read_text(encoding="utf-8")
    assert len(set(re.findall(r'fill="(#[0-9a-f]{6})"', heatmap))) > 50


@pytest.mark.parametrize(("width", "lines"), [(80, [3, 1]), (140, [4]), (40, [1, 1, 1, 1])])
def test_short_prompts_share_lines(demo, draw, width, lines):
    """Each is where it would be alone, with the colours of all."""
    prompts = [[1, 2, 3, 4], [5, 6, 7], [8, 9], [10] * 5]
    record = gpt2ln_cli.inspect(prompts, model=demo, per_token=True, layers=0)
    text = draw(record, terminal=TRUECOLOR, width=width)
    assert max(map(len, plain(text).split("\n"))) <= width
    labels = [line.split()[1:].count("0") for line in plain(text).split("\n") if line.startswith("position  ")]
    assert labels == lines
    expected = shares(numbers(record, "sigma"))
    for site in record.sites:
        found = drawn(text, site.name)
        assert len(found) == len(lines)
        assert not any(cells[-1] == (" ", None) for cells in found)
        colors = [code for cells in found for _, code in cells if code is not None]
        wanted = [
            matplotlibs_viridis(expected[prompt.index][site.name, position])
            for prompt in record.prompts
            for position in range(prompt.length)
        ]
        assert len(colors) == 4 * len(wanted)
        for color, right in zip(colors[::4], wanted, strict=True):
            painted = np.array([int(part) for part in color.removeprefix("48;2;").split(";")])
            assert np.abs(painted - right).max() <= 2
    for prompt in record.prompts:
        for token in prompt.tokens:
            assert f'"{token}"' in plain(text)
