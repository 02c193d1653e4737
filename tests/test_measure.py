"""Blocks and folds: what a stream yields, and that folds of its parts add up to that of the whole."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from conftest import raw_states, reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers import GPT2Model

import gpt2ln_cli
from gpt2ln_cli.measure.counts import Counting
from gpt2ln_cli.measure.flags import Tallies
from gpt2ln_cli.measure.rows import Columns
from gpt2ln_cli.measure.stream import Block, stream
from gpt2ln_cli.measure.summary import Summaries
from gpt2ln_cli.model import instrument
from gpt2ln_cli.quantities import QUANTITIES, SUMMARIZED, Kernel, Quantities, Summarized
from gpt2ln_cli.sites import Site, all_sites
from gpt2ln_cli.text.batches import in_batches
from gpt2ln_cli.text.contexts import make_contexts

SITES = [Site(0, "ln_1"), Site(7, "ln_2"), Site(None, "ln_f")]
FOLDS = [Counting, Summaries, Columns, Tallies]
REAL = st.floats(allow_nan=True, allow_infinity=True, width=32)
SMALL = SimpleNamespace(n_positions=32, vocab_size=61, bos_token_id=60)


@pytest.fixture(scope="module")
def body(make_folder):
    return GPT2Model.from_pretrained(make_folder()).eval()


def contexts(prompts):
    return make_contexts(prompts, config=SMALL, tokenizer=None)


def blocks_of(body, prompts, *, shape=True, **options):
    return list(stream(body, in_batches(contexts(prompts), **options), all_sites(2), shape=shape))


@st.composite
def made_up(draw, numbers=REAL):
    """Blocks of sequences of random lengths, as they might come of any batches."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))
    order = draw(st.permutations(range(len(lengths))))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(lengths) - 1)), max_size=3)))
    blocks = []
    for start, end in itertools.pairwise([0, *cuts, len(lengths)]):
        chosen = order[start:end]
        if not chosen:
            continue
        tokens = sum(lengths[index] for index in chosen)
        blocks.append(
            Block(
                quantities=list(QUANTITIES),
                values=draw(arrays(np.float64, (len(SITES), len(QUANTITIES), tokens), elements=numbers)),
                sequence=np.concatenate([[index] * lengths[index] for index in chosen]),
                position=np.concatenate([np.arange(lengths[index]) for index in chosen]),
                statistics=np.full(len(SITES), tokens),
                padding=draw(st.integers(0, 3)),
                eps=np.array([1e-5, 0.5, 0.0]),
                features=24,
            )
        )
    return blocks


def folded(kind, blocks):
    fold = kind(SITES)
    for block in blocks:
        fold.add(block)
    return fold


def merged(kind, blocks, choose):
    """Folds of the single blocks, merged two neighbours at a time wherever ``choose`` says."""
    folds = [folded(kind, [block]) for block in blocks]
    while len(folds) > 1:
        place = choose.randrange(len(folds) - 1)
        folds[place].merge(folds.pop(place + 1))
    return folds[0]


def assert_same(a, b):
    """Numbers to rounding of a sum of eight, everything else exactly."""
    assert a.keys() == b.keys()
    for name, value in a.items():
        if isinstance(value, np.ndarray) and value.dtype == np.float64:
            rounding = 8 * np.finfo(np.float64).eps if name == "sum" else 0
            size = np.abs(value[np.isfinite(value)]).max(initial=0)
            np.testing.assert_allclose(value, b[name], rtol=0, atol=rounding * size)
        else:
            np.testing.assert_equal(value, b[name])


@pytest.mark.parametrize("kind", FOLDS)
@settings(max_examples=40, deadline=None)
@given(blocks=made_up(st.floats(0, 1e6, width=32)), seed=st.integers(0, 1000))
def test_folds_merge_in_any_grouping(kind, blocks, seed):
    whole = folded(kind, blocks)
    assert_same(merged(kind, blocks, random.Random(seed)).state(), whole.state())
    empty = kind(SITES)
    empty.merge(whole)
    assert_same(empty.state(), whole.state())
    whole.merge(kind(SITES))
    assert_same(empty.state(), whole.state())


