"""``gpt2ln report``."""

from __future__ import annotations

import click

from gpt2ln_cli.cli import options, output_file, running

EXAMPLE = """\b
Examples:
  gpt2ln report --output report.html
  gpt2ln report "war violence hate fear" --model gpt2 --output report.html
"""


@click.command("report", epilog=EXAMPLE)
@options.prompt_options
@options.batch_options
@options.layer_option()
@options.site_option
@options.model_options
@options.run_options
@options.strict_option
@click.option("--json", "as_json", is_flag=True, help="The record behind the page as JSON instead.")
@options.output_option
@options.debug_option
def command(
    given: running.Given,
    batching: options.Batching,
    layers: str | None,
    sites: tuple[str, ...],
    which: options.Which,
    how: options.How,
    strict: bool,
    as_json: bool,
    output: str | None,
) -> None:
    """Write one page with everything: counts, a heatmap of tokens, gain and bias, the checks.

    The page is a single HTML file that loads nothing: it opens in any browser, on a phone too, and prints. It holds the
    figures of 'inspect --per-token' and the verdicts of 'verify' on the first 256 tokens.
    """
    output_file.check(output)
    if not as_json:
        output_file.check_not_terminal(output, "a page of HTML is not for a terminal; give --output report.html.")
    prompts = given.gather()
    from gpt2ln_cli import api
    from gpt2ln_cli import output as written
    from gpt2ln_cli.commands.report.view import view
    from gpt2ln_cli.records import united

    with running.progress_bar(which["model"]) as progress:
        record = api.report(
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
    running.note_model(record.inspection.model)
    output_file.deliver(
        lambda stream: written.write(view(record), "json" if as_json else "html", stream), output=output, utf8=True
    )
    if strict:
        running.judge(united(record.inspection.warnings, record.verification.warnings))
        running.judge_checks(record.verification.checks)
