"""What makes each claim of ``track`` come out one way and the other."""

from __future__ import annotations

import functools
import math

import torch
from altered import altered, layer_norms, untrained

import gpt2ln_cli

IDS = [[1, 2, 3, 4, 5], [6, 7, 8]]
FEATURE = 7


def gains(change):
    def make(body):
        for module in layer_norms(body):
            change(module.weight)

    return altered(make, untrained())


def massive(body):
    body.h[0].mlp.c_proj.bias[FEATURE] = 2000.0


def overflowing(body):
    body.h[0].mlp.c_proj.bias[FEATURE] = math.inf


@functools.cache
def left():
    return gpt2ln_cli.track([untrained(), gains(lambda gain: gain.mul_(0.9))])


@functools.cache
def stayed():
    return gpt2ln_cli.track([untrained(), altered(massive, untrained())])


@functools.cache
def unknown():
    return gpt2ln_cli.track([untrained(), gains(lambda gain: gain.fill_(torch.nan))])


@functools.cache
def became():
    return gpt2ln_cli.track([untrained(), altered(massive, untrained())], IDS)


@functools.cache
def never():
    return gpt2ln_cli.track([untrained(), untrained(seed=1)], IDS)


@functools.cache
def infinite():
    return gpt2ln_cli.track([untrained(), altered(overflowing, untrained())], IDS)


CASES = [
    ("track.gain_left_1", "yes", left),
    ("track.gain_left_1", "no", stayed),
    ("track.gain_left_1", "can't tell", unknown),
    ("track.feature_became_massive", "yes", became),
    ("track.feature_became_massive", "no", never),
    ("track.feature_became_massive", "can't tell", infinite),
]
