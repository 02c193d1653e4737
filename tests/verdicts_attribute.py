"""Models on which each claim of ``attribute`` is so, and others on which it is not."""

from __future__ import annotations

import torch
from altered import altered, trained

import gpt2ln_cli


def _massive(body):
    """An MLP writes one feature that is far larger than all others."""
    body.h[1].mlp.c_proj.bias[5] += 3000


def _something_else(body):
    """What a hook adds to the residual stream is of no writer."""
    added = torch.arange(float(body.config.n_embd))
    body.h[1].register_forward_hook(lambda _, __, output: output + added)


def _case(claim, verdict, make, feature=None):
    return f"attribute.{claim}", verdict, lambda: gpt2ln_cli.attribute(model=make(), feature=feature)


def massive():
    return altered(_massive)


def something_else():
    return altered(_something_else)


CASES = [
    *(_case(f"one_writer_{part}", "yes", massive) for part in ("first", "rest")),
    *(_case(f"one_writer_{part}", "no", trained) for part in ("first", "rest")),
    *(_case(f"feature_{part}", "yes", massive, 5) for part in ("first", "rest")),
    *(_case(f"feature_{part}", "no", trained, 37) for part in ("first", "rest")),
    _case("shares_add_up", "yes", trained),
    _case("shares_add_up", "no", something_else),
]
