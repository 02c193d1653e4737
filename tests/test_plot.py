"""Figures show the record's numbers, say what they are, and come out the same again."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib
import msgspec
import numpy as np
import pytest
from altered import altered, layer_norms, untrained
from matplotlib.text import Text

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.params.describe import describe_gain
from gpt2ln_cli.commands.plot import figures as plots
from gpt2ln_cli.commands.plot.compute import steps
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.measure.axes import Axis
from gpt2ln_cli.records import Spread

PROMPTS = ["the war was over", "hate"]
# Of the 25 sites of 12 layers on the layer axis.
PLACES = [layer + side for layer in range(12) for side in (-0.25, 0.25)] + [12]
SEED_FREE = """
import hashlib, io, gpt2ln_cli
from gpt2ln_cli.commands.plot import figures as plots
for image_format in plots.FORMATS:
    stream = io.BytesIO()
    plots.save(plots.draw("gain", gpt2ln_cli.params(features=96, layers=3)), stream, image_format)
    print(hashlib.sha256(stream.getvalue()).hexdigest())
"""


@pytest.fixture(scope="module")
def inspection(demo):
    return gpt2ln_cli.inspect(PROMPTS, model=demo, per_token=True)


@pytest.fixture(scope="module")
def parameters():
    return gpt2ln_cli.params(features=96)


@pytest.fixture(scope="module")
def verification(demo):
    return gpt2ln_cli.verify(PROMPTS, model=demo)


@pytest.fixture(scope="module")
def ablation(demo):
    return gpt2ln_cli.ablate(PROMPTS, model=demo)


@pytest.fixture(scope="module")
def two(demo):
    return steps(["ok", "hatred"], layers=6, model=demo)


@pytest.fixture(scope="module")
def tracked():
    grown = altered(lambda body: [one.weight.mul_(3).sub_(1) for one in layer_norms(body)], untrained(12))
    return gpt2ln_cli.track([untrained(12), grown], [[1, 2, 3], [4, 5]])


@pytest.fixture(scope="module")
def records(demo, inspection, parameters, verification, ablation, two, tracked):
    return {
        "sigma": inspection,
        "gain": parameters,
        "heatmap": inspection,
        "axis": verification,
        "ablation": ablation,
        "steps": two,
        "features": gpt2ln_cli.features(PROMPTS, model=demo),
        "attribute": gpt2ln_cli.attribute(PROMPTS, model=demo),
        "track": tracked,
        "profile": gpt2ln_cli.profile(PROMPTS, model=demo, threads=1),
    }


def saved(figure, image_format):
    stream = io.BytesIO()
    plots.save(figure, stream, image_format)
    return stream.getvalue()


def line(axes, label):
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return found


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


def changed(record, **fields):
    return msgspec.structs.replace(record, **fields)


def test_sigma_draws_the_means_and_the_range(inspection):
    (axes,) = plots.draw("sigma", inspection).axes
    for label, part in (("position 0", "first"), ("later positions", "rest")):
        drawn = line(axes, label)
        assert list(drawn.get_ydata()) == [getattr(site, part).sigma.mean for site in inspection.sites]
        assert list(drawn.get_xdata()) == PLACES
        marks = {kind: line(axes, f"{label}, {kind}") for kind in ("ln_1", "ln_2", "ln_f")}
        for kind, mark in marks.items():
            of_kind = [getattr(site, part).sigma.mean for site in inspection.sites if site.kind == kind]
            assert list(mark.get_ydata()) == of_kind
        assert len({mark.get_marker() for mark in marks.values()}) == 3
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    for x, site in zip(line(axes, "position 0").get_xdata(), inspection.sites, strict=True):
        spread = {y for at, y in corners if at == x}
        assert {site.rest.sigma.min, site.rest.sigma.max} <= spread
    assert axes.get_yscale() == "linear"
    assert axes.get_ylabel() == "mean of sigma over tokens\n(residual-stream units)"
    assert axes.get_xlabel() == "layer"
    assert [label.get_text() for label in axes.get_xticklabels()] == [*map(str, range(12)), "ln_f"]
    drawn = {text for legend in axes.figure.legends for text in (one.get_text() for one in legend.get_texts())}
    assert {"position 0", "later positions", "ln_1", "ln_2", "ln_f"} <= drawn


@pytest.mark.parametrize(("least", "labels"), [(14.0, ["20", "50"]), (0.09, ["0.1", "1", "10", "100"])])
def test_sigma_of_a_far_larger_position_0_is_on_a_log_axis_that_says_so(inspection, least, labels):
    sigmas = {"first": Spread(mean=80.0, min=80.0, max=80.0), "rest": Spread(mean=15.0, min=least, max=16.0)}
    sites = [
        changed(site, **{part: changed(getattr(site, part), sigma=sigma) for part, sigma in sigmas.items()})
        for site in inspection.sites
    ]
    (axes,) = plots.draw("sigma", changed(inspection, sites=sites)).axes
    assert axes.get_yscale() == "log"
    assert "log scale" in axes.get_ylabel()
    low, high = axes.get_ylim()
    shown = {one.label1.get_text(): one.get_loc() for one in axes.yaxis.get_major_ticks()}
    assert [label for label, place in shown.items() if low <= place <= high] == labels
    assert all(float(label) == pytest.approx(place) for label, place in shown.items())


def test_gain_draws_every_distribution_and_names_the_farthest_outliers(parameters, plain_demo):
    figure = plots.draw("gain", parameters)
    modules = dict(plain_demo.named_modules())
    for axes, part, unit in zip(figure.axes, ("weight", "bias"), ("factor on xhat", "gain * xhat"), strict=True):
        assert unit in axes.get_ylabel()
        for kind in ("ln_1", "ln_2", "ln_f"):
            sites = [site.name for site in parameters.sites if site.kind == kind]
            values = [getattr(modules[name], part).detach().double().numpy() for name in sites]
            (boxes,) = [one for one in axes.containers if one.get_label() == f"{kind} box"]
            (whiskers,) = [one for one in axes.collections if one.get_label() == f"{kind} range"]
            drawn = [
                (segment[0, 1], box.get_y(), median, box.get_y() + box.get_height(), segment[1, 1])
                for segment, box, median in zip(
                    whiskers.get_segments(), boxes, line(axes, f"{kind} median").get_ydata(), strict=True
                )
            ]
            np.testing.assert_allclose(drawn, np.quantile(values, (0, 0.25, 0.5, 0.75, 1), axis=1).T, rtol=1e-9)
        outliers = {}  # by where they are drawn
        for x, site in zip(PLACES, parameters.sites, strict=True):
            values = getattr(modules[site.name], part).detach().double().numpy()
            lower, upper = np.quantile(values, (0.25, 0.75))
            for index, value in enumerate(values):
                distance = max(lower - value, value - upper)
                if distance > 3 * (upper - lower):
                    outliers[x, value] = (distance, str(index))
        points = line(axes, "outliers")
        assert set(zip(points.get_xdata(), points.get_ydata(), strict=True)) == set(outliers)
        named = {text.xy: text.get_text() for text in axes.texts}
        assert named.items() <= {place: index for place, (_, index) in outliers.items()}.items()
        assert named[max(outliers, key=outliers.get)] == max(outliers.values())[1]


@pytest.mark.parametrize("size", [1, 2, 5, 24])
def test_quartiles_are_numpys(size):
    values = np.random.default_rng(size).normal(size=size)
    gain = describe_gain(values)
    expected = np.quantile(values, (0.25, 0.5, 0.75))
    assert [gain.lower_quartile, gain.median, gain.upper_quartile] == pytest.approx(expected, rel=1e-14)
    unknown = describe_gain(np.append(values, np.nan))
    assert np.isnan([unknown.lower_quartile, unknown.median, unknown.upper_quartile]).all()


@pytest.mark.parametrize("quantity", ["sigma", "excess_kurtosis"])
def test_the_heatmap_shows_every_number_and_position_0_on_its_own_scale(inspection, quantity):
    figure = plots.draw("heatmap", inspection, quantity=quantity)
    *panels, first_bar, rest_bar = figure.axes
    everything = {True: [], False: []}
    for axes, (sequence, is_first) in zip(panels, [(0, True), (0, False), (1, True), (1, False)], strict=True):
        length = inspection.prompts[sequence].length
        rows = [row for row in inspection.rows if row.sequence == sequence and (row.position == 0) is is_first]
        (mesh,) = axes.collections
        expected = [
            [getattr(row, quantity) for row in rows if row.site == site.name] for site in inspection.sites
        ]  # rows come by position
        assert mesh.get_array().tolist() == expected
        assert (mesh.norm.vmin, mesh.norm.vmax) == (first_bar if is_first else rest_bar).get_xlim()
        everything[is_first] += itertools.chain(*expected)
        tokens = [token.replace(" ", "␣") for token in inspection.prompts[sequence].tokens]
        assert [label.get_text() for label in axes.get_xticklabels()] == (tokens[:1] if is_first else tokens[1:length])
    for bar, is_first in ((first_bar, True), (rest_bar, False)):
        reach = max(map(abs, everything[is_first]))
        ends = (-reach, reach) if quantity == "excess_kurtosis" else (min(everything[is_first]), reach)
        assert bar.get_xlim() == ends
        name = {"sigma": "sigma, {}\n(residual-stream units)", "excess_kurtosis": "excess kurtosis of x, {}\n(no unit)"}
        assert bar.get_xlabel() == name[quantity].format("position 0" if is_first else "later positions")


def test_the_axis_trial_draws_every_error_and_marks_gpt2s_own_and_rounding(verification):
    (axes,) = plots.draw("axis", verification).axes
    assert axes.get_xscale() == "log"
    for row, one in enumerate(verification.readings):
        assert (line(axes, one.reading).get_xdata(), line(axes, one.reading).get_ydata()) == ([one.rms], [row])
    names = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    assert names == [one.reading for one in verification.readings]
    own, *others = [line(axes, one.reading) for one in verification.readings]
    assert own.get_marker() not in {other.get_marker() for other in others}
    assert axes.get_yticklabels()[0].get_fontweight() == "bold"
    rounding = verification.rounding
    assert rounding < 1e-5
    assert axes.patches[0].get_extents().transformed(axes.transData.inverted()).x1 == pytest.approx(rounding)
    assert [one.rms <= rounding for one in verification.readings] == [one.is_gpt2 for one in verification.readings]
    assert "rms error" in axes.get_xlabel()
    assert "log scale" in axes.get_xlabel()


def test_errors_of_zero_and_none_are_on_the_axis_trial(verification):
    readings = [
        changed(one, rms={Axis.PER_TOKEN.value: 0.0, Axis.PER_HEAD.value: None}.get(one.reading, one.rms))
        for one in verification.readings
    ]
    (axes,) = plots.draw("axis", changed(verification, readings=readings)).axes
    assert line(axes, Axis.PER_TOKEN.value).get_xdata() == [axes.get_xlim()[0]]
    assert line(axes, Axis.PER_TOKEN.value).get_marker() == "<"
    notes = {round(text.xy[1]): text.get_text() for text in axes.texts}
    assert (notes[0], notes[5]) == ("0 (100%)", "not finite")


def test_the_ablation_ladder_is_sorted_with_errors_and_nothing_presses_it_together(ablation):
    (axes,) = plots.draw("ablation", ablation).axes
    ladder = sorted(ablation.replaced, key=lambda one: one.loss_difference)
    assert [label.get_text() for label in axes.get_yticklabels()] == [one.name for one in ladder]
    bars = {bar.get_label(): bar for bar in axes.containers}
    (off,) = set(axes.get_legend_handles_labels()[1]) - set(bars)
    assert off == "identity"
    right = axes.get_xlim()[1]
    assert line(axes, off).get_xdata() == [right]
    assert ablation.replaced[0].loss_difference > 1000 * right
    markers = {False: set(), True: set()}
    for row, one in enumerate(ladder):
        texts = [text.get_text() for text in axes.texts if round(text.xy[1]) == row]
        mantissa, _, exponent = f"{one.loss_difference:#.3g}".partition("e")
        assert mantissa.rstrip(".").replace("-", "\N{MINUS SIGN}") in texts[0]
        assert ("off the scale" in texts) == bool(exponent) == (one.name == off)
        if one.name == off:
            continue
        mark, _, (error,) = bars[one.name]
        assert (mark.get_xdata(), mark.get_ydata()) == ([one.loss_difference], [row])
        ends = error.get_segments()[0][:, 0]
        assert ends == pytest.approx(one.loss_difference + one.standard_error * np.array([-1, 1]))
        markers[one.looks_ahead].add(mark.get_marker())
    assert not markers[True] & markers[False]
    assert "nats" in axes.get_xlabel()


def test_a_training_run_draws_every_site_at_every_step(tracked):
    figure = plots.draw("track", tracked)
    panels = [axes for axes in figure.axes if axes.lines]
    quantities = (
        lambda site: site.gain.rms_distance,
        lambda site: site.bias.rms_distance,
        lambda site: site.first.sigma.mean,
        lambda site: site.rest.sigma.mean,
    )
    assert [axes.get_title() for axes in panels[:2]] == ["ln_1", "ln_2 and ln_f"]
    for of, left, right in zip(quantities, panels[::2], panels[1::2], strict=True):
        lines = {one.get_label(): one for one in (*left.lines, *right.lines)}
        assert {one.get_label() for one in left.lines} == {f"h.{layer}.ln_1" for layer in range(12)}
        assert list(lines["ln_f"].get_xdata()) == [0, 1]
        for place, site in enumerate(tracked.checkpoints[0].sites):
            expected = [of(one.sites[place]) for one in tracked.checkpoints]
            assert list(lines[site.name].get_ydata()) == expected
    assert panels[4].get_yscale() == "log"
    damaged = changed(tracked.checkpoints[0], error="it is damaged", sites=[])
    alone = plots.draw("track", changed(tracked, prompts=None, checkpoints=[damaged, tracked.checkpoints[1]]))
    assert [list(one.get_xdata()) for axes in alone.axes for one in axes.lines] == [[1]] * 50


def test_a_training_run_is_drawn_by_the_command(tmp_path, capsys):
    assert main(["plot", "track", "-o", str(tmp_path / "a.svg")]) == 2
    assert "needs a CHECKPOINT" in capsys.readouterr().err
    for words in (["--model", "demo"], ["--quantity", "sigma"]):
        assert main(["plot", "track", "demo", *words, "-o", str(tmp_path / "a.svg")]) == 2
    assert main(["plot", "sigma", "--revisions", "*", "-o", str(tmp_path / "a.svg")]) == 2
    assert main(["plot", "track", "demo", "--token-ids", "1,2", "-o", str(tmp_path / "a.svg")]) == 0
    assert (tmp_path / "a.svg").stat().st_size


@pytest.mark.parametrize("kind", plots.KINDS)
def test_every_kind_fits_a_column_in_legible_type_and_its_svg_needs_nothing_else(kind, records):
    figure = plots.draw(kind, records[kind])
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()) >= 7
    svg = saved(figure, "svg")
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    # 3.5 inches, and both columns where two panels stand beside each other or many bars in one.
    assert root.get("width") == ("504pt" if kind in ("steps", "features", "attribute") else "252pt")
    links = [value for node in root.iter() for name, value in node.attrib.items() if name.endswith("href")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert b"@font-face" not in svg
    inside = figure.get_tightbbox()
    assert min(inside.x0, inside.y0) >= -0.02
    assert inside.x1 <= figure.get_figwidth() + 0.02
    assert inside.y1 <= figure.get_figheight() + 0.02


def test_png_has_300_dots_per_inch_and_pdf_embeds_truetype_without_a_date(inspection):
    figure = plots.draw("sigma", inspection)
    png, pdf = saved(figure, "png"), saved(figure, "pdf")
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(png[16:20], "big") == 1050
    assert pdf[:5] == b"%PDF-"
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert not re.search(rb"CreationDate|ModDate", pdf)


@pytest.mark.slow
def test_bytes_are_the_same_again_whatever_the_users_style_and_in_another_process():
    parameters = gpt2ln_cli.params(features=96, layers=3)
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 20, "lines.linewidth": 7}):
        before = dict(matplotlib.rcParams)
        images = [saved(plots.draw("gain", parameters), image_format) for image_format in plots.FORMATS]
        assert dict(matplotlib.rcParams) == before
    environment = {**os.environ, "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SEED_FREE], capture_output=True, text=True, env=environment, timeout=120, check=True
    )
    assert done.stdout.split() == [hashlib.sha256(image).hexdigest() for image in images]


def test_hostile_tokens_are_shown_and_nothing_more(inspection):
    hostile = ["<script>x</script>", "$x^2$", "\x1b[31m\n", "\u202e", "漢", "😀", "x" * 500, "\ud800"]
    prompt = changed(
        inspection.prompts[0], tokens=["$\\frac$", *hostile], length=9, token_ids=list(range(9)), text="<!-- -->"
    )
    model = changed(inspection.model, name="</title><script>\x1b--></metadata>")
    figure = plots.draw("heatmap", changed(inspection, model=model, prompts=[prompt], rows=[]))
    shown = [label.get_text() for axes in figure.axes[:2] for label in axes.get_xticklabels()]
    assert shown[:2] == ["$\\frac$", "<script>x</sc…"]
    assert shown[2:] == ["$x^2$", "\\x1b[31m\\n", "\\u202e", "\\u6f22", "😀", "x" * 13 + "…", "\\ud800"]
    root = ET.fromstring(saved(figure, "svg"))
    assert not [node for node in root.iter() if "script" in str(node.tag)]
    title = next(root.iter("{http://purl.org/dc/elements/1.1/}title"))
    assert title.text == "gpt2ln plot heatmap: </title><script>\\x1b--></metadata>"
    assert saved(figure, "pdf")[:5] == b"%PDF-"


def test_numbers_that_are_missing_are_said_to_be(inspection, parameters, ablation, demo):
    nothing = Spread(mean=None, min=None, max=None)
    blank = [
        changed(site, first=changed(site.first, sigma=nothing), rest=changed(site.rest, sigma=nothing))
        for site in inspection.sites
    ]
    assert "no finite sigma" in words(plots.draw("sigma", changed(inspection, sites=blank)))
    without = [changed(site, gain=None, bias=None) for site in parameters.sites]
    assert words(plots.draw("gain", changed(parameters, sites=without))).count("these LayerNorms have none") == 2
    one_token = gpt2ln_cli.inspect("a", model=demo, per_token=True, layers="0")
    assert "later positions" not in words(plots.draw("sigma", one_token))
    figure = plots.draw("heatmap", one_token)
    assert "no later\npositions" in words(figure)
    assert len(figure.axes) == 3
    undone = [changed(one, loss_difference=None, standard_error=None, overflowed=7) for one in ablation.replaced]
    texts = words(plots.draw("ablation", changed(ablation, replaced=undone)))
    assert texts.count("the real model's loss is not finite") == len(undone)
    infinite = [changed(one, loss=None) for one in undone]
    texts = words(plots.draw("ablation", changed(ablation, replaced=infinite)))
    assert texts.count("not finite (7 tokens overflowed)") == len(infinite)
    rows = [changed(row, sigma=None) if row.position == 2 else row for row in inspection.rows]
    mesh = plots.draw("heatmap", changed(inspection, rows=rows)).axes[1].collections[0]
    assert mesh.get_array().mask.tolist() == [
        [position == 2 for position in range(1, inspection.prompts[0].length)] for _ in inspection.sites
    ]
    blank_rows = [changed(row, sigma=None) for row in inspection.rows]
    assert saved(plots.draw("heatmap", changed(inspection, rows=blank_rows)), "svg")


def test_what_has_a_0_in_its_middle_is_coloured_around_it(inspection):
    for quantity, middle in (("mean", True), ("excess_kurtosis", True), ("sigma", False)):
        figure = plots.draw("heatmap", inspection, quantity=quantity)
        for axes, part in zip(figure.axes[:2], (slice(1), slice(1, None)), strict=True):
            (mesh,) = axes.collections
            shown = [getattr(row, quantity) for row in inspection.rows if (row.position == 0) is (part == slice(1))]
            reach = max(map(abs, shown))
            low, high = mesh.norm.vmin, mesh.norm.vmax
            assert (low, high) == ((-reach, reach) if middle else (min(shown), max(shown)))
            # White is neither blue nor red; the ends are.
            red, _, blue, _ = mesh.cmap(0.5)
            assert bool(abs(red - blue) < 0.02) is middle
            assert mesh.cmap(0.0)[2] > mesh.cmap(0.0)[0]
            assert mesh.cmap(1.0)[0] > mesh.cmap(1.0)[2]


def deep(record, n_layer, *, of):
    """The record as if the model had so many layers, each like one of its own."""
    sites = [
        changed(site, name=f"h.{layer}.{site.kind}", layer=layer)
        for layer in range(n_layer)
        for site in record.sites
        if site.layer == layer % of
    ]
    return changed(record, sites=[*sites, record.sites[-1]], model=changed(record.model, n_layer=n_layer))


def overlapping(figure, labels):
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None
    boxes = [label.get_window_extent(renderer) for label in labels if label.get_text()]
    return [
        (one, other)
        for one, other in itertools.pairwise(sorted(boxes, key=lambda box: (box.x0, box.y0)))
        if one.overlaps(other)
    ]


@pytest.mark.parametrize("n_layer", [12, 13, 24, 48, 96])
@pytest.mark.parametrize("kind", ["sigma", "gain", "heatmap"])
def test_layers_are_numbered_legibly_at_any_depth(kind, n_layer, records):
    record = deep(records[kind], n_layer, of=12)
    if kind == "heatmap":
        rows = [
            changed(records[kind].rows[0], site=site.name, sequence=prompt.index, position=position)
            for site in record.sites
            for prompt in record.prompts
            for position in range(prompt.length)
        ]
        record = changed(record, rows=rows)
    figure = plots.draw(kind, record)
    axes = figure.axes[0 if kind != "gain" else 1]
    labels = axes.get_yticklabels() if kind == "heatmap" else axes.get_xticklabels()
    texts = [label.get_text() for label in labels]
    assert texts[0] == "0"
    assert texts[-1] == "ln_f"
    assert not overlapping(figure, labels)


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e6])
def test_no_text_of_the_ablation_ladder_is_cut_or_crossed(ablation, size):
    """The numbers of a deep model are small, and take more characters than those of a shallow one."""
    losses = (0.00531, -0.00419, -0.0332, 0.0365, 0.01, 0.02, -0.01, 0.03, 0.04, 9.0)
    ladder = [
        changed(one, loss_difference=size * loss, standard_error=size * 0.0123)
        for one, loss in zip(ablation.replaced, losses, strict=True)
    ]
    figure = plots.draw("ablation", changed(ablation, replaced=ladder))
    (axes,) = figure.axes
    figure.draw_without_rendering()
    within, plotted = figure.bbox, axes.get_window_extent()
    for text in figure.findobj(Text):
        if text.get_text().strip() and text.get_visible():
            box = text.get_window_extent()
            assert within.x0 <= box.x0, text.get_text()
            assert box.x1 <= within.x1, text.get_text()
    for text in axes.texts:
        if "\N{PLUS-MINUS SIGN}" in text.get_text():
            assert text.get_window_extent().x0 >= plotted.x1
    assert not overlapping(figure, axes.get_xticklabels())


def test_a_long_context_is_numbered_and_its_cells_are_one_picture(inspection):
    length = 400
    rows = [
        changed(inspection.rows[0], site=site.name, sequence=0, position=position, sigma=1.0 + position)
        for site in inspection.sites
        for position in range(length)
    ]
    prompt = changed(inspection.prompts[0], length=length, tokens=["a"] * length, token_ids=[1] * length)
    figure = plots.draw("heatmap", changed(inspection, prompts=[prompt], rows=rows))
    assert figure.get_figwidth() == 7
    assert figure.axes[1].get_xlabel() == "position (tokens)"
    svg = saved(figure, "svg")
    assert len(svg) < 100_000
    assert b"data:image/png;base64" in svg
    many = [changed(prompt, index=index) for index in range(plots.ROOM["heatmap"] + 1)]
    with pytest.raises(UsageError, match="7 sequences: plot heatmap has room for 6"):
        plots.draw("heatmap", changed(inspection, prompts=many))


def test_the_command_writes_what_the_library_draws(tmp_path, capsys, inspection):
    path = tmp_path / "figure.SVG"
    assert main(["plot", "heatmap", *PROMPTS, "--output", str(path)]) == 0
    assert capsys.readouterr().out == ""
    assert path.read_bytes() == saved(plots.draw("heatmap", inspection), "svg")
    assert main(["plot", "gain", "--layer", "0,final", "-o", str(tmp_path / "gain.png")]) == 0
    every = gpt2ln_cli.params(layers="0,final", features=96)
    assert (tmp_path / "gain.png").read_bytes() == saved(plots.draw("gain", every), "png")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["figure.SVG", "gain.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["sigma", "-o", "figure.jpg"],
            "can't tell an image format from 'figure.jpg': let it end in one of .png, .svg",
        ),
        (["sigma", "-o", "figure"], "can't tell an image format from 'figure'"),
        (["sigma", "-o", "nowhere/figure.png"], "there is no folder"),
        (["gain", "a prompt", "-o", "f.png"], "PROMPT does not apply to 'plot gain'"),
        (["gain", "--dtype", "float16", "-o", "f.png"], "--dtype does not apply to 'plot gain'"),
        (["axis", "--layer", "3", "-o", "f.png"], "--layer does not apply to 'plot axis'"),
        (["sigma", "--quantity", "sigma", "-o", "f.png"], "--quantity does not apply to 'plot sigma'"),
        (["pie", "-o", "f.png"], "'pie' is none of"),
        (["sigma"], "missing option '-o' / '--output'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_work(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("inspect", "params", "verify", "ablate"):
        monkeypatch.delattr(f"gpt2ln_cli.commands.{name}.compute.{name}")
    assert main(["plot", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_extra_is_named_before_the_work(tmp_path, capsys, monkeypatch, inspection):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delattr("gpt2ln_cli.commands.inspect.compute.inspect")
    assert main(["plot", "sigma", "-o", str(tmp_path / "sigma.svg")]) == 2
    assert capsys.readouterr().err == 'gpt2ln: plots need matplotlib: pip install ".[plot]".\n'
    with pytest.raises(UsageError, match="plots need matplotlib"):
        plots.draw("sigma", inspection)


def test_the_wrong_record_kind_or_quantity_is_refused(inspection, parameters):
    for kind, record, options, message in (
        ("pie", inspection, {}, "no plot 'pie'"),
        ("gain", inspection, {}, "drawn from the record Parameters, not Inspection"),
        ("sigma", inspection, {"quantity": "sigma"}, "can't be chosen for 'sigma'"),
        ("heatmap", inspection, {"quantity": "loss"}, "no quantity 'loss'"),
        ("heatmap", changed(inspection, rows=None), {}, "per_token=True"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            plots.draw(kind, record, **options)
    with pytest.raises(UsageError, match="no image format 'jpg'"):
        plots.save(plots.draw("gain", parameters), io.BytesIO(), "jpg")


def test_too_many_prompts_for_a_heatmap_are_refused_before_the_work(capsys, tmp_path):
    prompts = [word for number in range(7) for word in ("--token-ids", str(number))]
    assert main(["plot", "heatmap", *prompts, "--model", "/nowhere", "-o", str(tmp_path / "a.png")]) == 2
    assert "7 sequences: plot heatmap has room for 6" in capsys.readouterr().err


def test_what_the_axis_reaches_is_not_off_the_scale(ablation):
    """An error bar widens the axis beyond what was left out for being four times the rest."""
    losses = [(0.01, 0.0)] * 8 + [(0.03, 0.064), (0.09, 0.0)]
    ladder = [
        changed(one, loss_difference=difference, standard_error=error)
        for one, (difference, error) in zip(ablation.replaced, losses, strict=True)
    ]
    figure = plots.draw("ablation", changed(ablation, replaced=ladder))
    assert not [text for text in words(figure) if "off the scale" in text]
    assert figure.axes[0].get_xlim()[1] > 0.09
