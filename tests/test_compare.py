"""Tokens side by side: every figure against float64 NumPy on what plain transformers computed."""

from __future__ import annotations

import copy
import itertools
import re
import weakref

import msgspec
import numpy as np
import pytest
import torch
from conftest import raw_states, reference, with_body
from test_cli import gpt2ln  # noqa: F401
from test_render import WIDTHS, table

import gpt2ln_cli
from gpt2ln_cli.commands.compare.linear_probe import PENALTIES, r_squared
from gpt2ln_cli.commands.compare.pairs import _shape
from gpt2ln_cli.commands.compare.record import Comparison
from gpt2ln_cli.errors import PromptError
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
    assert [len(token.sites) for setting in record.settings for token in setting.tokens] == [25] * 4
    assert_tokens_agree(record, plain_demo)


def test_every_figure_of_three_prompts_in_any_batch(demo, plain_demo):
    prompts = ["the war was over", [5, 9, 5], "hatred"]
    for batch_size in (None, 1):
        record = gpt2ln_cli.compare(prompts, model=demo, position=0, bos=True, layers=SOME, batch_size=batch_size)
        assert [token.position for token in record.settings[0].tokens] == [1, 1, 1]
        assert_tokens_agree(record, plain_demo)


def test_the_findings_say_what_was_measured(record):
    by_name = {finding.name: finding for finding in record.findings}
    assert [finding.holds for finding in record.findings[:3]] == [True, True, True]
    each = [one for setting in record.settings for token in setting.tokens for one in token.sites]
    assert f"{max(one.rebuilt_error for one in each):.1e}" in by_name["discarded"].statement
    assert f"{100 * max(one.mean_share for one in each):.3g}%" in by_name["discarded"].statement
    assert "96 numbers" in by_name["discarded"].statement
    ratios = [
        max(a.sigma, b.sigma) / min(a.sigma, b.sigma)
        for setting in record.settings
        for a, b in zip(*(token.sites for token in setting.tokens), strict=True)
    ]
    assert f"up to {max(ratios):.4g} (at " in by_name["scale"].statement
    change = max(abs(one.post.excess_kurtosis - one.pre.excess_kurtosis) for one in each)
    assert f"by up to {change:.3g}" in by_name["shape"].statement
    reads = record.probe.sites[:-1]
    medians = [
        np.median([one.post for one in reads]),
        np.median([one.later[0].r_squared for one in reads]),
        np.median([one.later[-1].r_squared for one in reads]),
    ]
    better = sum(one.later[0].r_squared > one.post for one in reads)
    gone = by_name["not gone"]
    assert [f"{median:.3f}" for median in medians] == re.findall(r"-?\d\.\d{3}", gone.statement)
    assert f"at {better} of them" in gone.statement
    assert gone.holds == (better > 12)


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


def altered(demo, change):
    body = copy.deepcopy(demo.body)
    change(body)
    return with_body(demo, body)


def normalizing(formula):
    """Let every LayerNorm of a body compute gain * formula(x) + bias."""

    def change(body):
        norms = [module for module in body.modules() if isinstance(module, torch.nn.LayerNorm)]
        for module in norms:
            module.forward = lambda x, m=module: formula(x) * m.weight + m.bias

    return change


def holds(record):
    return {finding.name: finding.holds for finding in record.findings}


def test_an_rms_normalized_model_gets_other_answers(demo):
    model = altered(demo, normalizing(lambda x: x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt()))
    record = gpt2ln_cli.compare(model=model)
    found = holds(record)
    assert (found["discarded"], found["shape"]) == (False, True)
    assert "not rebuilt" in record.findings[0].statement
    # What is lacking is the rest of mu: x is taken for (sigma / rms) x + mu.
    token = record.settings[0].tokens[1]
    states = raw_states(model.body, record.prompts[token.sequence].token_ids)
    for one in token.sites:
        x = states[one.site][0][token.position]
        rebuilt = np.sqrt((x.var() + EPS) / (np.mean(x**2) + EPS)) * x + x.mean()
        assert one.rebuilt_error == pytest.approx(np.linalg.norm(x - rebuilt) / np.linalg.norm(x), rel=1e-2, abs=1e-6)


def test_a_model_normalized_by_head_gets_other_answers(demo):
    def by_head(x):
        return torch.nn.functional.layer_norm(x.unflatten(-1, (12, 8)), (8,), eps=EPS).flatten(-2)

    found = holds(gpt2ln_cli.compare(model=altered(demo, normalizing(by_head))))
    assert (found["discarded"], found["shape"]) == (False, False)


