"""Replacing LayerNorms: every figure against plain transformers with modules of the test's own."""

from __future__ import annotations

import copy
import re

import msgspec
import numpy as np
import pytest
import torch
from conftest import DEMO, raw_states, with_body
from test_cli import gpt2ln  # noqa: F401
from test_render import WIDTHS, table
from test_truth import module_state
from transformers import GPT2LMHeadModel

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.ablate.record import Ablation
from gpt2ln_cli.commands.ablate.replacements import VARIANTS, Place
from gpt2ln_cli.commands.ablate.view import SAYS
from gpt2ln_cli.errors import CheckpointError, PromptError
from gpt2ln_cli.output.text import number, percent
from gpt2ln_cli.text.prompts import HELD_OUT, sample_prompts_folder

PROMPTS = [[7, 1, 1, 60, 0, 33], [5, 9], [2], [40, 41, 42, 43, 3, 3, 17, 21, 22]]


class Rival(torch.nn.Module):
    """Another normalization in the place of one LayerNorm; one sequence, float64."""

    def __init__(self, norm, formula):
        super().__init__()
        self.norm, self.formula = norm, formula

    def forward(self, x):
        y = self.formula(x[0].double(), self.norm.weight.double(), self.norm.bias.double())
        return y[None].to(x.dtype)


def standard(x, dims, eps=1e-5):
    mean = x.mean(dims, keepdim=True)
    return (x - mean) / ((x - mean).pow(2).mean(dims, keepdim=True) + eps).sqrt()


def per_head(x, heads):
    return standard(x.view(len(x), heads, -1), 2).reshape(x.shape)


def formulas(name, heads, sigmas):
    """The formula of a replacement; ``sigmas`` are the real ones of all sequences at this site, in order."""
    first = np.mean([s[0] for s in sigmas])
    rest = np.mean(np.concatenate([s[1:] for s in sigmas]))
    pooled = np.mean(np.concatenate(sigmas))

    def apart(x, g, b):
        scale = torch.tensor([first] + [rest] * (len(x) - 1))[:, None]
        return g * (x - x.mean(1, keepdim=True)) / (scale**2 + 1e-5).sqrt() + b

    return {
        "identity": lambda x, g, b: x,
        "RMSNorm": lambda x, g, b: g * x / (x.pow(2).mean(1, keepdim=True) + 1e-5).sqrt() + b,
        "per feature": lambda x, g, b: g * standard(x, 0) + b,
        "whole context": lambda x, g, b: g * standard(x, (0, 1)) + b,
        "per head": lambda x, g, b: g * per_head(x, heads) + b,
        "fixed sigma": apart,
        "fixed sigma, pooled": lambda x, g, b: g * (x - x.mean(1, keepdim=True)) / (pooled**2 + 1e-5) ** 0.5 + b,
        "no gain": lambda x, g, b: standard(x, 1) + b,
        "no bias": lambda x, g, b: g * standard(x, 1),
        "neither": lambda x, g, b: standard(x, 1),
    }[name]


def expected(folder, prompts, name, names):
    """(loss by token, log-probabilities, ||x|| at ln_f by sequence) of plain transformers with rivals at the sites."""
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    body = model.transformer
    if name is not None:
        plain = [raw_states(body, ids) for ids in prompts]
        for site in names:
            owner, _, attribute = f"transformer.{site}".rpartition(".")
            formula = formulas(name, body.config.n_head, [states[site][0].std(-1) for states in plain])
            parent = model.get_submodule(owner)
            setattr(parent, attribute, Rival(getattr(parent, attribute), formula))
    losses, probabilities, residuals = [], [], []
    handle = body.ln_f.register_forward_pre_hook(lambda _, x: residuals.append(x[0][0].double().norm(dim=-1).numpy()))
    with torch.no_grad():
        for ids in prompts:
            log_p = model(torch.tensor([ids])).logits[0].double().log_softmax(-1).numpy()[:-1]
            probabilities.append(log_p)
            losses.append(-log_p[np.arange(len(ids) - 1), ids[1:]])
    handle.remove()
    return np.concatenate(losses), np.concatenate(probabilities), residuals


