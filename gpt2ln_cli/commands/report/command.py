"""``gpt2ln report``."""

from __future__ import annotations

import click

from gpt2ln_cli.commands.verify.view import complaint
from gpt2ln_cli.records import united
from gpt2ln_cli.shell import options
from gpt2ln_cli.shell.notes import end, judge, note_model
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import progress_bar
from gpt2ln_cli.shell.prompts import Given

EXAMPLE = """\b
Examples:
  gpt2ln report --output report.html
  gpt2ln report "war violence hate fear" --model gpt2 --output report.html
"""


@click.command("report", epilog=EXAMPLE)
@options.prompt_options
@options.layer_option()
@options.site_option
@options.model_options
@options.strict_option
@options.page_options
def command(
    given: Given,
    layers: str | None,
    sites: tuple[str, ...],
    chosen: options.Choice,
    strict: bool,
    out: Output,
) -> None:
    """Write one page with everything: counts, a heatmap of tokens, gain and bias, the checks.

    The page is a single HTML file that loads nothing: it opens in any browser, on a phone too, and prints. It holds the
    figures of 'inspect --per-token' and the verdicts of 'verify' on the first 256 tokens.
    """
    prompts = given.gather()
    from gpt2ln_cli.commands.report.compute import report
    from gpt2ln_cli.commands.report.view import view

    with progress_bar(chosen.model) as progress:
        record = report(prompts, model=chosen.load(), layers=layers, sites=sites, **given.running(progress))
    note_model(record.inspection.model)
    out.emit(view(record))
    judge(united(record.inspection.warnings, record.verification.warnings), strict=strict)
    if strict and (why := complaint(record.verification.claims)):
        end(why)
