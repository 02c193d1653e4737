"""``gpt2ln verify``."""

from __future__ import annotations

import click

from gpt2ln_cli.commands.verify.view import DEFAULT_PROMPTS, complaint
from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.notes import end, judge, note_model
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import progress_bar
from gpt2ln_cli.shell.prompts import Given

EXAMPLE = """\b
Examples:
  gpt2ln verify
  gpt2ln verify "war violence hate fear" --json | jq '.claims[] | {id, verdict}'
"""


@click.command("verify", epilog=EXAMPLE)
@options.prompt_options
@options.model_options
@options.strict_option
@options.output_options
def command(
    given: Given,
    chosen: options.Choice,
    strict: bool,
    out: Output,
) -> None:
    """Show which axis the LayerNorms normalize, by trying every one that they could.

    Normalizing over each axis is held against what the model really computed on PROMPT, by the share of the numbers
    that it reproduces. Then batch independence, causality, the heads, and gain and bias are tried. Exit code 1 if the
    checkpoint does not behave as GPT-2 does, or PROMPT can't decide it.
    """
    prompts = given.gather(default=DEFAULT_PROMPTS)
    from gpt2ln_cli.commands.verify.compute import verify
    from gpt2ln_cli.commands.verify.view import view

    with progress_bar(chosen.model) as progress:
        record = verify(prompts, model=chosen.load(), **given.running(progress))
    note_model(record.model)
    out.emit(view(record))
    judge(record.warnings, strict=strict)
    if why := complaint(record.claims):
        end(why)
