"""Arguments from Python: what has no effect or no meaning is a UsageError, and is never rounded or guessed."""

from __future__ import annotations

import functools
import io
import threading

import numpy as np
import pytest
import torch

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.app import main
from gpt2ln_cli.errors import PromptError, UsageError

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
    (inspect, {"batch_tokens": 0}, "batch tokens 0: it must be 1 or more"),
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
    (gpt2ln_cli.load, {"heads": 12.0}, "heads 12.0"),
    (gpt2ln_cli.load, {"revision": 5}, "revision 5"),
    (gpt2ln_cli.load, {"prefix": 5}, "prefix 5"),
    (gpt2ln_cli.load, {"device": "tpu"}, "device 'tpu' is none of"),
    (gpt2ln_cli.load, {"dtype": "int8"}, "dtype 'int8' is none of"),
    (gpt2ln_cli.load, {"dtype": "float64"}, "dtype 'float64'"),
    (gpt2ln_cli.load, {"dtype": torch.float16}, "dtype 'torch.float16' is none of"),
    (gpt2ln_cli.load, {"model": None}, "a NoneType"),
    (compare, {"position": 0.5}, "position 0.5"),
    (compare, {"template": 5}, "template 5"),
    (compare, {"context": 1}, "context 1"),
    (gpt2ln_cli.diff, {"model_a": "demo", "model_b": 5}, "model_b is a int"),
    (gpt2ln_cli.tour, {"model": 5}, "model is a int"),
]
WITHOUT_EFFECT = [
    (gpt2ln_cli.count, {"model": "demo", "layers": 3, "heads": 2}, "layers and heads have no effect"),
    (diff, {"bos": True}, "bos has no effect without prompts"),
    (diff, {"batch_size": 2, "overflow": "window"}, "overflow and batch_size have no effect without prompts"),
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


HOW = ["dtype", "device", "revision", "heads", "prefix"]
FUNCTIONS = ["inspect", "stats", "params", "compare", "ablate", "verify", "diff", "tour", "report", "count"]


@pytest.mark.parametrize("how", [*HOW, "bso"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_unknown_keyword_is_a_type_error(demo, name, how):
    """As everywhere in Python; how a model is loaded is settled by load()."""
    if (name, how) == ("count", "heads"):
        pytest.skip("a shape of its own")
    more = {"stats": {"layers": 1}, "diff": {"model_a": demo, "model_b": demo}}.get(name, {})
    which = {} if name == "diff" else {"model": demo}
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{how}'"):
        getattr(gpt2ln_cli, name)(**which, **more, **{how: None})


@pytest.mark.parametrize("name", ["inspect", "stats", "compare", "ablate", "verify", "diff", "report"])
def test_what_functions_share_is_held_against_one_rule(demo, name):
    more = {"stats": {"layers": 1}, "diff": {"model_a": demo, "model_b": demo}}.get(name, {})
    which = {} if name == "diff" else {"model": demo}
    for wrong, says in (
        ({"bos": 1}, "bos 1: it must be True or False"),
        ({"overflow": "bogus"}, "overflow 'bogus' is none of"),
        ({"batch_size": 0}, "batch size 0: it must be 1 or more"),
        ({"batch_tokens": 1.5}, "batch tokens 1.5: it must be a whole number"),
        ({"progress": 5}, "progress 5"),
    ):
        with pytest.raises(UsageError, match=says):
            getattr(gpt2ln_cli, name)(prompts=["ok"], **which, **more, **wrong)


def test_load_settles_how_a_model_is_run(make_folder):
    folder = make_folder(n_head=4)
    loaded = gpt2ln_cli.load(folder, heads=4, device="cpu", dtype="bfloat16")
    first, again = (gpt2ln_cli.inspect([[1, 2, 3]], model=loaded) for _ in range(2))
    assert first == again
    assert (first.model.device, first.model.dtype) == ("cpu", "bfloat16")
    with pytest.raises(UsageError, match="says n_head 4"):
        gpt2ln_cli.load(folder, heads=3)
    with pytest.raises(UsageError, match="revision"):
        gpt2ln_cli.load(folder, revision="main")


def test_threads_that_share_a_model_read_its_weights_once(make_folder, monkeypatch):
    from gpt2ln_cli import model as models

    plain, built, shared = models.build_body, [], gpt2ln_cli.load(make_folder())
    begin = threading.Barrier(4)

    def build(*given, **how):
        built.append(plain(*given, **how))
        return built[-1]

    def run():
        begin.wait()
        records.append(gpt2ln_cli.inspect([[1, 2, 3]], model=shared))

    monkeypatch.setattr(models, "build_body", build)
    records = []
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert shared.body is built[0]
    assert records == [records[0]] * 4


def test_loading_reads_no_weights(make_folder, monkeypatch):
    """What is wrong with a prompt or a layer is found before."""
    monkeypatch.setattr("gpt2ln_cli.model.build_body", lambda *_, **__: pytest.fail("the weights were read"))
    loaded = gpt2ln_cli.load(make_folder())
    with pytest.raises(PromptError, match="99"):
        gpt2ln_cli.inspect([[99]], model=loaded)
    with pytest.raises(UsageError, match="layers 0 to 1"):
        gpt2ln_cli.inspect([[1]], model=loaded, layers=9)
    gpt2ln_cli.params(model=loaded)


def test_the_package_lists_its_functions():
    assert {*FUNCTIONS, "load", "models", "schema", "view", "Model"} <= set(dir(gpt2ln_cli))
    for name in gpt2ln_cli.__all__:
        assert getattr(gpt2ln_cli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'inspct'"):
        gpt2ln_cli.inspct  # noqa: B018


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
    output.write(gpt2ln_cli.view(gpt2ln_cli.count(tokens=np.int64(3))), "json", io.StringIO())


def test_params_of_a_loaded_model_are_its_current_ones(demo, make_folder):
    model = gpt2ln_cli.load(make_folder())
    with torch.no_grad():
        model.body.h[1].ln_2.weight[3] = 7.5
    stored, current = gpt2ln_cli.params(model=model.info.name, features=1), gpt2ln_cli.params(model=model, features=1)
    by_name = {site.name: site for site in current.sites}
    assert [(one.index, one.value) for one in by_name["h.1.ln_2"].gain.extremes] == [(3, 7.5)]
    for one in stored.sites:
        if one.name != "h.1.ln_2":
            assert by_name[one.name] == one
        assert by_name[one.name].bias == one.bias
    assert gpt2ln_cli.params(model=demo) == gpt2ln_cli.params()


def test_a_table_is_refused_where_everything_is_written():
    with pytest.raises(UsageError, match="json writes everything; --table is for the other formats"):
        output.write(gpt2ln_cli.view(gpt2ln_cli.count()), "json", io.StringIO(), table="readings")


@pytest.mark.parametrize(
    "words",
    [
        ["--bos"],
        ["--overflow", "window"],
        ["--batch-size", "3"],
        ["--device", "cpu"],
        ["--dtype", "float16"],
        ["--whole-file"],
    ],
    ids=str,
)
def test_the_command_refuses_them_in_one_line(capsys, words):
    assert main(["diff", "demo", "demo", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert main(["count", "--revision", "main"]) == 2
    assert "revision has no effect" in capsys.readouterr().err
