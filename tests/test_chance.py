"""Thresholds are those that chance passes as rarely as is said; SciPy and counting by hand are the oracles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gpt2ln_cli.measure import chance


@pytest.mark.parametrize(("draws", "level"), [(199, 0.01), (99, 0.01), (19, 0.05), (39, 0.05)])
def test_a_further_draw_passes_the_threshold_as_rarely_as_is_said(draws, level):
    """Of the ranks that a further draw may have, all alike, those above the threshold are the level's share."""
    everything = np.random.default_rng(3).normal(size=draws + 1)
    above = [chance.upper_threshold(np.delete(everything, one), level) < everything[one] for one in range(draws + 1)]
    below = [chance.lower_threshold(np.delete(everything, one), level) > everything[one] for one in range(draws + 1)]
    assert sum(above) == sum(below) == round(level * (draws + 1))


def test_too_few_draws_have_no_threshold():
    assert chance.upper_threshold(np.arange(50.0), 0.01) == np.inf
    assert chance.lower_threshold(np.arange(50.0), 0.01) == -np.inf
    assert chance.least_level(19) == 0.05
    assert chance.least_level(1000) == chance.LEVEL


def test_signs_of_few_pairs_are_all_tried():
    differences = np.array([1.0, 2.0, 4.0])
    expected = [np.dot(signs, differences) / 3 for signs in itertools.product([1, -1], repeat=3)]
    assert sorted([7 / 3, *chance.sign_flips(differences)]) == pytest.approx(sorted(expected))
    many = chance.sign_flips(np.ones(40))
    assert len(many) == 999
    assert abs(many.mean()) < 5 / np.sqrt(40 * 999)


def test_the_sign_test_is_the_binomial_one():
    for trials in (3, 7, 12, 50):
        wins = chance.sign_test(trials)
        tails = (
            [sum(1 for flips in itertools.product([0, 1], repeat=trials) if sum(flips) >= k) for k in range(trials + 2)]
            if trials <= 12
            else None
        )
        if tails is not None:
            least = next(k for k, tail in enumerate(tails) if tail <= 0.01 * 2**trials)
            assert wins == (least if least <= trials else None)
    assert chance.sign_test(50) == 34  # published tables: 34 of 50 at 1%, one-sided


def test_the_bootstrap_finds_the_mean_as_often_as_is_said():
    random = np.random.default_rng(8)
    missed = 0
    for _ in range(200):
        low, high = chance.bootstrap_interval(random.normal(size=60), level=0.05, draws=299)
        missed += not low < 0 < high
    # Binomial of 200 at 5%: 22 or more has a probability below 0.1%.
    assert missed < 22


def test_permutations_are_orders_and_the_same_each_time():
    first, again = list(chance.permutations(7, 5)), list(chance.permutations(7, 5))
    assert [sorted(order) for order in first] == [list(range(7))] * 5
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert len({tuple(order) for order in first}) > 1
