"""Corpora, models and published figures of which each claim of ``profile`` is so, and others of which it is not."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

from altered import altered, trained, untrained

import gpt2ln_cli

TEXTS = ["the war was over", "but the hatred was not", "she said it would be so", "and hate"] * 6


def _massive(body):
    """An MLP writes one feature that is far larger than all others."""
    body.h[1].mlp.c_proj.bias[5] += 3000


@functools.cache
def _sigma():
    return gpt2ln_cli.profile(TEXTS, model=untrained(), threads=1).sites[2].rest.sigma.rms


def against(factor, texts=TEXTS):
    """An untrained model against its own figure, times a factor."""
    model = untrained()
    figure = {
        "name": Path(model.info.name).name,
        "site": "h.1.ln_1",
        "quantity": "rest.sigma.rms",
        "value": _sigma() * factor,
        "tolerance": 0.05,
        "source": "a test",
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([figure], file)
        file.flush()
        return gpt2ln_cli.profile(texts, model=model, threads=1, against=file.name)


CASES = [
    (
        "profile.massive",
        "yes",
        lambda: gpt2ln_cli.profile(TEXTS[:2], model=altered(_massive), threads=1, features=True),
    ),
    ("profile.massive", "no", lambda: gpt2ln_cli.profile(TEXTS[:2], model=trained(), threads=1, features=True)),
    ("profile.published", "yes", lambda: against(1.001, TEXTS * 8)),
    ("profile.published", "no", lambda: against(1.3)),
    ("profile.published", "can't tell", lambda: against(1.0, TEXTS[:1])),
]
