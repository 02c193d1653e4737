"""The ways to read "LayerNorm": GPT-2's own, and the rivals that people take it for."""

from __future__ import annotations

from enum import Enum


class Reading(Enum):
    """What one (mean, standard deviation) pair is taken over. The value says it in words."""

    PER_TOKEN = "per token, over its features"
    FEATURE_OVER_CONTEXT = "per feature, over a context's tokens"
    FEATURE_OVER_BATCH = "per feature, over the minibatch"
    WHOLE_CONTEXT = "per context, everything in it"
    WHOLE_BATCH = "once, over the whole minibatch"
    PER_HEAD = "per token and head"
    NOT_CENTERED = "per token, without centering (RMSNorm)"
    SAMPLE_VARIANCE = "per token, dividing by d - 1"


def statistics(reading: Reading, *, tokens: int, sequences: int, features: int, heads: int) -> int:
    """How many statistics one LayerNorm would take, for ``sequences`` contexts of ``tokens`` tokens in all."""
    return {
        Reading.PER_TOKEN: tokens,
        Reading.FEATURE_OVER_CONTEXT: sequences * features,
        Reading.FEATURE_OVER_BATCH: features,
        Reading.WHOLE_CONTEXT: sequences,
        Reading.WHOLE_BATCH: 1,
        Reading.PER_HEAD: tokens * heads,
        Reading.NOT_CENTERED: tokens,
        Reading.SAMPLE_VARIANCE: tokens,
    }[reading]
