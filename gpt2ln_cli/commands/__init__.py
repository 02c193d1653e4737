"""The commands, one folder each, and the list of them, which imports none.

A command is a folder with ``record.py`` (what it returns), ``compute.py`` (from model and text to the record),
``view.py`` (from the record to blocks) and ``command.py`` (Click: options, one call, output).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpt2ln_cli.output.blocks import View
    from gpt2ln_cli.records import Record


class Command(NamedTuple):
    """What ``gpt2ln --help`` says of a command."""

    name: str
    group: str
    """Which of ``GROUPS`` it is listed in."""
    help: str
    record: str | None
    """Folder and type, or types, of the record that it returns; None where it returns none."""


# In the order of the help.
GROUPS = ("Look", "Compare", "Scale", "Learn", "Service")
COMMANDS = (
    Command("inspect", "Look", "Run prompts and show what every LayerNorm computed.", "inspect.Inspection"),
    Command("stats", "Look", "Show every token's statistics at the LayerNorms of a layer.", "inspect.Inspection"),
    Command("params", "Look", "Summarize learned gains and biases.", "params.Parameters"),
    Command("count", "Learn", "Count statistics by arithmetic alone.", "count.Arithmetic"),
    Command("verify", "Compare", "Try every axis that LayerNorm could have on this checkpoint.", "verify.Verification"),
    Command("compare", "Compare", "Show what LayerNorm takes from tokens and what it leaves.", "compare.Comparison"),
    Command("features", "Look", "Show which features make up sigma.", "features.Features"),
    Command("attribute", "Look", "Show which attentions and MLPs wrote sigma.", "attribute.Attribution"),
    Command("ablate", "Compare", "Replace LayerNorms and measure what becomes of predictions.", "ablate.Ablation"),
    Command(
        "diff", "Compare", "Compare the LayerNorms of two checkpoints of one shape.", "diff.Difference|RunDifference"
    ),
    Command("profile", "Scale", "Tell how quantities are distributed over a corpus.", "profile.Profile"),
    Command("track", "Scale", "Follow LayerNorms over a training run.", "track.Track"),
    Command("plot", "Look", "Draw a figure for a paper: PNG, SVG or PDF.", None),
    Command("report", "Look", "Write one page with everything.", "report.Report"),
    Command("tour", "Learn", "Answer a learner's questions by experiments.", "tour.Tour"),
    Command("models", "Service", "List the checkpoints that need no download.", "models.Models"),
    Command("schema", "Service", "Print the JSON Schema of what a command gives.", None),
    Command("completion", "Service", "Print the script by which a shell completes words.", None),
    Command("help", "Learn", "Read about a command or a topic.", None),
)


def groups() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each group with its commands, their names of one length and what they do."""
    width = max(len(command.name) for command in COMMANDS)
    for group in GROUPS:
        yield group, [(one.name.ljust(width), one.help) for one in COMMANDS if one.group == group]


def view(record: Record) -> View:
    """What the command of a record shows of it, for :func:`gpt2ln_cli.output.write`."""
    made: View = import_module(f"gpt2ln_cli.commands.{record.command}.view").view(record)
    return made
