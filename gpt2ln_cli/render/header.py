"""What stands above every table and picture: the model, the prompts, and what was flagged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from gpt2ln_cli.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from gpt2ln_cli.records import Flag, ModelInfo, PromptInfo

# Sites named in a warning that many share.
WARNED_SITES = 3


def write_header(console: Console, model: ModelInfo, more: Sequence[tuple[str, str]]) -> None:
    """Say which model it was, from where, and how it was run, and then ``more`` in the same two columns."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in [*model_lines(model), *more]:
        grid.add_row(name, Text(visible(value)))
    console.print(grid)


def write_warnings(console: Console, flags: Sequence[Flag]) -> None:
    """One line for each message, with the sites that share it."""
    if flags:
        console.print()
    for warning in warning_lines(flags):
        console.print(Text(f"warning: {warning}", style="bold yellow"))


def model_lines(model: ModelInfo) -> list[tuple[str, str]]:
    """What the header says of the model; the text is as the checkpoint has it, not yet escaped."""
    device = f" on {model.device}" if model.device else " as stored; no forward pass was run"
    if model.source == "bundled":
        origin = [("model", f"{model.name} (bundled with gpt2ln)")]
    else:
        revision = f", revision {model.revision}" if model.revision else ""
        origin = [("model", f"{model.name} ({model.source}{revision})"), ("from", model.location)]
    return [
        *origin,
        (
            "shape",
            f"{model.n_layer} layers, {model.n_head} heads, width {model.n_embd}, context {model.n_positions}, "
            f"eps {model.eps:g}",
        ),
        ("dtype", f"{model.dtype}{device}"),
        *(("inferred" if index == 0 else "", text) for index, text in enumerate(model.inferred)),
    ]


def warning_lines(flags: Sequence[Flag]) -> list[str]:
    """Each message once, with the first of the sites that share it."""
    sites: dict[str, list[str]] = {}
    for flag in flags:
        sites.setdefault(flag.message, []).extend([flag.site] if flag.site else [])
    lines = []
    for message, names in sites.items():
        shown = ", ".join(names[:WARNED_SITES]) + (
            f" and {len(names) - WARNED_SITES} more" if names[WARNED_SITES:] else ""
        )
        lines.append(f"{shown + ': ' if shown else ''}{message}.")
    return lines


def prompt_lines(prompts: Sequence[PromptInfo], *, bos: bool, padding: int | None = None) -> list[tuple[str, str]]:
    """What the header says of the prompts; ``padding`` is the number of padded positions, None leaves it out."""
    longest = max(prompt.length for prompt in prompts)
    total = sum(prompt.length for prompt in prompts)
    if len(prompts) == 1:
        parts = [f"1 sequence x {longest:,} token{'s' * (longest != 1)}"]
    else:
        parts = [f"{len(prompts):,} sequences x up to {longest:,} = {total:,} tokens"]
    if padding is not None:
        parts.append(f"padded positions: {padding:,}" if padding else "no padding")
    parts.append("<|endoftext|> prepended to each" if bos else "no <|endoftext|> prepended")
    lines = [("prompts", "; ".join(parts))]
    pieces = len({prompt.prompt for prompt in prompts})
    if pieces < len(prompts):
        lines.append(("windows", f"prompts: {pieces:,}; a long one is run in consecutive windows, positions from 0"))
    dropped = sum(prompt.dropped for prompt in prompts)
    if dropped:
        unread = sum(prompt.unread for prompt in prompts)
        more = f", and {unread:,} characters unread" if unread else ""
        lines.append(("truncated", f"{dropped:,} tokens beyond the context were left out{more}"))
    return lines
