"""Shell completion: bash itself completes; zsh and fish are answered in their own form."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys

import pytest
from conftest import posix

from gpt2ln_cli.app import main


@pytest.fixture
def complete(capsys, monkeypatch):
    """What the shell is offered for the last word of a line; no offer may come with a word on standard error."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("completion spoke to the network"))

    def complete(line, shell="fish"):
        words = line.split(" ")
        monkeypatch.setenv("_GPT2LN_COMPLETE", f"{shell}_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1))
        assert main([]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out.split("\n")[:-1]

    return complete


@posix
def test_bash_completes(tmp_path):
    """The script is sourced and its function called as bash does after a tab."""
    program = tmp_path / "gpt2ln"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gpt2ln_cli "$@"\n')
    program.chmod(0o755)
    script = """
    eval "$(gpt2ln completion bash)"
    complete -p gpt2ln
    offered() {
        COMP_WORDS=(gpt2ln "$@"); COMP_CWORD=$#; COMPREPLY=()
        _gpt2ln_completion gpt2ln
        echo "${COMPREPLY[@]}"
    }
    compopt() { echo "compopt $2"; }
    offered ins
    offered stats --layer 0-3,1
    offered inspect --model d
    offered inspect --site ln_
    offered completion z
    """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script], capture_output=True, text=True, env={**os.environ, "PATH": path}, check=True
    )
    assert done.stderr == ""
    first, *offered = done.stdout.split("\n")[:-1]
    assert "_gpt2ln_completion" in first
    assert offered == ["inspect", "0-3,1 0-3,10 0-3,11", "compopt default", "demo", "ln_1 ln_2 ln_f", "zsh"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("inspect --layer 1", ["1", "10", "11"]),
        ("inspect --layer 9-", ["9-10", "9-11"]),
        ("inspect --layer 3,f", ["3,final"]),
        ("params --format csv --table e", ["extremes"]),
        ("schema st", ["stats"]),
        ("inspect --layer 10-x", []),
        ("inspect --layer nonsense-", []),
        ("diff demo demo --layer 11", ["11"]),
        ("stats --model ./no-such-model --layer ", []),
        ("stats --model no-such/model --layer ", []),
        ("count --model de", ["demo"]),
        ("diff de", ["demo"]),
        ("diff demo de", ["demo"]),
    ],
)
def test_layers_and_models(complete, line, offered):
    assert [item.partition(",")[2] for item in complete(f"gpt2ln {line}") if item.startswith("plain,")] == offered


def test_layers_are_those_of_the_model_given(complete, make_folder, monkeypatch, capsys):
    folder = str(make_folder(n_layer=3))
    capsys.readouterr()
    offered = ["plain,0", "plain,1", "plain,2", "plain,final"]
    assert complete(f"gpt2ln inspect -m {folder} --layer ") == offered
    monkeypatch.setenv("GPT2LN_MODEL", folder)
    assert complete("gpt2ln inspect --layer ") == offered


@pytest.mark.parametrize("line", ["inspect --prompts sam", "params -o sam", "inspect --model sam", "diff sam"])
def test_files_are_left_to_the_shell(complete, line):
    assert complete(f"gpt2ln {line}") == ["file,sam"]


def test_names_in_the_cache_are_offered_with_their_layers(complete, make_folder, tmp_path, monkeypatch, capsys):
    from huggingface_hub import constants

    folder = make_folder(n_layer=1)
    capsys.readouterr()
    snapshots = tmp_path / "models--someone--tiny" / "snapshots"
    snapshots.mkdir(parents=True)
    folder.rename(snapshots / ("a" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert complete("gpt2ln inspect --model some") == ["file,some", "plain,someone/tiny"]
    assert complete("gpt2ln inspect --model someone/tiny --layer ") == ["plain,0", "plain,final"]


def test_zsh_gets_three_lines_for_each_item(complete):
    assert complete("gpt2ln inspect --layer 0,1", "zsh") == [
        line for layer in ("0,1", "0,10", "0,11") for line in ("plain", layer, "_")
    ]


def test_the_script_of_fish_keeps_commas(capsys):
    assert main(["completion", "fish"]) == 0
    assert 'string split --max 1 "," $completion' in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_one_that_click_makes(shell, capsys, monkeypatch):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    monkeypatch.setenv("_GPT2LN_COMPLETE", f"{shell}_source")
    assert main([]) == 0
    assert script.split() == capsys.readouterr().out.split()
    assert "_GPT2LN_COMPLETE" in script


@pytest.mark.parametrize("instruction", ["tcsh_source", "bash_complete", ""])
def test_what_cannot_be_answered_is_silent(capsys, monkeypatch, instruction):
    monkeypatch.setenv("_GPT2LN_COMPLETE", instruction)
    monkeypatch.delenv("COMP_WORDS", raising=False)
    assert main([]) == 1
    assert capsys.readouterr() == ("", "")


def test_completing_loads_no_torch():
    environment = {
        **os.environ,
        "_GPT2LN_COMPLETE": "bash_complete",
        "COMP_WORDS": "gpt2ln inspect --layer 1",
        "COMP_CWORD": "3",
    }
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gpt2ln_cli"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.split("\n")}
    assert done.stdout.split() == ["plain,1", "plain,10", "plain,11"]
    assert not imported & {"torch", "transformers", "rich"}
