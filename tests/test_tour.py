"""The tour answers from measurements, plainly, and differently where a model behaves differently."""

from __future__ import annotations

import re
import shutil

import huggingface_hub.constants as constants
import numpy as np
import pytest
import torch
from altered import untrained
from conftest import DEMO, with_body
from test_render import table
from transformers import GPT2LMHeadModel

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint import openai
from gpt2ln_cli.commands.ablate.replacements import VARIANTS, place_of
from gpt2ln_cli.commands.tour.gradients import SPAN, _fixed_sigma, gradients_at_blocks
from gpt2ln_cli.commands.tour.questions import QUESTIONS
from gpt2ln_cli.commands.tour.view import BY_HAND, view
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.sites import all_sites
from gpt2ln_cli.text.prompts import HELD_OUT, long_sample

# Of an answer on a terminal of 80 columns; and of the opening.
LINES, OPENING = 27, 12


@pytest.fixture(scope="module")
def tour(demo):
    return gpt2ln_cli.tour(model=demo)


class Told:
    """Progress that keeps what was said to be done."""

    def __init__(self):
        self.phases = []

    def __call__(self, done, total):
        assert done <= total

    def phase(self, name):
        self.phases.append(name)


def rows(answer):
    return {row[0]: row[1:] for row in answer.table.rows}


def parts(text):
    """What stands before the first answer, and the answers, of the tour on a terminal."""
    return re.split(r"^(?=\d\. [A-Z])", text, flags=re.MULTILINE)


def lines_of(part):
    """Of an answer, without the picture that follows it."""
    return part.partition("\nSee it happen")[0].strip().split("\n")


def test_every_question_has_an_answer_a_table_and_a_command(tour):
    assert [answer.number for answer in tour.answers] == list(range(1, 8))
    assert [answer.question for answer in tour.answers] == list(QUESTIONS)
    assert [name for answer in tour.answers for name in answer.claims] == [claim.id for claim in tour.claims]
    for answer in tour.answers:
        assert answer.claims
        assert answer.table.rows
        assert all(len(row) == len(answer.table.headings) for row in answer.table.rows)
        assert answer.more.startswith("gpt2ln ")


def test_the_figures_are_those_of_the_commands(tour, demo):
    counted, axis, _, _, _, learned, _ = tour.answers
    tokens = 1015  # of full_context.txt, under the bundled tokenizer
    assert rows(counted)["counted in this run"] == [tokens, tokens, 2 * tokens, 25 * tokens]
    assert rows(counted)["GPT-2 small, by formula"] == [1024, 1024, 2048, 25600]
    trial = gpt2ln_cli.verify(model=demo)
    assert [row[2:] for row in axis.table.rows] == [[fit.reproduced, fit.fits] for fit in trial.readings]
    assert [row[1] for row in axis.table.rows[:4]] == [1024, 768, 768, 1]
    ids = torch.tensor([demo.tokenizer.encode(long_sample(HELD_OUT)).ids])
    with torch.no_grad():
        loss = GPT2LMHeadModel.from_pretrained(DEMO)(ids, labels=ids).loss.item()
    assert rows(learned)["real"][0] == pytest.approx(loss, rel=1e-5)
    assert [one for one in trial.claims if one.id in axis.claims] == [
        one for one in tour.claims if one.id in axis.claims
    ]


@pytest.mark.parametrize(
    ("asked", "experiments"),
    [
        ([1], ["counting statistics"]),
        ([3, 2], ["trying every axis"]),
        ([7], ["counting statistics", "measuring gradients", "replacing LayerNorms"]),
    ],
)
def test_only_what_a_question_needs_is_run(asked, experiments):
    told = Told()
    record = gpt2ln_cli.tour(model=untrained(), questions=asked, progress=told)
    assert [answer.number for answer in record.answers] == sorted(asked)
    assert told.phases == experiments
    assert (record.gradients is None) == (7 not in asked)
    assert "By hand" not in str(view(record).blocks)


@pytest.mark.parametrize("asked", [[0], [8], [True], ["4"]])
def test_a_question_that_is_none_is_refused(demo, asked):
    with pytest.raises(UsageError):
        gpt2ln_cli.tour(model=demo, questions=asked)


