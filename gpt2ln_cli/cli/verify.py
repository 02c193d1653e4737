"""``gpt2ln verify``."""

from __future__ import annotations

import click

from gpt2ln_cli.cli import options, running

DEFAULT_PROMPTS = "bundled samples, the default prompt and 'war violence hate fear'"
EXAMPLE = """\b
Examples:
  gpt2ln verify
  gpt2ln verify "war violence hate fear" --json | jq '.checks[] | {name, passed}'
"""


@click.command("verify", epilog=EXAMPLE)
@options.prompt_options
@options.model_options
@options.run_options
@options.strict_option
@options.output_options
def command(
    given: running.Given,
    which: options.Which,
    how: options.How,
    strict: bool,
    out: running.Output,
) -> None:
    """Show which axis the LayerNorms normalize, by trying every reading.

    Each reading of "LayerNorm" is held against what the model really computed on PROMPT, by the share of the numbers
    that it reproduces. Then batch independence, causality, the heads, and gain and bias are checked. Exit code 1 if the
    checkpoint does not behave as GPT-2 does, or PROMPT can't decide it.
    """
    prompts = given.gather(default=DEFAULT_PROMPTS)
    from gpt2ln_cli import api

    with running.progress_bar(which["model"]):
        record = api.verify(
            prompts,
            **which,
            **how,
            bos=given.bos,
            overflow=given.overflow,
        )
    running.note_model(record.model)
    out.emit(record)
    if strict:
        running.judge(record.warnings)
    running.judge_checks(record.checks)
