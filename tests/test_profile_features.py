"""Features over a corpus: float64 on plain transformers, found where planted, and the same bits again."""

from __future__ import annotations

import io
import random
import shutil

import msgspec
import numpy as np
import pytest
import torch
from conftest import raw_states
from transformers import GPT2Model

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.checkpoint import BUNDLED
from gpt2ln_cli.commands.profile import parts
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.measure import feature_sums
from gpt2ln_cli.measure.feature_sums import Watcher
from gpt2ln_cli.measure.places import Places
from gpt2ln_cli.measure.stream import stream
from gpt2ln_cli.sites import all_sites
from gpt2ln_cli.text.contexts import Context
from gpt2ln_cli.text.corpus import shards

WORDS = "war violence hate fear the of and , . ok hatred was not over but then she said it would be so"
PLANTED, CUE, POSITION, NEURON = 17, 5, 3, 2
BLOCK = 2


def plant(body):
    """From block 2 on feature 17 is massive at position 3: block 1's MLP knows the position by feature 5."""
    body.wpe.weight[:, CUE] = 0.0
    body.wpe.weight[POSITION, CUE] = 60.0
    block = body.h[BLOCK - 1]
    block.ln_2.weight[CUE], block.ln_2.bias[CUE] = 1.0, 0.0
    # xhat is at most sqrt(d - 1), 4.8, and that where one feature has nearly all of sigma.
    block.mlp.c_fc.weight[:, NEURON] = 0.0
    block.mlp.c_fc.weight[CUE, NEURON] = 50.0
    block.mlp.c_fc.bias[NEURON] = -50.0 * 4.5
    block.mlp.c_proj.weight[NEURON] = 0.0
    block.mlp.c_proj.weight[NEURON, PLANTED] = 1000.0


@pytest.fixture(scope="module")
def planted(make_folder):
    vocabulary = gpt2ln_cli.load("demo").checkpoint.config.vocab_size

    def change(body):
        with torch.no_grad():
            plant(body)

    folder = make_folder(change, vocab_size=vocabulary, n_positions=64, n_layer=4)
    shutil.copy(BUNDLED["demo"] / "tokenizer.json", folder)
    return folder


@pytest.fixture(scope="module")
def texts():
    generator = random.Random(0)
    return [" ".join(generator.choices(WORDS.split(), k=generator.randint(1, 30))) for _ in range(40)]


@pytest.fixture(scope="module")
def record(planted, texts):
    return gpt2ln_cli.profile(texts, model=planted, features=True, threads=1, batch_tokens=200)


@pytest.fixture(scope="module")
def reference(planted, texts):
    """x and y of each site, (tokens, features), and the text and position of each token."""
    body = GPT2Model.from_pretrained(planted).eval()
    tokenizer = gpt2ln_cli.load(str(planted)).tokenizer
    ids = [tokenizer.encode(text).ids for text in texts]
    states = [raw_states(body, one) for one in ids]
    places = np.array([(number, position) for number, one in enumerate(ids) for position in range(len(one))])
    return {
        site: [np.concatenate([state[site][stage] for state in states]) for stage in (0, 1)] for site in states[0]
    }, (places)


def test_every_number_is_that_of_float64(record, reference):
    passages, places = reference
    for site in record.sites:
        for part, chosen in (("first", places[:, 1] == 0), ("rest", places[:, 1] > 0)):
            found = getattr(site.features, part)
            assert found.tokens == chosen.sum()
            where = places[chosen]
            for stage, values in zip(("pre", "post"), passages[site.name], strict=True):
                values = values[chosen]
                squares = (values - values.mean(-1, keepdims=True)) ** 2 if stage == "pre" else values**2
                share = squares / squares.sum(-1, keepdims=True)
                massive = np.abs(values) > np.maximum(100, 1000 * np.median(np.abs(values), axis=-1, keepdims=True))
                # Sums of float32, over passes of up to 200 tokens.
                close = {"rel": 1e-4, "abs": 1e-5 * np.abs(values).max()}
                listed = getattr(found, stage)
                assert [one.index for one in listed] == list(range(values.shape[1]))
                for one in listed:
                    column = values[:, one.index]
                    assert one.mean == pytest.approx(column.mean(), **close)
                    assert one.std == pytest.approx(column.std(), **close)
                    assert one.max_abs == pytest.approx(np.abs(column).max(), **close)
                    assert one.share == pytest.approx(share[:, one.index].mean(), rel=1e-3, abs=1e-5)
                    size = np.abs(column)
                    standing = (where[:, 0] == one.offset) & (where[:, 1] == one.position)
                    assert size[standing].item() == pytest.approx(size.max(), **close)
                    if stage == "pre":
                        assert one.massive == massive[:, one.index].sum()
                        if one.massive:
                            held = share[massive[:, one.index], one.index].mean()
                            assert one.massive_share == pytest.approx(held, rel=1e-4)
                        else:
                            assert one.massive_share is None
                    else:
                        assert (one.massive, one.massive_share) == (None, None)
                if stage == "pre":
                    assert found.massive == np.flatnonzero(massive.any(0)).tolist()
                    assert found.massive_share == pytest.approx(share[:, found.massive].sum(-1).mean(), rel=1e-3)


@pytest.mark.parametrize("tokens", [7, 150])
def test_pieces_of_a_pass_add_up_to_it(planted, texts, reference, monkeypatch, tokens):
    """As many at a time as a core's cache takes: of this model all, so fewer here."""
    monkeypatch.setattr(feature_sums, "at_once", lambda device, features: tokens)
    record = gpt2ln_cli.profile(texts, model=planted, features=True, threads=1, batch_tokens=200)
    test_every_number_is_that_of_float64(record, reference)


