"""Two profiles: quantiles side by side, shifts in units of the spread, and what can't be compared."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from altered import altered, layer_norms, untrained
from verdicts_profile import TEXTS

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.profile import parts
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.measure.sketch import RELATIVE_ERROR

THREADS = {"threads": 1}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    (folder / "a.txt").write_text("\n".join(TEXTS))
    (folder / "b.txt").write_text("\n".join(["hate hate hate hate hate hate", "war war war war war"] * 30))
    return folder


@pytest.fixture(scope="module")
def runs(corpora, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    chosen = {
        "plain": ("a.txt", untrained(), {}),
        "again": ("a.txt", untrained(), {}),
        "seed": ("a.txt", untrained(seed=1), {}),
        "corpus": ("b.txt", untrained(), {}),
        "both": ("b.txt", untrained(seed=1), {}),
        "deep": ("a.txt", untrained(3), {}),
        "bos": ("a.txt", untrained(), {"bos": True}),
        "packed": ("a.txt", untrained(), {"documents": "packed"}),
    }
    for name, (corpus, model, options) in chosen.items():
        gpt2ln_cli.profile([corpora / corpus], output=folder / name, model=model, **THREADS, **options)
    return folder


def test_shifts_are_those_of_the_two_profiles(runs):
    found = gpt2ln_cli.diff_runs(runs / "plain", runs / "seed")
    assert found.same == "corpus"
    a, b = (gpt2ln_cli.profile(output=runs / name) for name in ("plain", "seed"))
    for site, one, other in zip(found.sites, a.sites, b.sites, strict=True):
        largest = 0.0
        for part in ("first", "rest"):
            for quantity in ("sigma", "post_norm", "excess_kurtosis"):
                before, after = (getattr(getattr(each, part), quantity) for each in (one, other))
                shift = getattr(getattr(site, part), quantity)
                spread = np.sqrt((before.std**2 + after.std**2) / 2)
                x, y = (np.array(list(each.quantiles.values())) for each in (before, after))
                sure = np.maximum(0, np.abs(y - x) - RELATIVE_ERROR * (np.abs(x) + np.abs(y))) / spread
                assert shift.spread == pytest.approx(spread)
                assert abs(shift.shift) == pytest.approx(sure.max())
                if shift.shift:
                    assert shift.percent == list(before.quantiles)[int(sure.argmax())]
                    assert (shift.shift > 0) == bool((y - x)[sure.argmax()] > 0)
                largest = max(largest, sure.max())
        assert abs(site.largest.shift) >= largest * (1 - 1e-12)
    assert found.claims[0].verdict == "yes"
    assert found.claims[0].level is None


def test_a_run_against_itself_moved_nowhere(runs):
    found = gpt2ln_cli.diff_runs(runs / "plain", runs / "again")
    assert found.same == "both"
    assert {site.largest for site in found.sites} == {None}
    assert found.claims[0].verdict == "no"


def test_two_corpora_are_held_against_chance(runs):
    found = gpt2ln_cli.diff_runs(runs / "plain", runs / "corpus")
    (claim,) = found.claims
    assert (found.same, claim.level) == ("model", 0.01)
    # 24 and 60 windows, five sites of two parts.
    assert claim.threshold == pytest.approx(np.sqrt(-np.log(0.001 / 2) / 2 * (24 + 60) / (24 * 60)))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("both", "both model and corpus differ"),
        ("deep", "n_layer is 2 in A and 3 in B"),
        ("bos", "--bos is False in A and True in B"),
        ("packed", "--documents is each in A and packed in B"),
        ("nowhere", "holds no run of 'profile'"),
    ],
)
def test_what_can_not_be_compared_is_refused(runs, other, said):
    with pytest.raises(UsageError, match=said):
        gpt2ln_cli.diff_runs(runs / "plain", runs / other)


def test_the_command_takes_two_runs(runs, tmp_path, capsys):
    a, b = str(runs / "plain"), str(runs / "seed")
    assert main(["diff", a, b]) == 0
    shown = capsys.readouterr().out
    assert "Two models on one corpus." in shown
    assert "Sigma is distributed otherwise in B than in A" in " ".join(shown.split())
    assert main(["diff", a, b, "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    row = next(one for one in rows if (one["site"], one["part"], one["quantity"]) == ("ln_f", "rest", "sigma"))
    assert float(row["a"]) == gpt2ln_cli.profile(output=a).sites[-1].rest.sigma.quantiles["0.1"]
    assert main(["diff", a, b, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] == "corpus"
    for words, said in (
        ([a, "demo"], "is a run of 'profile' and the other is none"),
        ([a, b, "--layer", "1"], "--layer does not apply to two runs"),
        ([a, b, "a prompt"], "PROMPT does not apply to two runs"),
    ):
        assert main(["diff", *words]) == 2
        assert said in capsys.readouterr().err
    unfinished = tmp_path / "run"
    shutil.copytree(a, unfinished)
    parts.path_of(unfinished, 0).unlink()
    assert main(["diff", str(unfinished), b]) == 2
    assert "no part of the run in" in capsys.readouterr().err


def test_models_that_differ_in_what_changes_no_sigma(runs, corpora, tmp_path):
    """A gain of the last LayerNorm is in y alone."""

    def change(body):
        layer_norms(body)[-1].weight.mul_(2)

    model = altered(change, untrained())
    gpt2ln_cli.profile([corpora / "a.txt"], output=tmp_path / "run", model=model, **THREADS)
    found = gpt2ln_cli.diff_runs(runs / "plain", tmp_path / "run")
    assert [site.largest is None for site in found.sites] == [True] * 4 + [False]
    assert found.sites[-1].largest.quantity == "post_norm"
    assert found.claims[0].verdict == "can't tell"
