"""``gpt2ln diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpt2ln_cli.arguments import refuse_without_effect
from gpt2ln_cli.commands.diff.record import SORT_KEYS
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.output.header import PROMPTS
from gpt2ln_cli.shell import completion, options
from gpt2ln_cli.shell.command import Command
from gpt2ln_cli.shell.notes import judge
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import progress_bar
from gpt2ln_cli.shell.prompts import Given

if TYPE_CHECKING:
    from gpt2ln_cli.model import Device, Dtype

EXAMPLE = """\b
Examples:
  gpt2ln diff demo demo
  gpt2ln diff gpt2 ./my-fine-tune --sort gain_relative --top 5
  gpt2ln diff gpt2 ./my-fine-tune "The war was over" --layer 5
  gpt2ln diff run-a/ run-b/
"""


# What applies to the comparison of two runs.
OF_RUNS = ("model_a", "model_b", "output_format", "as_json", "table", "everything", "csv_safe", "output")


@click.command("diff", cls=Command, epilog=EXAMPLE)
@click.argument("model_a", shell_complete=completion.models)
@click.argument("model_b", shell_complete=completion.models)
@options.prompt_options
@options.layer_option()
@options.site_option
@click.option(
    "--features",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="List the N most changed features.",
)
@options.sort_option(SORT_KEYS)
@options.top_option
@options.heads_option
@options.prefix_option
@options.device_options
@options.strict_option
@options.output_options
def command(
    model_a: str,
    model_b: str,
    given: Given,
    layers: str | None,
    sites: tuple[str, ...],
    features: int,
    sort: str | None,
    top: int | None,
    heads: int | None,
    prefix: str | None,
    device: Device,
    dtype: Dtype,
    strict: bool,
    out: Output,
) -> None:
    """Compare the LayerNorms of two checkpoints of one shape.

    Without a PROMPT, gains and biases alone; with one, also the statistics that both compute on the same tokens.
    Given the folders of two runs of 'profile', compare their distributions: of two models on one corpus, or of one
    model on two.
    """
    from gpt2ln_cli.commands.profile.manifest import is_run

    runs = [is_run(name) for name in (model_a, model_b)]
    if any(runs):
        _diff_runs(model_a, model_b, runs, out)
        return
    prompts = given.gather(default="")
    if prompts is None:
        refuse_without_effect(
            "without prompts, when gains and biases alone are compared",
            device=(device, "auto"),
            dtype=(dtype, "auto"),
        )
        if out.table == PROMPTS:
            raise UsageError("--table prompts has nothing without prompts; give some, or leave it out.")
    from gpt2ln_cli.commands.diff.compute import diff
    from gpt2ln_cli.commands.diff.view import view

    with progress_bar(model_a) as progress:
        a, b = (options.Choice(name, None, heads, prefix, device, dtype).load() for name in (model_a, model_b))
        record = diff(
            a,
            b,
            prompts,
            layers=layers,
            sites=sites,
            features=features,
            sort=sort,
            top=top,
            **given.running(progress),
        )
    out.emit(view(record))
    judge(record.warnings, strict=strict)


def _diff_runs(run_a: str, run_b: str, runs: list[bool], out: Output) -> None:
    if not all(runs):
        raise UsageError(
            f"{run_a if runs[0] else run_b} is a run of 'profile' and the other is none: give two of them."
        )
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
        if given and parameter.expose_value and parameter.name not in OF_RUNS:
            name = max(parameter.opts, key=len) if isinstance(parameter, click.Option) else "PROMPT"
            raise UsageError(f"{name} does not apply to two runs of 'profile': leave it out.")
    from gpt2ln_cli.commands.diff.runs import diff_runs
    from gpt2ln_cli.commands.diff.view import view

    out.emit(view(diff_runs(run_a, run_b)))
