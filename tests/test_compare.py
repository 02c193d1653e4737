"""Tokens side by side: every figure against float64 NumPy on what plain transformers computed."""

from __future__ import annotations

import io
import itertools
import re
import weakref

import msgspec
import numpy as np
import pytest
import torch
from altered import altered, by_head, centered, normalizing, rms, untrained
from conftest import raw_states, reference, with_body
from test_cli import gpt2ln  # noqa: F401
from test_render import WIDTHS, table

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.commands.compare.linear_probe import PENALTIES, r_squared
from gpt2ln_cli.commands.compare.pairs import shape_of as shape_found
from gpt2ln_cli.commands.compare.record import Comparison
from gpt2ln_cli.commands.compare.sample import Sample, draw
from gpt2ln_cli.commands.compare.view import SAYS
from gpt2ln_cli.errors import PromptError
from gpt2ln_cli.measure import chance
from gpt2ln_cli.model import instrument
from gpt2ln_cli.output.text import number, percent
from gpt2ln_cli.text.prompts import HELD_OUT, LONG_SAMPLE, sample_prompts_folder

EPS = 1e-5
SOME = "0,5,final"


@pytest.fixture(scope="module")
def record(demo):
    return gpt2ln_cli.compare(["ok", "hatred"], model=demo)


def shape_of(values):
    quantities = reference(values[None], values[None], EPS)
    return [quantities[name][0] for name in ("pre_norm", "sigma", "excess_kurtosis", "max_deviation")]


def assert_shape(shape, values, rel=1e-5):
    got = (shape.norm, shape.sigma, shape.excess_kurtosis + 3, shape.max_deviation)
    norm, sigma, kurtosis, deviation = shape_of(values)
    assert got == pytest.approx((norm, sigma, kurtosis + 3, deviation), rel=rel)


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def assert_tokens_agree(record, body):
    """Every number of every setting, from x and y of an ordinary run of each prompt."""
    states = [raw_states(body, prompt.token_ids) for prompt in record.prompts]
    modules = dict(body.named_modules())
    for setting in record.settings:
        by_site = {}
        for token in setting.tokens:
            assert record.prompts[token.sequence].token_ids[token.position] == token.token_id
            for one in token.sites:
                x, y = (values[token.position] for values in states[token.sequence][one.site])
                gain, bias = (p.detach().double().numpy() for p in (modules[one.site].weight, modules[one.site].bias))
                defined = (x - x.mean()) / np.sqrt(x.var() + EPS)
                undone = (y - bias) / gain
                by_site.setdefault(one.site, []).append((x, defined, y))
                assert one.mean == pytest.approx(x.mean(), rel=1e-5, abs=1e-5 * x.std())
                assert one.sigma == pytest.approx(x.std(), rel=1e-5)
                assert one.mean_share == pytest.approx(len(x) * x.mean() ** 2 / (x @ x), rel=1e-5, abs=1e-6)
                assert one.sigma_share == pytest.approx(len(x) * x.var() / (x @ x), rel=1e-5)
                assert one.mean_share + one.sigma_share == pytest.approx(1)
                assert_shape(one.pre, x)
                # Undone from the module's float32 output: what is left of its gain and bias is rounding.
                assert_shape(one.normalized, defined, rel=1e-3)
                assert_shape(one.post, y)
                # The error is rounding itself, which differs with the batch: its size is what can be checked.
                scale = np.sqrt(x.var() + EPS)
                error = np.linalg.norm(x - scale * undone - x.mean()) / np.linalg.norm(x)
                assert 0 < one.rebuilt_error < one.rounding < 1e-4
                assert error < one.rounding
                # Half a unit of y's last place, and eight operations on each term of gain * (x - mu) / scale + bias.
                terms = np.abs(gain) * ((np.abs(x) + np.sqrt(np.mean(x**2))) / scale + np.abs(defined)) + np.abs(bias)
                bound = np.spacing(np.abs(y).astype(np.float32)) / 2 + 4 * np.finfo(np.float32).eps * terms
                rounding = np.linalg.norm(scale * bound / np.abs(gain)) / np.linalg.norm(x)
                assert one.rounding == pytest.approx(rounding, rel=1e-2)
                assert one.rebuilt
                assert one.shape_kept
        pairs = list(itertools.combinations(range(len(setting.tokens)), 2))
        assert [(pair.first, pair.second) for pair in setting.pairs] == pairs
        for pair in setting.pairs:
            for at in pair.sites:
                for stage, name in enumerate(("pre", "normalized", "post")):
                    a, b = (by_site[at.site][token][stage] for token in (pair.first, pair.second))
                    assert getattr(at, name) == pytest.approx(cosine(a, b), rel=1e-4, abs=1e-4)


