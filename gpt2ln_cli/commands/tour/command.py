"""``gpt2ln tour``."""

from __future__ import annotations

import click

from gpt2ln_cli.commands.tour.questions import QUESTIONS
from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.command import Command
from gpt2ln_cli.shell.notes import judge, note, note_model
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import progress_bar

EXAMPLE = """\b
Examples:
  gpt2ln tour
  gpt2ln tour 4
  gpt2ln tour --list
  gpt2ln tour --format ndjson | jq -r '.question, .answer'
"""


def _list(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        for number, question in enumerate(QUESTIONS, start=1):
            click.echo(click.wrap_text(question, 78, f"{number}  ", "   "))
        context.exit()


@click.command("tour", cls=Command, epilog=EXAMPLE)
@click.argument("questions", nargs=-1, type=click.IntRange(1, len(QUESTIONS)), metavar="[NUMBER]...")
@click.option("--list", is_flag=True, expose_value=False, is_eager=True, callback=_list, help="List the questions.")
@options.model_options
@options.strict_option
@options.output_options
def command(
    questions: tuple[int, ...],
    chosen: options.Choice,
    strict: bool,
    out: Output,
) -> None:
    """Answer a learner's questions about LayerNorm by experiment.

    All of them, or those of the given NUMBERs. Every figure is measured on the checkpoint while you wait; each answer
    names the command that shows more.
    """
    from gpt2ln_cli.checkpoint import openai
    from gpt2ln_cli.commands.tour.compute import tour
    from gpt2ln_cli.commands.tour.view import view

    model = chosen.load()
    if model.checkpoint.source == "bundled" and (better := openai.at_hand()) is not None:
        which = "".join(f" {number}" for number in questions)
        note(f"OpenAI's GPT-2 is on this disk already; have it answer: gpt2ln tour{which} --model {better}")
    with progress_bar(chosen.model) as progress:
        record = tour(model=model, questions=questions or None, progress=progress)
    note_model(record.model)
    out.emit(view(record))
    judge(record.warnings, strict=strict)
