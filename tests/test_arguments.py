"""Arguments from Python: what has no effect or no meaning is a UsageError, and is never rounded or guessed."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
import torch

import gpt2ln_cli
from gpt2ln_cli import render
from gpt2ln_cli.app import main
from gpt2ln_cli.errors import UsageError

inspect = functools.partial(gpt2ln_cli.inspect, "ok")
stats = functools.partial(gpt2ln_cli.stats, "ok")
diff = functools.partial(gpt2ln_cli.diff, "demo", "demo")
compare = functools.partial(gpt2ln_cli.compare, ["ok", "no"])

MEANINGLESS = [
    (inspect, {"layers": [2.7]}, "layer 2.7: it must be a whole number"),
    (inspect, {"layers": 2.0}, "layer 2.0"),
    (inspect, {"layers": True}, "layer True"),
    (inspect, {"layers": [False, 1]}, "layer False"),
    (inspect, {"layers": ["one"]}, "layer 'one'"),
    (inspect, {"layers": -1}, "layers 0 to 11"),
    (inspect, {"layers": b"0"}, "layer"),
    (inspect, {"sites": "ln_1"}, "give a list"),
    (inspect, {"sites": [1]}, "site '1' is none of"),
    (inspect, {"sites": 1}, "give a list"),
    (inspect, {"overflow": "bogus"}, "overflow 'bogus' is none of error, truncate, window"),
    (inspect, {"bos": 1}, "bos 1: it must be True or False"),
    (inspect, {"bos": None}, "bos None"),
    (inspect, {"per_token": "no"}, "per_token 'no'"),
    (inspect, {"batch_size": 0}, "batch size 0: it must be 1 or more"),
    (inspect, {"batch_size": 1.5}, "batch size 1.5"),
    (inspect, {"batch_size": True}, "batch size True"),
    (inspect, {"heads": 12.0}, "heads 12.0"),
    (inspect, {"revision": 5}, "revision 5"),
    (inspect, {"device": "tpu"}, "device 'tpu' is none of"),
    (inspect, {"dtype": "int8"}, "dtype 'int8' is none of"),
    (inspect, {"dtype": torch.float16}, "dtype 'torch.float16' is none of"),
    (inspect, {"model": 5}, "a int"),
    (inspect, {"progress": 5}, "progress 5"),
    (stats, {"layers": 1, "top": True}, "top True"),
    (stats, {"layers": 1, "top": 0}, "top 0: it must be 1 or more"),
    (stats, {"layers": 1, "sort": "size"}, "'size'"),
    (gpt2ln_cli.params, {"top": 2.5}, "top 2.5"),
    (gpt2ln_cli.params, {"layers": {"a": 2.5}.values()}, "layer 2.5"),
    (gpt2ln_cli.inspect, {"prompts": [[1, 2.9]]}, "prompt 0: token id 2.9"),
    (gpt2ln_cli.inspect, {"prompts": ["ok", [True]]}, "prompt 1: token id True"),
    (gpt2ln_cli.inspect, {"prompts": [1, 2]}, "prompt 0 is 1"),
    (gpt2ln_cli.inspect, {"prompts": [b"ok"]}, "prompt 0 is b'ok'"),
    (gpt2ln_cli.inspect, {"prompts": b"ok"}, "prompts b'ok'"),
    (gpt2ln_cli.inspect, {"prompts": 5}, "prompts 5"),
    (gpt2ln_cli.inspect, {"prompts": [None]}, "prompt 0 is None"),
    (gpt2ln_cli.inspect, {"prompts": [np.float64(1.5)]}, "prompt 0"),
    (gpt2ln_cli.inspect, {"prompts": [["1"]]}, "token id '1'"),
    (gpt2ln_cli.count, {"tokens": 1.5}, "tokens 1.5"),
    (gpt2ln_cli.count, {"batch": True}, "batch True"),
    (gpt2ln_cli.count, {"tokens": 0}, "tokens 0: it must be 1 or more"),
    (gpt2ln_cli.count, {"layers": "12"}, "layers '12'"),
    (gpt2ln_cli.count, {"model": 5}, "a int"),
    (gpt2ln_cli.load, {"heads": True}, "heads True"),
    (gpt2ln_cli.load, {"dtype": "float64"}, "dtype 'float64'"),
    (gpt2ln_cli.load, {"model": None}, "a NoneType"),
    (compare, {"position": 0.5}, "position 0.5"),
    (compare, {"template": 5}, "template 5"),
    (compare, {"context": 1}, "context 1"),
    (gpt2ln_cli.diff, {"model_a": "demo", "model_b": 5}, "model_b is a int"),
    (gpt2ln_cli.tour, {"device": "gpu"}, "device 'gpu'"),
]
WITHOUT_EFFECT = [
    (gpt2ln_cli.count, {"revision": "main"}, "revision has no effect without a model"),
    (gpt2ln_cli.count, {"model": "demo", "layers": 3, "heads": 2}, "layers and heads have no effect"),
    (diff, {"bos": True}, "bos has no effect without prompts"),
    (diff, {"batch_size": 2, "overflow": "window"}, "overflow and batch_size have no effect without prompts"),
    (diff, {"device": "cpu"}, "device has no effect"),
    (diff, {"dtype": "float32"}, "dtype has no effect"),
    (compare, {"context": True, "position": 0}, "position has no effect"),
    (compare, {"context": True, "template": "So {}"}, "template has no effect"),
]


def named(value):
    return getattr(value, "__name__", None) or (str(value) if isinstance(value, dict) else None)


@pytest.mark.parametrize(("function", "arguments", "says"), [*MEANINGLESS, *WITHOUT_EFFECT], ids=named)
def test_it_is_a_usage_error(function, arguments, says):
    with pytest.raises(UsageError) as error:
        function(**arguments)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


HOW = [{"dtype": "nonsense"}, {"dtype": "float32"}, {"device": "cpu"}, {"revision": "main"}, {"heads": 12}]


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("name", ["inspect", "stats", "compare", "ablate", "verify", "tour", "report", "params"])
def test_how_a_loaded_model_is_loaded_is_settled(demo, name, how):
    more = {"layers": 1} if name == "stats" else {}
    if name == "params" and how.keys() & {"dtype", "device"}:
        pytest.skip("params takes neither")
    with pytest.raises(UsageError, match=next(iter(how))):
        getattr(gpt2ln_cli, name)(model=demo, **more, **how)


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (["0-1", "final"], ["h.0", "h.1", "ln_f"]),
        (["0-1,11", 3], ["h.0", "h.1", "h.3", "h.11"]),
        (np.int64(3), ["h.3"]),
        (np.array([3, 5]), ["h.3", "h.5"]),
        (range(2), ["h.0", "h.1"]),
        ((layer for layer in (4,)), ["h.4"]),
        ("final", ["ln_f"]),
    ],
    # A generator's text differs from process to process.
    ids=["texts", "text and number", "numpy", "array", "range", "generator", "final"],
)
def test_layers_may_be_any_of_these(layers, names):
    record = gpt2ln_cli.params(layers=layers)
    assert [site.name.rpartition(".ln_")[0] or site.name for site in record.sites] == [
        name for name in names for _ in range(1 if name == "ln_f" else 2)
    ]


def test_numpys_integers_and_truth_values_are_as_good_as_pythons(demo):
    ids = [5, 9, 5]
    plain = gpt2ln_cli.inspect([ids, "ok"], model=demo, bos=True, batch_size=1)
    for given in (np.array(ids, dtype=np.uint16), list(map(np.int32, ids)), torch.tensor(ids), (5, 9, 5)):
        record = gpt2ln_cli.inspect([given, "ok"], model=demo, bos=np.True_, batch_size=np.int64(1))
        assert record == plain
    assert gpt2ln_cli.count(tokens=np.int64(3)) == gpt2ln_cli.count(tokens=3)
    render.write(gpt2ln_cli.count(tokens=np.int64(3)), "json", io.StringIO())


def test_params_of_a_loaded_model_are_its_current_ones(demo, make_folder):
    model = gpt2ln_cli.load(make_folder())
    with torch.no_grad():
        model.body.h[1].ln_2.weight[3] = 7.5
    stored, current = gpt2ln_cli.params(model=model.info.name, top=1), gpt2ln_cli.params(model=model, top=1)
    by_name = {site.name: site for site in current.sites}
    assert [(one.index, one.value) for one in by_name["h.1.ln_2"].gain.extremes] == [(3, 7.5)]
    for one in stored.sites:
        if one.name != "h.1.ln_2":
            assert by_name[one.name] == one
        assert by_name[one.name].bias == one.bias
    assert gpt2ln_cli.params(model=demo) == gpt2ln_cli.params()


def test_a_table_is_refused_where_everything_is_written():
    with pytest.raises(UsageError, match="csv"):
        render.write(gpt2ln_cli.count(), "json", io.StringIO(), table="readings")


@pytest.mark.parametrize(
    "words",
    [["--bos"], ["--overflow", "window"], ["--batch-size", "3"], ["--dtype", "float16"], ["--whole-file"]],
    ids=str,
)
def test_the_command_refuses_them_in_one_line(capsys, words):
    assert main(["diff", "demo", "demo", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert main(["count", "--revision", "main"]) == 2
    assert "revision has no effect" in capsys.readouterr().err