def packed(state):
    """The state as bytes of MessagePack and back."""

    def plain(value):
        return {"dtype": value.dtype.str, "shape": value.shape, "bytes": value.tobytes()}

    def arrays_again(value):
        if isinstance(value, dict):
            if value.keys() == {"dtype", "shape", "bytes"}:
                return np.frombuffer(value["bytes"], value["dtype"]).reshape(value["shape"])
            return {name: arrays_again(one) for name, one in value.items()}
        return value

    return arrays_again(msgspec.msgpack.decode(msgspec.msgpack.encode(state, enc_hook=plain)))


@pytest.mark.parametrize("kind", FOLDS)
@settings(max_examples=25, deadline=None)
@given(blocks=made_up(), split=st.integers(0, 4))
def test_a_state_is_written_and_read_back(kind, blocks, split):
    """And goes on from there as if nothing had been between."""
    before = folded(kind, blocks[:split])
    state = before.state()
    again = kind.from_state(packed(state))
    np.testing.assert_equal(again.state(), state)
    for block in blocks[split:]:
        again.add(block)
    np.testing.assert_equal(again.state(), folded(kind, blocks).state())
    np.testing.assert_equal(before.state(), state)


@settings(max_examples=40, deadline=None)
@given(blocks=made_up())
def test_columns_and_summaries_are_those_of_the_tokens_in_order(blocks):
    tokens = sorted(
        (block.sequence[token], block.position[token], number, token)
        for number, block in enumerate(blocks)
        for token in range(len(block.position))
    )
    columns, summaries = folded(Columns, blocks), folded(Summaries, blocks)
    assert [tuple(place) for place in zip(columns.sequence, columns.position, strict=True)] == [
        (sequence, position) for sequence, position, *_ in tokens
    ]
    for site in range(len(SITES)):
        values = np.array([blocks[number].values[site, :, token] for *_, number, token in tokens]).T
        np.testing.assert_array_equal(columns.site(site), values)
        later = np.array([position > 0 for _, position, *_ in tokens])
        for name, column in zip(QUANTITIES, values, strict=True):
            np.testing.assert_array_equal(columns.column(site, name), column)
        for part, chosen in (("first", ~later), ("rest", later)):
            found = summaries.of(site, part)
            assert (found is None) == (not chosen.any())
            if found is not None:
                count, spreads = found
                assert count == chosen.sum()
                for name in SUMMARIZED:
                    column = values[list(QUANTITIES).index(name), chosen]
                    spread = spreads[name]
                    np.testing.assert_array_equal([spread.min, spread.max], [column.min(), column.max()])
                    with np.errstate(invalid="ignore"):
                        mean = column.mean()
                    error = 64 * np.finfo(np.float64).eps * np.abs(column).max()
                    np.testing.assert_allclose(spread.mean, mean, rtol=0, atol=error if np.isfinite(error) else 0)


@pytest.mark.parametrize("shape", [False, True])
def test_a_stream_agrees_with_float64(body, shape):
    prompts = [[5, 9, 1], [7] * 20, [3], [2, 60, 11, 4], [8, 8]]
    blocks = blocks_of(body, prompts, shape=shape, batch_size=2)
    seen = []
    for block in blocks:
        assert list(block.quantities) == [name for name, each in QUANTITIES.items() if shape or not each.shape]
        assert block.statistics.tolist() == [len(block.position)] * 5
        lengths = [len(prompts[number]) for number in dict.fromkeys(block.sequence.tolist())]
        assert block.padding == max(lengths) * len(lengths) - sum(lengths)
        assert block.values.dtype == np.float64
        assert block.eps.tolist() == [1e-5] * 5
        for number in dict.fromkeys(block.sequence.tolist()):
            seen.append(number)
            mine = block.sequence == number
            assert block.position[mine].tolist() == list(range(len(prompts[number])))
            states = raw_states(body, prompts[number])
            for line, site in enumerate(all_sites(2)):
                x, y = states[site.name]
                expected = reference(x, y, 1e-5)
                size = expected["pre_norm"] / np.sqrt(x.shape[-1])
                for name in expected.keys() & set(block.quantities):
                    # mu is a difference of large sums, kurtosis one of a number of at least 1 and 3.
                    error = {"mean": size, "excess_kurtosis": expected["excess_kurtosis"] + 3}.get(
                        name, np.abs(expected[name])
                    )
                    assert (np.abs(block.column(name)[line, mine] - expected[name]) <= 1e-5 * error + 1e-6).all(), name
    assert sorted(seen) == list(range(len(prompts)))


