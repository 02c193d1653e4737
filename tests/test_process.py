"""The command line as real processes: streams, pipes and what is imported."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pty
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from contract import validated

from gpt2ln_cli.checkpoint import BUNDLED
from gpt2ln_cli.commands import COMMANDS
from gpt2ln_cli.output import FORMATS

GPT2LN = [sys.executable, "-m", "gpt2ln_cli"]


def run(*words, **options):
    environment = {**os.environ, "COLUMNS": "80", **options.pop("env", {})}
    return subprocess.run(
        [*GPT2LN, *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        timeout=120,
        check=False,
        **options,
    )


def modules_imported(*words):
    program = (
        "import sys\n"
        "from gpt2ln_cli.app import main\n"
        "code = main()\n"
        "print(*sys.modules, file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120, check=True
    )
    return set(done.stderr.splitlines()[-1].split(" "))


def packages(modules):
    return {module.partition(".")[0] for module in modules}


HEAVY = {"torch", "transformers", "numpy", "rich", "safetensors", "tokenizers", "huggingface_hub", "matplotlib"}


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_imports_nothing_heavy_and_no_command(word):
    modules = modules_imported(word)
    assert not packages(modules) & {*HEAVY, "msgspec"}
    assert "gpt2ln_cli.commands" in modules
    assert not [module for module in modules if module.startswith("gpt2ln_cli.commands.")]


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_help_of_a_command_imports_nothing_heavy_and_no_computation(name):
    modules = modules_imported(name, "--help")
    assert not packages(modules) & HEAVY
    computations = {module for module in modules if module.endswith(".compute")}
    # What schemas and pages there are is told by computations that compute nothing.
    assert computations <= {f"gpt2ln_cli.commands.{name}.compute" for name in ("schema", "help")}


WITHOUT_TORCH = [
    ["params"],
    ["params", "--json"],
    ["params", "--format", "markdown", "--all"],
    ["count"],
    ["count", "--model", "demo"],
    ["diff", "demo", "demo"],
    ["models"],
    ["schema"],
]


@pytest.mark.parametrize("words", WITHOUT_TORCH, ids=" ".join)
def test_what_runs_nothing_imports_neither_torch_nor_transformers(words):
    assert not packages(modules_imported(*words)) & {"torch", "transformers"}


def test_the_package_lists_its_functions_and_imports_none():
    script = "import sys, gpt2ln_cli; print(dir(gpt2ln_cli)); print([*sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    functions, modules = map(ast.literal_eval, done.stdout.splitlines())
    assert {"inspect", "load", "params", "view"} <= set(functions)
    assert not packages(modules) & {*HEAVY, "msgspec", "click"}


@pytest.mark.slow
def test_standard_output_carries_data_only():
    done = run("inspect", "The war was over", "--json")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert validated(json.loads(done.stdout))["command"] == "inspect"
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["params"], ["params", "--format", "parquet"], ["schema"]])
def test_a_closed_pipe_ends_quietly(words):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*GPT2LN, *words], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(writer)
    assert done.returncode == 0
    assert done.stderr.count("\n") == (words[0] == "params")


@pytest.mark.parametrize("words", [pytest.param([], marks=pytest.mark.slow), ["--per-token", "--format", "csv"]])
def test_head_of_inspect(words):
    """The reader leaves after the first of many lines."""
    command = shlex.join([*GPT2LN, "inspect", "The war was over, but the hatred was not.", *words])
    script = f"{command} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("site,sequence,position" if words else "model")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "ok"],
        ["schema"],
        ["--version"],
        ["plot", "--help"],
        ["params", "--output", "/dev/full"],
        *(["params", "--format", name] for name in FORMATS),
    ],
)
def test_a_full_disk_is_one_line(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*GPT2LN, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 + (words[0] in ("inspect", "params"))
    assert "No space left" in done.stderr


@pytest.mark.slow
def test_a_narrow_terminal_cuts_nothing():
    done = run("inspect", "The war was over", "--all", env={"COLUMNS": "60"})
    assert done.returncode == 0
    assert max(map(len, done.stdout.split("\n"))) <= 60
    assert "…" not in done.stdout
    assert done.stdout.count("h.11.ln_2") > 4


def test_no_columns_are_as_good_as_unset():
    done = run("params", env={"COLUMNS": "0"})
    assert done.returncode == 0
    assert done.stdout == run("params").stdout != ""


def test_a_closed_standard_output_is_one_line():
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m gpt2ln_cli count >&-"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "standard output is closed" in done.stderr


def test_a_closed_standard_input_is_one_line():
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m gpt2ln_cli inspect - <&-"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_an_ascii_locale_loses_no_figure():
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    prompt = "café 日本"
    done = run("stats", "--layer", "0", prompt, env=env)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "Traceback" not in done.stderr
    document = json.loads(run("stats", "--layer", "0", prompt, "--json", env=env).stdout)
    assert document["prompts"][0]["text"] == prompt
    lines = run("stats", "--layer", "0", "café", "--format", "csv", env=env).stdout.split("\n")
    assert [line.split(",")[4] for line in lines if line.startswith("h.0.ln_1")][-1] == "é"


def test_colours_go_to_a_terminal_only():
    assert "\x1b[" not in run("params").stdout
    assert "\x1b[" in run("params", env={"FORCE_COLOR": "1", "TERM": "xterm-256color"}).stdout


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_told_otherwise(env, coloured):
    leader, follower = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [*GPT2LN, "params", "--layer", "0"],
        stdout=follower,
        stderr=subprocess.DEVNULL,
        env={**environment, "TERM": "xterm-256color", "COLUMNS": "80", **env},
    )
    os.close(follower)
    output = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    os.close(leader)
    assert process.wait(timeout=120) == 0
    assert (b"\x1b[1;36m" in output or b"\x1b[36m" in output) == coloured
    assert b"learned gain" in output


def test_an_interrupt_ends_with_130(tmp_path):
    """While it reads its prompts; a shell's background jobs are born ignoring interrupts, so that is undone."""
    fifo = tmp_path / "prompts.txt"
    os.mkfifo(fifo)
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from gpt2ln_cli.__main__ import run; run()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "inspect", "--prompts", str(fifo)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        writer = None
        while writer is None and time.monotonic() < deadline:
            time.sleep(0.05)
            with contextlib.suppress(OSError):  # nobody reads yet
                writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        assert writer is not None
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            os.close(writer)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_notes_that_nobody_can_read_cost_no_data():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*GPT2LN, "params", "--format", "csv"], stdout=subprocess.PIPE, stderr=full, timeout=120, check=False
        )
        missing = subprocess.run([*GPT2LN, "params", "-m", "./none"], stderr=full, timeout=120, check=False)
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == 26
    assert missing.returncode == 3


