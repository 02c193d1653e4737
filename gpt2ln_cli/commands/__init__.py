"""The commands, one folder each, and the list of them, which imports none.

A command is a folder with ``record.py`` (what it returns), ``compute.py`` (from model and text to the record),
``view.py`` (from the record to blocks) and ``command.py`` (Click: options, one call, output).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gpt2ln_cli.output.blocks import View
    from gpt2ln_cli.records import Record


class Command(NamedTuple):
    """What ``gpt2ln --help`` says of a command."""

    name: str
    help: str
    record: str | None
    """Folder and type, or types, of the record that it returns; None where it returns none."""


COMMANDS = (
    Command("inspect", "Run prompts and show what every LayerNorm computed.", "inspect.Inspection"),
    Command("stats", "Show every token's statistics at the LayerNorms of a layer.", "inspect.Inspection"),
    Command("params", "Summarize learned gains and biases.", "params.Parameters"),
    Command("count", "Count statistics by arithmetic alone.", "count.Arithmetic"),
    Command("verify", "Try every axis that LayerNorm could have on this checkpoint.", "verify.Verification"),
    Command("compare", "Show what LayerNorm takes from tokens and what it leaves.", "compare.Comparison"),
    Command("features", "Show which features make up sigma.", "features.Features"),
    Command("attribute", "Show which attentions and MLPs wrote sigma.", "attribute.Attribution"),
    Command("ablate", "Replace LayerNorms and measure what becomes of the predictions.", "ablate.Ablation"),
    Command("diff", "Compare the LayerNorms of two checkpoints of one shape.", "diff.Difference|RunDifference"),
    Command("profile", "Tell how each LayerNorm's numbers are distributed over a corpus.", "profile.Profile"),
    Command("plot", "Draw a figure for a paper: PNG, SVG or PDF.", None),
    Command("report", "Write one page with everything.", "report.Report"),
    Command("tour", "Answer a learner's six questions by experiments.", "tour.Tour"),
    Command("models", "List the checkpoints that can be used without a download.", "models.Models"),
    Command("schema", "Print the JSON Schema of what a command gives.", None),
    Command("help", "Read about a command or a topic.", None),
)


def view(record: Record) -> View:
    """What the command of a record shows of it, for :func:`gpt2ln_cli.output.write`."""
    made: View = import_module(f"gpt2ln_cli.commands.{record.command}.view").view(record)
    return made
