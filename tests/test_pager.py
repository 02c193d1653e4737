"""On a terminal, what is longer than the screen goes through the pager, as with git."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
import time

import pytest
from test_help import ESCAPE, on_a_terminal

LONG, SHORT = ("schema", "count"), ("count",)


@pytest.fixture
def pager(tmp_path):
    """A pager of the test's own, which keeps what it is given."""

    def make(script='cat > "$0.kept"; echo "$LESS" > "$0.less"'):
        path = tmp_path / "pager"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


def kept(path):
    return path.with_name("pager.kept").read_text(encoding="utf-8")


def plain(*words):
    return subprocess.run(
        [sys.executable, "-m", "gpt2ln_cli", *words], capture_output=True, text=True, check=True,
        env={**os.environ, "COLUMNS": "80"},
    ).stdout  # fmt: skip


def test_what_is_longer_than_the_screen_goes_through_it_whole(pager):
    path = pager()
    seen, _ = on_a_terminal(LONG, PAGER=str(path))
    assert seen == ""
    assert kept(path) == plain(*LONG)
    assert path.with_name("pager.less").read_text() == "FRX\n"


def test_what_is_longer_only_because_its_lines_are(pager):
    path = pager()
    on_a_terminal((*SHORT, "--json"), PAGER=str(path), LINES="6")
    assert kept(path) == plain(*SHORT, "--json")
    assert kept(path).count("\n") == 1


def test_a_variable_less_that_is_set_stays(pager):
    path = pager()
    on_a_terminal(LONG, PAGER=str(path), LESS="-S")
    assert path.with_name("pager.less").read_text() == "-S\n"


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (SHORT, {}),
        ((*LONG, "--no-pager"), {}),
        (LONG, {"NO_PAGER": "1"}),
        (LONG, {"PAGER": ""}),
        (LONG, {"PAGER": "cat"}),
        (LONG, {"PAGER": "no-such-pager --flag"}),
        (LONG, {"LINES": "100000"}),
    ],
)
def test_without_need_or_wish_there_is_none(pager, words, environment):
    path = pager()
    seen, _ = on_a_terminal(words, **{"PAGER": str(path), **environment})
    assert seen.strip()
    assert not path.with_name("pager.kept").exists()


def test_a_file_and_a_pipe_have_none(pager, tmp_path):
    path = pager()
    seen, _ = on_a_terminal([*LONG, "-o", str(tmp_path / "out")], PAGER=str(path))
    assert seen == ""
    done = subprocess.run(
        [sys.executable, "-m", "gpt2ln_cli", *LONG], env={**os.environ, "NO_PAGER": "", "PAGER": str(path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == (tmp_path / "out").read_text()
    assert not path.with_name("pager.kept").exists()


def test_colours_are_kept_and_a_command_of_several_words_is_the_shells(pager):
    path = pager()
    on_a_terminal(["params"], PAGER=f"sed s/demo/DEMO/ | {path}")
    assert ESCAPE in kept(path)
    assert "DEMO" in kept(path)


@pytest.mark.parametrize("script", ["exit 0", "head -1 > /dev/null", 'cat > "$0.kept"'])
def test_the_exit_code_is_the_commands_and_leaving_early_is_no_error(pager, make_folder, script):
    def untrained(body):
        for name, parameter in body.named_parameters():
            if "ln_" in name:
                parameter.data.fill_(1.0 if name.endswith("weight") else 0.0)

    folder = str(make_folder(untrained, n_layer=40))
    path = pager(script)
    words = ("params", "--json", "--model", folder)
    seen, err = on_a_terminal(words, PAGER=str(path))
    assert seen == ""
    assert "Error" not in err
    _, err = on_a_terminal((*words, "--strict"), code=1, PAGER=str(path))
    assert "--strict: exit code 1" in err


def test_an_interrupt_is_the_pagers(pager):
    """Ctrl-C reaches both; `less` stays, and so must what waits for it."""
    path = pager('cat > "$0.kept"; : > "$0.there"; while [ ! -e "$0.go" ]; do sleep 0.05; done; : > "$0.left"')
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "gpt2ln_cli", *LONG], stdin=follower, stdout=follower, stderr=follower,
        env={**os.environ, "NO_PAGER": "", "PAGER": str(path), "LINES": "24"},
    ) as process:  # fmt: skip
        os.close(follower)
        while not path.with_name("pager.there").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        path.with_name("pager.go").touch()
        assert process.wait(timeout=60) == 0
    os.close(leader)
    assert path.with_name("pager.left").exists()
    assert kept(path) == plain(*LONG)


@pytest.mark.skipif(shutil.which("less") is None, reason="there is no less")
def test_less_itself_shows_the_first_screen_and_goes():
    leader, follower = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("PAGER", "LESS", "NO_PAGER")}
    with subprocess.Popen(
        [sys.executable, "-m", "gpt2ln_cli", *LONG], stdin=follower, stdout=follower, stderr=follower,
        env={**environment, "TERM": "xterm", "LINES": "24", "COLUMNS": "80"}, start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    ) as process:  # fmt: skip
        os.close(follower)
        seen = b""
        while b"$schema" not in seen or not seen.rstrip().endswith((b":", b"\x1b[K")):
            seen += os.read(leader, 65536)
        assert process.poll() is None
        os.write(leader, b"q")
        with contextlib.suppress(OSError):
            while os.read(leader, 65536):
                pass
        assert process.wait(timeout=60) == 0
    os.close(leader)
