"""The tour answers from measurements, and differently where a model behaves differently."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from conftest import with_body
from test_render import WIDTHS, table

import gpt2ln_cli
from gpt2ln_cli.output.text import number


@pytest.fixture(scope="module")
def tour(demo):
    return gpt2ln_cli.tour(model=demo)


def rows(answer):
    return {row[0]: row[1:] for row in answer.table.rows}


def test_there_are_six_answers_each_with_a_table_and_a_command_that_runs(tour):
    assert len(tour.answers) == 6
    for answer in tour.answers:
        assert answer.question.endswith("?")
        assert answer.table.rows
        assert all(len(row) == len(answer.table.headings) for row in answer.table.rows)
        assert answer.more.startswith("gpt2ln ")


def test_the_figures_are_those_of_the_commands(tour, demo):
    counted, axis, _, thrown, across, learned = tour.answers
    tokens = 1015  # of full_context.txt, under the bundled tokenizer
    assert rows(counted)["measured"] == [tokens, tokens, 2 * tokens, 25 * tokens]
    assert rows(counted)["by the formula"] == [1024, 1024, 2048, 25600]
    trial = gpt2ln_cli.verify(model=demo)
    assert rows(axis) == {fit.reading: [fit.statistics, fit.rms, fit.reproduced, fit.fits] for fit in trial.readings}
    compared = gpt2ln_cli.compare(model=demo)
    for token in compared.settings[-1].tokens:
        at = next(one for one in token.sites if one.site == "h.6.ln_1")
        assert rows(thrown)[token.text][:2] == [at.mean, at.pre.sigma]
    shared = gpt2ln_cli.compare(model=demo, context=True).contexts[0]
    for one in shared.sites:
        if one.site in rows(across):
            assert rows(across)[one.site] == [one.real, one.across_tokens]
    ablated = gpt2ln_cli.ablate(model=demo)
    assert rows(learned)[ablated.real.name][0] == ablated.real.loss
    assert "25 of 25 sites" in learned.answer


@pytest.mark.slow
def test_another_model_gets_another_answer(demo, tour):
    """Where no gain or bias was learned, leaving them out changes nothing."""
    body = copy.deepcopy(demo.body)
    with torch.no_grad():
        for name, parameter in body.named_parameters():
            if "ln_" in name:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    other = gpt2ln_cli.tour(model=with_body(demo, body))
    assert "0 and the bias other than 0 at 0 of 25 sites" in other.answers[5].answer
    losses = rows(other.answers[5])
    assert all(abs(difference) < 1e-5 for _, difference in losses.values())
    assert all(difference > 0.1 for name, (_, difference) in rows(tour.answers[5]).items() if name != "real")


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_shows_every_figure(tour, monkeypatch, width):
    text = table(tour, width, monkeypatch)
    assert max(map(len, text.split("\n"))) <= width
    assert "…" not in text
    parts = re.split(r"^\d\. ", text, flags=re.MULTILINE)[1:]
    for part, answer in zip(parts, tour.answers, strict=True):
        said = " ".join(part.split())
        assert said.startswith(answer.question)
        assert " ".join(answer.answer.split()) in said
        assert said.endswith(f"more: {answer.more}")
        shown = set(part.split())
        for value in (value for row in answer.table.rows for value in row if not isinstance(value, str)):
            assert (f"{value:,}" if isinstance(value, int) else number(value)) in shown