def test_a_folder_may_have_any_name_in_any_locale(tmp_path):
    folder = tmp_path / "é日"
    shutil.copytree(BUNDLED["demo"], folder)
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for words in (["--json"], ["--format", "csv", "--table", "record"], ["--format", "markdown"]):
        done = run("params", "-m", str(folder), *words, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("é日") == 2


def test_a_terminated_run_leaves_no_file(tmp_path):
    """By a signal that comes when everything is written and the file not yet in its place."""
    program = (
        "import os, signal, gpt2ln_cli.output as r\n"
        "plain = r.write\n"
        "r.write = lambda *a, **k: (plain(*a, **k), os.kill(os.getpid(), signal.SIGTERM))\n"
        "from gpt2ln_cli.__main__ import run; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "params", "-o", str(tmp_path / "out.txt")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_signal_is_swallowed(tmp_path, number):
    """One that comes in a ``__del__``, out of which no exception leads, or where everything is caught."""
    program = (
        "import os, signal, gpt2ln_cli.output as r\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Mortal:\n"
        f"    def __del__(self): os.kill(os.getpid(), {int(number)}); [None for _ in range(1000)]\n"
        "def write(view, name, stream, **_):\n"
        "    stream.write('half'), Mortal()\n"
        f"    try: os.kill(os.getpid(), {int(number)}); [None for _ in range(1000)]\n"
        "    except: pass\n"
        "r.write = write\n"
        "from gpt2ln_cli.__main__ import run; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "params", "-o", str(tmp_path / "out.txt")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + number
    assert done.stderr.count("\n") == 1 + (number == signal.SIGINT)
    assert done.stderr.endswith("gpt2ln: interrupted.\n") == (number == signal.SIGINT)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_leaves_the_terminal_with_its_cursor():
    program = (
        "import os, signal\n"
        "from gpt2ln_cli.commands.tour import compute\n"
        "compute.tour = lambda **_: os.kill(os.getpid(), signal.SIGTERM)\n"
        "from gpt2ln_cli.__main__ import run; run()"
    )
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, "tour"],
        stdout=subprocess.DEVNULL, stderr=follower, env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    assert process.wait(timeout=120) == 128 + signal.SIGTERM
    os.close(follower)
    shown = os.read(leader, 65536)
    os.close(leader)
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


@pytest.mark.slow
def test_a_signal_at_any_moment_ends_the_run(tmp_path):
    """Of a run that would never end by itself: 60 signals, from its start to where it writes."""
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from gpt2ln_cli.leaving import leave_on_signals\n"
        "leave_on_signals()\n"
        "print('begin', flush=True)\n"
        "import gpt2ln_cli.output as r\n"
        "r.write = lambda *_, **__: [print('written', flush=True), time.sleep(10**6)]\n"
        "from gpt2ln_cli.__main__ import run; run()"
    )
    chance, length = random.Random(20240326), None
    for _ in range(61):
        with subprocess.Popen(
            [sys.executable, "-c", program, "inspect", "x", "--output", str(tmp_path / "out")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                assert process.stdout.readline() == "begin\n"
                if length is None:
                    began = time.monotonic()
                    assert process.stdout.readline() == "written\n"
                    length = time.monotonic() - began
                else:
                    time.sleep(chance.uniform(0, 1.1 * length))
                number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
                process.send_signal(number)
                _, err = process.communicate(timeout=120)
            finally:
                process.kill()
        assert process.returncode == 128 + number, err
        assert "Traceback" not in err
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_a_signal_ends_an_encoding_without_end(tmp_path, number, code):
    """By a pattern that looks through the rest of the text at every character."""
    folder = tmp_path / "demo"
    shutil.copytree(BUNDLED["demo"], folder)
    document = json.loads((folder / "tokenizer.json").read_text())
    pattern = {"Regex": "(?=a*b)a|a"}
    document["pre_tokenizer"] = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (tmp_path / "prompt.txt").write_text("a" * 2_000_000)
    program = (
        "import os, signal, threading, gpt2ln_cli.text.contexts as p\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "plain = p._encode\n"
        f"send = threading.Timer(0.5, os.kill, (os.getpid(), {int(number)}))\n"
        "p._encode = lambda *a: (send.start(), plain(*a))[1]\n"
        "from gpt2ln_cli.__main__ import run; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "inspect", "-m", str(folder), "--prompts", str(tmp_path / "prompt.txt")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.count("\n") == (number == signal.SIGINT)
