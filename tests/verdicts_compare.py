"""What makes each claim of ``compare`` come out one way and the other."""

from __future__ import annotations

import functools

import pytest
import torch
from altered import altered, by_head, centered, normalizing, rms, trained, untrained

import gpt2ln_cli

CONTEXT = "war violence hate fear"


@functools.cache
def words(model):
    return gpt2ln_cli.compare(model=model())


@functools.cache
def few(model):
    return gpt2ln_cli.compare(model=model(), layers="0,5", probe=False)


@functools.cache
def context(model):
    return gpt2ln_cli.compare(CONTEXT, model=model(), context=True)


def of(token):
    return trained().tokenizer.encode(token).ids[0]


def larger(word):
    """The word's embedding is many times as large, so that its residual is."""

    def change(body):
        body.wte.weight[of(f" {word}")] *= 50

    return lambda: altered(change, untrained())


def spikier(word):
    """One feature of the word's embedding is far from the others."""

    def change(body):
        body.wte.weight[of(f" {word}"), 3] += 50 * body.wte.weight.std()

    return lambda: altered(change, untrained())


def alike_words():
    """The words of the context have nearly one embedding."""

    def change(body):
        ids = trained().tokenizer.encode(CONTEXT).ids
        body.wte.weight[ids] = body.wte.weight[ids[0]] + 0.05 * body.wte.weight[ids]

    return altered(change, untrained())


def one_direction():
    """All tokens have much of one direction, besides what is their own."""

    def change(body):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            body.wte.weight += 0.1 * torch.randn(body.wte.weight.shape[1])

    return altered(change, untrained())


def rms_normalized():
    return altered(normalizing(rms))


def normalized_by_head():
    return altered(normalizing(by_head))


def only_centered():
    return altered(normalizing(centered))


def by_chance(seed):
    model = untrained(seed=seed)
    yield gpt2ln_cli.compare(model=model)
    yield gpt2ln_cli.compare(CONTEXT, model=model, context=True)


CHANCE = {
    "compare.greater_sigma": ("yes", "no"),
    "compare.greater_kurtosis": ("yes", "no"),
    "compare.stream_keeps_sigma": ("yes",),
    "compare.tokens_share_direction": ("yes",),
    "compare.lost_across_tokens": ("yes",),
    "compare.more_than_random_tokens": ("yes",),
    "compare.more_of_their_own": ("yes",),
}

bigger, smaller = larger("hatred"), larger("fine")
sharper, flatter = spikier("hatred"), spikier("fine")

CASES = [
    ("compare.two_numbers_discarded", "yes", lambda: words(trained)),
    ("compare.two_numbers_discarded", "yes", lambda: words(untrained)),
    ("compare.two_numbers_discarded", "no", lambda: few(rms_normalized)),
    ("compare.two_numbers_discarded", "no", lambda: few(normalized_by_head)),
    ("compare.scale_equalized", "yes", lambda: words(trained)),
    ("compare.scale_equalized", "yes", lambda: words(untrained)),
    ("compare.scale_equalized", "no", lambda: few(only_centered)),
    ("compare.shape_kept", "yes", lambda: words(trained)),
    ("compare.shape_kept", "yes", lambda: few(rms_normalized)),
    ("compare.shape_kept", "no", lambda: few(normalized_by_head)),
    ("compare.greater_sigma", "yes", lambda: words(bigger)),
    ("compare.greater_sigma", "no", lambda: words(smaller)),
    ("compare.greater_sigma", "can't tell", lambda: words(untrained)),
    ("compare.greater_sigma", "can't tell", lambda: words(trained)),
    ("compare.greater_kurtosis", "yes", lambda: words(sharper)),
    ("compare.greater_kurtosis", "no", lambda: words(flatter)),
    ("compare.greater_kurtosis", "can't tell", lambda: words(untrained)),
    ("compare.stream_keeps_sigma", "yes", lambda: words(trained)),
    ("compare.stream_keeps_sigma", "no", lambda: words(untrained)),
    pytest.param(
        "compare.stream_keeps_sigma",
        "no",
        lambda: words(functools.partial(untrained, 48)),
        marks=pytest.mark.slow,
    ),
    ("compare.stream_keeps_sigma", "can't tell", lambda: few(rms_normalized)),
    ("compare.tokens_share_direction", "yes", lambda: context(trained)),
    ("compare.tokens_share_direction", "yes", lambda: context(one_direction)),
    ("compare.tokens_share_direction", "no", lambda: context(untrained)),
    ("compare.lost_across_tokens", "yes", lambda: context(trained)),
    ("compare.lost_across_tokens", "no", lambda: context(untrained)),
    ("compare.more_than_random_tokens", "yes", lambda: context(alike_words)),
    ("compare.more_than_random_tokens", "no", lambda: context(trained)),
    ("compare.more_than_random_tokens", "no", lambda: context(one_direction)),
    ("compare.more_of_their_own", "yes", lambda: context(alike_words)),
    ("compare.more_of_their_own", "no", lambda: context(untrained)),
    ("compare.more_of_their_own", "no", lambda: context(one_direction)),
]
