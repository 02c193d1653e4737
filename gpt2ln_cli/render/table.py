"""The record as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, TextIO

from rich.text import Text

from gpt2ln_cli.escaping import visible
from gpt2ln_cli.quantities import LABELS, SUMMARIZED
from gpt2ln_cli.records import (
    Ablation,
    Arithmetic,
    Comparison,
    Difference,
    Gain,
    Inspection,
    Models,
    Parameters,
    Report,
    Spread,
    Summary,
    Tour,
    Vector,
    Verification,
)
from gpt2ln_cli.render.header import prompt_lines, write_header, write_warnings
from gpt2ln_cli.render.layout import (
    Group,
    PipeConsole,
    integer,
    number,
    percent,
    plain_table,
    quoted,
    side_by_side,
    stacked,
)
from gpt2ln_cli.render.table_ablate import ablation_lines, write_ablation
from gpt2ln_cli.render.table_compare import write_comparison
from gpt2ln_cli.render.table_diff import write_difference
from gpt2ln_cli.render.table_tour import write_tour
from gpt2ln_cli.render.table_verify import write_verification
from gpt2ln_cli.render.wording import SITES, count_sentences, learned_sentence

if TYPE_CHECKING:
    from rich.console import Console

    from gpt2ln_cli.quantities import LABELS, SUMMARIZED
from gpt2ln_cli.records import Record, Row

SHORT_COMMIT = 12


def write(record: Record, stream: TextIO) -> None:
    """Write the record as tables; they adapt to the width, and colours go to a terminal only."""
    console = PipeConsole(stream)
    if isinstance(record, Inspection):
        _inspection(console, record)
    elif isinstance(record, Parameters):
        _parameters(console, record)
    elif isinstance(record, Models):
        _models(console, record)
    elif isinstance(record, Comparison):
        write_header(console, record.model, prompt_lines(record.prompts, bos=record.bos))
        write_warnings(console, record.warnings)
        write_comparison(console, record)
    elif isinstance(record, Ablation):
        write_header(console, record.model, [*prompt_lines(record.prompts, bos=record.bos), *ablation_lines(record)])
        write_warnings(console, record.warnings)
        write_ablation(console, record)
    elif isinstance(record, Verification):
        write_header(console, record.model, prompt_lines(record.prompts, bos=record.bos))
        write_warnings(console, record.warnings)
        write_verification(console, record)
    elif isinstance(record, Difference):
        for name, model in (("A", record.model_a), ("B", record.model_b)):
            console.print(Text(name, style="bold cyan"))
            write_header(console, model, [])
        write_warnings(console, record.warnings)
        write_difference(console, record)
    elif isinstance(record, Report):
        _inspection(console, record.inspection)
        console.print(Text(learned_sentence(record.verdict, record.inspection.sites), style="bold"))
        write_verification(console, record.verification)
    elif isinstance(record, Tour):
        write_header(console, record.model, [])
        write_warnings(console, record.warnings)
        write_tour(console, record)
    else:
        _arithmetic(console, record)


def _inspection(console: Console, record: Inspection) -> None:
    write_header(console, record.model, prompt_lines(record.prompts, bos=record.bos, padding=record.counts.padding))
    write_warnings(console, record.warnings)
    if record.command == "inspect":
        _counts(console, record)
        _site_table(console, record)
    if record.rows is not None:
        _rows(console, record, record.rows)
    if record.nonfinite:
        _say(console, f"{record.nonfinite:,} numbers were NaN or infinite and are shown as a dash.")


def _counts(console: Console, record: Inspection) -> None:
    counts = record.counts
    console.print()
    console.print(Text("Statistics, as counted in the kernel's own tensors", style="bold"))
    console.print()
    table = plain_table("", "sites", "sequences", "tokens in all", "statistics")
    for kind in counts.by_kind:
        table.add_row(
            kind.kind, integer(kind.sites), integer(counts.sequences), integer(counts.tokens), integer(kind.statistics)
        )
    table.add_row(
        "total",
        integer(counts.sites),
        integer(counts.sequences),
        integer(counts.tokens),
        integer(counts.total),
        style="bold",
    )
    console.print(table)
    console.print()
    for sentence in count_sentences(record):
        _say(console, sentence)


def _site_table(console: Console, record: Inspection) -> None:
    console.print()
    console.print(Text("What each LayerNorm computed, in forward order", style="bold"))
    console.print()
    sites = record.sites
    several = record.counts.sequences > 1
    groups = []
    for name in SUMMARIZED:
        first = [_spread(site.first, name) for site in sites]
        rest = [_spread(site.rest, name) for site in sites]
        groups.append(
            Group(
                LABELS[name],
                ["pos 0", *(["min", "max"] if several else []), "later", "min", "max"],
                [[*(_three(a) if several else _three(a)[:1]), *_three(b)] for a, b in zip(first, rest, strict=True)],
            )
        )
    groups += _learned_groups([site.gain for site in sites], [site.bias for site in sites])
    for table in side_by_side(console, Group("", ["site"], [[site.name] for site in sites]), groups):
        console.print(table)
        console.print()
    _say(console, SITES)


def _learned_groups(gains: Sequence[Gain | None], biases: Sequence[Vector | None]) -> list[Group]:
    four = ("mean", "std", "min", "max")
    return [
        Group("learned gain", four, [_fields(gain, four) for gain in gains]),
        Group("learned bias", [*four, "norm"], [_fields(bias, [*four, "norm"]) for bias in biases]),
    ]


def _fields(vector: Vector | None, names: Sequence[str]) -> list[str]:
    return [number(None if vector is None else getattr(vector, name)) for name in names]


def _spread(summary: Summary | None, name: str) -> Spread | None:
    return None if summary is None else getattr(summary, name)


def _three(spread: Spread | None) -> list[str]:
    values = (None, None, None) if spread is None else (spread.mean, spread.min, spread.max)
    return [number(value) for value in values]


def _rows(console: Console, record: Inspection, rows: Iterable[Row]) -> None:
    several = record.counts.sequences > 1
    for site, group in groupby(rows, attrgetter("site")):
        chosen = list(group)
        console.print()
        console.print(Text(site, style="bold"))
        places = [[*([str(row.sequence)] if several else []), str(row.position), _token(row)] for row in chosen]
        numbers = [
            [
                number(row.mean),
                number(row.sigma),
                number(row.pre_norm),
                number(row.normalized_norm),
                number(row.post_norm),
                number(row.max_deviation),
                number(row.excess_kurtosis),
                percent(row.mean_share),
            ]
            for row in chosen
        ]
        headings = ["mu", "sigma", "||x||", "||xhat||", "||y||", "max\ndev", "excess\nkurt.", "mean\nshare"]
        key = Group("", [*(["seq"] if several else []), "pos", "token"], places)
        for table in stacked(console, key, Group("", headings, numbers)):
            console.print()
            console.print(table)
    console.print()
    _say(
        console,
        "mu and sigma are over the features of x (sigma divides by d); max dev is max|x - mu| / sigma; mean share is "
        "d mu^2 / ||x||^2, the share of ||x||^2 that the mean direction held. ||x|| is pre, ||xhat|| normalized "
        "(before gain and bias), ||y|| post. Norms are L2.",
    )


def _token(row: Row) -> str:
    return f"id {row.token_id}" if row.token is None else quoted(row.token)


def _parameters(console: Console, record: Parameters) -> None:
    write_header(console, record.model, [])
    write_warnings(console, record.warnings)
    console.print()
    sites = record.sites
    gains, biases = [site.gain for site in sites], [site.bias for site in sites]
    six = ("mean", "std", "min", "median", "max", "norm")
    groups = [
        Group(
            "learned gain",
            [*six, "rms from 1", "< 0", "off"],
            [
                [
                    *_fields(gain, [*six, "rms_distance"]),
                    *([str(gain.negative), str(gain.switched_off)] if gain else "--"),
                ]
                for gain in gains
            ],
        ),
        Group("learned bias", [*six, "rms from 0"], [_fields(bias, [*six, "rms_distance"]) for bias in biases]),
    ]
    for table in side_by_side(console, Group("", ["site"], [[site.name] for site in sites]), groups):
        console.print(table)
        console.print()
    if any(vector is not None and vector.extremes for vector in [*gains, *biases]):
        _extremes(console, record)
    _say(
        console,
        "std divides by d. '< 0' counts negative gains, 'off' features whose gain is at most 1% of the gains' root "
        "mean square: all but switched off.",
    )
    if record.nonfinite:
        _say(console, f"{record.nonfinite:,} numbers were NaN or infinite and are shown as a dash.")
    _say(console, learned_sentence(record.verdict, record.sites), style="bold")


def _extremes(console: Console, record: Parameters) -> None:
    console.print(Text("Features farthest from 1 (gain) and from 0 (bias), as feature:value", style="bold"))
    console.print()
    table = plain_table("site", "gain", "bias", left=3)
    for site in record.sites:
        table.add_row(
            site.name,
            *(
                "  ".join(f"{feature.index}:{number(feature.value)}" for feature in (vector.extremes or ()))
                if vector
                else "-"
                for vector in (site.gain, site.bias)
            ),
        )
    console.print(table)
    console.print()


def _arithmetic(console: Console, record: Arithmetic) -> None:
    source = f" (the shape of {visible(record.model)})" if record.model else ""
    _say(
        console,
        f"{record.n_layer} layers, width {record.n_embd}, {record.n_head} heads{source}; {record.batch:,} x "
        f"{record.tokens:,} tokens. {record.sites} LayerNorms: two in each block, and ln_f.",
    )
    console.print()
    table = plain_table("", "statistics")
    table.add_row("each site", integer(record.per_site))
    table.add_row("each block", integer(record.per_block))
    table.add_row("whole model", integer(record.total), style="bold")
    console.print(table)
    console.print()
    _say(
        console,
        f"One statistic is one (mean, standard deviation) pair over the {record.features} features of one token. The "
        "heads and the width do not enter the count.",
    )
    console.print()
    table = plain_table("if it normalized ...", "each site", "each block", "whole model", "GPT-2?")
    for reading in record.readings:
        table.add_row(
            reading.name,
            integer(reading.per_site),
            integer(reading.per_block),
            integer(reading.total),
            "yes" if reading.is_gpt2 else "no",
            style="bold" if reading.is_gpt2 else "",
        )
    console.print(table)
    console.print()
    _say(console, "The rows marked 'no' are not what GPT-2 does.")


def _models(console: Console, record: Models) -> None:
    models = record.models
    names = [[(model.revision or model.source)[:SHORT_COMMIT], visible(model.name)] for model in models]
    numbers = [
        [
            integer(model.n_layer),
            integer(model.n_head),
            integer(model.n_embd),
            integer(model.n_positions),
            integer(model.vocab_size),
            number(model.size / 1e6),
        ]
        for model in models
    ]
    headings = ["layers", "heads", "width", "context", "vocab", "MB"]
    for table in stacked(console, Group("", ["revision", "model"], names), Group("", headings, numbers)):
        console.print(table)
        console.print()
    _say(
        console,
        f"The bundled checkpoint, and every GPT-2 with weights in the Hugging Face cache ({visible(record.cache)}). "
        "MB: 1,000,000 bytes on disk. Commits are shortened; --revision takes the whole one, which --json shows.",
    )


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style))
