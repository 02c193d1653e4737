"""The command line in process: what it prints, and which exit code bad input gets."""

from __future__ import annotations

import json
import shlex

import numpy
import pytest
import torch

import gpt2ln_cli
from gpt2ln_cli import __version__
from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint import BUNDLED
from gpt2ln_cli.commands import COMMANDS
from gpt2ln_cli.commands.count.record import Arithmetic
from gpt2ln_cli.commands.inspect.record import Inspection, Row
from gpt2ln_cli.commands.params.record import Parameters
from gpt2ln_cli.quantities import SORT_KEYS


@pytest.fixture
def gpt2ln(capsys):
    """Run the command line; return (exit code, standard output, standard error)."""

    def run(*words):
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def parsed(run, *words, kind=Inspection):
    import msgspec

    code, out, _ = run(*words, "--json")
    assert code == 0

    def no_constant(name):
        raise AssertionError(f"{name} is no JSON")

    json.loads(out, parse_constant=no_constant)
    return msgspec.json.decode(out, type=kind)


def test_inspect_json_is_the_record_of_the_library(gpt2ln):
    assert parsed(gpt2ln, "inspect", "The quick brown fox") == gpt2ln_cli.inspect(["The quick brown fox"])


def test_inspect_total_is_25_times_the_tokens(gpt2ln):
    record = parsed(gpt2ln, "inspect", "The quick brown fox")
    assert record.counts.total == 25 * record.prompts[0].length == 25 * len(record.prompts[0].token_ids)
    assert record.schema_version == "1.0"


def test_stats_json_is_the_record_of_the_library(gpt2ln):
    words = ("stats", "--layer", "5", "--sort", "sigma", "--top", "3", "--site", "ln_2", "the war was over")
    assert parsed(gpt2ln, *words) == gpt2ln_cli.stats("the war was over", layers=5, sort="sigma", top=3, sites=["ln_2"])


def test_params_json_is_the_record_of_the_library(gpt2ln):
    words = ("params", "--features", "2", "--layer", "0-1,final")
    assert parsed(gpt2ln, *words, kind=Parameters) == gpt2ln_cli.params(features=2, layers=[0, 1, "final"])


def test_count_gives_the_learners_figures(gpt2ln):
    record = parsed(gpt2ln, "count", kind=Arithmetic)
    assert (record.per_site, record.per_block, record.total) == (1024, 2048, 25600)
    record = parsed(gpt2ln, "count", "--tokens", "1024", "--batch", "8", kind=Arithmetic)
    assert record.total == 204_800
    sites = {reading.name: reading.per_site for reading in record.readings}
    assert sites == {
        "per token, over its features": 8 * 1024,
        "per feature, over a context's tokens": 8 * 768,
        "per feature, over the minibatch": 768,
        "per context, everything in it": 8,
        "once, over the whole minibatch": 1,
        "per token and head": 8 * 1024 * 12,
    }
    assert [reading.is_gpt2 for reading in record.readings] == [True] + [False] * 5
    code, out, _ = gpt2ln("count", "--tokens", "1024", "--batch", "8")
    assert code == 0
    assert "204,800" in out


def test_count_takes_the_shape_of_a_model(gpt2ln):
    record = parsed(gpt2ln, "count", "--model", "demo", "--tokens", "10", kind=Arithmetic)
    assert (record.n_embd, record.total) == (96, 250)


def test_the_same_count_by_arithmetic_and_by_measurement(gpt2ln):
    measured = parsed(gpt2ln, "inspect", "--token-ids", "1,2,3", "--token-ids", "4 5 6")
    assert measured.counts.total == parsed(gpt2ln, "count", "--tokens", "3", "--batch", "2", kind=Arithmetic).total


def test_prompts_come_in_order_from_everywhere(gpt2ln, tmp_path, monkeypatch):
    import io
    import types

    file = tmp_path / "p.txt"
    file.write_text("third\nfourth\n")
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(b"first\nsecond\n")))
    record = parsed(gpt2ln, "inspect", "-", "--prompts", str(file), "--token-ids", "5,6")
    assert [prompt.text for prompt in record.prompts] == ["first", "second", "third", "fourth", None]
    assert record.prompts[-1].token_ids == [5, 6]


def test_without_a_prompt_the_sample_is_used_and_said(gpt2ln):
    code, out, err = gpt2ln("stats", "--layer", "5", "--json")
    assert code == 0
    assert json.loads(out)["prompts"][0]["text"] == "The war was over, but the hatred was not."
    assert "bundled sample" in err


