"""The record of ``report`` as one page of HTML that loads nothing.

The page is ``page.html`` (Jinja2, everything escaped), with ``page.css``, ``page.js``, the numbers as JSON and Apache
ECharts in it; a Content-Security-Policy lets nothing else run or load. Tables, verdicts and text need no script. The
charts read their numbers from the page's JSON.

ECharts draws because it has a heatmap with zoom by hand and by slider, a colour scale, and hit testing on one canvas,
and can be cut to what is used: ``echarts/`` holds that build (573 kB of the whole library's 1,122 kB), made from
``entry.js`` by ``npm ci && npm run build``. Weighed and left, minified sizes of their newest versions: plotly.js 4.1
(1,500 kB for the cartesian charts alone), Bokeh 3.10 (1,388 kB), Vega 6 with Vega-Lite and its embedder (832 kB, and it
builds functions from strings, which the policy would have to allow), Observable Plot 0.6 with D3 (490 kB, one SVG
element a cell: 25,600 of them), and Chart.js 4.6 with chartjs-chart-matrix (214 kB, without zoom, slider or colour
scale, which would be two more plugins and code of our own).
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import sys
from array import array
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import jinja2
from markupsafe import Markup

from gpt2ln_cli.escaping import visible
from gpt2ln_cli.quantities import LABELS, QUANTITIES, SUMMARIZED
from gpt2ln_cli.record_schema import descriptions
from gpt2ln_cli.records import Row, united
from gpt2ln_cli.render.colors import VIRIDIS
from gpt2ln_cli.render.header import model_lines, prompt_lines, warning_lines
from gpt2ln_cli.render.layout import MISSING, integer, number
from gpt2ln_cli.render.wording import (
    OUTCOMES,
    SITES,
    count_sentences,
    learned_sentence,
    reading_sentence,
    reproduced_shares,
    verified_sentence,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpt2ln_cli.records import Inspection, PromptInfo, Report, Spread, Summary, Vector, Verification

# Cells (sites x tokens) of the heatmap, each of eight numbers: 1.1 MB. The 25 sites of GPT-2 small leave 1,040 tokens.
CELLS = 26_000
# Digits that hovering shows. A number of six digits survives being a float32, so what is shown is the record's.
DIGITS = 6
PROMPTS_SHOWN, PROMPT_SHOWN = 20, 280
BOX = ("min", "lower_quartile", "median", "upper_quartile", "max")
SIGNED = ("mean", "excess_kurtosis")


class Columns(NamedTuple):
    """Columns of a table that belong together under one title."""

    title: str
    headings: list[str]
    rows: list[list[str]]


def write(record: Report, stream: TextIO) -> None:
    """Write the page; of one or many prompts with 1,024 tokens together it has less than 2 MB."""
    inspection, reproduction = record.inspection, record.reproduction
    style, scripts = _read("page.css"), [_read("echarts/echarts.min.js"), _read("page.js")]
    shown = min(inspection.counts.tokens, CELLS // len(inspection.sites))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = visible
    page = environment.from_string(_read("page.html")).render(
        policy=_policy(style, scripts),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        data=_json_for_html(_data(inspection, shown)),
        model=inspection.model,
        header=[*model_lines(inspection.model), *_run_lines(inspection)],
        warnings=warning_lines(united(inspection.warnings, record.verification.warnings)),
        nonfinite=record.nonfinite,
        prompts=[_prompt(prompt) for prompt in inspection.prompts[:PROMPTS_SHOWN]],
        more_prompts=len(inspection.prompts[PROMPTS_SHOWN:]),
        counts=inspection.counts,
        count_sentences=count_sentences(inspection),
        integer=integer,
        shown=shown,
        sites=[site.name for site in inspection.sites],
        statistics=_statistics(inspection),
        sites_legend=SITES,
        learned=learned_sentence(record.verdict, inspection.sites),
        vectors=[
            _vectors("learned gain", [site.gain for site in inspection.sites]),
            _vectors("learned bias", [site.bias for site in inspection.sites]),
        ],
        verification=record.verification,
        tried=_tried(record.verification, inspection),
        verified=verified_sentence(record.verification),
        outcomes=OUTCOMES,
        readings=_readings(record.verification),
        readings_legend=reading_sentence(record.verification),
        reproduction=reproduction,
        command=shlex.join(reproduction.command),
    )
    stream.write(page + "\n")


def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Nothing loads, and only the page's own style and scripts, known by their hashes, take effect."""

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {' '.join(map(source, scripts))}; style-src {source(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _json_for_html(value: object) -> Markup:
    """JSON that can't end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII: U+2028 and the like are escaped
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def _data(record: Inspection, shown: int) -> dict[str, Any]:
    """What the charts are drawn from; of the tokens, the first ``shown``."""
    sequences, left = [], shown
    for prompt in record.prompts:
        if left:
            length = min(left, prompt.length)
            left -= length
            sequences.append(
                {
                    "index": prompt.index,
                    "length": prompt.length,
                    "ids": prompt.token_ids[:length],
                    "tokens": None if prompt.tokens is None else [visible(token) for token in prompt.tokens[:length]],
                }
            )
    return {
        "colors": [f"rgb({red},{green},{blue})" for red, green, blue in VIRIDIS],
        "digits": DIGITS,
        "box": [name.replace("_", " ") for name in BOX],
        "quantities": [
            {"label": label, "description": descriptions(Row)[name], "signed": name in SIGNED}
            for name, label in LABELS.items()
        ],
        "quantity": QUANTITIES.index("sigma"),
        "sites": [site.name for site in record.sites],
        "sequences": sequences,
        "values": _packed(record.rows or [], tokens=record.counts.tokens, shown=shown),
        "learned": [
            {
                name: None if vector is None else [getattr(vector, step) for step in BOX]
                for name, vector in (("gain", site.gain), ("bias", site.bias))
            }
            for site in record.sites
        ],
    }


def _packed(rows: Sequence[Row], *, tokens: int, shown: int) -> str:
    """Little-endian float32 of shape (quantities, sites, shown), in base64; null is NaN.

    Args:
        rows: by site, and at each site all tokens in order.
        tokens: of each site.
        shown: how many of those to take.
    """
    columns = {name: array("f") for name in QUANTITIES}
    for start in range(0, len(rows), tokens):
        for row in rows[start : start + shown]:
            for name, column in columns.items():
                column.append(_rounded(getattr(row, name)))
    packed = b""
    for column in columns.values():
        if sys.byteorder == "big":
            column.byteswap()
        packed += column.tobytes()
    return base64.b64encode(packed).decode()


def _rounded(value: float | None) -> float:
    return float("nan") if value is None else float(f"{value:.{DIGITS - 1}e}")


def _run_lines(record: Inspection) -> list[tuple[str, str]]:
    return prompt_lines(record.prompts, bos=record.bos, padding=record.counts.padding)


def _prompt(prompt: PromptInfo) -> tuple[int, str | None, int]:
    """Number, text (the beginning of a long one) and length of a sequence."""
    text = prompt.text
    if text is None and prompt.tokens is not None:
        text = "".join(prompt.tokens)
    if text is not None and len(text) > PROMPT_SHOWN:
        text = f"{text[:PROMPT_SHOWN]} ..."
    return prompt.index, text, prompt.length


def _statistics(record: Inspection) -> list[Columns]:
    several = record.counts.sequences > 1
    return [
        Columns(
            LABELS[name],
            ["pos 0", *(["min", "max"] if several else []), "later", "min", "max"],
            [[*_three(site.first, name)[: 3 if several else 1], *_three(site.rest, name)] for site in record.sites],
        )
        for name in SUMMARIZED
    ]


def _three(summary: Summary | None, name: str) -> list[str]:
    if summary is None:
        return [MISSING] * 3
    spread: Spread = getattr(summary, name)
    return [number(spread.mean), number(spread.min), number(spread.max)]


def _vectors(title: str, vectors: Sequence[Vector | None]) -> Columns:
    names = ["mean", "std", *BOX, "norm"]
    return Columns(
        title,
        [name.replace("_", " ") for name in names],
        [[number(None if vector is None else getattr(vector, name)) for name in names] for vector in vectors],
    )


def _readings(record: Verification) -> list[Columns]:
    return [
        Columns("for this input", ["statistics"], [[integer(one.statistics)] for one in record.readings]),
        Columns(
            "|y - predicted| / rms(y)",
            ["rms", "worst"],
            [[number(one.rms), number(one.worst)] for one in record.readings],
        ),
        Columns("reproduced numbers", ["exactly", "in all"], [reproduced_shares(one) for one in record.readings]),
        Columns("last places", ["worst"], [[number(one.ulps)] for one in record.readings]),
        Columns("fits", ["sites"], [[f"{one.fits} of {len(record.sites)}"] for one in record.readings]),
    ]


def _tried(record: Verification, inspection: Inspection) -> str:
    tokens = sum(prompt.length for prompt in record.prompts)
    every = inspection.counts.tokens
    what = f"all {every:,} tokens" if tokens == every else f"the first {tokens:,} of the {every:,} tokens"
    return f"Tried on {what}, at all {len(record.sites)} LayerNorms of the model."
