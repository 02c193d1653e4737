"""Who wrote sigma^2: held against float64 on plain transformers' hooks, and found where it was planted."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from conftest import raw_states, site_names, with_body
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import GPT2Config, GPT2Model

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.plot import figures
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.measure import writers
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.model.stand_in import run, stand_in
from gpt2ln_cli.sites import all_sites

PROMPTS = [[7, 1, 1, 60, 0, 3], [5, 9], [11, 12, 13, 14]]
HEADS, LAYERS, WIDTH = 3, 4, 24
PARTS = ("first", "rest")


def an_mlp(body):
    """From layer 2 on one large feature: the bias of layer 1's MLP writes it."""
    body.h[1].mlp.c_proj.bias.data[5] += 3000


def a_head(body):
    """Head 2 of layer 1 scaled up: its rows of the projection."""
    rows = slice(2 * WIDTH // HEADS, 3 * WIDTH // HEADS)
    body.h[1].attn.c_proj.weight.data[rows] *= 300


@pytest.fixture(scope="module")
def folders(make_folder):
    return {
        "plain": make_folder(n_layer=LAYERS),
        "mlp": make_folder(an_mlp, n_layer=LAYERS),
        "head": make_folder(a_head, n_layer=LAYERS),
    }


def written(body, ids):
    """What each module added to the stream, (tokens, features) in float64, by ordinary hooks on a plain run."""
    found, entering = {}, {}

    def keep(name):
        def hook(_, __, output):
            tensor = output[0] if isinstance(output, tuple) else output
            found[name] = tensor.reshape(-1, tensor.shape[-1]).double().numpy()

        return hook

    def keep_input(layer):
        def hook(_, inputs):
            entering[layer] = inputs[0][0].double().numpy()

        return hook

    names = ["wte", "wpe", *(f"h.{layer}.{kind}" for layer in range(LAYERS) for kind in ("attn", "mlp"))]
    handles = [body.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    handles += [block.attn.c_proj.register_forward_pre_hook(keep_input(i)) for i, block in enumerate(body.h)]
    try:
        with torch.no_grad():
            body(torch.tensor([ids]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    by_head = {}
    for name in names:
        layer, kind = name.split(".")[1:] if "." in name else (None, name)
        if kind != "attn":
            by_head[name] = found[name]
            continue
        projection = body.h[int(layer)].attn.c_proj
        weight, size = projection.weight.detach().double().numpy(), WIDTH // HEADS
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            by_head[f"{name}.head.{head}"] = entering[int(layer)][:, part] @ weight[part]
        by_head[f"{name}.bias"] = np.tile(projection.bias.detach().double().numpy(), (len(ids), 1))
    return {name: found[name] for name in names}, by_head


def before(names, site):
    """The writers before a site."""
    if site == "ln_f":
        return names
    layer, kind = site.split(".")[1:]
    end = f"h.{layer}.{'attn' if kind == 'ln_1' else 'mlp'}"
    return names[: next(place for place, name in enumerate(names) if name.startswith(end))]


def reference(folder, *, by_head, rounding=False, dtype=torch.float32):
    """Of every site, part and token: share, mean and vector of each writer before it, and x."""
    body = GPT2Model.from_pretrained(folder).eval().to(dtype)
    found = {}
    for sequence, ids in enumerate(PROMPTS):
        whole, heads = written(body, ids)
        parts = heads if by_head else whole
        for site, (x, _) in raw_states(body, ids).items():
            names = before(list(parts), site)
            vectors = {name: parts[name] for name in names}
            if rounding:
                vectors["rounding"] = x - sum(vectors.values())
            centered = x - x.mean(-1, keepdims=True)
            square = (centered**2).sum(-1)
            for name, vector in vectors.items():
                own = vector - vector.mean(-1, keepdims=True)
                through = own * centered / square[:, None]
                for position in range(len(ids)):
                    found[site, sequence, position, name] = (
                        through[position].sum(),
                        vector[position].mean(),
                        vector[position],
                        through[position],
                        x[position],
                    )
    return found


@pytest.mark.parametrize("kind", ["plain", "mlp", "head"])
@pytest.mark.parametrize("by_head", [False, True])
def test_every_share_and_value_is_that_of_float64(folders, kind, by_head):
    record = gpt2ln_cli.attribute(PROMPTS, model=folders[kind], by_head=by_head, feature=5, per_token=True)
    expected = reference(folders[kind], by_head=by_head)
    assert len(record.rows) == len(expected)
    # What is written in float32 differs between a batch and a single sequence by units of the last place of the
    # largest summand, which is what both shares and values are told in.
    size = {}
    for (site, sequence, position, _), one in expected.items():
        key = (site, sequence, position)
        size[key] = max(size.get(key, 0.0), np.abs(one[2]).max())
    for row in record.rows:
        key = (row.site, row.sequence, row.position)
        share, mean, vector, _, x = expected[(*key, row.writer)]
        relative = size[key] / x.std()
        assert row.token_id == PROMPTS[row.sequence][row.position]
        assert row.sigma == pytest.approx(x.std(), rel=1e-5)
        assert row.share == pytest.approx(share, rel=2e-5, abs=2e-6 * relative)
        assert row.mean == pytest.approx(mean, rel=2e-5, abs=2e-6 * size[key])
        assert row.value == pytest.approx(vector[5], rel=2e-5, abs=2e-6 * size[key])
    for site in record.sites:
        for part in PARTS:
            chosen = {
                name: [
                    one
                    for key, one in expected.items()
                    if key[0] == site.name and key[3] == name and (key[2] == 0) == (part == "first")
                ]
                for name in dict.fromkeys(key[3] for key in expected if key[0] == site.name)
            }
            shares = getattr(site, part)
            assert [one.writer for one in shares] == list(chosen)
            for one in shares:
                told = chosen[one.writer]
                assert one.share == pytest.approx(np.mean([share for share, *_ in told]), rel=1e-4, abs=1e-5)
                assert one.value == pytest.approx(np.mean([each[2][5] for each in told]), rel=1e-4, abs=1e-3)
                through = np.mean([each[3] for each in told], axis=0)
                for feature in one.through:
                    assert feature.share == pytest.approx(through[feature.index], rel=1e-4, abs=1e-5)
            x = np.mean([each[4][5] for each in chosen["wte"]])
            assert getattr(site, f"{part}_x") == pytest.approx(x, rel=1e-4)
            assert sum(one.value for one in shares) == pytest.approx(x, rel=1e-4)
            # The main writer is followed, through the features by which it made most.
            main = max(shares, key=lambda one: one.share)
            through = np.mean([each[3] for each in chosen[main.writer]], axis=0)
            assert [one.index for one in main.through] == np.argsort(-through, kind="stable")[:3].tolist()


def test_shares_add_up_and_it_is_said_as_measured(folders):
    record = gpt2ln_cli.attribute(PROMPTS, model=folders["plain"], per_token=True)
    sums, means = {}, {}
    for row in record.rows:
        key = (row.site, row.sequence, row.position)
        sums[key] = sums.get(key, 0.0) + row.share
        means[key] = means.get(key, 0.0) + row.mean
    for site in record.sites:
        errors = [abs(total - 1) for key, total in sums.items() if key[0] == site.name]
        assert site.sum_error == pytest.approx(max(errors), abs=1e-12)
        assert site.sum_error < 1e-5
    body = GPT2Model.from_pretrained(folders["plain"]).eval()
    for sequence, ids in enumerate(PROMPTS):
        for site, (x, _) in raw_states(body, ids).items():
            for position in range(len(ids)):
                size = np.abs(x[position]).max()
                assert means[site, sequence, position] == pytest.approx(x[position].mean(), abs=1e-6 * size)
    claim = record.claims[-1]
    assert (claim.id, claim.verdict) == ("attribute.shares_add_up", "yes")
    assert claim.statistic == max(site.sum_error for site in record.sites)


def test_what_else_writes_to_the_stream_is_noticed(folders):
    """A hook that adds to a block's output is no writer: the shares no longer add up."""
    model = gpt2ln_cli.load(folders["plain"])
    body = GPT2Model.from_pretrained(folders["plain"]).eval()
    body.h[1].register_forward_hook(lambda _, __, output: output + torch.arange(WIDTH) / 10)
    record = gpt2ln_cli.attribute(PROMPTS, model=with_body(model, body))
    assert record.claims[-1].verdict == "no"
    assert {site.name for site in record.sites if site.sum_error > 1e-5} == {*site_names(LAYERS)[4:]}


def main_writer(record, site, part):
    (found,) = [one for one in record.sites if one.name == site]
    return max(getattr(found, part), key=lambda one: one.share)


def test_a_planted_mlp_is_named_with_its_feature(folders):
    record = gpt2ln_cli.attribute(PROMPTS, model=folders["mlp"])
    for site in site_names(LAYERS)[4:]:
        for part in PARTS:
            main = main_writer(record, site, part)
            assert main.writer == "h.1.mlp"
            assert main.share > 0.9
            assert main.through[0].index == 5
            assert main.features == "feature 5"
    first, rest, _ = record.claims
    for claim, where in ((first, "position 0"), (rest, "later positions")):
        assert claim.verdict == "yes"
        assert (claim.figures["writer"], claim.figures["where"]) == ("h.1.mlp", where)
    said = io.StringIO()
    output.write(gpt2ln_cli.view(record), "table", said)
    text = " ".join(said.getvalue().split())
    assert "position 0, where sigma is greatest (" in text
    assert "h.1.mlp wrote 100% of sigma^2, through feature 5." in text
    (claim, *_) = gpt2ln_cli.attribute(PROMPTS, model=folders["mlp"], feature=5).claims
    assert (claim.id, claim.verdict, claim.figures["writer"]) == ("attribute.feature_first", "yes", "h.1.mlp")
    assert claim.figures["value"] == pytest.approx(3000, rel=0.01)


def test_a_planted_head_is_named(folders):
    record = gpt2ln_cli.attribute(PROMPTS, model=folders["head"], by_head=True)
    for site in site_names(LAYERS)[3:]:
        for part in PARTS:
            assert main_writer(record, site, part).writer == "h.1.attn.head.2"
    assert [claim.figures["writer"] for claim in record.claims[:2]] == ["h.1.attn.head.2"] * 2
    plain = gpt2ln_cli.attribute(PROMPTS, model=folders["plain"], by_head=True)
    assert all(claim.figures["writer"] != "h.1.attn.head.2" for claim in plain.claims[:2])


def test_heads_and_bias_add_up_to_the_attention(folders):
    whole = gpt2ln_cli.attribute(PROMPTS, model=folders["plain"])
    parts = gpt2ln_cli.attribute(PROMPTS, model=folders["plain"], by_head=True)
    for one, other in zip(whole.sites, parts.sites, strict=True):
        for part in PARTS:
            for share in getattr(one, part):
                names = [name for name in getattr(other, part) if f"{name.writer}.".startswith(f"{share.writer}.")]
                assert sum(name.share for name in names) == pytest.approx(share.share, abs=1e-5)
                assert sum(name.mean for name in names) == pytest.approx(share.mean, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_rounding_closes_the_sum(folders, dtype):
    model = gpt2ln_cli.load(folders["plain"])
    body = GPT2Model.from_pretrained(folders["plain"]).eval().to(dtype)
    # One by one: other shapes of a batch round otherwise.
    record = gpt2ln_cli.attribute(PROMPTS, model=with_body(model, body), per_token=True, batch_size=1)
    expected = reference(folders["plain"], by_head=False, rounding=True, dtype=dtype)
    assert len(record.rows) == len(expected)
    for row in record.rows:
        share, mean, *_ = expected[row.site, row.sequence, row.position, row.writer]
        assert row.share == pytest.approx(share, rel=1e-9, abs=1e-9)
        assert row.mean == pytest.approx(mean, rel=1e-9, abs=1e-9)
    assert max(site.sum_error for site in record.sites) < 1e-12
    assert any(row.writer == "rounding" and abs(row.share) > 1e-5 for row in record.rows)


def test_chunks_groups_and_batches_change_nothing(folders, monkeypatch):
    model = gpt2ln_cli.load(folders["head"])
    whole = gpt2ln_cli.attribute(PROMPTS, model=model, by_head=True, per_token=True)
    monkeypatch.setattr(writers, "CHUNK", 1)
    monkeypatch.setitem(writers.SITES_AT_ONCE, True, 2)
    for how in ({}, {"batch_size": 1}):
        other = gpt2ln_cli.attribute(PROMPTS, model=model, by_head=True, per_token=True, **how)
        for one, again in zip(whole.rows, other.rows, strict=True):
            assert (one.site, one.sequence, one.position, one.writer) == (
                again.site,
                again.sequence,
                again.position,
                again.writer,
            )
            assert again.share == pytest.approx(one.share, rel=1e-5, abs=1e-6)
        for one, again in zip(whole.sites, other.sites, strict=True):
            for share, same in zip([*one.first, *one.rest], [*again.first, *again.rest], strict=True):
                assert same.share == pytest.approx(share.share, rel=1e-5, abs=1e-6)


class Live(TorchDispatchMode):
    """The most bytes that tensors made inside held at once."""

    def __init__(self):
        super().__init__()
        self.most, self._storages = 0, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._storages[StorageWeakRef(storage)] = storage.nbytes()
        self._storages = {one: size for one, size in self._storages.items() if not one.expired()}
        self.most = max(self.most, sum(self._storages.values()))
        return made


def test_no_more_is_kept_than_what_was_written():
    """At GPT-2 small's shape; on meta, where nothing is computed."""
    tokens, writers_in_all = 1024, 26
    with torch.device("meta"):
        body = GPT2Model(GPT2Config()).eval()
    batch = Batch.of([[0] * tokens])
    reader, plain = writers.Attribution(body, all_sites(body.config.n_layer)), stand_in(body, {})
    assert len(reader.names) == writers_in_all
    with Live() as bare:
        run(plain, batch)
    with Live() as attributed:
        reader.read(batch)
    assert bare.most > 4 * tokens * 4 * body.config.n_embd
    assert attributed.most - bare.most <= writers_in_all * tokens * body.config.n_embd * 4


def test_which_tokens_are_told(folders):
    model = gpt2ln_cli.load(folders["plain"])
    every = gpt2ln_cli.attribute(PROMPTS, model=model, per_token=True).rows
    at = gpt2ln_cli.attribute(PROMPTS, model=model, token=2).rows
    assert list(at) == [row for row in every if row.position == 2]
    top = gpt2ln_cli.attribute(PROMPTS, model=model, top=2).rows
    for site in site_names(LAYERS):
        sigma = sorted({row.sigma for row in every if row.site == site}, reverse=True)[:2]
        assert list(dict.fromkeys(row.sigma for row in top if row.site == site)) == sigma
    assert every[5] == list(every)[5]
    assert every[-1] == list(every)[-1]
    some = gpt2ln_cli.attribute(PROMPTS, model=model, layers=1, sites=["ln_2"], per_token=True)
    same = [row for row in every if row.site == "h.1.ln_2"]
    assert [(row.site, row.sequence, row.position, row.writer) for row in some.rows] == [
        (row.site, row.sequence, row.position, row.writer) for row in same
    ]
    assert [row.share for row in some.rows] == pytest.approx([row.share for row in same], rel=1e-12)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"feature": 24}, "feature 24: this model has features 0 to 23"),
        ({"feature": -1}, "feature -1: it must be 0 or more"),
        ({"token": 6}, "token 6: the longest sequence has positions 0 to 5"),
        ({"by_head": 1}, "by_head 1: it must be True or False"),
        ({"top": 0}, "top 0: it must be 1 or more"),
    ],
)
def test_what_has_no_meaning_is_refused(folders, how, said):
    with pytest.raises(UsageError, match=said):
        gpt2ln_cli.attribute(PROMPTS, model=folders["plain"], **how)


def test_numbers_that_are_not_finite_leave_it_open(make_folder):
    folder = make_folder(lambda body: body.h[0].mlp.c_proj.bias.data.fill_(float("nan")))
    record = gpt2ln_cli.attribute(PROMPTS, model=folder, per_token=True)
    assert record.claims[-1].verdict == "can't tell"
    assert record.nonfinite > 0
    assert record.rows[-1].share is None


def test_the_model_is_left_as_it_was(folders):
    model = gpt2ln_cli.load(folders["plain"])
    rows = gpt2ln_cli.inspect(PROMPTS, model=model, per_token=True).rows
    gpt2ln_cli.attribute(PROMPTS, model=model, by_head=True)
    assert gpt2ln_cli.inspect(PROMPTS, model=model, per_token=True).rows == rows


def test_the_figure_stacks_the_shares_and_hangs_negative_ones_below_0(folders):
    record = gpt2ln_cli.attribute(PROMPTS, model=folders["plain"], by_head=True)
    drawn = figures.draw("attribute", record)
    assert [axes.get_title() for axes in drawn.axes] == ["position 0", "later positions"]
    for axes, part in zip(drawn.axes, PARTS, strict=True):
        for place, site in enumerate(record.sites):
            bars = [container[place] for container in axes.containers]
            up = sum(bar.get_height() for bar in bars if bar.get_height() > 0)
            down = sum(bar.get_height() for bar in bars if bar.get_height() < 0)
            shares = [100 * one.share for one in getattr(site, part)]
            assert up == pytest.approx(sum(share for share in shares if share > 0))
            assert down == pytest.approx(sum(share for share in shares if share < 0))
            assert up + down == pytest.approx(100, abs=1e-3)
            # One on another, without gaps.
            ends = sorted((bar.get_y(), bar.get_y() + bar.get_height()) for bar in bars if bar.get_height() > 0)
            assert [end for _, end in ends[:-1]] == pytest.approx([start for start, _ in ends[1:]])
            by_name = {one.writer: 100 * one.share for one in getattr(site, part)}
            for container in axes.containers:
                if container.get_label() in by_name:
                    assert container[place].get_height() == pytest.approx(by_name[container.get_label()])
    (legend,) = drawn.legends
    assert next(text.get_text() for text in legend.get_texts()) == "all others"


def test_the_command_line_tells_tokens_heads_and_a_feature(capsys):
    words = ["attribute", "the war was", "--layer", "1", "--site", "ln_1"]
    assert main([*words, "--by-head", "--token", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {row["position"] for row in record["rows"]} == {1}
    assert [row["writer"] for row in record["rows"]] == [
        "wte",
        "wpe",
        *(f"h.0.attn.head.{head}" for head in range(12)),
        "h.0.attn.bias",
        "h.0.mlp",
    ]
    assert sum(row["share"] for row in record["rows"]) == pytest.approx(1, abs=1e-5)
    assert main([*words, "--feature", "37", "--top", "1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "where it is largest, x[37] is " in shown
    assert "Who wrote feature 37 of x at each LayerNorm" in shown
    assert "Each token" in shown
    assert main([*words, "--feature", "96"]) == 2
    assert "feature 96: this model has features 0 to 95" in capsys.readouterr().err