@pytest.mark.parametrize("tokens", [1, 5])
def test_pieces_of_a_pass_have_its_shape(body, monkeypatch, tokens):
    monkeypatch.setattr(instrument, "at_once", lambda device, features: tokens)
    test_a_stream_agrees_with_float64(body, True)


def test_formulas_serve_tensors_as_well():
    """One formula for NumPy and torch: a device that folds by itself uses the same."""
    import torch

    x = torch.randn(7, 24, dtype=torch.float64)
    centred = x - x.mean(-1, keepdim=True)
    kernel = {
        "eps": 1e-5,
        "mean": x.mean(-1),
        "variance": x.var(-1, correction=0),
        "post_norm": x.norm(dim=-1),
        "largest": x.abs().amax(-1),
        "furthest": centred.abs().amax(-1),
        "fourth_moment": (centred / x.std(-1, correction=0, keepdim=True)).pow(4).mean(-1),
    }
    expected = reference(x.numpy(), x.numpy(), 1e-5)
    both = {
        torch.Tensor: Kernel(features=24, **kernel),
        np.ndarray: Kernel(features=24, **{name: np.asarray(value) for name, value in kernel.items()}),
    }
    for kind, at in both.items():
        for name, quantity in QUANTITIES.items():
            found = quantity.of(at)
            assert isinstance(found, kind)
            if name in expected:
                np.testing.assert_allclose(np.asarray(found), expected[name], rtol=1e-12, atol=1e-12)


def test_an_endless_text_is_read_as_far_as_blocks_are_asked_for(body):
    taken = 0

    def endless():
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield [number % 60] * (1 + number % 30)

    blocks = stream(body, in_batches(contexts(endless()), batch_tokens=64), all_sites(2))
    assert taken == 0
    counting, summaries = Counting(all_sites(2)), Summaries(all_sites(2))
    for block in itertools.islice(blocks, 100):
        counting.add(block)
        summaries.add(block)
    counts = counting.counts()
    assert counts.batches == 100
    assert counts.formula_agrees
    # 64 batches' tokens ahead are some 265 of these prompts.
    assert counts.sequences <= taken <= counts.sequences + 280
    assert [part[0] for part in (summaries.of(0, "first"), summaries.of(0, "rest"))] == [
        counts.sequences,
        counts.tokens - counts.sequences,
    ]


def test_a_run_is_the_fold_of_its_stream(body, make_folder):
    """``inspect`` gives what folds of any parts of its blocks add up to."""
    prompts = [[5, 9, 1], [7] * 20, [3], [2, 60, 11, 4], [8, 8]]
    record = gpt2ln_cli.inspect(prompts, model=make_folder(), batch_size=2)
    blocks = blocks_of(body, prompts, batch_size=2)
    counting, summaries = Counting(all_sites(2)), Summaries(all_sites(2))
    for block in reversed(blocks):
        counting.add(block)
        summaries.add(block)
    assert counting.counts() == record.counts
    for number, site in enumerate(record.sites):
        for part in ("first", "rest"):
            tokens, spreads = summaries.of(number, part)
            summary = getattr(site, part)
            assert tokens == summary.tokens
            for name in SUMMARIZED:
                spread = getattr(summary, name)
                assert (spreads[name].min, spreads[name].max) == (spread.min, spread.max)
                assert spreads[name].mean == pytest.approx(spread.mean, rel=1e-12)


def test_a_quantity_is_one_entry():
    """All that is said of it stands there, and the structs that hold it are made of the same fields."""
    assert list(QUANTITIES) == list(Quantities.__struct_fields__)
    assert Summarized.__struct_fields__ == SUMMARIZED
    for name, quantity in QUANTITIES.items():
        assert quantity.name == name
        assert quantity.symbol
        assert quantity.short
        assert quantity.description.endswith(".")
        assert not (quantity.summarized and quantity.shape)  # ``inspect`` takes no other look at x for a summary
