"""What people bring to a command line: pipes, names of files, options given twice, and words mistyped."""

from __future__ import annotations

import csv
import json
import os
import re
import socket
import threading
import time
from importlib import import_module
from pathlib import Path

import click
import pytest
from conftest import posix

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.commands import COMMANDS, GROUPS
from gpt2ln_cli.output import FORMATS
from gpt2ln_cli.shell import prompts
from gpt2ln_cli.shell.command import Command

SAMPLE = "The war was over, but the hatred was not."
DEMO_NOTE = re.compile(r"^gpt2ln: 'demo' is .*--model gpt2", re.MULTILINE)


@pytest.fixture
def gpt2ln(capsys):
    """Run the command line; return (exit code, standard output, standard error)."""

    def run(*words):
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def standard_input(monkeypatch, tmp_path):
    """Make it a pipe, a file or the null device with the content in it; return its descriptor."""
    opened = []

    def make(kind, content=b""):
        if kind == "pipe":
            reader, writer = os.pipe()
            os.write(writer, content)
            os.close(writer)
        else:
            (tmp_path / "input").write_bytes(content)
            reader = os.open(tmp_path / "input" if kind == "file" else os.devnull, os.O_RDONLY)
        opened.append(os.fdopen(reader))
        monkeypatch.setattr("sys.stdin", opened[0])
        return reader

    yield make
    for stream in opened:
        stream.close()


def texts(out):
    return [prompt["text"] for prompt in json.loads(out)["prompts"]]


LITTLE = ("stats", "-l", "0", "--site", "ln_1", "--json")


# --- prompts on standard input ---


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_what_is_piped_is_read_where_no_prompt_is_given(gpt2ln, standard_input, kind):
    standard_input(kind, b"one\ntwo\n")
    code, out, err = gpt2ln(*LITTLE)
    assert (code, texts(out)) == (0, ["one", "two"])
    assert 'read 2 prompts, "one" first, from standard input' in err


def test_standard_input_is_one_prompt_where_asked(gpt2ln, standard_input):
    standard_input("file", b"one\ntwo\n")
    code, out, _ = gpt2ln(*LITTLE, "--whole-file")
    assert (code, texts(out)) == (0, ["one\ntwo"])


@pytest.mark.parametrize("kind", ["pipe", "file", "device"])
def test_where_nothing_comes_the_sample_is_used_and_said(gpt2ln, standard_input, kind):
    standard_input(kind)
    code, out, err = gpt2ln(*LITTLE)
    assert (code, texts(out)) == (0, [SAMPLE])
    assert f'no prompt; using the sample "{SAMPLE}"' in err
    assert max(map(len, err.split("\n"))) <= 80
    assert gpt2ln(*LITTLE, "--whole-file")[0] == 2


@pytest.mark.parametrize("words", [("x",), ("--token-ids", "1"), ("--prompts", "text")])
def test_a_given_prompt_leaves_standard_input_alone(gpt2ln, standard_input, tmp_path, monkeypatch, words):
    """As the body of a `while read` loop must."""
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("text")
    descriptor = standard_input("file", b"not a prompt\nanother\n")
    assert gpt2ln(*LITTLE, *words)[0] == 0
    assert os.read(descriptor, 100) == b"not a prompt\nanother\n"


def test_diff_compares_what_was_learned_where_nothing_comes(gpt2ln, standard_input):
    standard_input("pipe")
    code, out, err = gpt2ln("diff", "demo", "demo", "--json")
    assert (code, err, json.loads(out)["prompts"]) == (0, "", None)


def test_diff_compares_statistics_of_what_is_piped(gpt2ln, standard_input):
    standard_input("pipe", b"war")
    code, out, _ = gpt2ln("diff", "demo", "demo", "--json", "-l", "0")
    assert (code, texts(out)) == (0, ["war"])


