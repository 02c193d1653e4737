"""Bring the outputs in README.md and the pages of ``gpt2ln_cli/docs/`` up to date: ``python tests/docs.py [FILE ...]``.

Every ```console block begins with ``$ command``; what follows is replaced by what the command writes to standard output
at 80 columns. Between ``<!-- quantities -->`` and ``<!-- end -->`` stands the table of the quantities, and between
``<!-- claims -->`` and ``<!-- end -->`` that of everything that is claimed.
"""

from __future__ import annotations

import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import gpt2ln_cli.commands
from gpt2ln_cli.output.claims import Says
from gpt2ln_cli.quantities import QUANTITIES

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", *sorted((ROOT / "gpt2ln_cli" / "docs").glob("*.md"))]
BLOCK = re.compile(r"```console\n\$ (?P<command>[^\n]+)\n(?P<output>.*?)```", re.DOTALL)
TABLE = re.compile(r"(?<=<!-- quantities -->\n).*?(?=<!-- end -->)", re.DOTALL)
CLAIMS = re.compile(r"(?<=<!-- claims -->\n).*?(?=<!-- end -->)", re.DOTALL)
# What is shown must not depend on who shows it.
ENVIRONMENT = {
    "COLUMNS": "80",
    "HF_HUB_CACHE": "/home/you/.cache/huggingface/hub",
    "HF_HUB_OFFLINE": "1",
}


def output_of(command: str) -> str:
    """What the command writes to standard output, paths in this repository relative to it."""
    words = command.replace("gpt2ln ", f"{sys.executable} -m gpt2ln_cli ", 1)
    environment = {name: value for name, value in os.environ.items() if name != "GPT2LN_MODEL"} | ENVIRONMENT
    done = subprocess.run(
        ["bash", "-c", words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        check=True,
    )
    lines = (line.rstrip().replace(f"{ROOT}/", "") for line in done.stdout.split("\n"))
    return "\n".join(lines).strip("\n") + "\n"


def table_of_quantities() -> str:
    """The quantities of a token, as Markdown."""
    lines = ["| name | column | what it is |", "| --- | --- | --- |"]
    for quantity in QUANTITIES.values():
        cells = (f"`{quantity.name}`", quantity.short.replace("\n", " "), quantity.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n" + "\n".join(lines) + "\n\n"


def all_says() -> dict[str, dict[str, Says]]:
    """How every claim is worded, by command."""
    names = [found.name for found in pkgutil.iter_modules(gpt2ln_cli.commands.__path__)]
    views = {name: f"gpt2ln_cli.commands.{name}.view" for name in names}
    return {name: getattr(import_module(view), "SAYS", {}) for name, view in views.items() if find_spec(view)}


def table_of_claims() -> str:
    """Everything that is claimed, as Markdown."""
    lines = ["| id | what is claimed | where it is so |", "| --- | --- | --- |"]
    for says in all_says().values():
        for claim, words in says.items():
            sentence = re.sub(r"\{[^}]*\}", "...", words.yes).replace("|", "\\|")
            lines.append(f"| `{claim}` | {words.name} | {sentence} |")
    return "\n" + "\n".join(lines) + "\n\n"


def blocks() -> Iterator[tuple[Path, str, str]]:
    """File, command and shown output of each block."""
    for path in FILES:
        for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
            yield path, block["command"], block["output"]


def main(names: list[str]) -> None:
    for path in map(Path, names) if names else FILES:
        text = path.read_text(encoding="utf-8")
        new = BLOCK.sub(lambda block: f"```console\n$ {block['command']}\n{output_of(block['command'])}```", text)
        new = TABLE.sub(lambda _: table_of_quantities(), new)
        new = CLAIMS.sub(lambda _: table_of_claims(), new)
        path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