def test_every_figure_of_ok_and_hatred(record, plain_demo):
    assert [len(token.sites) for setting in record.settings for token in setting.tokens] == [25] * 2
    assert_tokens_agree(record, plain_demo)


def test_every_figure_of_three_prompts_in_any_batch(demo, plain_demo):
    prompts = ["the war was over", [5, 9, 5], "hatred"]
    for batch_size in (None, 1):
        record = gpt2ln_cli.compare(prompts, model=demo, position=0, bos=True, layers=SOME, batch_size=batch_size)
        assert [token.position for token in record.settings[0].tokens] == [1, 1, 1]
        assert_tokens_agree(record, plain_demo)


def by_id(record):
    return {claim.id.removeprefix("compare."): claim for claim in record.claims}


def verdicts(record):
    return {name: claim.verdict for name, claim in by_id(record).items()}


def test_the_claims_carry_what_was_measured(record):
    found = by_id(record)
    setting = record.settings[0]
    each = [one for token in setting.tokens for one in token.sites]
    taken = found["two_numbers_discarded"]
    assert (taken.verdict, taken.statistic, taken.figures["cases"], taken.figures["features"]) == ("yes", 0, 50, 96)
    assert taken.figures["mean_share"] == max(one.mean_share for one in each)
    ratios = [
        max(a.sigma, b.sigma) / min(a.sigma, b.sigma)
        for a, b in zip(*(token.sites for token in setting.tokens), strict=True)
    ]
    scale = found["scale_equalized"]
    assert scale.verdict == "yes"
    assert scale.statistic < scale.threshold == 1
    assert scale.figures["before"] == pytest.approx(max(ratios))
    shape = found["shape_kept"]
    change = max(abs(one.post.excess_kurtosis - one.pre.excess_kurtosis) for one in each)
    assert (shape.verdict, shape.statistic, shape.figures["by_gain"]) == ("yes", 0, change)
    first, second = (token.sites for token in setting.tokens)
    for name, differences, reach in (
        ("sigma", [np.log(b.sigma / a.sigma) for a, b in zip(first, second, strict=True)], setting.random.sigma),
        (
            "kurtosis",
            [b.pre.excess_kurtosis - a.pre.excess_kurtosis for a, b in zip(first, second, strict=True)],
            setting.random.kurtosis,
        ),
    ):
        claim = found[f"greater_{name}"]
        assert claim.statistic == pytest.approx(np.median(differences))
        assert (claim.threshold, claim.level) == (reach, 0.01)
        assert claim.figures["greater"] == sum(one > 0 for one in differences)
        assert (claim.figures["first"], claim.figures["second"]) == ("fine", "hatred")
    reads = record.probe.sites[:-1]
    kept = found["stream_keeps_sigma"]
    assert kept.statistic == np.median([one.later[0].r_squared for one in reads])
    assert kept.figures["post"] == np.median([one.post for one in reads])
    assert kept.figures["last"] == np.median([one.later[-1].r_squared for one in reads])
    assert kept.figures["better"] == sum(one.later[0].r_squared > one.post for one in reads)
    assert (kept.figures["chance"], kept.threshold) == (max(record.probe.shuffled), 0.5)


def own_r_squared(x, t, held_x, held_t):
    """Ridge by normal equations and the hat matrix itself, one target; the penalty with the least GCV error."""
    mean, std = x.mean(0), x.std(0)
    z, held = (x - mean) / std, (held_x - mean) / std
    best = None
    for penalty in 10.0 ** np.arange(-6, 3) * len(x):
        inverse = np.linalg.inv(z.T @ z + penalty * np.eye(z.shape[1]))
        weights = inverse @ z.T @ (t - t.mean())
        freedom = np.trace(z @ inverse @ z.T)
        error = len(x) * np.sum((t - t.mean() - z @ weights) ** 2) / (len(x) - 1 - freedom) ** 2
        if best is None or error < best[0]:
            best = (error, weights)
    predicted = held @ best[1] + t.mean()
    return 1 - np.sum((held_t - predicted) ** 2) / np.sum((held_t - held_t.mean()) ** 2)


