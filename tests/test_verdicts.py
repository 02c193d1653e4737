"""Every claim of every command comes out both ways, each on a model that makes it so.

``tests/verdicts_*.py`` have ``CASES``: for each claim its id, a verdict, and what makes a record that must have it; a
case may be a ``pytest.param`` with marks. Where no model reaches one of yes and no, a file's ``ONE_SIDED`` says why, by
id, and a case of "can't tell" takes its place.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import gpt2ln_cli.commands

MODULES = [import_module(path.stem) for path in sorted(Path(__file__).parent.glob("verdicts_*.py"))]
CASES = [case if hasattr(case, "marks") else pytest.param(*case) for module in MODULES for case in module.CASES]
ONE_SIDED = {claim: why for module in MODULES for claim, why in getattr(module, "ONE_SIDED", {}).items()}


def all_says():
    """How every claim is worded, by command."""
    names = [found.name for found in pkgutil.iter_modules(gpt2ln_cli.commands.__path__)]
    views = {name: f"gpt2ln_cli.commands.{name}.view" for name in names}
    return {name: getattr(import_module(view), "SAYS", {}) for name, view in views.items() if find_spec(view)}


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
