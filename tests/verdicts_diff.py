"""Pairs of models of which each claim of ``diff`` is so, and others of which it is not."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from altered import altered, layer_norms, trained, untrained

import gpt2ln_cli

IDS = [[5, 9, 1, 33, 2, 7]]


@functools.cache
def _compared(a, b, prompts=False):
    return gpt2ln_cli.diff(a(), b(), IDS if prompts else None)


def _greater(body):
    for module in layer_norms(body):
        module.weight.mul_(1.25)
        module.bias.mul_(1.25)


def _halfway(body):
    """Every second LayerNorm greater, the others smaller."""
    for number, module in enumerate(layer_norms(body)):
        module.weight.mul_(1.25 if number % 2 else 0.8)
        module.bias.mul_(1.25 if number % 2 else 0.8)


def greater():
    return altered(_greater)


def halfway():
    return altered(_halfway)


def in_half_precision():
    return altered(lambda body: body.half())


def untrained_deep():
    return untrained(48)


def untrained_deep_too():
    return untrained(48, seed=1)


@functools.cache
def _runs(a, b):
    """Profiles of the same texts."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        corpus.write_text("the war was over\nbut the hatred was not\n")
        for name, model in (("a", a), ("b", b)):
            gpt2ln_cli.profile([corpus], output=Path(folder) / name, model=model(), threads=1)
        return gpt2ln_cli.diff_runs(Path(folder) / "a", Path(folder) / "b")


def _other():
    return untrained(seed=1)


def _case(claim, verdict, a, b, *, prompts=False):
    return f"diff.{claim}", verdict, lambda: _compared(a, b, prompts)


CASES = [
    ("diff.distributions_differ", "yes", lambda: _runs(untrained, _other)),
    ("diff.distributions_differ", "no", lambda: _runs(untrained, untrained)),
    _case("parameters_differ", "yes", trained, greater),
    _case("parameters_differ", "no", trained, trained),
    _case("parameters_differ", "no", untrained_deep, untrained_deep_too),
    _case("parameters_differ", "no", trained, in_half_precision),
    *(_case(f"{vector}_grew", "yes", trained, greater) for vector in ("gain", "bias")),
    *(_case(f"{vector}_grew", "no", greater, trained) for vector in ("gain", "bias")),
    *(_case(f"{vector}_grew", "no", untrained_deep, untrained_deep_too) for vector in ("gain", "bias")),
    *(_case(f"{vector}_grew", "can't tell", trained, halfway) for vector in ("gain", "bias")),
    _case("statistics_differ", "yes", untrained_deep, untrained_deep_too, prompts=True),
    _case("statistics_differ", "no", trained, trained, prompts=True),
    _case("statistics_differ", "can't tell", trained, in_half_precision, prompts=True),
]