def test_sigma_is_read_back_on_held_out_tokens(demo, plain_demo):
    probe = gpt2ln_cli.compare(["a", "b"], model=demo, layers="0,11").probe
    names = ["h.0.ln_1", "h.0.ln_2", "h.11.ln_1", "h.11.ln_2"]
    assert [reading.site for reading in probe.sites] == names
    pieces = []
    for name in (LONG_SAMPLE, HELD_OUT):
        text = (sample_prompts_folder() / name).read_text(encoding="utf-8").rstrip("\n")
        ids = demo.tokenizer.encode(text).ids
        pieces += [ids[start : start + 128] for start in range(0, len(ids), 128)]
    assert (probe.texts, probe.piece) == ([LONG_SAMPLE, HELD_OUT], 128)
    assert probe.fitted_tokens == sum(len(ids) - 1 for ids in pieces[::2])
    assert probe.held_out_tokens == sum(len(ids) - 1 for ids in pieces[1::2])
    states = [raw_states(plain_demo, ids) for ids in pieces]
    fitted, held = (
        {site: [np.concatenate([state[site][stage][1:] for state in part]) for stage in (0, 1)] for site in names}
        for part in (states[::2], states[1::2])
    )

    def read(source, stage, target):
        t, held_t = (np.log(state[target][0].std(-1)) for state in (fitted, held))
        return own_r_squared(fitted[source][stage], t, held[source][stage], held_t)

    for number_, reading in enumerate(probe.sites):
        assert reading.pre == pytest.approx(read(reading.site, 0, reading.site), abs=1e-4)
        assert reading.post == pytest.approx(read(reading.site, 1, reading.site), abs=1e-4)
        assert [later.site for later in reading.later] == names[number_ + 1 :]
        for later in reading.later:
            assert later.r_squared == pytest.approx(read(later.site, 0, reading.site), abs=1e-4)


def test_shuffled_sigma_is_read_by_the_same_probe(demo, plain_demo):
    probe = gpt2ln_cli.compare(["a", "b"], model=demo, layers=0).probe
    pieces = Sample(demo).pieces
    states = [raw_states(plain_demo, ids) for ids in pieces]

    def gathered(site, stage, part):
        return np.concatenate([state[site][stage][1:] for state in states[part::2]])

    x, held_x = (gathered("h.0.ln_2", 0, part) for part in (0, 1))
    t, held_t = (np.log(gathered("h.0.ln_1", 0, part).std(-1)) for part in (0, 1))
    orders = itertools.islice(chance.permutations(len(x), 99), 3)
    expected = [own_r_squared(x, t[order], held_x, held_t) for order in orders]
    assert probe.shuffled[:3] == pytest.approx(expected, abs=1e-4)
    assert len(probe.shuffled) == 99
    assert len(probe.gains) == len(pieces[1::2])
    read = probe.sites[0]
    assert sum(probe.gains) == pytest.approx(read.later[0].r_squared - read.post)


def test_the_probe_reads_what_is_there_and_nothing_else():
    generator = np.random.default_rng(5)
    x, held = generator.normal(size=(300, 8)), generator.normal(size=(200, 8))
    weights = generator.normal(size=(8, 1))
    exact = r_squared(x, x @ weights + 3, held, held @ weights + 3)
    noise = r_squared(x, generator.normal(size=(300, 1)), held, generator.normal(size=(200, 1)))
    assert exact[0] > 0.999
    assert noise[0] < 0.1
    wide, held_wide = generator.normal(size=(40, 90)), generator.normal(size=(30, 90))
    target = generator.normal(size=40)
    got = r_squared(wide, target[:, None], held_wide, held_wide[:, :1])
    assert got[0] == pytest.approx(own_r_squared(wide, target, held_wide, held_wide[:, 0]), abs=1e-6)
    assert len(PENALTIES) == 9


def test_what_cannot_be_read_is_no_number():
    x = np.ones((5, 2))
    assert np.isnan(r_squared(x * np.inf, x, x, x)).all()
    constant = r_squared(np.eye(5), np.arange(5.0)[:, None], np.eye(5), np.ones((5, 1)))
    assert np.isnan(constant).all()