@pytest.mark.parametrize("quiet", [False, True])
def test_a_pipe_that_nobody_closes_is_said_to_be_waited_for(gpt2ln, monkeypatch, quiet):
    """The writer waits for the note, or in silence a little longer than it would take."""
    monkeypatch.setattr(prompts, "PATIENCE_S", 0.05)
    reader, writer = os.pipe()
    told = []

    def send(text=None):
        told.extend([text] if text else [])
        os.write(writer, b"war")
        os.close(writer)

    monkeypatch.setattr(prompts, "say", send)
    if quiet:
        threading.Timer(0.2, send).start()
    with os.fdopen(reader) as stream:
        monkeypatch.setattr("sys.stdin", stream)
        code, out, _ = gpt2ln(*LITTLE, *["-q"] * quiet)
    assert (code, texts(out)) == (0, ["war"])
    assert told == ([] if quiet else [prompts.WAITING])
    assert len("gpt2ln: " + prompts.WAITING) <= 80


@posix
def test_a_socket_is_not_waited_for(gpt2ln, monkeypatch):
    """Which ssh, and what is written in Node, hands to whatever it starts, and never closes."""
    ours, theirs = socket.socketpair()
    with ours, theirs, theirs.makefile() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert texts(gpt2ln(*LITTLE)[1]) == [SAMPLE]


def test_what_is_piped_and_no_text_is_refused(gpt2ln, standard_input):
    standard_input("pipe", b"\xff")
    code, _, err = gpt2ln("inspect")
    assert code == 4
    assert "standard input is not UTF-8" in err


def test_the_name_of_a_file_is_text_and_said_to_be(gpt2ln, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("something else")
    code, out, err = gpt2ln("inspect", "-l", "0", "--json", "book.txt")
    assert (code, texts(out)) == (0, ["book.txt"])
    assert "--prompts book.txt" in err
    assert "--prompts" not in gpt2ln("inspect", "-l", "0", "--json", "another")[2]


# --- options ---


def test_layers_given_again_are_added(gpt2ln):
    once = gpt2ln("params", "--layer", "1,3-4,final", "--json")
    assert gpt2ln("params", "-l", "1", "-l", "3-4", "--layer", "final", "--json")[1] == once[1]
    assert gpt2ln("stats", "-l", "1", "-l", "2", "--json", "x")[0] == 0


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("out.json", b'{"schema_'),
        ("OUT.JSON", b'{"schema_'),
        ("out.csv", b"name,layer"),
        ("out.ndjson", b'{"name":'),
        ("out.jsonl", b'{"name":'),
        ("out.md", b"# gpt2ln params"),
        ("out.html", b"<!doctype"),
        ("out.parquet", b"PAR1"),
        ("out.txt", b"model  "),
        ("out", b"model  "),
    ],
)
def test_the_name_of_the_file_says_the_format(gpt2ln, tmp_path, name, begins):
    path = tmp_path / name
    assert gpt2ln("params", "--top", "1", "-l", "final", "-o", str(path))[:2] == (0, "")
    assert path.read_bytes().lower().startswith(begins.lower())


@pytest.mark.parametrize("words", [("--format", "csv"), ("--json",), ("-f", "table")])
def test_a_format_that_contradicts_the_name_is_refused(gpt2ln, tmp_path, words):
    path = tmp_path / "out.md"
    code, _, err = gpt2ln("params", "-o", str(path), *words)
    assert (code, path.exists()) == (2, False)
    assert "out.md" in err
    assert "markdown" in err
    assert gpt2ln("params", "-o", str(path), "--format", "markdown")[0] == 0


def test_the_format_of_a_page_is_that_of_its_name(gpt2ln, tmp_path):
    assert gpt2ln("models", "-o", str(tmp_path / "models.csv"))[0] == 0
    assert next(csv.DictReader((tmp_path / "models.csv").read_text().splitlines()))["name"] == "demo"


def test_every_format_but_that_of_a_terminal_has_an_ending():
    endings = [ending for one in FORMATS.values() for ending in one.endings]
    assert len(set(endings)) == len(endings)
    assert [name for name, one in FORMATS.items() if not one.endings] == ["table"]


