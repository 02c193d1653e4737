"""``gpt2ln ablate``."""

from __future__ import annotations

import click

from gpt2ln_cli.commands.ablate.view import DEFAULT_PROMPTS
from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.notes import judge, note_model
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import progress_bar
from gpt2ln_cli.shell.prompts import Given

EXAMPLE = """\b
Examples:
  gpt2ln ablate
  gpt2ln ablate --layer 0-2 --site ln_1
  gpt2ln ablate --feature 37,34
  gpt2ln ablate --prompts sample_prompts/mixed.txt --json | jq '.claims[] | {id, verdict}'
"""


@click.command("ablate", epilog=EXAMPLE)
@options.prompt_options
@options.layer_option()
@options.site_option
@click.option(
    "--feature",
    "features",
    metavar="J[,J]",
    help="Instead, do without these features of x: in mu, sigma and y, in mu and sigma alone, and in y alone.",
)
@options.model_options
@options.strict_option
@options.output_options
def command(
    given: Given,
    layers: str | None,
    sites: tuple[str, ...],
    features: str | None,
    chosen: options.Choice,
    strict: bool,
    out: Output,
) -> None:
    """Replace the LayerNorms by something else and see what the model then predicts.

    All of them, or those of --layer and --site, give way in turn to nothing at all, to RMSNorm, to LayerNorm over other
    axes, to a fixed sigma, and to LayerNorm without gain or bias. Each is held against the model as it is, on PROMPT;
    without any, on a bundled passage that the bundled model was not trained on.
    """
    prompts = given.gather(default=DEFAULT_PROMPTS)
    from gpt2ln_cli.commands.ablate.compute import ablate
    from gpt2ln_cli.commands.ablate.view import view

    with progress_bar(chosen.model) as progress:
        record = ablate(
            prompts,
            model=chosen.load(),
            layers=layers,
            sites=sites,
            ablated_features=features,
            **given.running(progress),
        )
    note_model(record.model)
    out.emit(view(record))
    judge(record.warnings, strict=strict)