def test_a_planted_feature_is_found(record, reference):
    _, places = reference
    reaching = (places[:, 1] == POSITION).sum()
    for site in record.sites:
        late = site.layer is None or site.layer >= BLOCK
        assert site.features.first.massive == []
        assert site.features.rest.massive == ([PLANTED] if late else [])
        if late:
            one = site.features.rest.pre[PLANTED]
            assert one.position == POSITION
            assert one.massive == reaching
            # One feature alone, of d, has all of ||x||^2 and all but 1/d of d sigma^2.
            assert one.massive_share == pytest.approx(23 / 24, rel=1e-3)
    (claim,) = record.claims
    assert (claim.id, claim.verdict, claim.statistic) == ("profile.massive", "yes", 1)
    assert claim.figures["since"] == f"h.{BLOCK}.ln_1"
    assert claim.figures["feature"] == PLANTED
    assert claim.figures["share"] == pytest.approx(23 / 24, rel=1e-3)
    stream = io.StringIO()
    output.write(gpt2ln_cli.view(record), "table", stream)
    assert f"from h.{BLOCK}.ln_1 on" in " ".join(stream.getvalue().split())
    (row,) = [line.split() for line in stream.getvalue().splitlines() if line.startswith(f"{PLANTED} ")]
    assert row[1:4] == [f"h.{BLOCK}.ln_1", "to", "ln_f"]
    assert row[-2:] == [str(POSITION), "95.83%"]


def test_profile_and_features_agree(record, planted, texts):
    """One takes the sums in float32, the other in float64."""
    other = gpt2ln_cli.features(texts, model=planted, top=24, batch_tokens=200)
    for site, one in zip(record.sites, other.sites, strict=True):
        for part in ("first", "rest"):
            found, expected = getattr(site.features, part), getattr(one, part)
            assert found.tokens == expected.tokens
            for feature in expected.features:
                mine, post = found.pre[feature.index], found.post[feature.index]
                assert mine.max_abs == pytest.approx(abs(feature.value), rel=1e-6)
                # Where no other token is attended to, tokens have equals, of which `features` shows any.
                if part == "rest" and site.name != "h.0.ln_1":
                    assert (mine.offset, mine.position) == (feature.sequence, feature.position)
                    assert mine.token == feature.token
                assert mine.massive == feature.massive_tokens
                assert mine.share == pytest.approx(feature.share, rel=1e-4, abs=1e-6)
                assert post.share == pytest.approx(feature.post_share, rel=1e-4, abs=1e-6)
    assert other.claims[0].verdict == record.claims[0].verdict
    assert other.claims[0].figures["since"] == record.claims[0].figures["since"]


def test_the_same_bits_however_it_came_about(planted, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "LEAST_BYTES", 1500)
    corpus, folder = tmp_path / "corpus.txt", tmp_path / "run"
    corpus.write_text("\n".join(texts))

    def run(folder):
        return gpt2ln_cli.profile([corpus], output=folder, model=planted, features=True, threads=1, batch_tokens=200)

    def numbers(record):
        return msgspec.json.encode(msgspec.structs.replace(record, speed=None))

    undisturbed = run(folder)
    assert undisturbed.shards.of > 1
    parts.path_of(folder, 0).unlink()
    assert numbers(run(folder)) == numbers(undisturbed) == numbers(gpt2ln_cli.profile(output=folder))
    with pytest.raises(UsageError, match="--features: given there, not given here"):
        gpt2ln_cli.profile([corpus], output=folder, model=planted, threads=1, batch_tokens=200)


def test_of_equal_ones_the_first_place_stays(planted):
    """Whatever the order of passes, and merged in any grouping."""
    body = gpt2ln_cli.load(str(planted)).body
    sites = all_sites(4)

    def fold(batches):
        found = Places(sites, 24)
        watcher = Watcher(peaks=0, exact=False, records=True)
        for block in stream(body, batches, sites, watcher=watcher):
            found.add(block)
            found.locate(lambda sequence, position: (sequence, position))
        found.describe(lambda places: places)
        return found

    def all_of(one):
        return [
            one.of(site, part, stage) for site in range(9) for part in ("first", "rest") for stage in ("pre", "post")
        ]

    def batch(*numbers):
        return [(number, Context(number, 0, 0, None, [7, 3, 7, 9][: 2 + number % 3])) for number in numbers]

    # All begin alike, so that as many values are equal as there are contexts: the first of them has position 0.
    several = fold([batch(4, 1, 7), batch(2, 0, 3), batch(6, 5)])
    assert {place for site in (0, 1) for place in several.of(site, "first", "pre")} == {(0, 0)}
    assert {sequence for sequence, _ in several.of(0, "rest", "pre")} <= {0, 1, 2}
    assert all_of(Places.from_state(several.state())) == all_of(several)
    first, second, third = (fold([batch(*numbers)]) for numbers in ((0, 1), (2, 3, 4), (5, 6, 7)))
    left, right = Places(sites, 24), Places(sites, 24)
    for one in (first, second, third):
        left.merge(one)
    for one in (second, third):
        right.merge(one)
    first.merge(right)
    assert all_of(first) == all_of(left)
    assert set(left.of(0, "first", "pre")) == {(0, 0)}