def test_an_rms_normalized_model_gets_other_answers():
    model = altered(normalizing(rms))
    record = gpt2ln_cli.compare(model=model, probe=False)
    found = verdicts(record)
    assert (found["two_numbers_discarded"], found["shape_kept"]) == ("no", "yes")
    # What is lacking is the rest of mu: x is taken for (sigma / rms) x + mu.
    token = record.settings[0].tokens[1]
    states = raw_states(model.body, record.prompts[token.sequence].token_ids)
    for one in token.sites:
        x = states[one.site][0][token.position]
        rebuilt = np.sqrt((x.var() + EPS) / (np.mean(x**2) + EPS)) * x + x.mean()
        assert one.rebuilt_error == pytest.approx(np.linalg.norm(x - rebuilt) / np.linalg.norm(x), rel=1e-2, abs=1e-6)


def test_a_model_normalized_by_head_gets_other_answers():
    found = verdicts(gpt2ln_cli.compare(model=altered(normalizing(by_head)), probe=False))
    assert (found["two_numbers_discarded"], found["shape_kept"]) == ("no", "no")


def test_a_model_that_only_centers_gets_other_answers():
    found = verdicts(gpt2ln_cli.compare(model=altered(normalizing(centered)), layers=SOME, probe=False))
    assert (found["scale_equalized"], found["shape_kept"]) == ("no", "yes")


@pytest.mark.parametrize("dtype", [pytest.param("float16", marks=pytest.mark.slow), "bfloat16"])
def test_half_precision_hides_no_other_normalization(dtype):
    """What one rounding leaves is known to the last place; a multiple of epsilon would let all of this pass."""

    def told(change):
        found = verdicts(gpt2ln_cli.compare([[5, 9], [6, 7]], model=altered(change), layers=SOME, probe=False))
        return [found[name] for name in ("two_numbers_discarded", "scale_equalized", "shape_kept")]

    def computed(formula, *, gain=True, factor=1.0):
        def change(body):
            body.to(getattr(torch, dtype))
            for module in [module for module in body.modules() if isinstance(module, torch.nn.LayerNorm)]:
                weight, bias = module.weight.float(), module.bias.float()
                applied = weight if gain else torch.ones_like(weight)
                module.forward = lambda x, g=applied, b=bias: (factor * (formula(x.float()) * g + b)).to(x.dtype)

        return told(change)

    def normal(x, correction=0):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=correction, keepdim=True) + EPS).sqrt()

    assert told(lambda body: body.to(getattr(torch, dtype))) == ["yes", "yes", "yes"]
    assert computed(normal, factor=1.15)[:2] == ["no", "no"]
    assert computed(lambda x: normal(x, correction=1))[::2] == ["no", "yes"]
    assert computed(rms)[::2] == ["no", "yes"]
    assert computed(by_head)[::2] == ["no", "no"]
    assert computed(normal, gain=False)[::2] == ["no", "no"]


def test_whether_sigma_is_gone_is_measured():
    """With blocks that add nothing, the residual keeps all; where LayerNorm takes nothing either, y tells as much."""

    def still(body):
        for block in body.h:
            for module in (block.attn.c_proj, block.mlp.c_proj):
                module.weight.zero_()
                module.bias.zero_()

    def untouched(body):
        still(body)
        for module in body.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.forward = lambda x: x

    kept = gpt2ln_cli.compare(model=altered(still), layers="0-1")
    for reading in kept.probe.sites:
        assert all(later.r_squared == pytest.approx(reading.pre, abs=1e-6) for later in reading.later)
    nothing_taken = gpt2ln_cli.compare(model=altered(untouched), layers="0-1")
    assert all(reading.post == pytest.approx(reading.pre, abs=1e-6) for reading in nothing_taken.probe.sites)
    assert by_id(nothing_taken)["stream_keeps_sigma"].figures["gain"] == pytest.approx(0, abs=1e-6)
    assert verdicts(nothing_taken)["stream_keeps_sigma"] != "yes"


def test_one_site_alone_leaves_open_whether_sigma_is_gone(demo):
    for record in (gpt2ln_cli.compare(model=demo, layers="final"), gpt2ln_cli.compare(model=demo, probe=False)):
        claim = by_id(record)["stream_keeps_sigma"]
        assert (claim.verdict, claim.statistic, claim.threshold) == ("can't tell", None, None)


