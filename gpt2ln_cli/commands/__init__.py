"""The commands, one folder each, and the list of them, which imports none.

A command is a folder with ``record.py`` (what it returns), ``compute.py`` (from model and text to the record),
``view.py`` (from the record to blocks) and ``command.py`` (Click: options, one call, output).
"""

from __future__ import annotations

from importlib import import_module
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpt2ln_cli.output.blocks import View
    from gpt2ln_cli.records import Record


class Command(NamedTuple):
    """What ``gpt2ln --help`` says of a command."""

    name: str
    group: str
    """What it is for, in a word; those of a group stand together."""
    help: str
    record: str | None
    """Folder and type of the record that it returns; None where it returns none."""


COMMANDS = (
    Command("tour", "Learn", "Answer a learner's six questions by experiments.", "tour.Tour"),
    Command("count", "Learn", "Count statistics by arithmetic alone.", "count.Arithmetic"),
    Command("help", "Learn", "Read about a command or a topic.", None),
    Command("inspect", "Look", "Run prompts and show what every LayerNorm computed.", "inspect.Inspection"),
    Command("stats", "Look", "Show every token's statistics at the LayerNorms of a layer.", "inspect.Inspection"),
    Command("params", "Look", "Summarize learned gains and biases.", "params.Parameters"),
    Command("plot", "Look", "Draw a figure for a paper: PNG, SVG or PDF.", None),
    Command("report", "Look", "Write one page with everything.", "report.Report"),
    Command("verify", "Compare", "Try every axis that LayerNorm could have on this checkpoint.", "verify.Verification"),
    Command("compare", "Compare", "Show what LayerNorm takes from tokens and what it leaves.", "compare.Comparison"),
    Command("ablate", "Compare", "Replace LayerNorms and measure what becomes of predictions.", "ablate.Ablation"),
    Command("diff", "Compare", "Compare the LayerNorms of two checkpoints of one shape.", "diff.Difference"),
    Command("models", "Service", "List the checkpoints that need no download.", "models.Models"),
    Command("schema", "Service", "Print the JSON Schema of what a command gives.", None),
    Command("completion", "Service", "Print the script by which a shell completes words.", None),
)


def groups() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each group with its commands, their names of one length and what they do."""
    width = max(len(command.name) for command in COMMANDS)
    for group, commands in groupby(COMMANDS, lambda command: command.group):
        yield group, [(command.name.ljust(width), command.help) for command in commands]


def view(record: Record) -> View:
    """What the command of a record shows of it, for :func:`gpt2ln_cli.output.write`."""
    made: View = import_module(f"gpt2ln_cli.commands.{record.command}.view").view(record)
    return made
