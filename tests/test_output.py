"""Where output goes: redirections keep what they hold, files are whole, and no checkpoint is overwritten."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint import BUNDLED
from gpt2ln_cli.shell import output_file

COMMAND = shlex.join([sys.executable, "-m", "gpt2ln_cli", "count", "--json"])


def bash(script, folder):
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip


def is_count(line):
    return json.loads(line)["command"] == "count"


@pytest.fixture
def not_begun(monkeypatch):
    monkeypatch.setattr("gpt2ln_cli.commands.params.compute.params", lambda **_: pytest.fail("the run had begun"))


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout here")
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "-", "link"])
def test_a_redirection_keeps_what_it_holds(tmp_path, name):
    (tmp_path / "link").symlink_to("/dev/stdout")
    log = tmp_path / "log"
    log.write_text("before\n")
    node = log.stat().st_ino
    done = bash(f"{COMMAND} -o {name} >> log", tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    before, record = log.read_text().splitlines()
    assert before == "before"
    assert is_count(record)
    assert log.stat().st_ino == node
    done = bash(f"{{ echo begin; {COMMAND} -o {name}; echo end; }} > log", tmp_path)
    assert done.returncode == 0
    begin, record, end = log.read_text().splitlines()
    assert (begin, end) == ("begin", "end")
    assert is_count(record)
    assert log.stat().st_ino == node
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "log"]


@pytest.mark.parametrize(
    "script",
    [
        f"{COMMAND} -o /dev/stdout | cat",
        f"{COMMAND} -o - | cat",
        f"{COMMAND} -o >(cat > taken); while [ ! -s taken ]; do sleep 0.05; done; cat taken",
        f"{COMMAND} -o /dev/fd/7 7> taken; cat taken",
        f"mkfifo pipe; cat pipe & {COMMAND} -o pipe; wait",
        f"{COMMAND} -o /dev/stderr 2>&1 >&-",
    ],
)
def test_a_pipe_is_written_to_as_it_is(tmp_path, script):
    done = bash(script, tmp_path)
    assert done.returncode == 0
    assert is_count(done.stdout)
    assert not list(tmp_path.glob(".*"))


def test_a_device_is_written_to_and_stays(tmp_path):
    done = bash(f"{COMMAND} -o /dev/null", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_reader_that_leaves_ends_it_quietly(tmp_path):
    done = bash(f"{shlex.join(COMMAND.split()[:-2])} schema -o >(head -c 9)", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout in ("", '{\n  "$sch')


@pytest.mark.parametrize("name", ["/dev/fd/0", "/dev/fd/77"])
def test_a_descriptor_that_cannot_be_written_is_found_before_the_run(tmp_path, name):
    done = bash(f"{COMMAND} -o {name} < /dev/null", tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"gpt2ln: can't write {name}: Bad file descriptor.\n"


@pytest.mark.slow
def test_a_page_and_a_figure_go_the_same_way(tmp_path):
    words = ["report", "--token-ids", "1,2", "--layer", "0"]
    done = bash(
        f"{{ echo begin; {shlex.join([sys.executable, '-m', 'gpt2ln_cli', *words])} -o /dev/stdout; }} > log", tmp_path
    )
    assert done.returncode == 0
    assert (tmp_path / "log").read_text().startswith("begin\n<!")
    os.mkfifo(tmp_path / "figure.svg")
    words = ["plot", "gain", "-o", "figure.svg"]
    done = bash(f"cat figure.svg & {shlex.join([sys.executable, '-m', 'gpt2ln_cli', *words])}; wait", tmp_path)
    assert done.returncode == 0
    assert "<svg" in done.stdout
    assert stat.S_ISFIFO((tmp_path / "figure.svg").stat().st_mode)


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(BUNDLED["demo"], folder)
    return folder


@pytest.mark.usefixtures("not_begun")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("how", ["plain", "hard link", "link", "link to the folder"])
def test_a_file_of_the_checkpoint_is_no_output(copy, tmp_path, capsys, monkeypatch, name, how):
    output = copy / name
    if how == "hard link":
        output = tmp_path / "hard"
        output.hardlink_to(copy / name)
    elif how == "link":
        output = tmp_path / "soft"
        output.symlink_to(copy / name)
    elif how == "link to the folder":
        (tmp_path / "door").symlink_to(copy)
        output = tmp_path / "door" / name
    before = (copy / name).read_bytes()
    monkeypatch.chdir(tmp_path)
    assert main(["params", "-m", "copy", "-o", str(output)]) == 2
    assert capsys.readouterr().err == f"gpt2ln: can't write {output}: it is a file of the checkpoint 'copy'.\n"
    assert (copy / name).read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["diff", "demo", "{copy}", "-o", "{copy}/config.json"],
        ["count", "-m", "{copy}", "-o", "{copy}/config.json"],
        ["report", "-m", "{copy}", "-o", "{copy}/config.json"],
        ["inspect", "-m", "{copy}/model.safetensors", "-o", "{copy}/model.safetensors"],
        ["inspect", "-m", "{copy}/model.safetensors", "-o", "{copy}/config.json"],
        ["plot", "gain", "-m", "{copy}/model.safetensors", "-o", "{linked}"],
    ],
)
def test_nor_in_any_command(copy, tmp_path, capsys, words):
    linked = tmp_path / "figure.png"
    linked.symlink_to(copy / "model.safetensors")
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    assert main([word.format(copy=copy, linked=linked) for word in words]) == 2
    assert "it is a file of the checkpoint" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_a_cached_checkpoint_is_no_output(tmp_path, capsys, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    blobs, snapshot = tmp_path / "models--an--id" / "blobs", tmp_path / "models--an--id" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    shutil.copy(BUNDLED["demo"] / "config.json", blobs / "1234")
    (snapshot / "config.json").symlink_to("../../blobs/1234")
    for output in (snapshot / "config.json", blobs / "1234"):
        assert main(["params", "-m", "an/id", "-o", str(output)]) == 2
        assert "it is a file of the checkpoint 'an/id'" in capsys.readouterr().err


def test_a_record_may_stand_beside_the_checkpoint(copy):
    for _ in range(2):
        assert main(["params", "--json", "-m", str(copy), "-o", str(copy / "params.json")]) == 0
    assert json.loads((copy / "params.json").read_text())["command"] == "params"


def test_a_planted_link_is_not_followed(tmp_path):
    """The partial file's name was ``.NAME.PID.partial``, and was opened through whatever stood there."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / f".out.{os.getpid()}.partial").symlink_to(victim)
    (folder / f"{output_file.PREFIX}x{output_file.SUFFIX}").symlink_to(victim)
    assert main(["count", "--json", "-o", str(folder / "out")]) == 0
    assert victim.read_text() == "precious"
    assert is_count((folder / "out").read_text())
    assert not (folder / "out").is_symlink()


