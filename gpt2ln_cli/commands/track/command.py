"""``gpt2ln track``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpt2ln_cli.arguments import refuse_without_effect
from gpt2ln_cli.shell import completion, options
from gpt2ln_cli.shell.command import Command
from gpt2ln_cli.shell.notes import end, judge
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import progress_bar
from gpt2ln_cli.shell.prompts import Given

if TYPE_CHECKING:
    from gpt2ln_cli.model import Device, Dtype

EXAMPLE = """\b
Examples:
  gpt2ln track demo
  gpt2ln track runs/my-run --prompt "The war was over"
  gpt2ln track ORG/RUN --revisions 'checkpoint-*' --format csv
"""


@click.command("track", cls=Command, epilog=EXAMPLE)
@click.argument("checkpoints", nargs=-1, required=True, metavar="CHECKPOINT...", shell_complete=completion.models)
@options.prompt_flags
@options.layer_option()
@options.site_option
@options.revisions_option
@click.option(
    "--features",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="List the N features of each vector that are farthest from the rest.",
)
@options.no_cache_option
@options.heads_option
@options.prefix_option
@options.device_options
@options.strict_option
@options.output_options
def command(
    checkpoints: tuple[str, ...],
    given: Given,
    layers: str | None,
    sites: tuple[str, ...],
    revisions: tuple[str, ...],
    features: int,
    no_cache: bool,
    heads: int | None,
    prefix: str | None,
    device: Device,
    dtype: Dtype,
    strict: bool,
    out: Output,
) -> None:
    """Follow LayerNorms over a training run.

    CHECKPOINT is the folder of a run (checkpoint-500/ and so on), a checkpoint, or a Hub id, which --revisions looks
    through. Without prompts gains and biases alone are read, from the Hub by ranges; with some, the model is run at
    every step. Exit code 1 where a checkpoint can't be read.
    """
    prompts = given.gather(default="")
    if prompts is None:
        refuse_without_effect(
            "without prompts, when gains and biases alone are read", device=(device, "auto"), dtype=(dtype, "auto")
        )
    from gpt2ln_cli.commands.track.compute import track
    from gpt2ln_cli.commands.track.view import view

    with progress_bar(checkpoints[0], unit="checkpoints" if prompts is None else "tokens") as progress:
        record = track(
            checkpoints,
            prompts,
            revisions=revisions or None,
            layers=layers,
            sites=sites,
            features=features,
            heads=heads,
            prefix=prefix,
            device=device,
            dtype=dtype,
            cache=not no_cache,
            **given.running(progress),
        )
    out.emit(view(record))
    judge(record.warnings, strict=strict)
    lost = sum(one.error is not None for one in record.checkpoints)
    if lost:
        end(f"exit code 1, for {lost} of {len(record.checkpoints)} checkpoints could not be read.")
