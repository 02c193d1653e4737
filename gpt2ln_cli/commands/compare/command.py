"""``gpt2ln compare``."""

from __future__ import annotations

import click

from gpt2ln_cli.commands.compare.view import DEFAULT_CONTEXT, DEFAULT_WORDS
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.command import Command
from gpt2ln_cli.shell.notes import judge, note_model
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import progress_bar
from gpt2ln_cli.shell.prompts import Given

EXAMPLE = """\b
Examples:
  gpt2ln compare "ok" "hatred"
  gpt2ln compare "ok" "hatred" --layer 0,5 --template "She said {}."
  gpt2ln compare --context "war violence hate fear"
"""


@click.command("compare", cls=Command, epilog=EXAMPLE)
@options.prompt_options
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
@click.option("--no-probe", is_flag=True, help="Leave out the linear probe, which takes most of the time.")
@options.layer_option()
@options.site_option
@options.model_options
@options.strict_option
@options.output_options
def command(
    given: Given,
    context: bool,
    position: int | None,
    template: str | None,
    no_probe: bool,
    layers: str | None,
    sites: tuple[str, ...],
    chosen: options.Choice,
    strict: bool,
    out: Output,
) -> None:
    """Set words side by side: what LayerNorm takes from each, and whether it is gone.

    Each PROMPT is a word or a text, of which one token is compared; words in a carrier sentence, each one token in the
    same place. Random words there say what a difference is worth, and a linear probe on held-out text how well the
    sigma that was taken can be read from the network again.

    With --context, each PROMPT is a context: how much of its tokens lies in the direction that they share, how much of
    that random tokens and function words share as well, and that none is left were each feature normalized across the
    tokens instead.
    """
    if context and (position is not None or template is not None or no_probe):
        raise UsageError(
            "--context looks at all tokens as they stand, without a probe; leave out --position, --template and "
            "--no-probe."
        )
    prompts = given.gather(default=DEFAULT_CONTEXT if context else DEFAULT_WORDS)
    from gpt2ln_cli.commands.compare.compute import compare
    from gpt2ln_cli.commands.compare.view import view

    with progress_bar(chosen.model) as progress:
        record = compare(
            prompts,
            model=chosen.load(),
            context=context,
            position=position,
            template=template,
            probe=not no_probe,
            layers=layers,
            sites=sites,
            **given.running(progress),
        )
    note_model(record.model)
    out.emit(view(record))
    judge(record.warnings, strict=strict)
