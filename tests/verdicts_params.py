"""What makes each claim of ``params`` come out one way and the other."""

from __future__ import annotations

import copy

import torch
from conftest import with_body

import gpt2ln_cli


def learned(gain=1.0, bias=0.0, *, one=None):
    """The bundled model with all gains and biases filled, and one number of one of them another."""
    model = gpt2ln_cli.load("demo")
    body = copy.deepcopy(model.body)
    with torch.no_grad():
        for module in body.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.fill_(gain)
                module.bias.fill_(bias)
        if one is not None:
            body.h[3].ln_2.bias[5] = one
    return gpt2ln_cli.params(model=with_body(model, body))


CLAIM = "params.uses_gain_and_bias"
CASES = [
    (CLAIM, "yes", gpt2ln_cli.params),
    (CLAIM, "yes", lambda: learned(one=1e-7)),
    (CLAIM, "yes", lambda: learned(gain=0.5)),
    (CLAIM, "no", learned),
    (CLAIM, "can't tell", lambda: learned(one=float("nan"))),
]
