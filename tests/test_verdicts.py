"""Every claim of every command comes out both ways, each on a model that makes it so.

``tests/verdicts_*.py`` have ``CASES``: for each claim its id, a verdict, and what makes a record that must have it; a
case may be a ``pytest.param`` with marks. Where no model reaches one of yes and no, a file's ``ONE_SIDED`` says why, by
id, and a case of "can't tell" takes its place.

``by_chance(seed)`` makes records of an untrained model, in which nothing but chance gives a claim of ``CHANCE`` one of
the verdicts that stand there.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from math import comb
from pathlib import Path

import pytest
from docs import all_says

MODULES = [import_module(path.stem) for path in sorted(Path(__file__).parent.glob("verdicts_*.py"))]
CASES = [case if hasattr(case, "marks") else pytest.param(*case) for module in MODULES for case in module.CASES]
ONE_SIDED = {claim: why for module in MODULES for claim, why in getattr(module, "ONE_SIDED", {}).items()}


SAYS = {claim: says for of_command in all_says().values() for claim, says in of_command.items()}


@pytest.mark.parametrize(
    ("claim", "verdict", "make"),
    [pytest.param(*case.values, marks=case.marks, id=f"{case.values[0]}: {case.values[1]}") for case in CASES],
)
def test_a_verdict_is_chosen_by_the_numbers(claim, verdict, make):
    found = [one for one in make().claims if one.id == claim]
    assert {one.verdict for one in found} == {verdict}, found
    for one in found:
        sentence = SAYS[claim].of(one)
        assert sentence
        assert "{" not in sentence


def test_every_claim_has_both_outcomes():
    tried = {case.values[:2] for case in CASES}
    both = {(claim, verdict) for claim in set(SAYS) - set(ONE_SIDED) for verdict in ("yes", "no")}
    assert sorted(both - tried) == []
    for claim in ONE_SIDED:
        assert {verdict for one, verdict in tried if one == claim} in ({"yes", "can't tell"}, {"no", "can't tell"})
    assert sorted({claim for claim, _ in tried} - set(SAYS)) == []


def test_a_claim_is_of_the_command_that_words_it():
    for command, says in all_says().items():
        assert [claim for claim in says if not claim.startswith(f"{command}.")] == []


def test_each_verdict_of_a_claim_has_its_own_sentence():
    assert [claim for claim, says in SAYS.items() if len({says.yes, says.no, says.unsure}) < 3] == []


SEEDS = 40
# Probability of this test to fail for no reason, for each claim.
FALSE_ALARM = 1e-3


def often(level):
    """The least count that chance reaches in ``SEEDS`` runs with a probability below ``FALSE_ALARM``."""
    tails = (
        sum(comb(SEEDS, hits) * level**hits * (1 - level) ** (SEEDS - hits) for hits in range(count, SEEDS + 1))
        for count in range(SEEDS + 2)
    )
    return next(count for count, tail in enumerate(tails) if tail < FALSE_ALARM)


@pytest.mark.slow
@pytest.mark.parametrize("module", [module for module in MODULES if hasattr(module, "by_chance")], ids=str)
def test_chance_reaches_no_claim_more_often_than_its_level(module):
    reached, levels = Counter(), {}
    for seed in range(SEEDS):
        for claim in (claim for record in module.by_chance(seed) for claim in record.claims):
            if claim.id in module.CHANCE:
                levels[claim.id] = claim.level
                reached[claim.id] += claim.verdict in module.CHANCE[claim.id]
    assert set(levels) == set(module.CHANCE)
    assert {claim: reached[claim] for claim, level in levels.items() if reached[claim] >= often(level)} == {}
