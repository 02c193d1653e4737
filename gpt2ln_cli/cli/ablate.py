"""``gpt2ln ablate``."""

from __future__ import annotations

import click

from gpt2ln_cli.cli import options, running

DEFAULT_PROMPTS = "held_out.txt of the sample prompts (from Treasure Island), which 'demo' was not trained on"
EXAMPLE = """\b
Examples:
  gpt2ln ablate
  gpt2ln ablate --layer 0-2 --site ln_1
  gpt2ln ablate --prompts sample_prompts/mixed.txt --json | jq .lower
"""


@click.command("ablate", epilog=EXAMPLE)
@options.prompt_options
@options.batch_options
@options.layer_option()
@options.site_option
@options.model_options
@options.run_options
@options.strict_option
@options.output_options
def command(
    given: running.Given,
    batching: options.Batching,
    layers: str | None,
    sites: tuple[str, ...],
    which: options.Which,
    how: options.How,
    strict: bool,
    out: running.Output,
) -> None:
    """Replace the LayerNorms by something else and see what the model then predicts.

    All of them, or those of --layer and --site, give way in turn to nothing at all, to RMSNorm, to the other readings
    of "LayerNorm", to a fixed sigma, and to LayerNorm without gain or bias. Each is held against the model as it is,
    on PROMPT; without any, on a bundled passage that the bundled model was not trained on.
    """
    prompts = given.gather(default=DEFAULT_PROMPTS)
    from gpt2ln_cli import api

    with running.progress_bar(which["model"]) as progress:
        record = api.ablate(
            prompts,
            **which,
            **how,
            layers=layers,
            sites=sites,
            bos=given.bos,
            overflow=given.overflow,
            **batching,
            progress=progress,
        )
    running.note_model(record.model)
    out.emit(record)
    if strict:
        running.judge(record.warnings)
