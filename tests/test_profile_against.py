"""A profile beside published figures: what is met, what is refused, and that those shipped are the published ones."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from altered import untrained
from verdicts_profile import TEXTS, against

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.profile.against import published
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.sites import all_sites

FIGURE = {"name": "a", "site": "ln_f", "quantity": "rest.sigma.rms", "value": 2.0, "tolerance": 0.05, "source": "b"}


def test_the_bundled_table_is_of_the_four_models():
    """Spot checks against what was read in the files that it names."""
    figures = {(one.name, one.site, one.quantity): one for one in published("published")}
    layers = {"gpt2": 12, "gpt2-medium": 24, "gpt2-large": 36, "gpt2-xl": 48}
    assert {name for name, _, _ in figures} == set(layers)
    for name, site, _ in figures:
        assert site in {one.name for one in all_sites(layers[name])}
    of_gpt2 = {site for name, site, _ in figures if name == "gpt2"}
    assert of_gpt2 == {one.name for one in all_sites(12)}
    assert {one.tolerance for one in figures.values()} == {0.05}
    expected = {
        ("gpt2", "h.3.ln_1"): (92.73, 2.194),
        ("gpt2", "h.11.ln_2"): (17.54, 14.80),
        ("gpt2", "ln_f"): (13.86, 16.46),
        ("gpt2-medium", "h.23.ln_1"): (64.6, 22.1),
        ("gpt2-large", "h.9.ln_1"): (30.7, 1.80),
        ("gpt2-xl", "ln_f"): (4.81, 17.1),
    }
    for (name, site), (first, rest) in expected.items():
        assert figures[name, site, "first.sigma.rms"].value == first
        assert figures[name, site, "rest.sigma.rms"].value == rest


def test_a_figure_beside_the_measured_one():
    record = against(1.25)
    (one,) = record.against
    sigma = record.sites[2].rest.sigma
    assert one.measured == sigma.rms
    assert one.off == pytest.approx(-0.2)
    assert one.verdict == record.claims[0].verdict == "no"
    assert record.claims[0].statistic == pytest.approx(0.2)
    # Student's t at 1% for 23 degrees of freedom.
    assert record.claims[0].figures["error"] == pytest.approx(2.807 * sigma.std / 24**0.5, rel=1e-3)
    stream = io.StringIO()
    output.write(gpt2ln_cli.view(record), "table", stream)
    assert "0 of 1 are met within their tolerance, 1 are not, and of 0 this run can't tell." in " ".join(
        stream.getvalue().split()
    )


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[{]", "is no table of published figures"),
        (json.dumps([{**FIGURE, "unit": 3}]), "is no table of published figures"),
        (json.dumps([{**FIGURE, "quantity": "sigma"}]), "figure 0: quantity 'sigma' is none of a profile's"),
        (json.dumps([FIGURE]), "no published figure is of 'MODEL'"),
        (json.dumps([{**FIGURE, "name": "MODEL", "site": "h.9.ln_1"}]), "is of h.9.ln_1, which 'MODEL' does not have"),
        (json.dumps([{**FIGURE, "name": "MODEL", "quantity": "rest.sigma.quantiles.42"}]), "give --quantile 42"),
    ],
)
def test_what_can_not_be_held_against_is_refused(tmp_path, table, said):
    model = untrained()
    name = Path(model.info.name).name
    path = tmp_path / "table.json"
    path.write_text(table.replace("MODEL", name))
    with pytest.raises(UsageError, match=said.replace("MODEL", name)):
        gpt2ln_cli.profile(TEXTS[:2], model=model, threads=1, against=path)


def test_a_table_that_is_not_there_is_told_before_the_work(tmp_path, capsys):
    assert main(["profile", "--against", str(tmp_path / "none.json")]) == 2
    assert "can't read the published figures" in capsys.readouterr().err
