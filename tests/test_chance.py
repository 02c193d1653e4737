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


@pytest.mark.parametrize(
    ("probability", "freedom", "quantile"),
    [(0.95, 1, 6.3138), (0.995, 1, 63.657), (0.995, 5, 4.0321), (0.995, 30, 2.7500), (0.9995, 10, 4.5869)],
)
def test_quantiles_of_student_are_those_of_the_tables(probability, freedom, quantile):
    assert chance.student(probability, freedom) == pytest.approx(quantile, rel=2e-5)
    assert chance.student(1 - probability, freedom) == pytest.approx(-quantile, rel=2e-5)


def test_beyond_many_degrees_of_freedom_student_is_a_normal_distribution():
    assert chance.student(0.995, chance.MANY) == pytest.approx(chance.student(0.995, chance.MANY + 1), rel=2e-3)


@pytest.mark.parametrize("autocorrelation", [0.0, 0.3])
def test_the_mean_of_what_neighbours_share_passes_its_bound_as_rarely_as_is_said(autocorrelation):
    """Of 2,000 walks at 5%: 100, give or take 4 standard deviations of 10; the plain spread lets 20% by."""
    random = np.random.default_rng(4)
    noise = random.normal(size=(2000, 400))
    for token in range(1, 400):
        noise[:, token] += autocorrelation * noise[:, token - 1]
    passed = sum(abs(walk.mean()) > chance.mean_bound(walk, 0.05) for walk in noise)
    assert passed == pytest.approx(100, abs=40 + 40 * (autocorrelation > 0))


def test_too_few_tokens_have_no_bound():
    assert np.isnan(chance.mean_bound(np.array([1.0]), 0.01))
    assert np.isfinite(chance.mean_bound(np.array([1.0, 2.0]), 0.01))


def test_the_distance_of_two_samples_of_one_thing_is_seldom_exceeded():
    random = np.random.default_rng(0)
    threshold = chance.two_samples(40, 60, level=0.1)
    points = np.linspace(0, 1, 101)

    def function(values):
        return (values[:, :, None] <= points).mean(axis=1)

    distances = np.abs(function(random.random((2000, 40))) - function(random.random((2000, 60)))).max(axis=1)
    # Binomial: 2,000 draws of 10% exceed 240 with a probability below 1%.
    assert 60 < (distances > threshold).sum() < 240
