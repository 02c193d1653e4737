"""Which features make up sigma: held against float64 on plain transformers' hooks, and found where planted."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from conftest import raw_states, site_names, with_body
from transformers import GPT2Model

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.commands.plot import figures
from gpt2ln_cli.measure import feature_sums
from gpt2ln_cli.measure.feature_sums import Watcher
from gpt2ln_cli.measure.features import Features, holding
from gpt2ln_cli.measure.stream import stream
from gpt2ln_cli.model.subject import prepare
from gpt2ln_cli.sites import all_sites

PROMPTS = [[7, 1, 1, 60, 0, 3], [5, 9], [11, 12, 13, 14]]
WIDTH = 24
PARTS = ("first", "rest")


def planted(body):
    """From layer 2 on feature 5 is massive: the bias of an MLP writes it."""
    body.h[1].mlp.c_proj.bias.data[5] += 3000


@pytest.fixture(scope="module")
def folders(make_folder):
    return {"plain": make_folder(n_layer=4), "planted": make_folder(planted, n_layer=4)}


def reference(folder, prompts=PROMPTS):
    """x and y of every site's tokens, position 0 and later apart, and where each token stands."""
    body = GPT2Model.from_pretrained(folder).eval()
    states = [raw_states(body, ids) for ids in prompts]
    places = [(number, position) for number, ids in enumerate(prompts) for position in range(len(ids))]
    found = {}
    for site in site_names(body.config.n_layer):
        x, y = (np.concatenate([state[site][stage] for state in states]) for stage in (0, 1))
        for part in PARTS:
            chosen = [(position == 0) == (part == "first") for _, position in places]
            where = [place for place, one in zip(places, chosen, strict=True) if one]
            found[site, part] = (x[chosen], y[chosen], where)
    return found


def shares(x, y):
    centered = x - x.mean(-1, keepdims=True)
    return (
        (centered**2 / (centered**2).sum(-1, keepdims=True)).mean(0),
        (y**2 / (y**2).sum(-1, keepdims=True)).mean(0),
    )


@pytest.mark.parametrize("kind", ["plain", "planted"])
@pytest.mark.parametrize("how", [{}, {"batch_size": 1}])
def test_every_number_is_that_of_float64(folders, kind, how):
    record = gpt2ln_cli.features(PROMPTS, model=folders[kind], top=WIDTH, **how)
    body = GPT2Model.from_pretrained(folders[kind])
    expected = reference(folders[kind])
    assert [site.name for site in record.sites] == site_names(4)
    for site in record.sites:
        norm = body.get_submodule(site.name)
        for part in PARTS:
            x, y, where = expected[site.name, part]
            found = getattr(site, part)
            assert found.tokens == len(x)
            share, post_share = shares(x, y)
            limit = np.maximum(100, 1000 * np.median(np.abs(x), axis=-1, keepdims=True))
            massive = (np.abs(x) > limit).sum(0)
            # Batches of other shapes round float32 products differently, relative to the largest summand of a row.
            size = np.abs(x).max()
            order = [feature.index for feature in found.features]
            assert sorted(order) == list(range(WIDTH))
            largest = np.abs(x).max(0)
            assert (np.diff(largest[order]) <= 1e-6 * size).all()
            for one in found.features:
                token = np.abs(x[:, one.index]).argmax()
                assert (one.sequence, one.position) == where[token]
                assert one.token_id == PROMPTS[one.sequence][one.position]
                assert one.value == pytest.approx(x[token, one.index], abs=1e-6 * size)
                assert one.post == pytest.approx(y[token, one.index], abs=1e-5)
                assert one.gain == norm.weight[one.index].item()
                assert one.bias == norm.bias[one.index].item()
                assert (one.massive, one.massive_tokens) == (massive[one.index] > 0, massive[one.index])
            np.testing.assert_allclose([one.share for one in found.features], share[order], rtol=2e-5, atol=1e-6)
            np.testing.assert_allclose(
                [one.post_share for one in found.features], post_share[order], rtol=2e-5, atol=1e-6
            )
            for held, of in ((found.holding, share), (found.post_holding, post_share)):
                cumulated = np.cumsum(np.sort(of)[::-1])
                for count, whole in ((held.half, 0.5), (held.most, 0.9), (held.nearly_all, 0.99)):
                    assert cumulated[count - 1] >= whole - 1e-6
                    assert count == 1 or cumulated[count - 2] < whole + 1e-6
            for one in record.across:
                if one.site == site.name:
                    assert getattr(one, f"{part}_share") == pytest.approx(share[one.index], rel=2e-5, abs=1e-6)
                    assert getattr(one, f"{part}_post_share") == pytest.approx(
                        post_share[one.index], rel=2e-5, abs=1e-6
                    )


