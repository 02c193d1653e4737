"""The sketch and the folds of a profile, against NumPy on the same numbers and the ddsketch package."""

from __future__ import annotations

import math
from random import Random

import msgspec
import numpy as np
import pytest
from ddsketch.ddsketch import BaseDDSketch
from ddsketch.mapping import LogarithmicMapping
from ddsketch.store import DenseStore
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_measure import SITES, made_up

from gpt2ln_cli.commands.profile.parts import with_arrays, without_arrays
from gpt2ln_cli.measure.distributions import Distributions, band_ends, band_of
from gpt2ln_cli.measure.sketch import RELATIVE_ERROR, Sketches, bucket, middle
from gpt2ln_cli.measure.tops import RANKED, Tops
from gpt2ln_cli.quantities import QUANTITIES

SHARES = (0.0, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1.0)
NUMBERS = st.floats(-1.7e308, 1.7e308)
# What a float32 kernel can give, squares included.
LIKELY = st.one_of(st.just(0.0), st.floats(-1e38, 1e38), st.floats(-3, 3), st.sampled_from([1.0, -1.0, 2.5]))


def packed(state):
    """The state as it comes out of a part."""
    return with_arrays(msgspec.msgpack.decode(msgspec.msgpack.encode(without_arrays(state))))


def sketched(values, cells=1, cell=0):
    sketches = Sketches(cells)
    sketches.add(np.array(values), np.full(len(values), cell))
    return sketches


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=60))
def test_a_quantile_is_the_order_statistic_to_the_relative_error(values):
    ordered = np.sort(np.array(values))
    ranks = [math.floor(share * (len(values) - 1)) for share in SHARES]
    found = sketched(values).quantiles([0], ranks)
    for rank, quantile in zip(ranks, found, strict=True):
        # Two roundings, of the logarithm and of the power, at up to 2^10 octaves.
        error = RELATIVE_ERROR * (1 + 1e-9) * abs(ordered[rank])
        assert abs(quantile - ordered[rank]) <= max(error, 3e-308)


@settings(max_examples=100, deadline=None)
@given(st.lists(LIKELY, min_size=1, max_size=200))
def test_the_buckets_are_those_of_the_ddsketch_package(values):
    mapping = LogarithmicMapping(RELATIVE_ERROR)
    oracle = BaseDDSketch(mapping, DenseStore(), DenseStore(), 0.0)
    for value in values:
        oracle.add(value)
    ranks = range(len(values))
    found = sketched(values).quantiles([0], ranks)
    # Just inside of the interval that means a rank, which the package takes as a share.
    theirs = [oracle.get_quantile_value(min(1.0, (rank + 1e-6) / max(1, len(values) - 1))) for rank in ranks]
    # log2 of NumPy and of the C library may differ by a unit in the last place, at a bucket's very end.
    edge = [abs(mapping._log_gamma(abs(v)) % 1 - 0.5) > 0.5 - 1e-9 for v in sorted(values) if abs(v) > 1e-300]
    if not any(edge):
        np.testing.assert_allclose(found, theirs, rtol=1e-12)


def test_what_stands_for_a_bucket_is_in_the_middle_of_it():
    values = np.exp(np.random.default_rng(3).normal(size=20_000) * 20)
    off = np.array([middle(number) for number in bucket(values).tolist()]) / values - 1
    assert np.abs(off).max() <= RELATIVE_ERROR * (1 + 1e-9)
    assert np.abs(off).max() > 0.99 * RELATIVE_ERROR  # and no bucket is wasted


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, st.integers(2, 80), elements=LIKELY), st.randoms(use_true_random=False))
def test_merging_in_any_grouping_gives_the_same_counts(values, random):
    cells = np.array([random.randrange(3) for _ in values])
    whole = Sketches(3)
    whole.add(values, cells)
    cuts = sorted(random.sample(range(len(values)), min(3, len(values) - 1)))
    parts = []
    for some, where in zip(np.split(values, cuts), np.split(cells, cuts), strict=True):
        parts.append(Sketches(3))
        parts[-1].add(some, where)
    random.shuffle(parts)
    while len(parts) > 1:
        other = parts.pop(random.randrange(len(parts)))
        parts[random.randrange(len(parts))].merge(Sketches.from_state(packed(other.state())))
    np.testing.assert_equal(parts[0].state(), whole.state())


def test_bands_are_0_1_2_to_3_and_so_on():
    assert [band_of(position) for position in (0, 1, 2, 3, 4, 7, 8, 1023)] == [0, 1, 2, 2, 3, 3, 4, 10]
    assert [band_ends(band, 1000) for band in (0, 1, 2, 3, 10)] == [(0, 0), (1, 1), (2, 3), (4, 7), (512, 999)]


def folds_of(blocks):
    distributions, tops = Distributions(SITES, list(QUANTITIES), 8), Tops(SITES, 3)
    for block in blocks:
        distributions.add(block)
        tops.add(block)
    return distributions, tops