def test_the_model_is_named_on_both_streams(gpt2ln, make_folder):
    folder = str(make_folder())
    gpt2ln("--version")  # takes what writing the folder printed
    _, out, err = gpt2ln("inspect", "x")
    assert "demo (bundled with gpt2ln)" in out
    assert "bundled miniature" in err
    assert "--model gpt2" in err
    _, out, err = gpt2ln("inspect", "--token-ids", "1", "--model", folder)
    assert "(folder)" in out
    assert err == ""


def test_the_environment_sets_another_default_model(gpt2ln, make_folder, monkeypatch):
    folder = str(make_folder())
    monkeypatch.setenv("GPT2LN_MODEL", folder)
    assert parsed(gpt2ln, "params", kind=Parameters).model.name == folder
    assert parsed(gpt2ln, "params", "--model", "demo", kind=Parameters).model.name == "demo"


def test_bos_is_prepended_and_said(gpt2ln):
    code, out, _ = gpt2ln("inspect", "x", "--bos")
    assert code == 0
    assert "<|endoftext|> prepended to each" in out
    record = parsed(gpt2ln, "inspect", "x", "--bos")
    assert record.bos
    assert record.prompts[0].tokens[0] == "<|endoftext|>"


def test_params_answers_the_question_first(gpt2ln, make_folder):
    code, out, _ = gpt2ln("params")
    assert code == 0
    assert out.split("\n\n")[1].startswith("Yes: this checkpoint uses a learned gain at 25 of 25 sites")

    def untrained(body):
        for name, parameter in body.named_parameters():
            if "ln_" in name:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)

    _, out, _ = gpt2ln("params", "--model", str(make_folder(untrained)))
    (answer,) = [line for line in out.split("\n") if line.startswith(("Yes", "No"))]
    assert answer.startswith("No: at all 5 sites the gain is 1")


def test_selection_of_layers_and_sites(gpt2ln):
    def names(*words):
        return [site.name for site in parsed(gpt2ln, "params", *words, kind=Parameters).sites]

    assert names("--layer", "5") == ["h.5.ln_1", "h.5.ln_2"]
    assert names("--layer", "0-1,11", "--site", "ln_2") == ["h.0.ln_2", "h.1.ln_2", "h.11.ln_2"]
    assert names("--layer", "final") == names("--site", "ln_f") == ["ln_f"]
    assert names("--layer", "final, 3", "--site", "ln_1", "--site", "ln_f") == ["h.3.ln_1", "ln_f"]
    assert len(names()) == 25
    counts = parsed(gpt2ln, "inspect", "--token-ids", "1,2", "--layer", "3,final").counts
    assert (counts.sites, counts.per_block, counts.total) == (3, 4, 6)


def test_sorting_and_top(gpt2ln):
    record = parsed(gpt2ln, "stats", "--layer", "2", "--sort", "sigma", "--top", "4")
    for site in ("h.2.ln_1", "h.2.ln_2"):
        sigmas = [row.sigma for row in record.rows if row.site == site]
        assert len(sigmas) == 4
        assert sigmas == sorted(sigmas, reverse=True)
    everything = parsed(gpt2ln, "stats", "--layer", "2", "--site", "ln_1")
    assert max(row.sigma for row in everything.rows) == record.rows[0].sigma


def test_every_quantity_of_a_row_can_order_rows():
    places = {"site", "sequence", "token_id", "token"}
    assert set(SORT_KEYS) == set(Row.__struct_fields__) - places


