"""What is read begins with the answer, says once what can't vary, and is no longer than a screen or two."""

from __future__ import annotations

import pytest
from altered import altered, layer_norms, trained, untrained
from test_render import table

import gpt2ln_cli
from gpt2ln_cli.commands.report.view import WORDED
from gpt2ln_cli.commands.verify.view import SAYS

IDS = [[5, 9, 1, 33, 2, 7], [11, 4, 4, 8, 60, 21]]
MAKE = {
    "verify": lambda model: gpt2ln_cli.verify(IDS, model=model),
    "ablate": lambda model: gpt2ln_cli.ablate(IDS, model=model),
    "diff": lambda model: gpt2ln_cli.diff(model, altered(_other, model), IDS),
    "report": lambda model: gpt2ln_cli.report(IDS, model=model),
    "features": lambda model: gpt2ln_cli.features(IDS, model=model),
    "attribute": lambda model: gpt2ln_cli.attribute(IDS, model=model),
}
# The most lines at 80 columns, by the model's layers.
LINES = {12: 60, 48: 100}


def _other(body):
    for number, module in enumerate(layer_norms(body)):
        module.weight.mul_(1.1 + number / 100)
        module.bias += 0.25


@pytest.fixture(params=LINES)
def model(request):
    return trained() if request.param == 12 else untrained(request.param)


@pytest.mark.parametrize("command", MAKE)
def test_what_is_read_fits(model, command, monkeypatch):
    text = table(MAKE[command](model), 80, monkeypatch)
    lines = text.rstrip("\n").split("\n")
    assert len(lines) <= LINES[model.info.n_layer]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("command", ["features", "attribute"])
def test_no_column_stands_for_tokens_that_are_not_there(command, monkeypatch):
    record = getattr(gpt2ln_cli, command)([[5]], model=trained())
    assert "later positions" not in table(record, 400, monkeypatch)
    assert "rest:" not in table(record, 400, monkeypatch, everything=True)


@pytest.mark.parametrize("sort", [None, "sigma"])
def test_one_token_is_no_average_and_not_two(sort, monkeypatch):
    text = " ".join(table(gpt2ln_cli.inspect([[5]], model=trained(), sort=sort), 400, monkeypatch).split())
    assert "sites x 1 token = " in text
    assert "on average" not in text
    assert "first" in text.split("'first' is")[0]
    assert "rest" not in text.split("'first' is")[0]


def test_a_report_begins_with_what_it_comes_to(monkeypatch):
    record = gpt2ln_cli.report(IDS, model=trained())
    whole, (learned,) = record.verification.claims[0], record.claims
    brief, full = (table(record, 400, monkeypatch, everything=everything) for everything in (False, True))
    for text in (brief, full):
        places = [text.index(one) for one in (SAYS[whole.id].of(whole), WORDED[learned.id].of(learned), "axis  ")]
        assert places == sorted(places)
    assert "Statistics, as counted" in full


def test_what_was_never_learned_is_said_once(monkeypatch):
    text = table(gpt2ln_cli.report(IDS, model=untrained()), 400, monkeypatch, everything=True)
    assert "Learned gain and bias" not in text
    assert "Yes: this checkpoint uses" not in text