def test_a_gain_of_zero_is_no_division_by_zero():
    record = gpt2ln_cli.compare(model=altered(lambda body: body.h[0].ln_1.weight[3:6].zero_()), layers=0)
    assert record.nonfinite == 0
    assert record.settings[0].tokens[0].sites[0].rebuilt


def test_like_is_compared_with_like(record):
    """One token each, at the same position of the same sentence; what stands for a word of several tokens is told."""
    (setting,) = record.settings
    assert (setting.template, setting.alike) == ("The word was {}.", True)
    assert [(token.text, token.stands_for, token.token) for token in setting.tokens] == [
        ("fine", "ok", " fine"),
        ("hatred", None, " hatred"),
    ]
    assert [token.own_tokens for token in setting.tokens] == [1, 1]
    assert {token.position for token in setting.tokens} == {3}
    assert [record.prompts[token.sequence].text for token in setting.tokens] == [
        "The word was fine.",
        "The word was hatred.",
    ]


def states_of_rows(body, rows):
    """Input of every LayerNorm for sequences of one length, (sequences, tokens, features), by hooks on a plain run."""
    states = {}
    handles = [
        module.register_forward_pre_hook(lambda _, x, name=name: states.update({name: x[0].double().numpy()}))
        for name, module in body.named_modules()
        if isinstance(module, torch.nn.LayerNorm)
    ]
    try:
        with torch.no_grad():
            body(torch.tensor(rows), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return states


UNLIKE = {
    "words of several tokens": (["unfathomableness", "hatred"], {}),
    "position 0": (["fine", "hatred"], {"template": "{}", "position": 0}),
    "other tokens before them": ([[5, 9], [6, 9]], {}),
    "a word as it was asked for": (["ok", "hatred"], {"position": -1}),
}


@pytest.mark.parametrize("how", UNLIKE)
def test_what_is_not_alike_is_not_judged(demo, how):
    words, options = UNLIKE[how]
    record = gpt2ln_cli.compare(words, model=demo, layers=SOME, probe=False, **options)
    (setting,) = record.settings
    assert (setting.alike, setting.random) == (False, None)
    assert [token.stands_for for token in setting.tokens] == [None, None]
    for name in ("greater_sigma", "greater_kurtosis"):
        claim = by_id(record)[name]
        assert (claim.verdict, claim.threshold) == ("can't tell", None)
        assert claim.statistic is not None
        assert "not one token each" in claim.figures["why"]


def test_random_words_stand_in_the_same_place(demo, plain_demo, record):
    """Two of them differ by more than is said as rarely as is said."""
    random = record.settings[0].random
    words = Sample(demo).words
    assert all(demo.tokenizer.decode([word])[0] == " " for word in words)
    (drawn,) = draw(words, 2 * random.pairs, 1)
    assert len(set(drawn)) == len(drawn) == 398
    before = record.prompts[0].token_ids[:3]
    states = states_of_rows(plain_demo, [[*before, word] for word in drawn])
    quantities = [reference(x[:, 3], x[:, 3], EPS) for x in states.values()]
    shapes = np.array([[np.log(found["sigma"]), found["excess_kurtosis"]] for found in quantities])
    differences = np.abs(np.median(shapes[:, :, ::2] - shapes[:, :, 1::2], axis=0)).T
    for reach, found in zip((random.sigma, random.kurtosis), differences.T, strict=True):
        assert np.sort(found)[-2] == pytest.approx(reach, rel=1e-4)  # of 199, one may be above at 1%


@pytest.mark.parametrize("position", [0, 1, -1, -2])
def test_the_position_counts_the_words_own_tokens(demo, position):
    words = ["ok", "unfathomableness"]
    record = gpt2ln_cli.compare(words, model=demo, position=position, layers=0, template="Was {} là?")
    for token, word in zip(record.settings[0].tokens, words, strict=True):
        offsets = demo.tokenizer.encode(record.prompts[token.sequence].text).offsets
        own = [i for i, (a, b) in enumerate(offsets) if b > len("Was ") and a < len("Was ") + len(word)]
        assert (token.position, token.own_tokens) == (own[position], len(own))


def test_bos_moves_the_tokens_and_not_the_choice(demo):
    plain, moved = (gpt2ln_cli.compare(model=demo, layers=0, bos=bos) for bos in (False, True))
    for a, b in zip(plain.settings, moved.settings, strict=True):
        for one, other in zip(a.tokens, b.tokens, strict=True):
            assert (other.position, other.token_id) == (one.position + 1, one.token_id)


def test_where_no_carrier_is_used(demo):
    def templates(items, **more):
        record = gpt2ln_cli.compare(items, model=demo, layers=0, **more)
        return [setting.template for setting in record.settings]

    assert templates(["a", "b"]) == ["The word was {}."]
    assert templates(["a", "b c"]) == [None]
    assert templates(["a", [5]]) == [None]
    assert templates(["a", "b"], template="{}") == [None]
    assert templates(["a", "b c"], template="So {}!") == ["So {}!"]


def test_long_prompts_are_found_in_their_window(demo):
    long = list(range(1, 1030))
    record = gpt2ln_cli.compare([long, [7]], model=demo, layers=0, overflow="window")
    token = record.settings[0].tokens[0]
    assert (record.prompts[token.sequence].offset, token.position, token.token_id) == (1024, 4, 1029)
    with pytest.raises(PromptError, match="cut off"):
        gpt2ln_cli.compare([long, [7]], model=demo, layers=0, overflow="truncate")


def test_a_shared_direction_is_measured(demo, plain_demo):
    record = gpt2ln_cli.compare("war violence hate fear", model=demo, context=True)
    (context,) = record.contexts
    ids = record.prompts[0].token_ids
    states = raw_states(plain_demo, ids)
    assert context.unrelated == 1 / len(ids)
    assert len(context.sites) == 25
    for site in context.sites:
        x = states[site.site][0]
        xhat = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + EPS)
        mean = xhat.mean(0)
        assert site.real == pytest.approx(mean @ mean / np.mean(np.sum(xhat**2, 1)), rel=1e-3)
        held = [row @ mean / (row @ row) for row in xhat]
        assert [token.real for token in site.tokens] == pytest.approx(held, rel=1e-3, abs=1e-4)
        # Zero by construction: the mean over tokens of what was centered over tokens.
        assert 0 <= site.across_tokens < 1e-25
        assert max(abs(token.across_tokens) for token in site.tokens) < 1e-12
        assert [token.token_id for token in site.tokens] == ids
    found = by_id(record)
    middle = np.median([site.real for site in context.sites])
    direction = found["tokens_share_direction"]
    assert (direction.statistic, direction.threshold) == (middle, context.shuffled.upper)
    assert (direction.figures["unrelated"], direction.level) == (0.2, 0.01)
    for name, reached in (
        ("more_than_random_tokens", context.control.random),
        ("more_of_their_own", context.control.random_remaining),
    ):
        assert (found[name].threshold, found[name].figures["random"]) == (reached.upper, reached.median)


