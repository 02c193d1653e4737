"""``gpt2ln compare``."""

from __future__ import annotations

import click

from gpt2ln_cli.cli import options, running
from gpt2ln_cli.errors import UsageError

EXAMPLE = """\b
Examples:
  gpt2ln compare "ok" "hatred"
  gpt2ln compare "ok" "hatred" --layer 0,5,final --template "She said {} again."
  gpt2ln compare --context "war violence hate fear"
"""


@click.command("compare", epilog=EXAMPLE)
@options.prompt_options
@options.batch_options
@click.option("--context", is_flag=True, help="Look at the direction that all tokens of a prompt share.")
@click.option(
    "--position",
    type=int,
    metavar="N",
    help="Which token of each word or prompt, from 0; -1 is the last.  [default: -1]",
)
@click.option(
    "--template",
    metavar="TEXT",
    help="The sentence to try them in, '{}' alone for none.  [default: 'The word was {}.' where all are single words]",
)
@options.layer_option()
@options.site_option
@options.model_options
@options.run_options
@options.strict_option
@options.output_options
def command(
    given: running.Given,
    batching: options.Batching,
    context: bool,
    position: int | None,
    template: str | None,
    layers: str | None,
    sites: tuple[str, ...],
    which: options.Which,
    how: options.How,
    strict: bool,
    out: running.Output,
) -> None:
    """Set words side by side: what LayerNorm takes from each, and whether it is gone.

    Each PROMPT is a word or a text, of which one token is compared: alone, and in a carrier sentence. A linear probe on
    held-out text then tells how well the sigma that was taken can be read from the network again.

    With --context, each PROMPT is a context: how much of its tokens lies in the direction that they share, under the
    real LayerNorm, and how much were each feature normalized across the tokens instead.
    """
    if context and (position is not None or template is not None):
        raise UsageError("--context looks at all tokens as they stand; leave out --position and --template.")
    from gpt2ln_cli import api

    default = f'"{api.COMPARED_CONTEXT}"' if context else " and ".join(f'"{word}"' for word in api.COMPARED)
    prompts = given.gather(default=default)
    with running.progress_bar(which["model"]) as progress:
        record = api.compare(
            prompts,
            **which,
            **how,
            context=context,
            position=position,
            template=template,
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
