"""What is flagged and not refused: NaN and infinity, an eps that dominates, LayerNorms that were never trained."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import raw_states, reference
from transformers import GPT2Model

import gpt2ln_cli
from gpt2ln_cli.app import main

NAN, INF = float("nan"), float("inf")


def codes(record, code):
    return [flag.site for flag in record.warnings if flag.code == code]


@pytest.fixture
def gpt2ln(capsys):
    def run(*words):
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def strict_codes(run, folder):
    """Exit codes with and without --strict, of all three commands that have it."""
    commands = (
        ("params",),
        ("inspect", "--token-ids", "1,2,3"),
        ("stats", "--layer", "0-1,final", "--token-ids", "1,2,3"),
    )
    folder = str(folder)
    return [
        (run(*words, "--model", folder)[0], run(*words, "--model", folder, "--strict", "--json")[0])
        for words in commands
    ]


def test_a_sound_checkpoint_has_no_flag(make_folder, gpt2ln):
    folder = make_folder()
    assert gpt2ln_cli.params(model=folder).warnings == []
    assert gpt2ln_cli.inspect([[1, 2]], model=folder).warnings == []
    assert strict_codes(gpt2ln, folder) == [(0, 0)] * 3
    assert gpt2ln_cli.params().warnings == gpt2ln_cli.inspect("ok").warnings == []


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_nonfinite_parameters(make_folder, gpt2ln, value):
    def change(body):
        body.h[1].ln_1.weight[3] = value
        body.h[1].ln_1.weight[5] = value
        body.ln_f.bias[0] = value

    folder = make_folder(change)
    for record in (gpt2ln_cli.params(model=folder), gpt2ln_cli.inspect([[1, 2]], model=folder, layers=0)):
        flagged = [(flag.site, flag.message) for flag in record.warnings if flag.code == "nonfinite_parameter"]
        assert [site for site, _ in flagged] == ["h.1.ln_1", "ln_f"]
        assert flagged[0][1].startswith("2 of 24 numbers of the gain")
        assert flagged[1][1].startswith("1 of 24 numbers of the bias")
    assert strict_codes(gpt2ln, folder) == [(0, 1)] * 3
    _, out, _ = gpt2ln("params", "--model", str(folder))
    assert "warning: h.1.ln_1: 2 of 24 numbers of the gain are NaN or infinite." in " ".join(out.split())


def test_the_first_site_that_saw_nan_is_named(make_folder, gpt2ln):
    """It enters h.1.ln_1, because the MLP before it makes it."""

    def change(body):
        body.h[0].mlp.c_proj.bias[2] = NAN

    folder = make_folder(change)
    record = gpt2ln_cli.inspect([[1, 2, 3], [4]], model=folder)
    (flag,) = [flag for flag in record.warnings if flag.code == "nonfinite_activation"]
    assert flag.site == "h.1.ln_1"
    assert "entering" in flag.message
    assert "4 of 4 tokens" in flag.message
    assert gpt2ln_cli.params(model=folder).warnings == []
    assert strict_codes(gpt2ln, folder) == [(0, 0), (0, 1), (0, 1)]
    document = json.loads(gpt2ln("inspect", "--token-ids", "1", "--model", str(folder), "--json")[1])
    assert document["warnings"][0]["site"] == "h.1.ln_1"
    assert "h.1.ln_1" in gpt2ln("inspect", "--token-ids", "1", "--model", str(folder))[1]


def test_nan_that_a_site_itself_makes_is_said_to_leave_it(make_folder):
    def change(body):
        body.h[0].ln_2.bias[2] = INF

    (flag,) = [
        flag
        for flag in gpt2ln_cli.inspect([[1, 2]], model=make_folder(change)).warnings
        if flag.code == "nonfinite_activation"
    ]
    assert flag.site == "h.0.ln_2"
    assert "leaving" in flag.message


def test_an_eps_that_dominates(make_folder, gpt2ln):
    """As the LayerNorm-free fine-tunes of GPT-2 are shipped: eps 1e12 and the gain times 1e6."""

    def change(body):
        for name, parameter in body.named_parameters():
            if "ln_" in name and name.endswith("weight"):
                parameter.mul_(1e6)

    folder = make_folder(change, layer_norm_epsilon=1e12)
    record = gpt2ln_cli.inspect([[1, 2, 3]], model=folder, per_token=True)
    assert codes(record, "eps_dominates") == [site.name for site in record.sites]
    assert strict_codes(gpt2ln, folder) == [(0, 1)] * 3
    for words in (("inspect", "--token-ids", "1,2"), ("params",)):
        out = " ".join(gpt2ln(*words, "--model", str(folder))[1].split())
        assert "no longer normalize" in out
        assert "eps 1e+12" in out
    # The figures stay right.
    states = raw_states(GPT2Model.from_pretrained(folder).eval(), [1, 2, 3])
    for row in record.rows:
        expected = reference(*states[row.site], 1e12)
        for name in ("sigma", "pre_norm", "normalized_norm", "post_norm"):
            np.testing.assert_allclose(getattr(row, name), expected[name][row.position], rtol=1e-5)


def test_an_eps_above_the_variance_of_some_sites(make_folder):
    """Only the sites where eps exceeds the variance of most tokens are named."""

    def change(body):
        body.wte.weight.normal_().mul_(1e-4)
        body.wpe.weight.zero_()
        body.h[0].attn.c_proj.bias.normal_()

    record = gpt2ln_cli.inspect([[1, 2, 3]], model=make_folder(change))
    assert codes(record, "eps_dominates") == ["h.0.ln_1"]


def test_a_layer_norm_that_was_never_trained(make_folder, gpt2ln):
    def change(body):
        body.h[1].ln_2.weight.fill_(1)
        body.h[1].ln_2.bias.fill_(0)
        body.h[0].ln_1.weight.fill_(1)

    folder = make_folder(change)
    for record in (gpt2ln_cli.params(model=folder), gpt2ln_cli.inspect([[1, 2]], model=folder)):
        assert codes(record, "identity") == ["h.1.ln_2"]
    out = " ".join(gpt2ln("params", "--model", str(folder))[1].split())
    assert "warning: h.1.ln_2: the gain is all 1 and the bias all 0" in out


def test_sites_that_share_a_warning_share_its_line(make_folder, gpt2ln):
    def change(body):
        for name, parameter in body.named_parameters():
            if "ln_" in name:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)

    out = " ".join(gpt2ln("params", "--model", str(make_folder(change)))[1].split())
    assert "warning: h.0.ln_1, h.0.ln_2, h.1.ln_1 and 2 more: the gain" in out


def test_strict_says_why_on_standard_error(make_folder, gpt2ln):
    def change(body):
        body.ln_f.bias[0] = NAN

    code, out, err = gpt2ln("params", "--model", str(make_folder(change)), "--strict", "--json")
    assert code == 1
    assert json.loads(out)["warnings"][0]["code"] == "nonfinite_parameter"
    assert "--strict: exit code 1" in err


RUNS = {
    "inspect": ("--token-ids", "1,2,3"),
    "verify": ("--token-ids", "1,2,3", "--token-ids", "4,5"),
    "compare": ("--token-ids", "1,2,3", "--token-ids", "4,5"),
    "ablate": ("--token-ids", "1,2,3", "--token-ids", "4,5"),
}
SPOILT = {
    "parameter": lambda body: body.h[1].ln_1.weight[3:5].fill_(NAN),
    "entering": lambda body: body.h[0].mlp.c_proj.bias[2].fill_(INF),
    "leaving": lambda body: body.h[0].ln_2.bias[2].fill_(INF),
    # Finite in float32, but not its square: the kernel's variance overflows.
    "overflow": lambda body: body.h[0].mlp.c_proj.bias[2].fill_(1e25),
    "identity": lambda body: (body.h[1].ln_2.weight.fill_(1), body.h[1].ln_2.bias.fill_(0)),
    "quiet": lambda body: [body.wte.weight.mul_(1e-4), body.wpe.weight.mul_(1e-4)],
}


@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize("command", ["verify", "compare", "compare --context", "ablate"])
def test_every_run_carries_what_inspect_flags(make_folder, gpt2ln, spoil, command):
    folder = str(make_folder(SPOILT[spoil]))
    name, *options = command.split()
    words = (name, *options, *RUNS[name], "--model", folder)
    prompts = [[1, 2, 3], [4, 5]]
    expected = [(flag.code, flag.site, flag.message) for flag in gpt2ln_cli.inspect(prompts, model=folder).warnings]
    gpt2ln("--version")
    code, out, _ = gpt2ln(*words, "--json")
    assert [(flag["code"], flag["site"], flag["message"]) for flag in json.loads(out)["warnings"]] == expected != []
    assert code == (1 if name == "verify" and not json.loads(out)["behaves_as_gpt2"] else 0)
    code, out, err = gpt2ln(*words, "--strict")
    assert code == 1
    assert "--strict: exit code 1" in err
    assert f"warning: {expected[0][1]}" in " ".join(out.split())


def test_a_sound_checkpoint_passes_strict_everywhere(make_folder, gpt2ln):
    folder = str(make_folder())
    for name, words in RUNS.items():
        assert (name, gpt2ln(name, *words, "--model", folder, "--strict")[0]) == (name, 0)


@pytest.mark.slow
def test_the_tour_flags_once_what_its_runs_flag(monkeypatch, gpt2ln):
    changed = gpt2ln_cli.load("demo")
    changed.body.h[3].ln_1.weight[5] = NAN
    tour = gpt2ln_cli.tour(model=changed)
    found = [(flag.code, flag.site) for flag in tour.warnings]
    assert found[0] == ("nonfinite_parameter", "h.3.ln_1")
    assert ("nonfinite_activation", "h.3.ln_1") in found
    assert len(found) == len(set(found))
    monkeypatch.setattr("gpt2ln_cli.commands.tour.compute.tour", lambda **_: tour)
    assert gpt2ln("tour")[0] == 0
    code, out, _ = gpt2ln("tour", "--strict")
    assert code == 1
    assert "warning: h.3.ln_1: 1 of 96 numbers" in " ".join(out.split())


COMMANDS = [
    ["inspect", "IDS", "MODEL"],
    ["inspect", "IDS", "MODEL", "--heatmap", "sigma"],
    ["inspect", "IDS", "MODEL", "--per-token", "--format", "csv"],
    ["stats", "--layer", "0-1,final", "--sort", "sigma", "IDS", "MODEL"],
    ["params", "--features", "3", "MODEL"],
    ["verify", "IDS", "MODEL"],
    ["compare", "IDS", "MODEL"],
    ["compare", "--context", "IDS", "MODEL"],
    ["ablate", "IDS", "MODEL"],
    ["report", "IDS", "MODEL", "--output", "report.html"],
    ["plot", "sigma", "IDS", "MODEL", "--output", "a.svg"],
    ["plot", "gain", "MODEL", "--output", "a.svg"],
    ["plot", "heatmap", "IDS", "MODEL", "--output", "a.svg"],
    ["plot", "axis", "IDS", "MODEL", "--output", "a.svg"],
    ["plot", "ablation", "IDS", "MODEL", "--output", "a.svg"],
    ["plot", "track", "PATH", "--output", "a.svg"],
    ["diff", "PATH", "PATH", "IDS"],
    ["diff", "PATH", "OTHER", "IDS"],
    ["track", "PATH", "OTHER", "IDS"],
]
HOSTILE = {
    "nan": lambda body: body.h[1].ln_1.weight[3:5].fill_(NAN),
    "inf": lambda body: (body.h[0].ln_2.weight[2].fill_(INF), body.ln_f.bias[3].fill_(-INF)),
    "huge gains": lambda body: [p.mul_(3e38) for name, p in body.named_parameters() if "ln_" in name],
    "huge activations": lambda body: [body.wte.weight.mul_(1e20), body.h[0].mlp.c_proj.weight.mul_(1e19)],
    "nothing": lambda body: [p.zero_() for p in body.parameters()],
}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("spoil", HOSTILE)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_runtime_warning_reaches_the_terminal(make_folder, gpt2ln, tmp_path, monkeypatch, command, spoil):
    """As an error it would end as "internal error"."""
    monkeypatch.chdir(tmp_path)
    path = str(make_folder(HOSTILE[spoil]))
    given = {
        "IDS": ["--token-ids", "1,2,3", "--token-ids", "4,5"],
        "MODEL": ["--model", path],
        "PATH": [path],
        "OTHER": [str(make_folder())],
    }
    gpt2ln("--version")
    code, _, err = gpt2ln(*(part for word in command for part in given.get(word, [word])))
    assert code in (0, 1), err
    assert "internal error" not in err
    assert "Warning" not in err


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.slow
@pytest.mark.parametrize("spoil", HOSTILE)
def test_no_runtime_warning_comes_of_the_probe_and_the_tour(spoil):
    changed = gpt2ln_cli.load("demo")
    HOSTILE[spoil](changed.body)
    assert gpt2ln_cli.tour(model=changed).nonfinite