FULL = ["--token-ids", ",".join(["1"] * 1025)]
BAD = [
    (2, [], "Usage"),
    (2, ["inspct"], "Did you mean 'inspect'"),
    (2, ["inspect", "--jsn", "x"], "--jsn"),
    (2, ["stats", "x"], "--layer"),
    (2, ["inspect", "x", "--layer", "12"], "layers 0 to 11"),
    (2, ["inspect", "x", "--layer", "3-1"], "backwards"),
    (2, ["inspect", "x", "--layer", "0-99999999999"], "no GPT-2 has that many"),
    (2, ["inspect", "x", "--layer", "five"], "'five'"),
    (2, ["inspect", "x", "--layer", "3", "--site", "ln_f"], "no LayerNorm is left"),
    (2, ["inspect", "x", "--site", "ln_3"], "ln_3"),
    (2, ["inspect", "x", "--batch-size", "0"], "--batch-size"),
    (2, ["inspect", "x", "--batch-tokens", "0"], "--batch-tokens"),
    (2, ["inspect", "x", "--whole-file"], "--whole-file"),
    (2, ["inspect", "-", "-"], "only once"),
    (2, ["stats", "--layer", "1", "x", "--top", "0"], "--top"),
    (2, ["stats", "--layer", "1", "x", "--sort", "size"], "size"),
    (2, ["inspect", "x", "--layer", "9" * 5000], "no GPT-2 has that many"),
    (2, ["inspect", "x", "--layer", "0-" + "9" * 5000], "no GPT-2 has that many"),
    (2, ["params", "--model", ""], "the name of the model is empty"),
    (2, ["diff", "", "demo"], "the name of the model is empty"),
    (2, ["plot", "gain", "--output", "-"], "can't tell an image format"),
    (2, ["count", "--tokens", "0"], "--tokens"),
    (2, ["count", "--width", "100", "--heads", "12"], "not a multiple"),
    (2, ["count", "--model", "demo", "--layers", "3"], "brings its own shape"),
    (2, ["count", "--model", "demo", "--tokens", "1025"], "1024"),
    (2, ["count", "--tokens", "9" * 40], "64-bit"),
    (2, ["params", "--revision", "main"], "--revision"),
    (3, ["params", "--model", "./nothing-here"], "./nothing-here"),
    (3, ["params", "--model", "~nosuch/x"], "~nosuch/x"),
    (3, ["inspect", "x", "--model", "x" * 300], "File name too long"),
    (4, ["inspect", "--prompts", "~nosuch/x"], "~nosuch/x"),
    (4, ["inspect", "--prompts", "x" * 300], "File name too long"),
    (4, ["inspect", ""], "empty"),
    (4, ["inspect", "--prompts", "no-such-file.txt"], "no-such-file.txt"),
    (4, ["inspect", "--prompts", "."], "."),
    (4, ["inspect", "--token-ids", "8192"], "8192"),
    (4, ["inspect", "--token-ids", "one"], "'one'"),
    (4, ["inspect", *FULL], "1025 tokens"),
]


@pytest.mark.parametrize(
    ("code", "words", "says"), BAD, ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None
)
def test_bad_input_gets_one_line_and_its_exit_code(gpt2ln, code, words, says):
    got, out, err = gpt2ln(*words)
    assert (got, out) == (code, "")
    assert says in err
    assert "Traceback" not in err
    if words:
        lines = err.strip().split("\n")
        assert len(lines) == 1
        assert lines[0].startswith("gpt2ln: ")


def test_overflow_has_its_ways_out(gpt2ln):
    record = parsed(gpt2ln, "inspect", *FULL, "--overflow", "truncate", "--layer", "0")
    assert (record.counts.tokens, record.prompts[0].dropped) == (1024, 1)
    record = parsed(gpt2ln, "inspect", *FULL, "--overflow", "window", "--layer", "0")
    assert [prompt.length for prompt in record.prompts] == [1024, 1]
    assert [(prompt.prompt, prompt.offset) for prompt in record.prompts] == [(0, 0), (0, 1024)]
    _, out, _ = gpt2ln("inspect", *FULL, "--overflow", "truncate", "--layer", "0")
    assert "1 tokens beyond the context" in out


def test_output_is_written_whole_or_not_at_all(gpt2ln, tmp_path):
    target = tmp_path / "record.json"
    assert gpt2ln("params", "--json", "-o", str(target))[:2] == (0, "")
    whole = target.read_bytes()
    assert json.loads(whole)["command"] == "params"
    # A later run that fails leaves the file as it was, and nothing beside it.
    assert gpt2ln("params", "--json", "-o", str(target), "--layer", "99")[0] == 2
    assert target.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [target]
    assert gpt2ln("params", "--layer", "1", "--json", "-o", str(target))[0] == 0
    assert 0 < len(target.read_bytes()) < len(whole)


def test_output_keeps_the_permissions_of_the_file_it_replaces(gpt2ln, tmp_path):
    target = tmp_path / "record.json"
    target.write_text("old")
    target.chmod(0o600)
    assert gpt2ln("count", "--json", "-o", str(target))[0] == 0
    assert json.loads(target.read_text())["command"] == "count"
    assert target.stat().st_mode & 0o777 == 0o600