def test_a_tokenizer_that_the_model_does_not_fit_gives_no_sample(demo, make_folder):
    """Token ids can be compared all the same."""
    small = gpt2ln_cli.load(make_folder())
    small._tokenizer = [demo.tokenizer]
    record = gpt2ln_cli.compare([[5, 6, 7]], model=small, context=True, layers=0)
    assert record.contexts[0].control is None
    record = gpt2ln_cli.compare([[5, 6], [5, 7]], model=small, layers=0, position=1)
    assert (record.probe, record.settings[0].random) == (None, None)


def own_share(rows):
    mean = rows.mean(0)
    return mean @ mean / np.mean(np.sum(rows**2, axis=1))


def own_xhats(body, rows, site):
    x = states_of_rows(body, rows)[site]
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPS)


def test_the_control_is_what_other_tokens_share_in_the_same_positions(demo, plain_demo):
    site, text = "h.0.ln_2", "war violence hate fear"
    record = gpt2ln_cli.compare(text, model=demo, context=True, layers=0, sites=["ln_2"])
    (context,) = record.contexts
    sample = Sample(demo)
    common = np.concatenate([own_xhats(plain_demo, [piece], site)[0, 1:] for piece in sample.pieces]).mean(0)
    common /= np.linalg.norm(common)

    def out(rows):
        return rows - np.outer(rows @ common, common)

    ids = record.prompts[0].token_ids
    assert context.sites[0].remaining == pytest.approx(own_share(out(own_xhats(plain_demo, [ids], site)[0])), rel=1e-4)
    control = context.control
    for tokens, whole, remaining in (
        (sample.tokens, control.random, control.random_remaining),
        (sample.function_words, control.function_words, control.function_words_remaining),
    ):
        rows = draw(tokens, len(ids))
        assert all(len(set(row)) == len(row) == 5 for row in rows)
        xhats = own_xhats(plain_demo, rows, site)
        for reached, shares in (
            (whole, [own_share(xhat) for xhat in xhats]),
            (remaining, [own_share(out(xhat)) for xhat in xhats]),
        ):
            assert (reached.draws, reached.level) == (199, 0.01)
            assert reached.median == pytest.approx(np.median(shares), rel=1e-4)
            assert reached.upper == pytest.approx(np.sort(shares)[-2], rel=1e-4)
    others = context.sites[0].others
    assert (others.random, others.random_remaining) == (control.random.median, control.random_remaining.median)
    words = {demo.tokenizer.decode([token]) for token in sample.function_words}
    assert {" the", " of", " and", " to"} <= words


