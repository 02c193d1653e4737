"""Models on which each claim of ``features`` is so, and others on which it is not."""

from __future__ import annotations

from altered import altered, trained

import gpt2ln_cli


def _massive(body):
    """An MLP writes one feature that is far larger than all others."""
    body.h[1].mlp.c_proj.bias[5] += 3000


CASES = [
    ("features.massive", "yes", lambda: gpt2ln_cli.features(model=altered(_massive))),
    ("features.massive", "no", lambda: gpt2ln_cli.features(model=trained())),
]
