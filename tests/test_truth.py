"""The figures are those of the model's own kernel, and the model does not notice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import raw_states, reference, site_names
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Model

import gpt2ln_cli
from gpt2ln_cli.model.instrument import Batch, Instrument
from gpt2ln_cli.quantities import QUANTITIES as ENTRIES
from gpt2ln_cli.sites import Site, all_sites

QUANTITIES = ("sigma", "pre_norm", "normalized_norm", "post_norm", "max_deviation", "excess_kurtosis")


def rows_by_site(record):
    rows = {}
    for row in record.rows:
        rows.setdefault(row.site, []).append(row)
    return rows


def assert_agrees(record, body, ids, *, sequence=0, rtol=1e-5):
    states = raw_states(body, ids)
    for site, rows in rows_by_site(record).items():
        rows = [row for row in rows if row.sequence == sequence]
        assert [row.position for row in rows] == list(range(len(ids)))
        x, y = states[site]
        expected = reference(x, y, body.config.layer_norm_epsilon)
        for name in QUANTITIES:
            got = np.array([getattr(row, name) for row in rows])
            # Kurtosis is a difference, m4 / sigma^4 - 3: its error is relative to the minuend.
            offset = 3 if name == "excess_kurtosis" else 0
            np.testing.assert_allclose(got + offset, expected[name] + offset, rtol=rtol, err_msg=f"{site} {name}")
        # mu of nearly balanced features is a difference of large sums: its error is relative to the features' size.
        size = expected["pre_norm"] / np.sqrt(x.shape[-1])
        got = np.array([row.mean for row in rows])
        assert (np.abs(got - expected["mean"]) <= rtol * size).all(), site
        share = np.array([row.mean_share for row in rows])
        np.testing.assert_allclose(share, expected["mean_share"], rtol=rtol, atol=rtol, err_msg=site)


def test_bundled_checkpoint_agrees_with_float64(demo, plain_demo):
    record = gpt2ln_cli.inspect(
        ["war violence hate fear", "It was the best of times,\nit was the worst"], model=demo, per_token=True
    )
    for prompt in record.prompts:
        assert_agrees(record, plain_demo, prompt.token_ids, sequence=prompt.index)


def test_bundled_checkpoint_agrees_over_the_whole_context(demo, plain_demo):
    ids = np.random.default_rng(0).integers(0, 8192, size=1024).tolist()
    assert_agrees(gpt2ln_cli.inspect([ids], model=demo, per_token=True), plain_demo, ids)


@pytest.mark.parametrize(
    "shape",
    [
        {"n_layer": 1, "n_head": 1, "n_embd": 3, "n_positions": 5},
        {"n_layer": 3, "n_head": 4, "n_embd": 64, "n_positions": 100},
        {"n_layer": 2, "n_head": 12, "n_embd": 768},
        {"n_layer": 1, "n_head": 25, "n_embd": 1600},
        {"layer_norm_epsilon": 1e-12},
        {"layer_norm_epsilon": 1e12},
    ],
)
def test_other_shapes_agree_with_float64(make_folder, shape):
    folder = make_folder(**shape)
    body = GPT2Model.from_pretrained(folder).eval()
    ids = [7, 1, 1, 60, 0][: shape.get("n_positions", 5)]
    assert_agrees(gpt2ln_cli.inspect([ids], model=folder, per_token=True), body, ids)


@pytest.mark.parametrize("scale", [1e-2, 1e-3, 1e-4, 1e-6, 1e-9, 1e3, 1e6])
@pytest.mark.parametrize("offset", [0.0, 5.0, 300.0])
def test_extreme_tokens_agree_with_float64(make_folder, scale, offset):
    """Tokens whose variance is tiny against eps, or whose mean is large against sigma."""

    def change(body):
        for table in (body.wte.weight, body.wpe.weight):
            table.normal_().mul_(scale)
        body.wte.weight.add_(offset)

    folder = make_folder(change)
    body = GPT2Model.from_pretrained(folder).eval()
    ids = [5, 9, 5, 33]
    record = gpt2ln_cli.inspect([ids], model=folder, per_token=True, layers=0, sites=["ln_1"])
    # Where offset + scale * noise is one float32 number throughout, there is no spread to measure.
    x, _ = raw_states(body, ids)["h.0.ln_1"]
    if (x.std(-1) > 0).all():
        assert_agrees(record, body, ids)
    else:
        assert offset / scale > 1e6


def test_constant_tokens_have_no_spread(make_folder):
    def change(body):
        body.wte.weight.fill_(0.25)
        body.wpe.weight.fill_(0.5)

    record = gpt2ln_cli.inspect([[3, 4]], model=make_folder(change), per_token=True, layers=0, sites=["ln_1"])
    for row in record.rows:
        assert (row.mean, row.sigma, row.normalized_norm) == (0.75, 0, 0)
        assert row.mean_share == pytest.approx(1)
        assert row.max_deviation is None
        assert row.excess_kurtosis is None
    of_shape = [name for name, quantity in ENTRIES.items() if quantity.shape and name != "max_abs"]
    assert all(getattr(row, name) is None for row in record.rows for name in of_shape)
    assert record.nonfinite == 2 * len(of_shape)


def test_summaries_are_means_and_extremes_over_tokens(demo, plain_demo):
    prompts = ["ok", "the hatred was not", "a sea of troubles"]
    record = gpt2ln_cli.inspect(prompts, model=demo)
    states = [raw_states(plain_demo, prompt.token_ids) for prompt in record.prompts]
    for site in record.sites:
        each = [reference(*state[site.name], 1e-5) for state in states]
        for summary, part in ((site.first, slice(0, 1)), (site.rest, slice(1, None))):
            for name in ("sigma", "pre_norm", "normalized_norm", "post_norm"):
                values = np.concatenate([quantities[name][part] for quantities in each])
                spread = getattr(summary, name)
                np.testing.assert_allclose(
                    [spread.mean, spread.min, spread.max], [values.mean(), values.min(), values.max()], rtol=1e-5
                )
                assert summary.tokens == len(values)


def test_a_single_token_has_no_later_positions(demo):
    record = gpt2ln_cli.inspect(["the"], model=demo)
    assert record.counts.tokens == 1
    assert all(site.rest is None and site.first.tokens == 1 for site in record.sites)


def run_body(body, ids):
    ids = torch.tensor([ids])
    with torch.no_grad():
        return body(
            input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=torch.arange(ids.shape[1])[None]
        ).last_hidden_state


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [False, True])
def test_output_is_bit_identical_under_the_instrument(plain_demo, dtype, shape):
    body = GPT2Model.from_pretrained(plain_demo.config._name_or_path).eval().to(dtype)
    batch = Batch.of([range(40)])
    left = []
    for module in (*body.h, body):
        module.register_forward_hook(lambda _, inputs, output: left.append(output))
    run_body(body, range(40))
    Instrument(body, all_sites(12), shape=shape).read(batch)
    *plain, out = left[:13]
    *read, read_out = left[13:]
    assert len(read) == 12
    assert all(torch.equal(a, b) for a, b in zip(plain, read, strict=True))
    assert torch.equal(out.last_hidden_state, read_out.last_hidden_state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_statistics_are_not_rounded_to_the_type(plain_demo, dtype):
    body = GPT2Model.from_pretrained(plain_demo.config._name_or_path).eval().to(dtype)
    ids = torch.arange(20)[None]
    readings = Instrument(body, all_sites(12)).read(Batch.of(ids.tolist()))
    states = raw_states(body, ids[0].tolist())
    for reading in readings:
        x, y = states[reading.site.name]
        expected = reference(x, y, 1e-5)
        np.testing.assert_allclose(1 / reading.rstd[0].numpy(), np.sqrt(expected["sigma"] ** 2 + 1e-5), rtol=1e-5)


def module_state(body):
    return [(name, sorted(module.__dict__), module.__dict__.get("forward")) for name, module in body.named_modules()]


def test_the_forward_stops_after_the_last_wanted_site(plain_demo):
    ran = []
    handles = [
        block.mlp.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
        for layer, block in enumerate(plain_demo.h)
    ]
    try:
        readings = Instrument(plain_demo, [Site(2, "ln_1"), Site(5, "ln_2")]).read(Batch.of([[1, 2, 3]]))
    finally:
        for handle in handles:
            handle.remove()
    assert [reading.site.name for reading in readings] == ["h.2.ln_1", "h.5.ln_2"]
    assert ran == [0, 1, 2, 3, 4]


def test_an_early_stop_changes_no_figure(demo):
    whole = rows_by_site(gpt2ln_cli.inspect("the hatred was not", model=demo, per_token=True))
    for site, rows in rows_by_site(gpt2ln_cli.stats("the hatred was not", layers=5, model=demo)).items():
        assert rows == whole[site]


token_lists = st.lists(st.lists(st.integers(0, 8191), min_size=1, max_size=60), min_size=2, max_size=9)


@settings(max_examples=15, deadline=None)
@given(prompts=token_lists)
def test_a_prompt_has_the_same_statistics_in_any_batch(demo, prompts):
    together = gpt2ln_cli.inspect(prompts, model=demo, per_token=True, layers="0,5,11,final")
    tokens = sum(map(len, prompts))
    assert together.counts.total == 7 * tokens == len(together.rows)
    for index, prompt in enumerate(prompts):
        alone = gpt2ln_cli.inspect([prompt], model=demo, per_token=True, layers="0,5,11,final")
        rows = [row for row in together.rows if row.sequence == index]
        for a, b in zip(alone.rows, rows, strict=True):
            assert (a.site, a.position, a.token_id, a.token) == (b.site, b.position, b.token_id, b.token)
            for name in ("sigma", "pre_norm", "normalized_norm", "post_norm", "max_deviation"):
                assert getattr(b, name) == pytest.approx(getattr(a, name), rel=1e-5), (a.site, name)
            assert b.mean == pytest.approx(a.mean, abs=1e-5 * a.pre_norm / 96**0.5)


@settings(max_examples=15, deadline=None)
@given(prompts=token_lists, batch_size=st.none() | st.integers(1, 4))
def test_counts_are_sites_times_tokens(demo, prompts, batch_size):
    counts = gpt2ln_cli.inspect(prompts, model=demo, batch_size=batch_size).counts
    tokens = sum(map(len, prompts))
    assert counts.total == 25 * tokens
    assert (counts.per_site, counts.per_block, counts.tokens) == (tokens, 2 * tokens, tokens)
    assert [kind.statistics for kind in counts.by_kind] == [12 * tokens, 12 * tokens, tokens]
    assert counts.padding_statistics == 25 * counts.padding
    assert counts.formula_agrees
    if batch_size == 1:
        assert counts.padding == 0


def test_counts_are_measured_and_not_assumed(demo, monkeypatch):
    """A site that returns statistics twice is noticed."""
    original = Instrument.read

    def twice(self, batch):
        readings = original(self, batch)
        return [*readings, readings[-1]]

    monkeypatch.setattr(Instrument, "read", twice)
    counts = gpt2ln_cli.inspect("the", model=demo).counts
    assert counts.total == 26
    assert not counts.formula_agrees


def test_sites_are_all_2l_plus_1_in_forward_order(demo):
    assert [site.name for site in gpt2ln_cli.inspect("ok", model=demo).sites] == site_names(12)