def test_what_is_too_long_or_has_no_tokenizer_has_no_control(demo):
    long = gpt2ln_cli.compare(" ".join(["hate and fear"] * 60), model=demo, context=True, layers=0).contexts[0]
    assert long.control is None
    wordless = with_body(demo, demo.body)
    wordless._tokenizer = [None]
    record = gpt2ln_cli.compare([[5, 6, 7]], model=wordless, context=True, layers=0)
    assert record.contexts[0].control is None
    found = verdicts(record)
    assert (found["more_than_random_tokens"], found["more_of_their_own"]) == ("can't tell", "can't tell")


def test_tokens_that_share_nothing_get_another_answer():
    def opposite(body):
        body.wpe.weight.zero_()
        body.wte.weight[6] = -body.wte.weight[5]

    record = gpt2ln_cli.compare([[5, 6], [5, 5]], model=altered(opposite), context=True, layers=0, sites=["ln_1"])
    shared = [claim.verdict for claim in record.claims if claim.id == "compare.tokens_share_direction"]
    assert shared == ["no", "yes"]
    nothing, everything = (context.sites[0].real for context in record.contexts)
    assert nothing == pytest.approx(0, abs=1e-9)
    assert everything == pytest.approx(1, abs=1e-6)
    assert record.contexts[1].sites[0].across_tokens is None


def test_json_is_the_record_of_the_library(gpt2ln, demo):  # noqa: F811
    code, out, err = gpt2ln("compare", "ok", "hatred", "--layer", "0", "--json")
    assert (code, "no prompt" in err) == (0, False)
    assert msgspec.json.decode(out, type=Comparison) == gpt2ln_cli.compare(["ok", "hatred"], model=demo, layers=0)
    code, out, err = gpt2ln("compare", "--context", "--layer", "0", "--json")
    assert (code, '"war violence hate fear"' in err) == (0, True)
    expected = gpt2ln_cli.compare("war violence hate fear", model=demo, context=True, layers=0)
    assert msgspec.json.decode(out, type=Comparison) == expected


BAD = [
    (2, ["ok"], "two or more"),
    (2, ["ok", "no", "--template", "The word."], "must have {} once"),
    (2, ["--token-ids", "1", "--token-ids", "2", "--template", "So {}"], "token ids can't"),
    (2, ["ok", "no", "--position", "7"], "position 7: 'ok'"),
    (2, ["--context", "ok no", "--position", "0"], "--context looks at all"),
    (4, ["--context", "--token-ids", "1"], "one token long"),
    (4, ["ok", ""], "empty"),
]


@pytest.mark.parametrize(("code", "words", "says"), BAD, ids=str)
def test_bad_input_gets_one_line_and_its_exit_code(gpt2ln, code, words, says):  # noqa: F811
    got, out, err = gpt2ln("compare", *words)
    assert (got, out) == (code, "")
    assert says in err
    assert len(err.strip().split("\n")) == 1


