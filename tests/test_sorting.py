"""Sites by what is asked, and how much a terminal is given unless it asks for more."""

from __future__ import annotations

import io
import json
import re
import shutil

import numpy as np
import pytest
from conftest import DEMO, raw_states, reference, site_names
from test_render import lines_of, table

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.app import main
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.output.text import number
from gpt2ln_cli.quantities import QUANTITIES

PROMPT = "the war was over"
NAMES = ["sigma", "pre_norm", "post_norm", "excess_kurtosis", "max_deviation", "mean_share", "mean"]


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A random model of 48 layers with the bundled tokenizer, and one as it would be after training."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    config = GPT2Config(vocab_size=8192, n_embd=24, n_layer=48, n_head=3, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config)
    folders = {}
    for name in ("untrained", "altered"):
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(DEMO / file, folders[name])
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "ln_" in key:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
    return folders


@pytest.fixture(scope="module")
def states(demo, plain_demo):
    """Of every site, the quantities of every token: by hand, on the states of plain transformers."""
    ids = demo.tokenizer.encode(PROMPT).ids
    return {name: reference(x, y, 1e-5) for name, (x, y) in raw_states(plain_demo, ids).items()}


@pytest.mark.parametrize("name", NAMES)
def test_inspect_sorts_sites_by_the_mean_of_later_tokens(demo, states, name):
    record = gpt2ln_cli.inspect(PROMPT, model=demo, sort=name, top=5, per_token=True)
    means = {site: found[name][1:].mean() for site, found in states.items()}
    wanted = sorted(means, key=lambda site: -means[site])[:5]
    assert [site.name for site in record.sites] == wanted
    assert [site.sorted_by for site in record.sites] == pytest.approx([means[site] for site in wanted], rel=1e-4)
    assert record.counts.sites == 25
    # The rows are of these, and in this order.
    tokens = record.counts.tokens
    assert [row.site for row in record.rows] == [site for site in wanted for _ in range(tokens)]
    for row in record.rows:
        assert row.sigma == pytest.approx(states[row.site]["sigma"][row.position], rel=1e-5)
    assert record.rows.column(1, "sigma") == pytest.approx(states[wanted[1]]["sigma"], rel=1e-5)


def test_of_one_token_position_0_is_what_there_is_to_sort_by(demo):
    for name in ("sigma", "excess_kurtosis"):
        record = gpt2ln_cli.inspect("the", model=demo, sort=name, per_token=True)
        values = [getattr(row, name) for row in record.rows]
        assert values == sorted(values, reverse=True)
        assert [site.sorted_by for site in record.sites] == pytest.approx(values)


@pytest.mark.parametrize(("sort", "of"), [("gain_std", np.std), ("gain_max", np.max), ("bias_norm", np.linalg.norm)])
def test_gains_and_biases_sort_inspect_and_params_alike(demo, plain_demo, sort, of):
    vector = {"gain": "weight", "bias": "bias"}[sort.partition("_")[0]]
    values = {
        name: of(plain_demo.get_parameter(f"{name}.{vector}").double().detach().numpy()) for name in site_names(12)
    }
    wanted = sorted(values, key=lambda name: -values[name])
    assert [site.name for site in gpt2ln_cli.params(model=demo, sort=sort).sites] == wanted
    record = gpt2ln_cli.inspect("the", model=demo, sort=sort, top=7)
    assert [site.name for site in record.sites] == wanted[:7]
    assert [site.sorted_by for site in record.sites] == pytest.approx([values[name] for name in wanted[:7]])


def test_what_is_not_finite_comes_last(make_folder):
    folder = make_folder(lambda body: body.h[0].ln_1.weight.data.fill_(float("nan")))
    names = [site.name for site in gpt2ln_cli.params(model=folder, sort="gain_mean").sites]
    assert names[-1] == "h.0.ln_1"


def test_top_without_sort_keeps_the_first_sites(demo):
    assert [site.name for site in gpt2ln_cli.params(top=2).sites] == ["h.0.ln_1", "h.0.ln_2"]
    assert [site.name for site in gpt2ln_cli.inspect("the", model=demo, top=2).sites] == ["h.0.ln_1", "h.0.ln_2"]


