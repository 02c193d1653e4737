"""Models of which each of the tour's claims is so and not so."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import msgspec
import torch
from altered import altered, layer_norms, trained, untrained

import gpt2ln_cli
from gpt2ln_cli.commands.tour import claims
from gpt2ln_cli.commands.tour.gradients import gradients_at_blocks
from gpt2ln_cli.text.prompts import HELD_OUT, long_sample

TEXT = "The war was over, but the hatred was not."
DULL_EPS = 1e4


def of(*found):
    return SimpleNamespace(claims=list(found))


@functools.cache
def run(make):
    return gpt2ln_cli.inspect(TEXT, model=make())


@functools.cache
def gradients(make):
    model = make()
    return gradients_at_blocks(model, model.tokenizer.encode(long_sample(HELD_OUT)).ids)


def miscounted():
    """A run whose kernel returned one pair too many."""
    plain = run(trained)
    return msgspec.structs.replace(
        plain, counts=msgspec.structs.replace(plain.counts, total=plain.counts.total + 1, formula_agrees=False)
    )


def dull():
    """A model in which eps drowns sigma."""

    def change(body):
        for module in layer_norms(body):
            module.eps = DULL_EPS

    return altered(change)


def loud():
    """An untrained model whose tokens' sigmas are far from one another."""

    def change(body):
        weight = body.wte.weight
        weight.mul_((3 * torch.randn(len(weight), 1, generator=torch.Generator().manual_seed(0))).exp())

    return altered(change, untrained())


VOCABULARY = 8192
CASES = [
    ("tour.one_pair_a_token", "yes", lambda: of(claims.one_pair_a_token(run(trained)))),
    ("tour.one_pair_a_token", "no", lambda: of(claims.one_pair_a_token(miscounted()))),
    ("tour.gain_and_bias_used", "yes", lambda: of(claims.gain_and_bias_used(run(trained)))),
    ("tour.gain_and_bias_used", "no", lambda: of(claims.gain_and_bias_used(run(untrained)))),
    ("tour.one_size", "yes", lambda: of(claims.one_size(run(trained)))),
    ("tour.one_size", "no", lambda: of(claims.one_size(run(dull)))),
    ("tour.direction_tells", "yes", lambda: of(claims.direction_tells(gradients(trained), VOCABULARY))),
    ("tour.direction_tells", "no", lambda: of(claims.direction_tells(gradients(loud), VOCABULARY))),
    ("tour.direction_tells", "can't tell", lambda: of(claims.direction_tells(gradients(untrained), VOCABULARY))),
    ("tour.gradients_smaller", "yes", lambda: of(claims.gradients_smaller(gradients(trained)))),
    ("tour.gradients_smaller", "no", lambda: of(claims.gradients_smaller(gradients(loud)))),
    ("tour.gradients_smaller", "can't tell", lambda: of(claims.gradients_smaller(gradients(untrained)))),
]
