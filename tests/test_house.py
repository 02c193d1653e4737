"""The house: how far a new thing reaches, which way imports run, and how long a file may be."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from difflib import unified_diff
from itertools import chain
from pathlib import Path

import grimp
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gpt2ln_cli"
LONGEST = 400
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def test_no_file_is_long():
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def test_imports_keep_the_contracts():
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def expressions(part: object) -> Iterator[str]:
    """Every wildcard in a contract."""
    if isinstance(part, str) and part.startswith("gpt2ln_cli.") and "*" in part:
        yield part
    elif isinstance(part, (list, dict)):
        for one in part.values() if isinstance(part, dict) else part:
            yield from expressions(one)


def test_each_wildcard_of_the_contracts_matches_every_command_it_is_for():
    """A contract whose wildcard matches nothing passes, and tells nobody."""
    graph = grimp.build_graph("gpt2ln_cli")
    wildcards = set(expressions(CONTRACTS))
    assert {f"gpt2ln_cli.commands.*.{room}" for room in ("command", "compute", "view", "record")} <= wildcards
    folders = [path for path in (PACKAGE / "commands").iterdir() if (path / "__init__.py").exists()]
    for wildcard in wildcards:
        room = wildcard.rpartition("*")[2].lstrip(".")
        there = {folder.name for folder in folders if not room or (folder / f"{room}.py").exists()}
        matched = {name.split(".")[2] for name in graph.find_matching_modules(wildcard)}
        assert matched == there, wildcard
        assert len(matched) > 5


class Copy:
    """A copy of the package in which something is added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / "gpt2ln_cli"
        shutil.copytree(PACKAGE, self.package, ignore=shutil.ignore_patterns("__pycache__", "sample_prompts"))
        shutil.copytree(ROOT / "sample_prompts", folder / "sample_prompts")
        self._before = self._texts()

    def _texts(self) -> dict[str, str]:
        files = (path for path in self.package.rglob("*.py") if "__pycache__" not in path.parts)
        return {str(path.relative_to(self.package)): path.read_text() for path in files}

    def write(self, path: str, text: str) -> None:
        target = self.package / path
        assert not target.exists()
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)

    def insert(self, path: str, line: str, *, before: str) -> None:
        """Put a line before the first line that begins so."""
        target = self.package / path
        lines = target.read_text().splitlines(keepends=True)
        place = next(number for number, text in enumerate(lines) if text.startswith(before))
        target.write_text("".join([*lines[:place], line, *lines[place:]]))

    def changed(self) -> dict[str, tuple[int, int]]:
        """Files that are new or other than before, with how many lines were added to and taken from them."""
        after = self._texts()
        assert after.keys() >= self._before.keys()
        found = {}
        for path, text in after.items():
            before = self._before.get(path, "")
            if text != before:
                lines = list(unified_diff(before.splitlines(), text.splitlines(), lineterm="", n=0))[2:]
                found[path] = tuple(sum(line.startswith(sign) for line in lines) for sign in "+-")
        return found

    def python(self, *words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *words: str) -> str:
        return self.python("-m", "gpt2ln_cli", *words)


@pytest.fixture
def house(tmp_path) -> Copy:
    return Copy(tmp_path)


ECHO = {
    "__init__.py": '"""``gpt2ln echo``."""\n',
    "record.py": '''"""What ``echo`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gpt2ln_cli.records import Record


class Echo(Record, frozen=True, kw_only=True):
    """What ``echo`` returns."""

    command: Literal["echo"] = "echo"
    word: Annotated[str, Meta(description="What was said.")]
''',
    "compute.py": '''"""Saying it again."""

from __future__ import annotations

from gpt2ln_cli.commands.echo.record import Echo


def echo(word: str) -> Echo:
    """Say it again."""
    return Echo(word=word)
''',
    "view.py": '''"""The record of ``echo`` as blocks."""

from __future__ import annotations

from gpt2ln_cli.commands.echo.record import Echo
from gpt2ln_cli.output.blocks import Look, Paragraph, View, table_of

TABLES = ("words",)


def view(record: Echo) -> View:
    """The word."""
    table = table_of("words", Echo, [record], {"word": Look("word", key=True)})
    return View(record, [Paragraph(f"It said {record.word}."), table])
''',
    "command.py": '''"""``gpt2ln echo``."""

from __future__ import annotations

import click

from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.command import Command
from gpt2ln_cli.shell.output import Output


@click.command("echo", cls=Command)
@click.argument("word")
@options.output_options
def command(word: str, out: Output) -> None:
    """Say it again."""
    from gpt2ln_cli.commands.echo.compute import echo
    from gpt2ln_cli.commands.echo.view import view

    out.emit(view(echo(word)))
''',
}