def assert_figures(one, folder, prompts, names, rel=1e-4):
    loss, log_p, residuals = expected(folder, prompts, None if one.name == "real" else one.name, names)
    real_loss, real_log_p, _ = expected(folder, prompts, None, names)
    difference = loss - real_loss
    assert one.loss == pytest.approx(loss.mean(), rel=rel)
    assert one.perplexity == pytest.approx(np.exp(loss.mean()), rel=20 * rel)
    assert one.loss_difference == pytest.approx(difference.mean(), rel=rel, abs=1e-5)
    assert one.standard_error == pytest.approx(np.std(difference, ddof=1) / len(difference) ** 0.5, rel=rel, abs=1e-5)
    assert one.kl == pytest.approx((np.exp(real_log_p) * (real_log_p - log_p)).sum(-1).mean(), rel=rel, abs=1e-6)
    assert one.same_top == pytest.approx((log_p.argmax(-1) == real_log_p.argmax(-1)).mean())
    for spread, values in (
        (one.residual_first, [r[0] for r in residuals]),
        (one.residual_rest, np.concatenate([r[1:] for r in residuals])),
    ):
        got = (spread.mean, spread.min, spread.max)
        assert got == pytest.approx((np.mean(values), np.min(values), np.max(values)), rel=rel)
    assert one.overflowed == 0


@pytest.fixture(scope="module")
def folder(make_folder):
    return make_folder()


@pytest.fixture(scope="module")
def record(demo):
    """The command's own default: the passage that was held out."""
    return gpt2ln_cli.ablate(model=demo)


ALL = [f"h.{layer}.{kind}" for layer in range(2) for kind in ("ln_1", "ln_2")] + ["ln_f"]


@pytest.mark.parametrize("batch_size", [None, 1])
def test_every_figure_of_every_replacement(folder, batch_size):
    record = gpt2ln_cli.ablate(PROMPTS, model=folder, batch_size=batch_size)
    assert record.sites == ALL
    assert record.predictions == sum(len(ids) - 1 for ids in PROMPTS)
    assert [one.name for one in record.replaced] == [variant.name for variant in VARIANTS]
    for one in (record.real, *record.replaced):
        assert_figures(one, folder, PROMPTS, ALL)


def test_only_the_chosen_sites_are_replaced(folder):
    record = gpt2ln_cli.ablate(PROMPTS, model=folder, layers="1,final", sites=["ln_2", "ln_f"])
    assert record.sites == ["h.1.ln_2", "ln_f"]
    for one in record.replaced:
        assert_figures(one, folder, PROMPTS, record.sites)


def test_the_real_loss_is_that_of_transformers(record):
    ids = torch.tensor([record.prompts[0].token_ids])
    with torch.no_grad():
        loss = GPT2LMHeadModel.from_pretrained(DEMO).eval()(ids, labels=ids).loss.item()
    assert record.real.loss == pytest.approx(loss, abs=1e-5)
    assert record.real.loss_difference == record.real.kl == 0
    assert record.real.same_top == 1
    assert record.prompts[0].text == (sample_prompts_folder() / HELD_OUT).read_text().rstrip("\n")


def test_the_verdict_follows_from_the_losses(record):
    losses = {one.name: one.loss for one in record.replaced if not one.looks_ahead}
    lower = [name for name in sorted(losses, key=losses.get) if losses[name] < record.real.loss - record.resolution]
    assert record.lower == lower
    assert record.equal == [n for n, loss in losses.items() if abs(loss - record.real.loss) <= record.resolution]


def altered(demo, change):
    body = copy.deepcopy(demo.body)
    change(body)
    return with_body(demo, body)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rounding_hides_no_other_normalization_and_makes_none_of_the_same(make_folder, dtype):
    """Where the bias is 0 there is nothing to leave out; per head is a normalization of its own, in every dtype."""

    def no_bias(body):
        for name, parameter in body.named_parameters():
            if "ln_" in name and "bias" in name:
                parameter.zero_()

    record = gpt2ln_cli.ablate(PROMPTS, model=gpt2ln_cli.load(make_folder(no_bias), dtype=dtype))
    assert record.equal == ["no bias"]
    by_name = {one.name: one for one in record.replaced}
    assert abs(by_name["no bias"].loss_difference) <= record.resolution
    assert abs(by_name["RMSNorm"].loss_difference) > record.resolution