def test_a_model_that_only_centers_gets_other_answers(demo):
    model = altered(demo, normalizing(lambda x: x - x.mean(-1, keepdim=True)))
    record = gpt2ln_cli.compare(model=model, layers=SOME)
    assert holds(record)["scale"] is False
    assert holds(record)["shape"] is True


@pytest.mark.parametrize("dtype", [pytest.param("float16", marks=pytest.mark.slow), "bfloat16"])
def test_half_precision_hides_no_other_normalization(demo, dtype):
    """What one rounding leaves is known to the last place; a multiple of epsilon would let all of this pass."""

    def computed(formula, *, gain=True, factor=1.0):
        def change(body):
            body.to(getattr(torch, dtype))
            for module in [module for module in body.modules() if isinstance(module, torch.nn.LayerNorm)]:
                weight, bias = module.weight.float(), module.bias.float()
                applied = weight if gain else torch.ones_like(weight)
                module.forward = lambda x, g=applied, b=bias: (factor * (formula(x.float()) * g + b)).to(x.dtype)

        return holds(gpt2ln_cli.compare(model=altered(demo, change), layers=SOME))

    def normal(x, correction=0):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=correction, keepdim=True) + EPS).sqrt()

    def by_head(x):
        return torch.nn.functional.layer_norm(x.unflatten(-1, (12, 8)), (8,), eps=EPS).flatten(-2)

    true = holds(gpt2ln_cli.compare(model=altered(demo, lambda body: body.to(getattr(torch, dtype))), layers=SOME))
    assert (true["discarded"], true["scale"], true["shape"]) == (True, True, True)
    scaled = computed(normal, factor=1.15)
    assert (scaled["discarded"], scaled["scale"]) == (False, False)
    sample = computed(lambda x: normal(x, correction=1))
    assert (sample["discarded"], sample["shape"]) == (False, True)
    rms = computed(lambda x: x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt())
    assert (rms["discarded"], rms["shape"]) == (False, True)
    heads = computed(by_head)
    assert (heads["discarded"], heads["shape"]) == (False, False)
    no_gain = computed(normal, gain=False)
    assert (no_gain["discarded"], no_gain["shape"]) == (False, False)


def test_whether_sigma_is_gone_is_measured(demo):
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

    kept = gpt2ln_cli.compare(model=altered(demo, still), layers="0-1")
    for reading in kept.probe.sites:
        assert all(later.r_squared == pytest.approx(reading.pre, abs=1e-6) for later in reading.later)
    reads = kept.probe.sites[:-1]
    assert holds(kept)["not gone"] == (sum(one.later[0].r_squared > one.post for one in reads) > len(reads) / 2)
    nothing_taken = gpt2ln_cli.compare(model=altered(demo, untouched), layers="0-1")
    assert all(reading.post == pytest.approx(reading.pre, abs=1e-6) for reading in nothing_taken.probe.sites)
    assert holds(nothing_taken)["not gone"] is False


def test_one_site_alone_leaves_open_whether_sigma_is_gone(demo):
    assert holds(gpt2ln_cli.compare(model=demo, layers="final"))["not gone"] is None


def test_a_gain_of_zero_is_no_division_by_zero(demo):
    record = gpt2ln_cli.compare(model=altered(demo, lambda body: body.h[0].ln_1.weight[3:6].zero_()), layers=0)
    assert record.nonfinite == 0
    assert record.settings[0].tokens[0].sites[0].rebuilt


def test_words_are_compared_at_their_last_token(demo, record):
    alone, carried = record.settings
    assert (alone.template, carried.template) == (None, "The word was {}.")
    for setting, texts in ((alone, ["ok", "hatred"]), (carried, ["The word was ok.", "The word was hatred."])):
        for token, text in zip(setting.tokens, texts, strict=True):
            assert record.prompts[token.sequence].text == text
            encoding = demo.tokenizer.encode(text)
            end = len(text) - (setting is carried)
            assert encoding.offsets[token.position][1] == end
            assert token.token == demo.tokenizer.decode([encoding.ids[token.position]])


@pytest.mark.parametrize("position", [0, 1, -1, -2])
def test_the_position_counts_the_words_own_tokens(demo, position):
    words = ["ok", "unfathomableness"]
    record = gpt2ln_cli.compare(words, model=demo, position=position, layers=0, template="Was {} là?")
    for setting, before in ((record.settings[0], ""), (record.settings[1], "Was ")):
        for token, word in zip(setting.tokens, words, strict=True):
            offsets = demo.tokenizer.encode(record.prompts[token.sequence].text).offsets
            own = [i for i, (a, b) in enumerate(offsets) if b > len(before) and a < len(before) + len(word)]
            assert token.position == own[position]


