"""Models on which each claim of ``verify`` is so, and others on which it is not."""

from __future__ import annotations

import copy
import functools

import torch
from altered import altered, by_head, layer_norms, normalizing, rms, trained, untrained

import gpt2ln_cli

IDS = [[5, 9, 1, 33, 2, 7], [11, 4, 4, 8, 60, 21]]


@functools.cache
def _verified(make):
    return gpt2ln_cli.verify(IDS, model=make())


def _over_tokens(body):
    """mu and sigma of each feature over the context's tokens."""
    normalizing(lambda x: (x - x.mean(-2, keepdim=True)) / (x.var(-2, correction=0, keepdim=True) + 1e-5).sqrt())(body)


def _without_bias(body):
    for module in layer_norms(body):
        bare = copy.deepcopy(module)
        torch.nn.init.zeros_(bare.bias)
        module.forward = bare.forward


def over_tokens():
    return altered(_over_tokens)


def rms_norm():
    return altered(normalizing(rms))


def heads_apart():
    return altered(normalizing(by_head))


def without_bias():
    return altered(_without_bias)


def untrained_deep():
    return untrained(48)


def one_head():
    return untrained(2, heads=1)


def _case(claim, verdict, make):
    return f"verify.{claim}", verdict, lambda: _verified(make)


CASES = [
    _case("behaves_as_gpt2", "yes", trained),
    _case("behaves_as_gpt2", "yes", untrained_deep),
    _case("behaves_as_gpt2", "no", rms_norm),
    _case("axis", "yes", trained),
    _case("axis", "yes", untrained_deep),
    _case("axis", "no", rms_norm),
    _case("batch_independent", "yes", trained),
    _case("batch_independent", "yes", untrained_deep),
    _case("batch_independent", "no", over_tokens),
    _case("causal", "yes", trained),
    _case("causal", "yes", untrained_deep),
    _case("causal", "no", over_tokens),
    _case("heads_play_no_part", "yes", trained),
    _case("heads_play_no_part", "yes", untrained_deep),
    _case("heads_play_no_part", "no", heads_apart),
    _case("heads_play_no_part", "can't tell", one_head),
    _case("gain_and_bias", "yes", trained),
    _case("gain_and_bias", "can't tell", untrained_deep),
    _case("gain_and_bias", "no", without_bias),
    ("verify.axis", "can't tell", lambda: gpt2ln_cli.verify([[5]], model=untrained())),
    ("verify.behaves_as_gpt2", "can't tell", lambda: gpt2ln_cli.verify([[5]], model=untrained())),
]