def test_a_command_is_its_folder_a_line_of_the_list_and_an_export(house):
    for name, text in ECHO.items():
        house.write(f"commands/echo/{name}", text)
    house.insert(
        "commands/__init__.py", '    Command("echo", "Service", "Say it again.", "echo.Echo"),\n', before=")\n"
    )
    export = "    from gpt2ln_cli.commands.echo.compute import echo\n"
    house.insert("__init__.py", export, before="    from gpt2ln_cli.commands.inspect")
    house.insert("__init__.py", '    "echo",\n', before='    "inspect",')
    folder = {path for path in house.changed() if path.startswith("commands/echo/")}
    others = {path: lines for path, lines in house.changed().items() if path not in folder}
    assert others == {"commands/__init__.py": (1, 0), "__init__.py": (2, 0)}  # an export is its name and its type

    assert re.search(r"^  echo +Say it again\.$", house.run("--help"), re.MULTILINE)
    assert "It said hatred." in house.run("echo", "hatred")
    assert "Any command:" in house.run("echo", "--help")
    assert json.loads(house.run("echo", "hatred", "--json"))["word"] == "hatred"
    assert next(csv.DictReader(house.run("echo", "hatred", "--format", "csv").splitlines()))["word"] == "hatred"
    assert "Echo" in json.loads(house.run("schema", "echo"))["$defs"]
    said = house.python("-c", "import gpt2ln_cli; print(gpt2ln_cli.echo('hatred').word, 'echo' in dir(gpt2ln_cli))")
    assert said.split() == ["hatred", "True"]


QUANTITY = """
    snr: Annotated[
        T,
        _quantity("mu / sigma", lambda at: at.mean / at.sigma, "mu / sigma; a pure number.", signed=True),
    ]

"""


@pytest.mark.slow
def test_a_quantity_is_one_entry(house, tmp_path):
    house.insert("quantities.py", QUANTITY, before="def _entries")
    assert list(house.changed()) == ["quantities.py"]

    # One process for all: each imports torch.
    calls = (
        "stats --layer 1 'a b c d' --json -o stats.json",
        "stats --layer 1 'a b c d' --sort snr --format csv -o stats.csv",
        "inspect 'a b c d' --heatmap snr -o heatmap.txt",
        "schema stats -o schema.json",
    )
    run = (
        "import shlex, sys; from gpt2ln_cli.app import main; sys.exit(max(main(shlex.split(a)) for a in sys.argv[1:]))"
    )
    house.python("-c", run, *calls)
    stats = json.loads((tmp_path / "stats.json").read_text())
    expected = [row["mean"] / row["sigma"] for row in stats["rows"]]
    assert [row["snr"] for row in stats["rows"]] == pytest.approx(expected)
    by_site: dict[str, list[float]] = {}
    for row in csv.DictReader((tmp_path / "stats.csv").read_text().splitlines()):
        by_site.setdefault(row["site"], []).append(float(row["snr"]))
    assert all(found == sorted(found, reverse=True) for found in by_site.values())
    assert sorted(chain(*by_site.values())) == pytest.approx(sorted(expected))
    assert "mu / sigma" in (tmp_path / "heatmap.txt").read_text()
    schema = json.loads((tmp_path / "schema.json").read_text())
    assert "mu / sigma" in schema["$defs"]["Row"]["properties"]["snr"]["description"]


LAYOUT = '''"""A model in a file that names another."""

from __future__ import annotations

from pathlib import Path

from gpt2ln_cli.checkpoint import huggingface
from gpt2ln_cli.checkpoint.base import Contents


def matches(path: Path) -> bool:
    """Whether it is one."""
    return path.suffix == ".elsewhere"


def read(path: Path, heads: int | None, prefix: str | None) -> Contents:
    """Read what it names."""
    return huggingface.read(Path(path.read_text()), heads, prefix)
'''


def test_a_layout_is_one_file_and_one_line(house, tmp_path):
    house.write("checkpoint/elsewhere.py", LAYOUT)
    house.insert("checkpoint/__init__.py", '    "elsewhere",\n', before='    "single",')
    assert {path: lines for path, lines in house.changed().items() if path != "checkpoint/elsewhere.py"} == {
        "checkpoint/__init__.py": (1, 0)
    }
    pointer = tmp_path / "demo.elsewhere"
    pointer.write_text(str(house.package / "bundled" / "demo"))
    (there, here) = (json.loads(house.run("params", "-m", name, "--json"))["sites"] for name in (str(pointer), "demo"))
    assert there == here


FORMAT = '''"""A table in upper case."""

from __future__ import annotations

from typing import TextIO

from gpt2ln_cli.output.blocks import Table, View


def write(_: View, table: Table, stream: TextIO) -> None:
    """Write the table."""
    for row in table.objects():
        stream.write("; ".join(f"{name}={value}" for name, value in row.items()).upper() + "\\n")
'''


def test_a_format_is_one_file_and_one_line(house):
    house.write("output/loud.py", FORMAT)
    house.insert("output/__init__.py", '    "loud": Format("gpt2ln_cli.output.loud", one_table=True),\n', before="}\n")
    assert {path: lines for path, lines in house.changed().items() if path != "output/loud.py"} == {
        "output/__init__.py": (1, 0)
    }
    lines = house.run("count", "--format", "loud").splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("NAME=PER TOKEN, OVER ITS FEATURES; ")
    assert "loud" in house.run("count", "--help")