def test_the_list_needs_no_model(capsys):
    assert main(["tour", "--list", "--model", "nowhere/at-all"]) == 0
    listed = capsys.readouterr().out
    assert max(map(len, listed.split("\n"))) <= 80
    assert " ".join(re.sub(r"^\d ", "", listed, flags=re.MULTILINE).split()) == " ".join(QUESTIONS)
    assert main(["tour", "9"]) == 2


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2-medium"])
def test_openais_gpt2_is_found_where_the_cache_has_all_of_it(monkeypatch, tmp_path, name):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    (repository / "refs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        assert openai.at_hand() is None
        shutil.copy(DEMO / file, snapshot)
    assert openai.at_hand() == name
    (repository / "refs" / "main").write_bytes(b"\xff")
    assert openai.at_hand() is None


@pytest.mark.parametrize(("at_hand", "offered"), [("gpt2", True), (None, False)])
def test_openais_gpt2_is_offered_for_the_miniature_alone(monkeypatch, capsys, at_hand, offered):
    monkeypatch.setattr(openai, "at_hand", lambda: at_hand)
    assert main(["tour", "1"]) == 0
    assert ("gpt2ln tour 1 --model gpt2" in capsys.readouterr().err) is offered
    assert main(["tour", "1", "--model", str(untrained().checkpoint.location)]) == 0
    assert "--model gpt2" not in capsys.readouterr().err


def test_the_vector_by_hand_is_right():
    named = re.findall(r"\b(x|xhat|y|gain|bias) (?:= )?\(([^)]*)\)", BY_HAND)
    vectors = {name: [float(one) for one in numbers.split(",")] for name, numbers in named}
    x, mu = np.array(vectors["x"]), float(re.search(r"mu = [^=]* = (\S+)", BY_HAND)[1])
    sigma = float(re.search(r"\) = (\d+),", BY_HAND)[1])
    assert (x.mean(), x.std()) == (mu, sigma)
    np.testing.assert_allclose((x - x.mean()) / x.std(), vectors["xhat"], rtol=1e-15)
    y = np.array(vectors["gain"]) * np.array(vectors["xhat"]) + np.array(vectors["bias"])
    np.testing.assert_allclose(y, vectors["y"], rtol=1e-15)


def test_gradients_are_those_of_plain_transformers(demo):
    ids = demo.tokenizer.encode(long_sample(HELD_OUT)).ids[: 2 * SPAN]
    found = gradients_at_blocks(demo, ids)
    assert (found.contexts, found.tokens) == (2, SPAN)
    plain = GPT2LMHeadModel.from_pretrained(DEMO).double().eval()
    norms = []
    for start in (0, SPAN):
        context = torch.tensor([ids[start : start + SPAN]])
        done = plain(context, labels=context, output_hidden_states=True, use_cache=False)
        blocks = done.hidden_states[:-1]  # the last is what leaves ln_f
        norms.append([one.norm().item() for one in torch.autograd.grad(done.loss, blocks)])
        assert found.losses[start // SPAN] == pytest.approx(done.loss.item(), rel=1e-5)
    expected = np.exp(np.log(norms).mean(axis=0))
    # Through twelve blocks in float32.
    np.testing.assert_allclose([one.real for one in found.blocks], expected, rtol=1e-3)


def test_the_fixed_sigma_is_ablates(demo):
    body, lengths = demo.body, [7]
    x = np.random.default_rng(0).normal(size=(7, body.config.n_embd))
    place = place_of(body, all_sites(12)[3], x.std(axis=1), lengths)
    expected = next(one for one in VARIANTS if one.name == "fixed sigma").output(x, lengths, place)
    got = _fixed_sigma(place)(torch.tensor(x[None], dtype=torch.float32))[0]
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)


def test_gradients_leave_the_model_as_it_was(demo):
    body = GPT2LMHeadModel.from_pretrained(DEMO).transformer.train()
    before = {name: parameter.clone() for name, parameter in body.named_parameters()}
    gradients_at_blocks(with_body(demo, body), list(range(70)))
    assert body.training
    for name, parameter in body.named_parameters():
        assert parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])


def test_it_is_short_and_plain(tour, monkeypatch):
    opening, *answers = parts(table(tour, 80, monkeypatch))
    assert len(opening.split("\n\n", 1)[1].strip().split("\n")) <= OPENING
    assert {part[:40]: len(lines_of(part)) for part in answers if len(lines_of(part)) > LINES} == {}
    text = " ".join("".join([opening, *answers]).split())
    assert re.findall(r"\S*e-\d+", text.replace("eps, 1e-05", "").replace("eps 1e-05", "")) == []  # rounding noise
    assert "0.0e+00" not in text
    for word in ("token", "feature", "residual stream", "site", "gain and a bias", "mu", "sigma", "eps"):
        assert word in " ".join(opening.split())


@pytest.mark.parametrize("width", [80, 140])
def test_it_fits_and_says_everything(tour, monkeypatch, width):
    text = table(tour, width, monkeypatch)
    assert max(map(len, text.split("\n"))) <= width
    assert "…" not in text
    said = {one["question"]: one["answer"] for one in view(tour).table("answers").objects()}
    for part, answer in zip(parts(text)[1:], tour.answers, strict=True):
        words = " ".join(" ".join(lines_of(part)).split())
        assert words.startswith(f"{answer.number}. {answer.question} {said[answer.question]}")
        assert words.endswith(f"more: {answer.more}")


@pytest.mark.slow
def test_of_an_untrained_model_of_48_layers_nothing_untrue_is_said(monkeypatch):
    record = gpt2ln_cli.tour(model=untrained(48))
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert verdicts["tour.one_pair_a_token"] == "yes"
    assert verdicts["tour.gain_and_bias_used"] == "no"
    assert verdicts["verify.axis"] == "yes"
    text = " ".join(table(record, 80, monkeypatch).split())
    for untrue in (
        "still in the network: the",
        "keeps sigma",
        "in common would be lost",
        "trained with",
        "learned at",
        "predicts worse",
    ):
        assert untrue not in text


def test_where_no_gain_or_bias_was_learned_it_says_so(monkeypatch):
    record = gpt2ln_cli.tour(model=untrained(), questions=[6])
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert verdicts["tour.gain_and_bias_used"] == verdicts["ablate.gain_needed"] == "no"
    assert "This model keeps mean 0 and standard deviation 1" in table(record, 140, monkeypatch)