def test_bos_moves_the_tokens_and_not_the_choice(demo):
    plain, moved = (gpt2ln_cli.compare(model=demo, layers=0, bos=bos) for bos in (False, True))
    for a, b in zip(plain.settings, moved.settings, strict=True):
        for one, other in zip(a.tokens, b.tokens, strict=True):
            assert (other.position, other.token_id) == (one.position + 1, one.token_id)


def test_where_no_carrier_is_used(demo):
    def templates(items, **more):
        record = gpt2ln_cli.compare(items, model=demo, layers=0, **more)
        return [setting.template for setting in record.settings]

    assert templates(["a", "b"]) == [None, "The word was {}."]
    assert templates(["a", "b c"]) == [None]
    assert templates(["a", [5]]) == [None]
    assert templates(["a", "b"], template="{}") == [None]
    assert templates(["a", "b c"], template="So {}!") == [None, "So {}!"]


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
    (finding,) = record.findings
    shares = [site.real for site in context.sites]
    assert f"{100 * np.median(shares):.3g}% of their ||xhat||^2" in finding.statement
    assert finding.holds == (np.median(shares) > 1 / len(ids))


def test_tokens_that_share_nothing_get_another_answer(demo):
    def opposite(body):
        body.wpe.weight.zero_()
        body.wte.weight[6] = -body.wte.weight[5]

    record = gpt2ln_cli.compare([[5, 6], [5, 5]], model=altered(demo, opposite), context=True, layers=0, sites=["ln_1"])
    assert [finding.holds for finding in record.findings] == [False, True]
    nothing, everything = (context.sites[0].real for context in record.contexts)
    assert nothing == pytest.approx(0, abs=1e-9)
    assert everything == pytest.approx(1, abs=1e-6)
    assert record.contexts[1].sites[0].across_tokens is None


def test_json_is_the_record_of_the_library(gpt2ln, demo):  # noqa: F811
    code, out, err = gpt2ln("compare", "ok", "hatred", "--layer", SOME, "--json")
    assert (code, "no prompt" in err) == (0, False)
    assert msgspec.json.decode(out, type=Comparison) == gpt2ln_cli.compare(["ok", "hatred"], model=demo, layers=SOME)
    code, out, err = gpt2ln("compare", "--context", "--layer", SOME, "--json")
    assert (code, '"war violence hate fear"' in err) == (0, True)
    expected = gpt2ln_cli.compare("war violence hate fear", model=demo, context=True, layers=SOME)
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


@pytest.mark.parametrize("width", WIDTHS)
def test_the_tables_fit_and_show_every_figure(record, monkeypatch, width):
    text = table(record, width, monkeypatch)
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
    assert "position 0" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_the_tables_of_contexts_fit_and_show_every_figure(demo, monkeypatch, width):
    long = " ".join(["hate and fear"] * 9)
    record = gpt2ln_cli.compare(["war violence hate fear", long], model=demo, context=True, layers=SOME)
    text = table(record, width, monkeypatch)
    assert max(map(len, text.split("\n"))) <= width
    shown = set(re.split(r"\s+", text))
    for context in record.contexts:
        for site in context.sites:
            assert {percent(site.real), percent(site.across_tokens)} <= shown
    for site in record.contexts[0].sites:
        for token in site.tokens:
            assert {percent(token.real), percent(token.across_tokens)} <= shown
    assert "Each token's own share is in --json" in " ".join(text.split())


@pytest.mark.parametrize("scale", [1e-300, 1e-100, 1e-12, 1.0, 1e13, 1e100, 1e300])
def test_the_shape_of_features_is_that_of_any_multiple_of_them(scale):
    """In float64, as a checkpoint of float64 has them, fourth powers vanish below 1e-81 and overflow above 1e77."""
    values = np.random.default_rng(3).standard_t(3, size=96)
    _, sigma, kurtosis, deviation = shape_of(values)
    with np.errstate(over="ignore"):  # the norm is NumPy's own
        shape = _shape(values * scale)
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


def test_no_passage_is_kept_for_the_sake_of_a_row(demo, monkeypatch):
    most = living(monkeypatch)
    prompts = [[token] * 300 for token in range(1, 5)]  # two passes
    wordless = with_body(demo, demo.body)
    wordless._tokenizer = [None]
    gpt2ln_cli.compare(prompts, model=wordless)
    assert 1 <= most[0] <= 2
    gpt2ln_cli.ablate(prompts, model=demo, layers="0")
    assert most[0] <= 2