@settings(max_examples=60, deadline=None)
@given(blocks=made_up(), split=st.integers(0, 4))
def test_distributions_are_those_of_the_tokens(blocks, split):
    """Non-finite numbers are counted and enter nothing else; parts that went through a file add up to the whole."""
    distributions = folds_of(blocks[:split])[0]
    later = folds_of(blocks[split:])
    distributions.merge(Distributions.from_state(packed(later[0].state())))
    values = np.concatenate([block.values for block in blocks], axis=-1)
    bands = np.array([band_of(int(position)) for block in blocks for position in block.position])
    for band in range(distributions.bands):
        assert distributions.tokens[band] == (bands == band).sum()
        for index in np.ndindex(values.shape[:2]):
            column = values[index][bands == band]
            finite = column[np.isfinite(column)]
            assert distributions.nonfinite[(*index, band)] == len(column) - len(finite)
            assert distributions.moments.count[(*index, band)] == len(finite)
            if not len(finite):
                continue
            assert distributions.moments.least[(*index, band)] == finite.min()
            assert distributions.moments.greatest[(*index, band)] == finite.max()
            size = np.abs(finite).max()
            assert abs(distributions.moments.mean[(*index, band)] - finite.mean()) <= 1e-14 * size
            deviation = distributions.moments.squares[(*index, band)] / len(finite)
            assert abs(deviation - finite.var()) <= 1e-13 * max(size, 1e-150) ** 2
            found = distributions.quantiles(*index, [band], SHARES)
            expected = np.quantile(finite, SHARES, method="lower")
            assert (np.abs(found - expected) <= RELATIVE_ERROR * (1 + 1e-9) * np.abs(expected) + 3e-308).all()
            assert (found[0], found[-1]) == (finite.min(), finite.max())


def test_moments_keep_nine_digits_of_the_deviation_far_from_0():
    """A thousand parts whose means differ, about a mean of a million deviations."""
    generator = np.random.default_rng(5)
    values = 1e6 + generator.normal(size=(1000, 64)) + generator.normal(size=(1000, 1))
    whole = Distributions(SITES[:1], ["sigma"], 64)
    for row in values:
        one = Distributions(SITES[:1], ["sigma"], 64)
        one.add(block_of(row[None, None, :]))
        whole.merge(one)
    sigma = values[:, 32:].std()
    mean, squares = whole.moments.mean[0, 0, 6], whole.moments.squares[0, 0, 6]
    assert abs(mean - np.mean(values[:, 32:].astype(np.longdouble))) <= 1e-9 * sigma
    assert abs(math.sqrt(squares / (32 * 1000)) - sigma) <= 1e-9 * sigma


def block_of(values, sequence=0):
    from gpt2ln_cli.measure.stream import Block

    tokens = values.shape[-1]
    return Block(
        quantities=["sigma"] if values.shape[1] == 1 else list(QUANTITIES),
        values=values,
        sequence=np.full(tokens, sequence),
        position=np.arange(tokens),
        statistics=np.full(len(values), tokens),
        padding=0,
        eps=np.full(len(values), 1e-5),
        features=24,
    )


TIES = st.sampled_from([1.0, 2.0, 3.0, -1.0, float("nan"), float("inf")])


@settings(max_examples=60, deadline=None)
@given(blocks=made_up(numbers=TIES), shards=st.integers(1, 4))
def test_tops_are_the_first_of_the_greatest(blocks, shards):
    """Of equal ones the first, by shard, then by sequence and position, in whatever order batches came."""
    merged = Tops(SITES, 3)
    listed = []
    for shard in range(shards):
        mine = blocks[shard::shards]
        tops = folds_of(mine)[1]
        tops.locate(lambda sequence, position, shard=shard: [shard, sequence, position])
        tops.describe(lambda places: [[*place, "said"] for place in places])
        merged.merge(Tops.from_state(packed(tops.state())))
        for block in mine:
            for token in range(len(block.position)):
                place = [shard, int(block.sequence[token]), int(block.position[token])]
                listed.append((place, block.values[:, :, token]))
    for site in range(len(SITES)):
        for name in RANKED:
            number = list(QUANTITIES).index(name)
            expected = []
            for first in (True, False):
                ranked = [
                    (-values[site, number], place)
                    for place, values in listed
                    if (place[2] == 0) == first and np.isfinite(values[site, number])
                ]
                expected += sorted(ranked)[:3]
            found = [(-one.value, one.where[:3]) for one in merged.of(site, name)]
            assert sorted(found) == sorted(expected)
            assert [value for value, _ in found] == sorted(value for value, _ in found)


@pytest.mark.parametrize("seed", range(3))
def test_many_blocks_keep_the_same_tops_as_one(seed):
    random = Random(seed)
    values = np.round(np.random.default_rng(seed).normal(size=(3, len(QUANTITIES), 400)), 1)
    numbers = list(range(40))
    random.shuffle(numbers)
    tops = Tops(SITES, 5)
    for sequence in numbers:
        tops.add(block_of(values[:, :, 10 * sequence : 10 * sequence + 10], sequence))
    for site in range(3):
        column = values[site, list(QUANTITIES).index("sigma")]
        later = [(-value, place) for place, value in enumerate(column) if place % 10]
        first = [(-value, place) for place, value in enumerate(column) if not place % 10]
        expected = sorted([*sorted(later)[:5], *sorted(first)[:5]])
        found = [(-one.value, (one.place >> 32) * 10 + (one.place & 31)) for one in tops.of(site, "sigma")]
        assert sorted(found) == expected