@pytest.mark.parametrize("tokens", [1, 2, 5, 8])
def test_pieces_of_a_pass_add_up_to_it(folders, monkeypatch, tokens):
    """As many at a time as a core's cache takes: of these models all, so fewer here."""
    monkeypatch.setattr(feature_sums, "at_once", lambda device, features: tokens)
    test_every_number_is_that_of_float64(folders, "planted", {})


def test_a_planted_feature_is_named_with_where_it_begins(folders):
    (claim,) = gpt2ln_cli.features(PROMPTS, model=folders["planted"]).claims
    assert (claim.id, claim.verdict, claim.statistic) == ("features.massive", "yes", 1)
    assert claim.figures["feature"] == 5
    assert claim.figures["since"] == "h.2.ln_1"
    assert claim.figures["at_sites"] == 5
    assert claim.figures["largest"] == pytest.approx(3000, rel=0.01)
    record = gpt2ln_cli.features(PROMPTS, model=folders["planted"])
    massive = {
        site.name for site in record.sites if any(one.massive for part in PARTS for one in getattr(site, part).features)
    }
    assert massive == {"h.2.ln_1", "h.2.ln_2", "h.3.ln_1", "h.3.ln_2", "ln_f"}
    assert {site.rest.holding.most for site in record.sites[4:]} == {1}


def test_without_one_none_is_claimed(folders):
    (claim,) = gpt2ln_cli.features(PROMPTS, model=folders["plain"]).claims
    assert (claim.verdict, claim.statistic) == ("no", 0)
    largest = max(np.abs(x).max() for x, _, _ in reference(folders["plain"]).values())
    assert claim.figures["largest"] == pytest.approx(largest, rel=1e-5)


def test_a_large_feature_among_large_ones_is_not_massive(make_folder):
    """Above 100 and a thousand times the median: both are asked for."""

    def large(body):
        body.h[1].mlp.c_proj.bias.data += 150
        body.h[1].mlp.c_proj.bias.data[5] += 3000

    (claim,) = gpt2ln_cli.features(PROMPTS, model=make_folder(large, n_layer=3)).claims
    assert claim.verdict == "no"
    assert claim.figures["largest"] > 3000


def test_numbers_that_are_not_finite_leave_it_open(make_folder):
    folder = make_folder(lambda body: body.h[0].mlp.c_proj.bias.data.fill_(float("nan")))
    record = gpt2ln_cli.features(PROMPTS, model=folder)
    assert [claim.verdict for claim in record.claims] == ["can't tell"]
    assert record.nonfinite > 0
    assert record.sites[-1].first.holding.half is None


