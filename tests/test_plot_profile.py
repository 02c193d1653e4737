"""``plot profile`` draws the record's own quantiles, position 0 apart."""

from __future__ import annotations

import numpy as np
import pytest

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.plot import figures as plots

TEXTS = ["the war was over but the hatred was not, and hate", "hate", "she said it would be so"]


@pytest.fixture(scope="module")
def record(demo):
    return gpt2ln_cli.profile(TEXTS, model=demo, threads=1)


def line(axes, label):
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return list(found.get_ydata())


def test_the_lines_and_bands_are_the_records_quantiles(record):
    above, below = plots.draw("profile", record).axes
    for part in ("first", "rest"):
        sigmas = [getattr(site, part).sigma.quantiles for site in record.sites]
        assert line(above, f"{part} 50") == [one["50"] for one in sigmas]
        for low, high in (("1", "99"), ("5", "95"), ("25", "75")):
            (band,) = [one for one in above.collections if one.get_label() == f"{part} {low}-{high}"]
            corners = {y for _, y in band.get_paths()[0].vertices}
            assert {one[end] for one in sigmas for end in (low, high)} <= corners
    assert (above.get_yscale(), below.get_yscale()) == ("log", "log")
    for site in (record.sites[0], record.sites[-1]):
        later = [band.sigma.quantiles["50"] for band in site.bands if band.first]
        assert line(below, site.name) == later
        drawn = {y for one in below.lines for y in np.asarray(one.get_ydata())}
        assert site.bands[0].sigma.quantiles["50"] in drawn
    assert [one.get_text() for one in below.get_xticklabels()][:4] == ["0", "1", "2\u20133", "4\u20137"]


def test_the_command_draws_a_run(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    run, picture = tmp_path / "run", tmp_path / "profile.png"
    assert main(["profile", str(tmp_path / "a.txt"), "--output", str(run), "--threads", "1"]) == 0
    assert main(["plot", "profile", str(run), "--output", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    for words, said in (
        ([], "give 'plot profile' the folder of one run"),
        ([str(tmp_path)], "holds no run"),
        ([str(run), "--layer", "1"], "--layer does not apply to 'plot profile'"),
    ):
        assert main(["plot", "profile", *words, "--output", str(picture)]) == 2
        assert said in capsys.readouterr().err