def test_whether_gain_and_bias_are_used_is_told_of_all_sites(make_folder):
    folder = make_folder(lambda body: body.h[1].ln_2.bias.data.add_(1.0))
    record = gpt2ln_cli.params(model=folder, sort="gain_mean", top=1)
    assert record.verdict == gpt2ln_cli.params(model=folder).verdict
    assert record.claims == gpt2ln_cli.params(model=folder).claims


@pytest.mark.parametrize("command", [["inspect", PROMPT, "--sort", "sigma"], ["params", "--sort", "gain_norm"]])
def test_the_command_line_says_that_they_are_sorted_and_how_many_are_left_out(capsys, command):
    assert main([*command, "--top", "3", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert main([*command, "--top", "3"]) == 0
    text = capsys.readouterr().out
    computed = " computed" if command[0] == "inspect" else ""
    assert f"each LayerNorm{computed}, sorted by {command[-1]}, greatest first; 22 left out" in " ".join(text.split())
    names = [site["name"] for site in record["sites"]]
    assert list(lines_of(text, set(names))) == names
    assert record["sort"] == command[-1]


@pytest.mark.parametrize("sort", [*QUANTITIES, "gain_switched_off", "bias_rms_distance"])
def test_what_sites_are_sorted_by_is_the_first_column(demo, monkeypatch, sort):
    record = gpt2ln_cli.inspect(PROMPT, model=demo, sort=sort, top=2)
    lines = lines_of(table(record, 80, monkeypatch), {site.name for site in record.sites})
    for site in record.sites:
        share = sort in QUANTITIES and QUANTITIES[sort].share
        shown = f"{number(100 * site.sorted_by)}%" if share else number(site.sorted_by)
        assert lines[site.name][0] == (str(int(site.sorted_by)) if sort == "gain_switched_off" else shown)


@pytest.mark.parametrize(
    "call",
    [
        lambda: gpt2ln_cli.inspect("the", sort="position"),
        lambda: gpt2ln_cli.params(sort="sigma"),
        lambda: gpt2ln_cli.stats("the", layers=0, sort="gain_std"),
    ],
)
def test_what_can_not_be_sorted_by_is_refused(call):
    with pytest.raises(UsageError, match=r"^sort '\w+' is none of \w+, "):
        call()


def test_a_heatmap_is_not_sorted(capsys):
    assert main(["inspect", "the", "--heatmap", "sigma", "--sort", "sigma", "--top", "3"]) == 2
    assert "sort and top have no effect on --heatmap" in capsys.readouterr().err


def length(record, monkeypatch, width=80):
    text = table(record, width, monkeypatch)
    assert max(map(len, text.split("\n"))) <= width
    return text.count("\n")


def test_what_a_terminal_gets_is_short(demo, deep, monkeypatch):
    assert length(gpt2ln_cli.inspect(model=demo), monkeypatch) <= 60
    assert length(gpt2ln_cli.params(), monkeypatch) <= 60
    for folder in deep.values():
        assert length(gpt2ln_cli.inspect(model=folder), monkeypatch) <= 100
        assert length(gpt2ln_cli.params(model=folder), monkeypatch) <= 100


def test_every_layer_is_there_and_what_is_the_same_everywhere_is_said_once(deep, monkeypatch):
    text = table(gpt2ln_cli.inspect(model=deep["altered"]), 80, monkeypatch)
    lines = lines_of(text, {*map(str, range(48)), "ln_f"})
    assert len(lines) == 49
    assert "gain mean" in " ".join(re.findall(r"gain|mean", text))
    untrained = table(gpt2ln_cli.inspect(model=deep["untrained"]), 80, monkeypatch)
    assert "1.000 " not in untrained.partition("What each LayerNorm")[2]
    assert "1.000" not in table(gpt2ln_cli.params(model=deep["untrained"]), 80, monkeypatch)


def test_the_sentences_before_the_tables_are_of_the_numbers(demo, states, monkeypatch):
    text = " ".join(table(gpt2ln_cli.inspect(PROMPT, model=demo), 200, monkeypatch).split())
    sigma = {name: found["sigma"] for name, found in states.items()}
    means = {name: values[1:].mean() for name, values in sigma.items()}
    most, least = max(means, key=means.get), min(means, key=means.get)
    assert f"sigma of later tokens is largest at {most} ({number(means[most])} on average)" in text
    assert f"smallest at {least} ({number(means[least])})" in text
    ratios = {name: values[0] / means[name] for name, values in sigma.items()}
    most, least = max(ratios, key=ratios.get), min(ratios, key=ratios.get)
    between = f"between {number(ratios[least])} ({least}) and {number(ratios[most])} times ({most})"
    assert f"Position 0 has {between} the sigma that later tokens have on average." in text
    text = " ".join(table(gpt2ln_cli.stats(PROMPT, model=demo, layers=5), 200, monkeypatch).split())
    five = {name: states[name]["excess_kurtosis"] for name in ("h.5.ln_1", "h.5.ln_2")}
    site = max(five, key=lambda name: five[name].max())
    place = int(five[site].argmax())
    assert re.search(
        rf'excess kurtosis is {number(five[site].max())}: ".*" at position {place}, entering {site}\.', text
    )


def test_gains_that_are_switched_off_are_counted(make_folder, monkeypatch):
    def change(body):
        body.h[1].ln_1.weight.data[:3] = 1e-4
        body.h[0].ln_2.weight.data[5] = -1e-4

    text = " ".join(table(gpt2ln_cli.params(model=make_folder(change)), 200, monkeypatch).split())
    assert "4 gains are all but switched off" in text
    assert "3 of them at h.1.ln_1." in text


def test_markdown_of_inspect_holds_all_of_it(demo):
    record = gpt2ln_cli.inspect(PROMPT, model=demo)
    stream = io.StringIO()
    output.write(gpt2ln_cli.view(record), "markdown", stream)
    cells = set(re.split(r" \| ?|\| ", stream.getvalue()))
    for site in record.sites:
        for part in (site.first, site.rest):
            for name in ("mean", "sigma", "pre_norm", "normalized_norm", "post_norm"):
                spread = getattr(part, name)
                assert {number(spread.mean), number(spread.min), number(spread.max)} <= cells
        for vector in (site.gain, site.bias):
            assert {number(vector.median), number(vector.lower_quartile), number(vector.rms_distance)} <= cells


@pytest.fixture(scope="module")
def two(make_folder):
    """Two random models; how much what becomes of them differs with the site, and not in forward order."""

    def change(body):
        for place, name in enumerate(("h.1.ln_1", "h.0.ln_1", "ln_f", "h.1.ln_2", "h.0.ln_2")):
            body.get_parameter(f"{name}.weight").mul_(1 + 0.1 * place)
        body.wte.weight.mul_(1.5)

    return make_folder(), make_folder(change)


def test_diff_sorts_sites_by_what_became_of_a_gain(two, capsys):
    record = gpt2ln_cli.diff(*two, sort="gain_relative", top=3)
    assert [site.name for site in record.sites] == ["h.0.ln_2", "h.1.ln_2", "ln_f"]
    assert [site.gain.relative for site in record.sites] == pytest.approx([0.4, 0.3, 0.2], rel=1e-6)
    whole = gpt2ln_cli.diff(*two)
    assert (record.left_out, record.changed_sites) == (2, whole.changed_sites)
    assert record.claims == whole.claims
    assert main(["diff", *map(str, two), "--sort", "gain_relative", "--top", "3"]) == 0
    out = capsys.readouterr().out
    said = "Learned gain and bias, from A to B, sorted by gain_relative, greatest first; 2 left out"
    assert said in " ".join(out.split())
    names = [site.name for site in record.sites]
    assert [words[0] for line in out.split("\n") if (words := line.split()) and words[0] in names] == names


def test_diff_sorts_sites_by_how_much_a_quantity_changed(two):
    prompts = [[3, 1, 4, 1, 5]]
    changes = {}
    for site in gpt2ln_cli.inspect(prompts, model=two[0]).sites:
        (other,) = [one for one in gpt2ln_cli.inspect(prompts, model=two[1]).sites if one.name == site.name]
        changes[site.name] = abs(other.rest.sigma.mean / site.rest.sigma.mean - 1)
    record = gpt2ln_cli.diff(*two, prompts, sort="sigma")
    assert [site.name for site in record.sites] == sorted(changes, key=lambda name: -changes[name])
    with pytest.raises(UsageError, match="sort has no effect without prompts"):
        gpt2ln_cli.diff(*two, sort="sigma")
    with pytest.raises(UsageError, match="sort 'kurtosis' is none of gain_norm"):
        gpt2ln_cli.diff(*two, prompts, sort="kurtosis")