MISTYPED = [
    (("inspect", "x", "--format", "jsn"), "Did you mean 'json'?"),
    (("plot", "ablaton", "-o", "x.svg"), "Did you mean 'ablation'?"),
    (("stats", "x", "-l", "1", "--sort", "sgima"), "Did you mean 'sigma'?"),
    (("params", "--site", "ln1"), "Did you mean 'ln_1'?"),
    (("params", "--format", "csv", "--table", "extreme"), "Did you mean 'extremes'?"),
    (("completion", "bsh"), "Did you mean 'bash'?"),
    (("schema", "inspct"), "Did you mean 'inspect'?"),
    (("help", "inspct"), "Did you mean 'inspect'?"),
    (("--color", "nevr", "params"), "Did you mean 'never'?"),
    (("inspct",), "Did you mean 'inspect'?"),
    (("inspect", "--jsn"), "'--json'"),
]


@pytest.mark.parametrize(("words", "says"), MISTYPED, ids=lambda value: value if isinstance(value, str) else value[0])
def test_what_is_mistyped_gets_a_suggestion(gpt2ln, words, says):
    code, out, err = gpt2ln(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


@pytest.mark.parametrize(
    "words", [("inspect", "--format"), ("inspect", "--format", "x"), ("plot",), ("nothing",), ("inspect", "--top", "x")]
)
def test_errors_of_the_words_begin_as_ours_do(gpt2ln, words):
    err = gpt2ln(*words)[2]
    assert re.match(r"gpt2ln: [a-z]", err), err


def test_the_kind_of_a_plot_is_called_so(gpt2ln):
    err = gpt2ln("plot", "ablaton")[2]
    assert "'KIND'" in err
    assert "{" not in err


# --- notes ---


def test_the_note_about_demo_comes_once_a_day(gpt2ln, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (line,) = DEMO_NOTE.findall(gpt2ln("params")[2])
    assert len(gpt2ln("params", "-v")[2].partition("\n")[0]) <= 80
    assert gpt2ln("params")[2] == ""
    (stamp,) = (path for path in tmp_path.rglob("*") if path.is_file())
    yesterday = time.time() - 24 * 60 * 60 - 1
    os.utime(stamp, (yesterday, yesterday))
    said = gpt2ln("params")[2]
    assert said.startswith(line)
    assert max(map(len, said.split("\n"))) <= 80


@pytest.mark.parametrize("words", [("-q",), ("--model", "demo")])
def test_the_note_about_demo_is_for_who_did_not_choose(gpt2ln, words):
    assert gpt2ln("params", *words)[2] == ""
    assert DEMO_NOTE.search(gpt2ln("params")[2])  # it was not even noted as said


def test_the_note_about_demo_is_silent_where_the_environment_names_it(gpt2ln, monkeypatch):
    monkeypatch.setenv("GPT2LN_MODEL", "demo")
    assert gpt2ln("params")[2] == ""


@pytest.mark.parametrize("cache", ["a file", "relative/folder"])
def test_where_nothing_can_be_remembered_the_note_is_given(gpt2ln, tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "a file"))
    Path("a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache) if cache == "a file" else cache)
    for _ in range(2):
        assert DEMO_NOTE.search(gpt2ln("params")[2])
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_quiet_says_errors_alone(gpt2ln):
    for words in (("-q", "stats", "-l", "0"), ("stats", "-l", "0", "--quiet")):
        code, out, err = gpt2ln(*words)
        assert (code, err) == (0, "")
        assert "hatred" in out
    assert gpt2ln("-q", "params", "--layer", "99")[2].startswith("gpt2ln: layer 99")


def test_verbose_says_what_is_read_and_written(gpt2ln, tmp_path):
    for words in (("-v", "stats"), ("stats", "--verbose")):
        _, _, err = gpt2ln(*words, "-l", "0", "x", "-o", str(tmp_path / "x.csv"))
        assert "bundled/demo" in err.replace(os.sep, "/")
        assert "x.csv" in err
        assert re.search(r"\d\.\d\d s ", err)
    assert gpt2ln("-v", "params", "-q")[0] == 2


def test_color_is_as_asked(gpt2ln, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    assert "\x1b[" not in gpt2ln("params")[1]
    assert "\x1b[" in gpt2ln("params", "--color", "always")[1]
    assert "\x1b[" in gpt2ln("--color=always", "params")[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in gpt2ln("params")[1]
    assert "\x1b[" not in gpt2ln("params", "--color", "never")[1]
    assert "\x1b[" in gpt2ln("params", "--color", "auto")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in gpt2ln("params")[1]
    assert "\x1b[" in gpt2ln("params", "--color", "always")[1]
    assert "\x1b[" not in gpt2ln("params", "--color", "always", "--json")[1]
    assert {**before, "FORCE_COLOR": "1", "NO_COLOR": "1"} == dict(os.environ)


# --- count ---


def counted(run, *words):
    return json.loads(run("count", "--json", *words)[1])


def test_count_takes_the_shape_from_where_the_others_take_the_model(gpt2ln, monkeypatch):
    assert (counted(gpt2ln)["n_embd"], counted(gpt2ln)["model"]) == (768, None)
    assert "(the shape of GPT-2 small)" in gpt2ln("count")[1]
    assert "GPT-2 small" not in gpt2ln("count", "--layers", "48")[1]
    monkeypatch.setenv("GPT2LN_MODEL", "demo")
    assert (counted(gpt2ln)["n_embd"], counted(gpt2ln)["model"]) == (96, "demo")
    assert gpt2ln("count")[2] == ""
    assert "(the shape of demo)" in gpt2ln("count")[1]
    # What this call says counts for more than what is said for all.
    assert counted(gpt2ln, "--layers", "48")["n_layer"] == 48
    assert gpt2ln("count", "--model", "demo", "--layers", "48")[0] == 2


# --- help ---


def test_help_lists_the_commands_by_what_they_are_for(gpt2ln):
    _, out, _ = gpt2ln("--help")
    sections = re.findall(r"^(\w[\w ]*):\n((?:  .*\n?)+)", out, re.MULTILINE)
    found = {title: re.findall(r"^  (\w+)", body, re.MULTILINE) for title, body in sections}
    assert {command.group for command in COMMANDS} == set(GROUPS)
    assert list(found)[: len(GROUPS)] == list(GROUPS)
    for group in GROUPS:
        assert found[group] == [command.name for command in COMMANDS if command.group == group]


@pytest.mark.parametrize("name", ["", *(one.name for one in COMMANDS)])
def test_help_fits_80_columns(gpt2ln, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = gpt2ln(*name.split(), "--help")[1].split("\n")
    assert [line for line in lines if len(line) > 80] == []


def test_options_stand_in_sections(gpt2ln):
    _, out, _ = gpt2ln("inspect", "--help")
    places = [out.index(word) for word in ("\nOptions:", "\nPrompts:", "--token-ids", "\nModel:", "--revision")]
    assert places == sorted(places)
    assert out.index("\nOutput:") < out.index("--csv-safe") < out.index("\nAny command:") < out.index("--quiet")


@pytest.mark.parametrize("name", [one.name for one in COMMANDS])
def test_every_command_has_what_all_have(name):
    command = import_module(f"gpt2ln_cli.commands.{name}.command").command
    assert isinstance(command, Command)
    assert {"quiet", "verbose", "color", "debug"} <= {parameter.name for parameter in command.params}
    assert not [one.name for one in command.params if type(one.type) is click.Choice]


def test_the_functions_of_the_library_are_listed():
    functions = {one.name for one in COMMANDS if one.name not in ("plot", "help", "completion")}
    assert {*functions, "load", "Model", "view"} <= set(dir(gpt2ln_cli))