def everything(record, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    output.write(gpt2ln_cli.view(record), "table", stream, everything=True)
    return stream.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_all_tables_fit_and_show_every_figure(record, monkeypatch, width):
    text = everything(record, width, monkeypatch)
    assert max(map(len, text.split("\n"))) <= width
    assert "…" not in text
    shown = set(re.split(r"\s+", text))
    for setting in record.settings:
        for token in setting.tokens:
            for one in token.sites:
                figures = [one.mean, one.rebuilt_error, one.rounding]
                for stage in (one.pre, one.normalized, one.post):
                    figures += [stage.norm, stage.sigma, stage.excess_kurtosis, stage.max_deviation]
                assert {number(figure) for figure in figures} <= shown
                assert {percent(one.mean_share), percent(one.sigma_share)} <= shown
        for pair in setting.pairs:
            for at in pair.sites:
                assert {number(at.pre), number(at.normalized), number(at.post)} <= shown
    for reading in record.probe.sites:
        figures = [reading.pre, reading.post, *(later.r_squared for later in (*reading.later[:1], *reading.later[-1:]))]
        assert {number(figure) for figure in figures} <= shown


@pytest.fixture(scope="module")
def contexts(demo):
    long = " ".join(["hate and fear"] * 9)
    return gpt2ln_cli.compare(["war violence hate fear", long], model=demo, context=True, layers=SOME)


@pytest.mark.parametrize("width", WIDTHS)
def test_all_tables_of_contexts_fit_and_show_every_figure(contexts, monkeypatch, width):
    text = everything(contexts, width, monkeypatch)
    assert max(map(len, text.split("\n"))) <= width
    shown = set(re.split(r"\s+", text))
    for context in contexts.contexts:
        for site in context.sites:
            assert {percent(site.real), percent(site.remaining), percent(site.others.random)} <= shown
            for token in site.tokens:
                assert percent(token.real) in shown


@pytest.mark.parametrize(
    ("model", "lines"), [("demo", 60), pytest.param("48 layers", 100, marks=pytest.mark.slow)], ids=str
)
def test_the_answers_come_first_and_fit_a_screen(record, demo, monkeypatch, model, lines):
    subject = demo if model == "demo" else untrained(48)
    words = record if model == "demo" else gpt2ln_cli.compare(model=subject)
    for shown in (words, gpt2ln_cli.compare(model=subject, context=True)):
        text = table(shown, 80, monkeypatch)
        assert text.count("\n") <= lines
        flat = " ".join(text.split())
        # A column keeps a claim apart from its neighbours; its words follow one another, in lines.
        claimed = [SAYS[claim.id].of(claim).split()[:4] for claim in shown.claims]
        places = [flat.index(" ".join(words)) for words in claimed]
        assert places == sorted(places)
        assert max(places) < flat.index("sites: first, middle, last")
        # What is zero but for rounding is no figure.
        assert re.findall(r"\de-\d\d", text.replace("eps 1e-05", "")) == []


@pytest.mark.parametrize("scale", [1e-300, 1e-100, 1e-12, 1.0, 1e13, 1e100, 1e300])
def test_the_shape_of_features_is_that_of_any_multiple_of_them(scale):
    """In float64, as a checkpoint of float64 has them, fourth powers vanish below 1e-81 and overflow above 1e77."""
    values = np.random.default_rng(3).standard_t(3, size=96)
    _, sigma, kurtosis, deviation = shape_of(values)
    with np.errstate(over="ignore"):  # the norm is NumPy's own
        shape = shape_found(values * scale)
    assert shape.excess_kurtosis == pytest.approx(kurtosis, rel=1e-10)
    assert shape.max_deviation == pytest.approx(deviation, rel=1e-10)
    assert shape.sigma == pytest.approx(sigma * scale, rel=1e-10)


def living(monkeypatch):
    """The most inputs of LayerNorms that were alive at any passage."""
    seen, most, plain = [], [0], instrument.Passage

    def counted(site, x, y):
        seen.append(weakref.ref(x))
        most[0] = max(most[0], sum(one() is not None for one in seen))
        return plain(site, x, y)

    monkeypatch.setattr(instrument, "Passage", counted)
    return most


@pytest.mark.slow
def test_no_passage_is_kept_for_the_sake_of_a_row(demo, monkeypatch):
    most = living(monkeypatch)
    prompts = [[token] * 300 for token in range(1, 5)]  # two passes
    wordless = with_body(demo, demo.body)
    wordless._tokenizer = [None]
    gpt2ln_cli.compare(prompts, model=wordless)
    assert 1 <= most[0] <= 2
    gpt2ln_cli.ablate(prompts, model=demo, layers="0")
    assert most[0] <= 2
