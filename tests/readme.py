"""Bring the outputs in README.md up to date: ``python tests/readme.py``.

Every ```console block begins with ``$ command``; what follows is replaced by what the command prints at 80 columns.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"```console\n\$ (?P<command>[^\n]+)\n(?P<output>.*?)```", re.DOTALL)


def output_of(command: str) -> str:
    """What the command prints, its checkpoint's folder shortened to the one in this repository."""
    words = command.replace("gpt2ln ", f"{sys.executable} -m gpt2ln_cli ", 1)
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, env=environment, cwd=README.parent, check=True
    )
    lines = (line.rstrip().replace(f"{README.parent}/", "") for line in done.stdout.split("\n"))
    return "\n".join(lines).strip("\n") + "\n"


def main() -> None:
    text = README.read_text(encoding="utf-8")
    new = BLOCK.sub(lambda block: f"```console\n$ {block['command']}\n{output_of(block['command'])}```", text)
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
