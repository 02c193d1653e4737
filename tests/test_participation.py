"""The share of features that carry sigma^2, wherever a quantity shows."""

from __future__ import annotations

import csv
import io
import json

import msgspec
import numpy as np
import pytest
from conftest import raw_states

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.inspect.record import Row
from gpt2ln_cli.quantities import QUANTITIES, Kernel

PROMPT = "The war was over, but the hatred was not."
SITE = "h.5.ln_1"


def percent(value):
    return f"{100 * value:#.4g}%"


def defined(x):
    """1 / (d sum_j p_j^2), by its definition in float64, (tokens,)."""
    centred = x - x.mean(-1, keepdims=True)
    p = centred**2 / (centred**2).sum(-1, keepdims=True)
    return 1 / (x.shape[-1] * (p**2).sum(-1))


@pytest.fixture(scope="module")
def expected(demo, plain_demo):
    (ids,) = (prompt.token_ids for prompt in gpt2ln_cli.inspect(PROMPT, model=demo).prompts)
    return {site: defined(x) for site, (x, _) in raw_states(plain_demo, ids).items()}


@pytest.fixture
def gpt2ln(capsys):
    def run(*words):
        assert main(list(words)) == 0
        return capsys.readouterr().out

    return run


def test_it_agrees_with_its_definition(demo, expected):
    for row in gpt2ln_cli.inspect(PROMPT, model=demo, per_token=True).rows:
        assert row.participation == pytest.approx(expected[row.site][row.position], rel=1e-5)
        assert row.participation == pytest.approx(1 / (row.excess_kurtosis + 3), rel=1e-12)


@pytest.mark.parametrize("features", [2, 7, 768])
def test_it_goes_from_one_feature_to_all(features):
    """One that stands out has nearly all of sigma^2; where all are equally far from mu, each has as much."""
    for x, least, most in (
        (np.eye(features)[:1], 1 / features, 1.2 / features if features > 100 else 1),
        (np.resize([1.0, -1.0], (1, features - features % 2)), 1, 1),
    ):
        centred = x - x.mean()
        at = Kernel(
            features=x.size,
            eps=0.0,
            mean=x.mean(-1),
            variance=x.var(-1),
            post_norm=0.0,
            fourth_moment=(centred**4).mean(-1) / x.var(-1) ** 2,
        )
        found = QUANTITIES["participation"].of(at)
        np.testing.assert_allclose(found, defined(x), rtol=1e-12)
        assert least - 1e-12 <= found.item() <= most + 1e-12


def test_stats_shows_it_and_sorts_by_it(gpt2ln, expected):
    order = np.argsort(-expected[SITE], kind="stable")[:3]
    words = ("stats", "--layer", "5", "--site", "ln_1", "--sort", "participation", "--top", "3", PROMPT)
    rows = json.loads(gpt2ln(*words, "--json"))["rows"]
    assert [row["position"] for row in rows] == order.tolist()
    assert [row["participation"] for row in rows] == pytest.approx(expected[SITE][order].tolist(), rel=1e-5)
    text = gpt2ln(*words)
    assert "partic. is participation, 1 / kurtosis" in " ".join(text.split())
    assert all(percent(row["participation"]) in text for row in rows)
    table = list(csv.DictReader(io.StringIO(gpt2ln(*words, "--format", "csv"))))
    assert [float(row["participation"]) for row in table] == [row["participation"] for row in rows]


def test_it_has_heatmaps(gpt2ln, demo, expected, tmp_path):
    text = gpt2ln("inspect", "--heatmap", "participation", PROMPT)
    assert "participation of each token at each LayerNorm" in text
    assert percent(max(one[0] for one in expected.values())) in text
    assert gpt2ln("plot", "heatmap", "--quantity", "participation", PROMPT, "-o", str(tmp_path / "a.svg")) == ""
    assert (tmp_path / "a.svg").stat().st_size > 10_000
    pytest.importorskip("matplotlib")
    from gpt2ln_cli.commands.plot import figures

    record = gpt2ln_cli.inspect(PROMPT, model=demo, per_token=True)
    figure = figures.draw("heatmap", record, quantity="participation")
    first, later = (axes.collections[0].get_array() for axes in figure.axes[:2])
    np.testing.assert_allclose(first[:, 0], [one[0] for one in expected.values()], rtol=1e-5)
    np.testing.assert_allclose(later, [one[1:] for one in expected.values()], rtol=1e-5)
    assert any("participation, 1 / kurtosis, position 0\n(share of 1)" in axes.get_xlabel() for axes in figure.axes)


def test_the_schema_and_a_record_read_back_have_it(gpt2ln):
    described = json.loads(gpt2ln("schema", "stats"))["$defs"]["Row"]["properties"]["participation"]
    assert described["description"] == QUANTITIES["participation"].description
    rows = json.loads(gpt2ln("stats", "--layer", "final", "ok", "--json"))["rows"]
    assert msgspec.convert(rows[0], Row).participation == rows[0]["participation"]


def test_equal_features_have_none(make_folder):
    def change(body):
        body.wte.weight.fill_(0.25)
        body.wpe.weight.fill_(0.5)

    record = gpt2ln_cli.stats([[3]], model=make_folder(change), layers=0, sites=["ln_1"])
    assert record.rows[0].participation is None