def test_half_precision_takes_no_loss_of_a_tenth_for_rounding(demo):
    """In float32 0.057 nats for RMSNorm; 4 x eps of bfloat16, relative to the loss, would be 0.13."""
    body = copy.deepcopy(demo.body).bfloat16()
    record = gpt2ln_cli.ablate("The war was over, but the hatred was not.", model=with_body(demo, body))
    assert record.equal == []
    assert record.resolution < 0.05


def test_another_model_gets_another_verdict(demo):
    """A gain gone wrong is better left out, which is named; leaving out a bias of zero changes nothing."""

    def spoil(body):
        body.ln_f.weight.neg_()
        body.ln_f.bias.zero_()

    text = "The war was over, but the hatred was not."
    real = gpt2ln_cli.ablate(text, model=demo, layers="final")
    spoilt = gpt2ln_cli.ablate(text, model=altered(demo, spoil), layers="final")
    assert "no gain" not in real.lower
    assert "no bias" not in real.equal
    assert "no gain" in spoilt.lower
    assert spoilt.equal == ["no bias"]
    assert {claim.id: claim.verdict for claim in spoilt.claims}["ablate.bias_needed"] == "no"


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_what_looks_ahead_is_marked(variant):
    """With another last token, the earlier ones' output changes exactly where the replacement is marked."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(7, 12))
    other = x.copy()
    other[-1] = generator.normal(size=12)
    place = Place(gain=1.5, bias=0.25, heads=3, eps=1e-5, sigma_first=2.0, sigma_rest=1.0, sigma_pooled=1.2)
    one, two = (variant.output(values, [7], place)[:-1] for values in (x, other))
    assert np.array_equal(one, two) != variant.looks_ahead


def test_an_untied_head_is_used(make_folder):
    folder = make_folder(tie_word_embeddings=False)
    ids = torch.tensor([PROMPTS[3]])
    with torch.no_grad():
        model = GPT2LMHeadModel.from_pretrained(folder).eval()
        assert not torch.equal(model.lm_head.weight, model.transformer.wte.weight)
        loss = model(ids, labels=ids).loss.item()
    assert gpt2ln_cli.ablate([PROMPTS[3]], model=folder).real.loss == pytest.approx(loss, abs=1e-5)


def test_a_missing_head_is_an_error(make_folder):
    folder = make_folder(tie_word_embeddings=False)
    GPT2LMHeadModel.from_pretrained(folder).transformer.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="no LM head"):
        gpt2ln_cli.ablate([[1, 2, 3]], model=folder)


def test_what_overflows_is_counted(make_folder):
    def enlarge(body):
        for block in body.h:
            block.mlp.c_proj.weight.mul_(1e10)

    record = gpt2ln_cli.ablate([[1, 2, 3], [4, 5]], model=make_folder(enlarge, n_layer=6))
    by_name = {one.name: one for one in record.replaced}
    assert record.real.overflowed == by_name["neither"].overflowed == 0
    assert by_name["identity"].overflowed == 5
    assert by_name["identity"].loss is None
    assert by_name["identity"].same_top == 0
    assert record.nonfinite > 0


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_the_model_is_as_before(demo, error):
    before = module_state(demo.body)

    def interrupt(done, total):
        if error is not None and done > total / 2:
            raise error

    if error is None:
        gpt2ln_cli.ablate("the war was over", model=demo, progress=interrupt)
    else:
        with pytest.raises(error):
            gpt2ln_cli.ablate("the war was over", model=demo, progress=interrupt)
    assert module_state(demo.body) == before


def test_an_error_inside_a_replaced_forward_leaves_the_model_as_before(demo):
    before = module_state(demo.body)
    calls = []

    def fail(*_):
        calls.append(None)
        if len(calls) == 2:  # the first forward is the real model's
            raise RuntimeError

    handle = demo.body.h[3].mlp.register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError):
            gpt2ln_cli.ablate("the war was over", model=demo)
    finally:
        handle.remove()
    assert module_state(demo.body) == before


def test_progress_counts_every_pass(demo):
    steps = []
    record = gpt2ln_cli.ablate([[1, 2, 3], [4, 5]], model=demo, progress=lambda *step: steps.append(step))
    total = 5 * (2 + len(record.replaced))  # the model as it is, and once with its LayerNorms rounded again
    assert steps[-1] == (total, total)


def test_without_a_next_token_there_is_nothing_to_measure(demo):
    with pytest.raises(PromptError, match="no next token"):
        gpt2ln_cli.ablate([[1], [2]], model=demo)
    assert main(["ablate", "--token-ids", "1"]) == 4


def test_one_prediction_has_no_standard_error(folder):
    record = gpt2ln_cli.ablate([[1, 2]], model=folder)
    assert record.predictions == 1
    assert record.real.standard_error is None
    assert record.nonfinite == 1 + len(record.replaced)


def test_json_is_the_record_of_the_library(gpt2ln, demo):  # noqa: F811
    code, out, err = gpt2ln("ablate", "the war was over", "--layer", "0,final", "--json")
    assert (code, "held_out" in err) == (0, False)
    assert msgspec.json.decode(out, type=Ablation) == gpt2ln_cli.ablate(
        "the war was over", model=demo, layers="0,final"
    )


def test_the_default_text_is_said_on_standard_error(gpt2ln, monkeypatch, record):  # noqa: F811
    monkeypatch.setattr(
        "gpt2ln_cli.commands.ablate.compute.ablate", lambda prompts, **_: record if prompts is None else None
    )
    code, out, err = gpt2ln("ablate")
    assert code == 0
    assert "held_out.txt" in err
    assert "what these weights depend on" in " ".join(out.split())


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_fits_and_shows_every_figure(record, monkeypatch, width):
    text = table(record, width, monkeypatch)
    assert max(map(len, text.split("\n"))) <= width
    assert "…" not in text
    shown = set(re.split(r"\s+", text))
    for one in (record.real, *record.replaced):
        figures = [one.loss, one.loss_difference, one.standard_error, one.kl]
        assert {number(figure) for figure in figures} | {percent(one.same_top)} <= shown
        marked = [line for line in text.split("\n") if line.startswith(f"{one.name} *")]
        assert bool(marked) == one.looks_ahead
    for claim in record.claims:
        assert set(SAYS[claim.id].of(claim).split()) <= shown


def test_the_answer_comes_first_and_the_whole_fits_a_screen(record, monkeypatch):
    text = table(record, 80, monkeypatch)
    assert len(text.rstrip("\n").split("\n")) <= 60
    lowest, *_ = record.claims
    assert text.index(SAYS[lowest.id].of(lowest)[:40]) < text.index("Predictions of the next token")


def test_a_claim_holds_the_loss_against_what_blocks_of_tokens_make_by_chance(record):
    """The threshold again, from the losses of plain transformers with the bias left out."""
    names = [f"h.{layer}.{kind}" for layer in range(12) for kind in ("ln_1", "ln_2")] + ["ln_f"]
    ids = record.prompts[0].token_ids
    plain = GPT2LMHeadModel.from_pretrained(DEMO).eval()

    def losses():
        with torch.no_grad():
            log_p = plain(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        return -log_p[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()

    before = losses()
    modules = dict(plain.transformer.named_modules())
    for name in names:
        torch.nn.init.zeros_(modules[name].bias)
    blocks = np.array([block.mean() for block in np.array_split(losses() - before, 92)])  # of 920^(1/3) tokens
    (claim,) = (one for one in record.claims if one.id == "ablate.bias_needed")
    assert claim.statistic == pytest.approx(blocks.mean(), rel=1e-4)
    assert claim.threshold == pytest.approx(2.6309 * blocks.std(ddof=1) / 92**0.5, rel=1e-4)  # t(0.995, 91)
    assert claim.verdict == "yes"


def test_what_this_run_cannot_tell_is_not_claimed(folder):
    """One prediction has no spread, and five tokens of a random model have too much of it."""
    record = gpt2ln_cli.ablate([[1, 2]], model=folder)
    assert {claim.verdict for claim in record.claims} == {"can't tell"}
    assert all(claim.threshold is None for claim in record.claims)