def test_the_fold_adds_up_in_any_grouping_and_comes_back_from_its_state(folders):
    model = gpt2ln_cli.load(folders["planted"])
    sites = all_sites(4)

    def fold(peaks=3, **how):
        subject = prepare(PROMPTS, model, **how)
        whole, parts = Features(sites, WIDTH, peaks=peaks), []
        for block in stream(model.body, subject.in_batches(), sites, watcher=Watcher(peaks=peaks, exact=True)):
            parts.append(Features(sites, WIDTH, peaks=peaks))
            for each in (whole, parts[-1]):
                each.add(block)
        return whole, parts

    together, _ = fold()
    whole, parts = fold(batch_size=1)
    merged = Features.from_state(parts[0].state())
    for part in parts[1:]:
        merged.merge(Features.from_state(part.state()))
    x = reference(folders["planted"])["h.3.ln_2", "rest"][0]
    for other in (whole, merged, Features.from_state(merged.state())):
        assert other.tokens.tolist() == [3, 9]
        for part in PARTS:
            assert [one.feature for one in other.peaks(7, part)] == [one.feature for one in together.peaks(7, part)]
        found = other.of(7, "rest", "pre")
        np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.std, x.std(0), rtol=1e-3, atol=1e-3)  # of feature 5, 3000, to float32's digits
        np.testing.assert_allclose(found.share, together.of(7, "rest", "pre").share, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(found.massive, together.of(7, "rest", "pre").massive)


def test_float32_is_enough_where_speed_counts(folders):
    model = gpt2ln_cli.load(folders["plain"])
    sites = all_sites(4)
    subject = prepare(PROMPTS, model)
    exact, fast = (Features(sites, WIDTH, peaks=3) for _ in range(2))
    for fold in (exact, fast):
        for block in stream(model.body, subject.in_batches(), sites, watcher=Watcher(peaks=3, exact=fold is exact)):
            fold.add(block)
    for site in range(len(sites)):
        for part in PARTS:
            for stage in ("pre", "post"):
                one, other = (fold.of(site, part, stage) for fold in (exact, fast))
                for name in ("mean", "std", "share", "largest"):
                    np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-4, atol=1e-5)


def test_watching_does_not_change_the_model(folders):
    model = gpt2ln_cli.load(folders["planted"])
    rows = gpt2ln_cli.inspect(PROMPTS, model=model, per_token=True).rows
    gpt2ln_cli.features(PROMPTS, model=model)
    assert gpt2ln_cli.inspect(PROMPTS, model=model, per_token=True).rows == rows


def test_how_many_hold():
    share = np.array([0.1, 0.5, 0.3, 0.1])
    assert [holding(share, part) for part in (0.4, 0.5, 0.6, 0.8, 0.99)] == [1, 1, 2, 2, 4]
    assert holding(np.array([np.nan, 1.0]), 0.5) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float64(folders, dtype):
    model = gpt2ln_cli.load(folders["plain"])
    body = GPT2Model.from_pretrained(folders["plain"]).eval().to(dtype)
    record = gpt2ln_cli.features([PROMPTS[0]], model=with_body(model, body), top=WIDTH)
    x, y = raw_states(body, PROMPTS[0])["h.3.ln_2"]
    share, post_share = shares(x[1:], y[1:])
    for one in record.sites[7].rest.features:
        assert one.share == pytest.approx(share[one.index], rel=1e-9)
        assert one.post_share == pytest.approx(post_share[one.index], rel=1e-9)


def test_the_page_says_what_was_found(folders):
    texts = {}
    for kind, folder in folders.items():
        stream_ = io.StringIO()
        output.write(gpt2ln_cli.view(gpt2ln_cli.features(PROMPTS, model=folder)), "table", stream_)
        texts[kind] = " ".join(stream_.getvalue().split())
    assert "massive features yes 1 found (|x| above 100 and above 1,000 times the median" in texts["planted"]
    assert "from h.2.ln_1 on; the largest is feature 5, |x| = " in texts["planted"]
    assert "5*: " in texts["planted"]
    assert "massive features NO No feature is massive" in texts["plain"]
    assert "*" not in texts["plain"].replace("* is massive", "").replace("gain *", "")


def test_the_figure_shows_the_shares_of_the_record(folders):
    record = gpt2ln_cli.features(PROMPTS, model=folders["planted"])
    first, rest, bar = figures.draw("features", record).axes
    names = [str(index) for index in sorted({one.index for one in record.across})]
    for axes, part in ((first, "first"), (rest, "rest")):
        shares = [100 * getattr(one, f"{part}_share") for one in record.across]
        np.testing.assert_allclose(axes.collections[0].get_array().ravel(), shares)
        assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert [label.get_text() for label in first.get_yticklabels()] == ["0", "1", "2", "3", "ln_f"]
    assert (first.get_title(), rest.get_title()) == ("position 0", "later positions")
    assert "%" in bar.get_ylabel()
    (alone, _) = figures.draw("features", gpt2ln_cli.features([[3]], model=folders["plain"])).axes
    assert alone.get_title() == "position 0"