def test_hostile_names_are_escaped_in_errors(gpt2ln):
    _, _, err = gpt2ln("params", "--model", "./\x1b[31mred\u202e")
    assert err.isascii()
    assert "\\x1b[31mred\\u202e" in err


def test_output_through_a_link_keeps_the_link(gpt2ln, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert gpt2ln("count", "-o", str(tmp_path / "link"))[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert "25,600" in (tmp_path / "target").read_text()


@pytest.mark.parametrize("path", [".", "no/such/folder/out.json"])
def test_output_that_cannot_be_written_is_found_before_the_work(gpt2ln, path, monkeypatch):
    monkeypatch.setattr(
        "gpt2ln_cli.commands.inspect.compute.inspect", lambda *_, **__: pytest.fail("the run had begun")
    )
    code, out, err = gpt2ln("inspect", "x", "-o", path)
    assert (code, out) == (2, "")
    assert "can't write" in err


def test_a_failure_while_writing_leaves_no_half_file(gpt2ln, tmp_path, monkeypatch):
    def fail(_, stream):
        stream.write("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gpt2ln_cli.output.json.write", fail)
    code, _, err = gpt2ln("count", "--json", "-o", str(tmp_path / "out.json"))
    assert code == 2
    assert "No space left" in err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_ends_with_130(gpt2ln, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("gpt2ln_cli.commands.params.compute.params", interrupt)
    code, out, err = gpt2ln("params")
    assert (code, out) == (130, "")
    assert "Traceback" not in err


def test_debug_shows_the_traceback_of_any_error(gpt2ln, monkeypatch):
    assert "Traceback" in gpt2ln("params", "--model", "./nothing", "--debug")[2]
    monkeypatch.setattr("gpt2ln_cli.commands.params.compute.params", lambda **_: 1 / 0)
    code, _, err = gpt2ln("params")
    assert code == 1
    assert "internal error: ZeroDivisionError" in err
    assert "Traceback" not in err
    assert "Traceback" in gpt2ln("params", "--debug")[2]


@pytest.mark.parametrize("allocate", [lambda: bytearray(2**60), lambda: numpy.ones(2**50), lambda: torch.empty(2**50)])
def test_want_of_memory_is_no_internal_error(gpt2ln, monkeypatch, allocate):
    monkeypatch.setattr("gpt2ln_cli.commands.params.compute.params", lambda **_: allocate())
    code, out, err = gpt2ln("params")
    assert (code, out) == (2, "")
    assert err.startswith("gpt2ln: out of memory; ")
    assert err.count("\n") == 1


def test_a_hyphen_is_standard_output(gpt2ln):
    assert gpt2ln("count", "-o", "-") == gpt2ln("count")


LONG = ("tour", "report", "ablate")
EACH = [pytest.param(one.name, marks=[pytest.mark.slow] if one.name in LONG else []) for one in COMMANDS]


def example(gpt2ln, name):
    code, help_, _ = gpt2ln(name, "-h")
    assert code == 0
    words = shlex.split(help_.partition("Examples:")[2].strip().split("\n")[0])
    assert words[:2] == ["gpt2ln", name]
    return words[1:]


def test_help_of_every_command_ends_with_an_example(gpt2ln):
    code, out, _ = gpt2ln("--help")
    assert code == 0
    for command in COMMANDS:
        assert command.name in out
        assert example(gpt2ln, command.name)


@pytest.mark.parametrize("name", [one.name for one in COMMANDS])
def test_the_options_of_a_command_fit_80_columns(gpt2ln, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, gpt2ln(name, "-h")[1].partition("Examples:")[0].split("\n"))) <= 80


@pytest.mark.parametrize("name", EACH)
def test_the_example_of_a_commands_help_runs(gpt2ln, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write a file
    assert gpt2ln(*example(gpt2ln, name))[0] == 0


def test_version(gpt2ln):
    assert gpt2ln("--version") == (0, f"gpt2ln, version {__version__}\n", "")


def test_the_bundled_name_wins_over_a_folder_of_that_name(gpt2ln, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    record = parsed(gpt2ln, "params", kind=Parameters)
    assert (record.model.source, record.model.location) == ("bundled", str(BUNDLED["demo"]))
    assert gpt2ln("params", "--model", "./demo")[0] == 3