def test_a_file_name_of_255_bytes(tmp_path):
    name = "é" * 127 + "x"
    assert len(os.fsencode(name)) == 255
    assert main(["count", "--json", "-o", str(tmp_path / name)]) == 0
    assert is_count((tmp_path / name).read_text())
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_that_the_mask_leaves(tmp_path, mask):
    before = os.umask(mask)
    try:
        assert main(["count", "-o", str(tmp_path / "out")]) == 0
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o666 & ~mask


def test_what_is_renamed_is_synced_and_whole(tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.write_text("old")
    told = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (told.append(os.fstat(descriptor)), sync(descriptor)))

    def watched(path, to):
        assert to == target
        assert path.parent == tmp_path
        assert target.read_text() == "old"
        assert is_count(path.read_text())
        assert os.path.samestat(path.stat(), told[-1])
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", watched)
    assert main(["count", "--json", "-o", str(target)]) == 0
    assert is_count(target.read_text())


@pytest.mark.usefixtures("not_begun")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("locked/out", "Permission denied"),
        ("hidden/out", "Permission denied"),
        ("hidden/deeper/out", "Permission denied"),
        ("read-only", "Permission denied"),
        ("pipe", "Permission denied"),
        ("sticky/theirs", "Operation not permitted"),
    ],
)
def test_what_may_not_be_written_is_found_before_the_run(shared_folder, as_nobody, capsys, name, says):
    if os.geteuid() != 0 and name.startswith("sticky"):
        pytest.skip("takes two users")
    for folder, mode in (("locked", 0o555), ("hidden", 0o000), ("sticky", 0o1777)):
        (shared_folder / folder).mkdir()
        (shared_folder / folder).chmod(mode)
    (shared_folder / "read-only").write_text("old")
    (shared_folder / "read-only").chmod(0o444)
    os.mkfifo(shared_folder / "pipe")
    (shared_folder / "pipe").chmod(0o444)
    if name.startswith("sticky"):
        (shared_folder / name).write_text("old")
        (shared_folder / name).chmod(0o666)
    with as_nobody():
        code = main(["params", "-o", str(shared_folder / name)])
    assert code == 2
    assert capsys.readouterr().err == f"gpt2ln: can't write {shared_folder / name}: {says}.\n"


