"""LayerNorms without some features: against plain transformers with the test's own modules, and on planted models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_ablate import Rival
from transformers import GPT2LMHeadModel
from verdicts_ablate import _without, massive, reckoned_with, trained

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.errors import UsageError

PROMPTS = [[7, 1, 1, 60, 0, 33], [5, 9], [40, 41, 42, 43, 3, 3, 17, 21, 22]]
WIDTH = 24
SITES = ("h.0.ln_1", "h.1.ln_1")


def formulas(name, features):
    """The three replacements, after their definitions."""
    others = [index for index in range(WIDTH) if index not in features]

    def without_effect(x, gain, bias):
        x = x.clone()
        x[:, features] = x[:, others].mean(1, keepdim=True)
        return torch.nn.functional.layer_norm(x, (WIDTH,), gain, bias, 1e-5)

    def out_of_sigma(x, gain, bias):
        mean = x[:, others].mean(1, keepdim=True)
        variance = (x[:, others] - mean).pow(2).mean(1, keepdim=True)
        return gain * (x - mean) / (variance + 1e-5).sqrt() + bias

    def silent(x, gain, bias):
        gain, bias = gain.clone(), bias.clone()
        gain[features] = bias[features] = 0
        return torch.nn.functional.layer_norm(x, (WIDTH,), gain, bias, 1e-5)

    return {"without effect": without_effect, "out of sigma": out_of_sigma, "silent": silent}[name]


def predictions(model):
    """Log probabilities of every position that has a next token, and the losses."""
    found = []
    with torch.no_grad():
        for ids in (ids for ids in PROMPTS if len(ids) > 1):
            logits = model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
            found.append((logits, -logits[range(len(ids) - 1), ids[1:]]))
    return torch.cat([one for one, _ in found]), torch.cat([one for _, one in found]).numpy()


@pytest.mark.parametrize("features", [[5], [3, 17]])
def test_every_number_is_that_of_plain_transformers(make_folder, features):
    folder = make_folder(lambda body: body.h[0].mlp.c_proj.bias.data[5].add_(40))
    record = gpt2ln_cli.ablate(PROMPTS, model=folder, layers="0-1", sites=["ln_1"], ablated_features=features)
    assert record.features == features
    assert [one.name for one in record.replaced] == ["without effect", "out of sigma", "silent"]
    assert tuple(record.sites) == SITES
    plain, losses = predictions(GPT2LMHeadModel.from_pretrained(folder).eval())
    assert record.real.loss == pytest.approx(losses.mean(), rel=1e-6)
    for one in record.replaced:
        model = GPT2LMHeadModel.from_pretrained(folder).eval()
        for block in model.transformer.h:
            block.ln_1 = Rival(block.ln_1, formulas(one.name, features))
        replaced, changed = predictions(model)
        difference = changed - losses
        # Losses are near log 61 and right to float32's logits.
        assert one.loss == pytest.approx(changed.mean(), abs=1e-5)
        assert one.loss_difference == pytest.approx(difference.mean(), abs=1e-5)
        assert one.standard_error == pytest.approx(difference.std(ddof=1) / len(difference) ** 0.5, abs=1e-5)
        assert one.kl == pytest.approx((plain.exp() * (plain - replaced)).sum(-1).mean().item(), abs=1e-5)
        assert not one.looks_ahead


def test_what_acts_through_sigma_is_told_from_what_acts_through_y():
    """A massive feature that the model reckons with in sigma alone, one that spoils it, and features of y."""

    def verdicts(make, features):
        return {claim.id.rpartition("feature_")[2]: claim.verdict for claim in _without(make, features).claims}

    assert verdicts(reckoned_with, (60,)) == {"matters": "yes", "through_sigma": "yes", "through_y": "no"}
    assert verdicts(massive, (60,)) == {"matters": "no", "through_sigma": "no", "through_y": "no"}
    assert verdicts(trained, tuple(range(48)))["through_y"] == "yes"


def test_without_massive_features_all_three_cost_little():
    """One feature of little weight at one site: each costs less than a hundredth of the loss."""
    record = _without(trained, (60,))
    assert all(abs(one.loss_difference) < record.real.loss / 100 for one in record.replaced)


@pytest.mark.parametrize("given", [37, "37", [37], np.array([37]), " 37,37"])
def test_how_features_are_given(given):
    record = gpt2ln_cli.ablate("the war was", layers="final", ablated_features=given)
    assert record.features == [37]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (96, "feature 96: this model has features 0 to 95"),
        (-1, "feature -1: it must be 0 or more"),
        ("one", "feature 'one' is not a number; write 447 or 447,138"),
        ([1.5], "feature 1.5: it must be a whole number"),
        ([], "0 features of 96: give one or more, and leave two or more"),
        (range(95), "95 features of 96"),
    ],
)
def test_what_is_no_feature_is_refused(given, said):
    with pytest.raises(UsageError, match=said):
        gpt2ln_cli.ablate("the war", ablated_features=given)


def test_the_command_line_says_what_they_act_through(capsys):
    assert main(["ablate", "The war was over.", "--feature", "37,34", "--layer", "final"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "features 34, 37" in shown
    assert "left out of mu and sigma alone (out of sigma) the loss" in shown
    assert "future tokens" not in shown
    assert main(["ablate", "The war was over.", "--feature", "1-3"]) == 2
