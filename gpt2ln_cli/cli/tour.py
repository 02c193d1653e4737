"""``gpt2ln tour``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpt2ln_cli.cli import options, running

if TYPE_CHECKING:
    from gpt2ln_cli.model import Device, Dtype

EXAMPLE = """\b
Examples:
  gpt2ln tour
  gpt2ln tour --json | jq -r '.answers[] | .question, .answer'
"""


@click.command("tour", epilog=EXAMPLE)
@options.model_options
@options.run_options
@options.output_options
def command(
    model: str,
    revision: str | None,
    heads: int | None,
    device: Device,
    dtype: Dtype,
    out: running.Output,
) -> None:
    """Answer a learner's six questions about LayerNorm by experiment.

    Every number is measured on the checkpoint while you wait; each answer names the command that shows more.
    """
    from gpt2ln_cli import api

    with running.progress_bar(model):
        record = api.tour(model=model, revision=revision, heads=heads, device=device, dtype=dtype)
    running.note_model(record.model)
    out.emit(record)