@pytest.mark.usefixtures("not_begun")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("loop", os.strerror(errno.ELOOP)),
        ("x" * 300, os.strerror(errno.ENAMETOOLONG)),
        ("file/out", os.strerror(errno.ENOTDIR)),
        ("dangling", "there is no folder"),
        ("~nosuch/x", "there is no folder"),
        (".", "it is a folder"),
    ],
)
def test_a_path_that_leads_nowhere_is_found_before_the_run(tmp_path, monkeypatch, capsys, name, says):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").write_text("")
    Path("dangling").symlink_to("nowhere/out")
    assert main(["params", "-o", name]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"gpt2ln: can't write {name}: ")
    assert says in err
    assert err.count("\n") == 1


def test_a_working_folder_that_is_gone(tmp_path):
    done = bash(f"mkdir gone; cd gone; rmdir ../gone; {COMMAND} -o out", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("gpt2ln: can't write out: ")


KILLED = (
    "import os, signal, gpt2ln_cli.output as r\n"
    "r.write = lambda view, name, stream, **_: (stream.write('half'), stream.flush(), {then})\n"
    "from gpt2ln_cli.__main__ import run; run()"
)


def started(folder, then):
    return subprocess.Popen(
        [sys.executable, "-c", KILLED.format(then=then), "params", "-o", str(folder / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.PIPE,
    )  # fmt: skip


def test_the_next_run_removes_what_a_killed_one_left(tmp_path):
    with started(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)") as process:
        assert process.wait(timeout=120) == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.read_text() == "half"
    assert main(["count", "-o", str(tmp_path / "another")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["another"]


def test_what_a_living_run_writes_is_left_alone(tmp_path):
    with started(tmp_path, "print('.', flush=True), input()") as process:
        assert process.stdout.readline() == b".\n"
        (partial,) = tmp_path.iterdir()
        assert main(["count", "-o", str(tmp_path / "another")]) == 0
        assert partial.read_text() == "half"
        process.communicate(b"\n", timeout=120)
    assert process.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "out"]
    assert (tmp_path / "out").read_text() == "half"


def test_a_partial_file_taken_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    """By a run that came between its making and its locking."""
    lock, taken = fcntl.flock, []

    def late(descriptor, operation):
        if not taken:
            (path,) = tmp_path.glob(f"{output_file.PREFIX}*")
            taken.append(path)
            path.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    assert main(["count", "--json", "-o", str(tmp_path / "out")]) == 0
    assert len(taken) == 1
    assert is_count((tmp_path / "out").read_text())


# As far as it can be told without one: of what Windows' Python lacks, nothing is there.
WINDOWS = (
    "import os, signal, sys\n"
    "for name in ('fcntl', 'termios', 'pwd', 'grp', 'resource'): sys.modules[name] = None\n"
    "for name in ('fchmod', 'geteuid', 'O_NOCTTY', 'O_NOFOLLOW', 'O_NONBLOCK'): delattr(os, name)\n"
    "for name in ('SIGHUP', 'SIGKILL', 'pthread_sigmask'): delattr(signal, name)\n"
    "from gpt2ln_cli.__main__ import run; run()"
)


def test_without_what_posix_alone_has_files_are_written(tmp_path):
    (tmp_path / "out").write_text("old")
    for words in (["count", "--json", "-o", "out"], ["params", "--json", "-o", "new"]):
        done = subprocess.run(
            [sys.executable, "-c", WINDOWS, *words], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert is_count((tmp_path / "out").read_text())
    assert json.loads((tmp_path / "new").read_text())["command"] == "params"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out"]
