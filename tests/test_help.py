"""``gpt2ln help``: pages on a terminal by the pager, as Markdown in a pipe; what is misspelled is guessed."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from gpt2ln_cli.app import main
from gpt2ln_cli.commands import COMMANDS
from gpt2ln_cli.commands.help.compute import PAGES, names, topics
from gpt2ln_cli.commands.help.view import rendered

ESCAPE = "\x1b["


def test_the_list_has_every_command_and_topic(capsys):
    assert main(["help"]) == 0
    out = capsys.readouterr().out
    listed = [line.split()[0] for line in out.split("\n") if line.startswith("  ")]
    assert listed == [*(command.name for command in COMMANDS), *topics()]
    assert all(len(line) <= 80 for line in out.split("\n"))


@pytest.mark.parametrize("name", names())
def test_a_page_is_markdown_where_nobody_looks(name, capsys):
    assert main(["help", name]) == 0
    assert capsys.readouterr() == ((PAGES / f"{name}.md").read_text(encoding="utf-8"), "")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("modles", "gpt2ln: no page 'modles'; did you mean 'models'? 'gpt2ln help' lists all.\n"),
        ("exit-code", "gpt2ln: no page 'exit-code'; did you mean 'exit-codes'? 'gpt2ln help' lists all.\n"),
        ("xyzzy", "gpt2ln: no page 'xyzzy'; 'gpt2ln help' lists all.\n"),
        ("../docs/models", "gpt2ln: no page '../docs/models'; "),
        ("", "gpt2ln: no page ''; 'gpt2ln help' lists all.\n"),
    ],
)
def test_an_unknown_page_is_a_wrong_call_with_a_guess(given, message, capsys):
    assert main(["help", given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)


def on_a_terminal(words, *, code=0, **environment):
    """What the program writes to a terminal of 80 columns and 24 lines, where a pager is welcome."""
    reader, writer = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "gpt2ln_cli", *words],
            stdin=writer,
            stdout=writer,
            stderr=subprocess.PIPE,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "NO_PAGER": "", **environment},
        ) as process:
            os.close(writer)
            seen = b""
            try:
                while part := os.read(reader, 65536):
                    seen += part
            except OSError:  # the other end is closed
                pass
            err = process.stderr.read().decode()
    finally:
        os.close(reader)
    assert process.returncode == code
    return seen.decode().replace("\r\n", "\n"), err


def test_on_a_terminal_the_pager_gets_the_page_laid_out(tmp_path):
    """A pager of the test's own keeps what it is given."""
    kept = tmp_path / "kept"
    pager = tmp_path / "pager"
    pager.write_text(f'#!/bin/sh\ncat > "{kept}"\n')
    pager.chmod(0o755)
    seen, err = on_a_terminal(["help", "definitions"], PAGER=str(pager))
    assert seen == ""
    text = kept.read_text(encoding="utf-8")
    assert "Three stages" in text
    assert "## " not in text
    assert "definitions.md" not in text
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in err.split("\n")}
    assert "rich" in imported
    assert not imported & {"torch", "transformers", "numpy"}


def test_the_pager_less_is_given_styles(tmp_path):
    less = tmp_path / "less"
    less.write_text("#!/bin/sh\ncat\n")
    less.chmod(0o755)
    seen, _ = on_a_terminal(["help", "count"], PAGER=str(less), LESS="")
    assert ESCAPE in seen
    assert "12 layers, width 768" in seen


def test_without_colours_there_are_none(tmp_path):
    less = tmp_path / "less"
    less.write_text("#!/bin/sh\ncat\n")
    less.chmod(0o755)
    seen, _ = on_a_terminal(["help", "count"], PAGER=str(less), LESS="", NO_COLOR="1")
    assert f"{ESCAPE}36m" not in seen


def test_shown_output_keeps_its_lines_at_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = [line.rstrip() for line in rendered((PAGES / "verify.md").read_text(encoding="utf-8")).split("\n")]
    assert "per token, over its features                   16 7." in "\n".join(shown)
    assert all(len(line) <= 80 for line in shown)


@pytest.mark.parametrize("name", names())
def test_what_can_be_copied_from_a_page_is_whole_at_60_columns(name, monkeypatch):
    """A line of code that is longer than the terminal is broken by it, and not cut."""
    monkeypatch.setenv("COLUMNS", "60")
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    fences = re.compile(r"^```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    lines = "".join(fences.findall(page)).split("\n") + re.findall(r"^ {4}(.*)", fences.sub("", page), re.MULTILINE)
    shown = {line.rstrip() for line in rendered(page).split("\n")}
    assert {line.rstrip() for line in lines} <= shown


def test_a_terminal_is_shown_no_pictures_and_no_links():
    pages = {name: (PAGES / f"{name}.md").read_text(encoding="utf-8") for name in names()}
    assert "![plot axis: the axis trial]" in pages["plot"]
    assert "the axis trial" not in rendered(pages["plot"])
    assert [name for name, page in pages.items() if ".md)" in rendered(page)] == []


def test_topics_are_completed(capsys, monkeypatch):
    monkeypatch.setenv("_GPT2LN_COMPLETE", "bash_complete")
    for words, offered in (("gpt2ln help ", names()), ("gpt2ln help ex", ["exit-codes"])):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", "2")
        assert main([]) == 0
        assert [item.partition(",")[2] for item in capsys.readouterr().out.split()] == offered


@pytest.mark.parametrize("name", names())
def test_one_empty_line_parts_what_a_page_has(name):
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    if "\n\n\n" not in page:
        assert not re.search(r"\n *\n *\n", rendered(page).strip("\n"))
