"""``gpt2ln profile``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from gpt2ln_cli.arguments import ENGINES
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.shell import completion, options
from gpt2ln_cli.shell.command import Command
from gpt2ln_cli.shell.notes import judge, note, note_model
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.progress import pace

EXAMPLE = """\b
Examples:
  gpt2ln profile --quantile 99.99
  gpt2ln profile corpus/*.jsonl.gz --output run/
  gpt2ln profile book.txt --documents packed --limit-tokens 100000
  gpt2ln profile --output run/ --against published
  gpt2ln profile corpus/ --output run/ --shard 3/64
  gpt2ln profile --output run/ --json | jq '.sites[6].rest.sigma.rms'
"""
STANDARD_INPUT = "-"


@click.command("profile", cls=Command, epilog=EXAMPLE)
@click.argument("source", nargs=-1)
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="FOLDER",
    shell_complete=completion.files,
    help="Keep what is done, and go on with what is there; without it nothing is kept.",
)
@click.option(
    "--separator",
    type=click.Choice(["line", "blank", "endoftext", "file"]),
    default="line",
    show_default=True,
    help="What ends a document of a text file: its line, a blank line, <|endoftext|>, the file's end.",
)
@click.option(
    "--documents",
    type=click.Choice(["each", "packed"]),
    default="each",
    show_default=True,
    help="Each from position 0, or packed behind one another with <|endoftext|> between.",
)
@click.option("--column", metavar="NAME", help="What holds the text of JSON lines and Parquet; 'text' unless told.")
@click.option("--limit-tokens", type=click.IntRange(min=1), metavar="N", help="A sample of about so many tokens.")
@click.option("--bos", is_flag=True, help="Begin every window with <|endoftext|>.")
@click.option("--skip-bad", is_flag=True, help="Leave out what can't be read and list it.")
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, help="Tokens to list of each ranking."
)
@click.option("--features", is_flag=True, help="Measure each feature of x and y, too: which are massive, and where.")
@click.option(
    "--quantile",
    "quantiles",
    multiple=True,
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="A further quantile; may be given again.",
)
@click.option(
    "--against",
    metavar="TABLE",
    shell_complete=completion.files,
    help="Hold it against published figures: a JSON file, or 'published' for those of GPT-2 that are bundled.",
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that work at it.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of each worker; at first the cores divided by --workers, then as the run was begun.",
)
@click.option("--shard", metavar="I/N", help="No more than the I-th of N shares, as a job of an array does.")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    show_default=True,
    help="What works: --workers processes here, or a Ray cluster.",
)
@click.option("--ray-address", metavar="ADDRESS", help="Of the cluster, or 'auto'; else one of this machine.")
@click.option("--worker-cpus", type=click.FloatRange(min=0), metavar="N", help="CPUs of each task of Ray's.")
@click.option("--worker-gpus", type=click.FloatRange(min=0), metavar="N", help="GPUs of each task of Ray's.")
@click.option("--batch-tokens", type=click.IntRange(min=1), metavar="N", help="Most tokens in a forward pass.")
@options.model_options
@options.strict_option
@options.record_options("table", file=False)
def command(
    source: tuple[str, ...],
    folder: str | None,
    separator: str,
    documents: str,
    column: str | None,
    limit_tokens: int | None,
    bos: bool,
    skip_bad: bool,
    top: int,
    features: bool,
    quantiles: tuple[float, ...],
    against: str | None,
    workers: int,
    threads: int | None,
    shard: str | None,
    engine: str,
    ray_address: str | None,
    worker_cpus: float | None,
    worker_gpus: float | None,
    batch_tokens: int | None,
    chosen: options.Choice,
    strict: bool,
    out: Output,
) -> None:
    """Tell how each LayerNorm's numbers are distributed over a corpus.

    SOURCE is a file, a folder, a glob or an address of text, JSON lines or Parquet, plain or packed; '-' reads text
    from standard input. The same command goes on where it was stopped; with --output alone it shows what is done.
    """
    if STANDARD_INPUT in source and (len(source) > 1 or folder is not None):
        raise UsageError("standard input ('-') is read once, alone, and not kept: give no --output and nothing else.")
    alone = limit_tokens is None and workers == 1 and shard is None and engine == "local"
    if STANDARD_INPUT in source and not alone:
        raise UsageError(
            "--limit-tokens, --workers, --shard and --engine have no effect on standard input; leave them out."
        )
    if shard is not None and (folder is None or not source):
        raise UsageError("--shard does a share of a corpus in the folder of all shares: give a corpus and --output.")
    if engine == "ray" and folder is None:
        raise UsageError("--engine ray needs --output, a folder that all nodes see.")
    from gpt2ln_cli.commands.profile.compute import profile_documents, profile_files, run_folder
    from gpt2ln_cli.commands.profile.options import Options
    from gpt2ln_cli.commands.profile.view import view
    from gpt2ln_cli.text.prompts import LONG_SAMPLE, sample_prompts_folder

    how = Options(
        separator=separator,  # type: ignore[arg-type]
        documents=documents,  # type: ignore[arg-type]
        column=column,
        bos=bos,
        limit_tokens=limit_tokens,
        skip_bad=skip_bad,
        top=top,
        features=features,
        batch_tokens=batch_tokens,
        threads=threads,
        workers=workers,
        quantiles=quantiles,
        against=against,
        shard=shard,
        engine=engine,  # type: ignore[arg-type]
        ray_address=ray_address,
        worker_cpus=worker_cpus,
        worker_gpus=worker_gpus,
    )
    with pace(chosen.model) as progress:
        if not source and folder is not None:
            record = profile_files(None, run_folder(folder), chosen.model, how, say=note)
        elif source == (STANDARD_INPUT,):
            from gpt2ln_cli.text.corpus.standard_input import NAME, documents_of

            given = documents_of(how.separator, column)
            record = profile_documents(given, [NAME], chosen.load(), how, progress)
        elif folder is not None:
            record = profile_files(list(source), run_folder(folder), chosen.load(), how, progress, note)
        else:
            if not source:
                sample = sample_prompts_folder() / LONG_SAMPLE
                note(f"no corpus given; using the bundled sample {sample}")
                source = (str(sample),)
            with tempfile.TemporaryDirectory(prefix="gpt2ln-") as kept:
                record = profile_files(list(source), Path(kept), chosen.load(), how, progress, note)
    note_model(record.model)
    out.emit(view(record))
    judge(record.warnings, strict=strict)
