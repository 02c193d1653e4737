"""The vectors of chosen tokens are what went through the model, whatever shared its batch."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow.parquet
import pytest
import torch
from conftest import raw_states, with_body

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.inspect import vectors as module
from gpt2ln_cli.errors import UsageError

PROMPTS = ["the war was over", "hate", "the words of the old man and the sea"]
EPS32 = float(np.finfo(np.float32).eps)


def kernel_tolerance(x):
    """How far float32 mu and rstd may take each xhat: each of d additions rounds, and so does each of a few operations.

    (Higham, Accuracy and Stability of Numerical Algorithms: n additions are off by n units of the last place at most.)
    """
    d = x.shape[-1]
    sigma = x.std(-1, keepdims=True)
    size = np.sqrt((x**2).mean(-1, keepdims=True))
    return d * EPS32 * (size / sigma) * (1 + np.abs(x - x.mean(-1, keepdims=True)) / sigma)


def test_x_and_y_are_the_models_to_the_bit_and_xhat_follows(demo, plain_demo):
    """One prompt, so that plain transformers runs the same batch."""
    record = gpt2ln_cli.stats(PROMPTS[0], layers="0-11,final", model=demo, vectors=True)
    states = raw_states(plain_demo, record.prompts[0].token_ids)
    assert [(row.site, row.position) for row in record.vectors] == [(row.site, row.position) for row in record.rows]
    for row, numbers in zip(record.vectors, record.rows, strict=True):
        x, y = (state[row.position] for state in states[row.site])
        assert row.pre == x.tolist()
        assert row.post == y.tolist()
        assert (row.mean, row.sigma) == (numbers.mean, numbers.sigma)
        xhat = (x - x.mean()) / np.sqrt(x.var() + demo.checkpoint.config.layer_norm_epsilon)
        assert (np.abs(np.array(row.normalized) - xhat) <= kernel_tolerance(x)).all()
        assert np.linalg.norm(row.normalized) == pytest.approx(
            numbers.normalized_norm, rel=demo.body.config.n_embd * EPS32
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_batch_and_its_order_change_nothing(make_folder, dtype):
    """Rows sorted, cut and of several batches: each has the vectors of its own token."""
    model = gpt2ln_cli.load(make_folder())
    model = with_body(model, model.body.to(dtype))
    prompts = [[1, 2, 3, 4], [5], [6, 7, 8, 9, 10, 11, 12], [2, 3], [60, 1, 1, 1]]
    every = gpt2ln_cli.stats(prompts, layers="0,1,final", model=model, vectors=True, batch_tokens=8)
    by_token = {(row.site, row.sequence, row.position): row for row in every.vectors}
    assert len(by_token) == 18 * 5
    for options in ({"sort": "sigma", "top": 5}, {"position": -1}, {"position": 0, "sort": "post_norm", "top": 2}):
        some = gpt2ln_cli.stats(prompts, layers="0,1,final", model=model, vectors=True, batch_tokens=8, **options)
        assert len(some.vectors) == len(some.rows)
        for row, numbers in zip(some.vectors, some.rows, strict=True):
            assert (row.site, row.sequence, row.position) == (numbers.site, numbers.sequence, numbers.position)
            assert row == by_token[row.site, row.sequence, row.position]
            assert np.linalg.norm(row.post) == pytest.approx(numbers.post_norm, rel=1e-5)


def test_position_takes_one_token_of_each_sequence(demo):
    for position in (0, -1):
        rows = gpt2ln_cli.stats(PROMPTS, layers=3, sites=["ln_2"], model=demo, position=position).rows
        assert [(row.sequence, row.position) for row in rows] == [
            (number, position % length)
            for number, length in enumerate(prompt.length for prompt in gpt2ln_cli.inspect(PROMPTS, model=demo).prompts)
        ]
    with pytest.raises(UsageError, match=r"position 2: sequence 1 has 0 to \d"):
        gpt2ln_cli.stats(["the war was over", [1, 2]], layers=3, model=demo, position=2)


def test_what_does_not_fit_is_refused_before_the_run(demo, monkeypatch):
    monkeypatch.setattr(module, "MOST_FEATURES", 2 * 96 * 3)
    monkeypatch.setattr("gpt2ln_cli.commands.inspect.compute.stream", lambda *_, **__: pytest.fail("it was run"))
    with pytest.raises(UsageError, match="576 fit: choose fewer with --layer, --site, --position or --top"):
        gpt2ln_cli.stats([[1, 2, 3, 4]], layers=0, model=demo, vectors=True)
    monkeypatch.undo()
    monkeypatch.setattr(module, "MOST_FEATURES", 2 * 96 * 3)
    for fewer in ({"top": 3}, {"position": 1}, {"sites": ["ln_1"]}):
        assert gpt2ln_cli.stats([[1, 2, 3, 4]], layers=0, model=demo, vectors=True, **fewer).vectors


def test_what_is_not_finite_is_null_and_counted(make_folder):
    def spoil(body):
        body.wte.weight[5, 3] = float("inf")

    record = gpt2ln_cli.stats([[1, 5]], layers=0, sites=["ln_1"], model=make_folder(spoil), vectors=True)
    fine, spoilt = record.vectors
    assert None not in fine.pre
    assert spoilt.pre[3] is None
    assert None not in [*spoilt.pre[:3], *spoilt.pre[4:]]
    plain = gpt2ln_cli.stats([[1, 5]], layers=0, sites=["ln_1"], model=make_folder(spoil))
    nulls = sum(value is None for one in (spoilt.pre, spoilt.normalized, spoilt.post) for value in one)
    assert record.nonfinite - plain.nonfinite == nulls + [spoilt.mean, spoilt.sigma].count(None)


def test_every_data_format_has_them(tmp_path, capsys, demo):
    words = ["stats", "--layer", "2", "--site", "ln_1", "--position", "-1", PROMPTS[0]]
    assert main([*words, "--vectors", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["vectors"]
    expected = gpt2ln_cli.stats(PROMPTS[0], layers=2, sites=["ln_1"], position=-1, vectors=True, model=demo).vectors[0]
    assert row["pre"] == expected.pre
    assert row["normalized"] == expected.normalized
    assert row["post"] == expected.post
    # Naming the table asks for it.
    assert main([*words, "--table", "vectors", "--format", "parquet", "--output", str(tmp_path / "a.parquet")]) == 0
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert str(table.schema.field("pre").type).startswith("list<element: double")
    (read,) = table.to_pylist()
    assert {name: read[name] for name in ("site", "position", "pre", "normalized", "post")} == {
        "site": "h.2.ln_1",
        "position": expected.position,
        "pre": expected.pre,
        "normalized": expected.normalized,
        "post": expected.post,
    }
    assert main([*words, "--table", "vectors", "--format", "ndjson"]) == 0
    assert json.loads(capsys.readouterr().out) == read
    assert main([*words, "--table", "vectors", "--format", "csv"]) == 0
    head, line = capsys.readouterr().out.strip().split("\n")
    assert head.startswith("site,sequence,position,token_id,token,mean,sigma,pre,normalized,post")
    assert json.dumps(expected.pre[:3])[1:-1].replace(" ", "") in line


def test_they_are_read_only_where_asked_for(demo):
    record = gpt2ln_cli.stats(PROMPTS, layers=0, model=demo)
    assert record.vectors is None
    stream = io.StringIO()
    output.write(gpt2ln_cli.view(record), "json", stream)
    assert json.loads(stream.getvalue())["vectors"] is None
