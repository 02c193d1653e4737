"""Bring the pictures that README.md and the pages show up to date: ``python tests/pictures.py``.

Each is drawn from what a command really prints, and lies in ``.pictures/``.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".pictures"
PROMPT = "The war was over, but the hatred was not."
# A terminal of rich's making, without the font that rich's own has the reader's browser fetch.
FRAME = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: {char_height}px;
  line-height: {line_height}px; font-variant-east-asian: full-width;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def terminal(command: str, *, width: int = 80, skip: int = 0) -> str:
    """What the command prints to a terminal with all colours, as SVG.

    Args:
        command: begins with ``gpt2ln``.
        width: columns of the terminal.
        skip: lines to leave out at the top.
    """
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    environment = {**os.environ, "FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    done = subprocess.run(
        [sys.executable, "-m", "gpt2ln_cli", *shlex.split(command)[1:]],
        capture_output=True,
        encoding="utf-8",
        env={**environment, "COLUMNS": str(width)},
        check=True,
    )
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=width, file=nowhere)
        for line in done.stdout.split("\n")[skip:-1]:
            console.print(Text.from_ansi(line), soft_wrap=True)
        return console.export_svg(title=command, theme=MONOKAI, code_format=FRAME, unique_id="gpt2ln")


def plot(kind: str) -> str:
    """What ``gpt2ln plot`` draws of samples, with no finer coordinates than a screen shows."""
    with tempfile.TemporaryDirectory() as folder:
        file, run = Path(folder) / "figure.svg", str(Path(folder) / "run")
        words = [sys.executable, "-m", "gpt2ln_cli"]
        of_run = [run] if kind == "profile" else []
        if of_run:
            sample = str(FOLDER.parent / "sample_prompts" / "full_context.txt")
            subprocess.run([*words, "profile", sample, "--output", run], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*words, "plot", kind, *of_run, "-o", str(file)], check=True)
        drawn = file.read_text(encoding="utf-8")
    rounded = re.sub(r'(?<=[ "])(-?\d+\.\d\d)\d+(?=[ "\n])', r"\1", drawn)
    # matplotlib's ids tell of the coordinates before they were rounded, which differ from machine to machine.
    names = {name: f"i{number}" for number, name in enumerate(re.findall(r' id="([^"]+)"', rounded))}
    named = re.sub(r'( id="|"#|url\(#)([^")]+)', lambda found: found[1] + names[found[2]], rounded)
    return re.sub(r"\s*\n\s*", " ", named).replace("> <", "><") + "\n"


PICTURES: dict[str, Callable[[], str]] = {
    "heatmap.svg": lambda: terminal(f'gpt2ln inspect "{PROMPT}" --heatmap sigma', width=84),
    **{f"{kind}.svg": partial(plot, kind) for kind in ("sigma", "gain", "axis", "ablation", "steps", "profile")},
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
