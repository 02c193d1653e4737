"""One run carries the same numbers in every format; rows are streamed."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import tempfile
import tracemalloc
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pandas
import polars
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.cells import cell_len

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint import BUNDLED
from gpt2ln_cli.commands.inspect.record import Inspection
from gpt2ln_cli.commands.schema.compute import WITH_RECORD
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.measure import ledger as ledgers
from gpt2ln_cli.measure.ledger import Ledger
from gpt2ln_cli.output import FORMATS
from gpt2ln_cli.output.blocks import RECORD
from gpt2ln_cli.output.text import cell, number
from gpt2ln_cli.shell.output import table_names

HOSTILE = 'a,"b"\nc\rd |e| <script> \x1b[31m = 日本'
FEW = [0, "final"]
ONE_TABLE = [name for name, known in FORMATS.items() if known.one_table]
DOCUMENTS = [name for name, known in FORMATS.items() if known.document]


def grow_massive(body):
    body.h[0].mlp.c_proj.bias.data[7] = 2000.0


# A record of each command, and of each shape that it may take.
SHAPES = {
    "inspect": lambda demo, _: gpt2ln_cli.inspect(["the war was over", HOSTILE], model=demo, layers=FEW),
    "inspect --per-token": lambda demo, _: gpt2ln_cli.inspect(
        ["the war", HOSTILE], model=demo, layers=FEW, per_token=True
    ),
    "inspect, flagged": lambda _, make: gpt2ln_cli.inspect(
        [[1, 2, 3]], model=make(lambda body: body.h[1].ln_1.weight.data.fill_(float("nan")))
    ),
    "inspect --sort": lambda demo, _: gpt2ln_cli.inspect(
        [[1, 2, 3]], model=demo, sort="excess_kurtosis", top=3, per_token=True
    ),
    "stats": lambda demo, _: gpt2ln_cli.stats([[1, 2, 3]], model=demo, layers=0, sort="sigma", top=2, vectors=True),
    "params": lambda demo, _: gpt2ln_cli.params(model=demo, layers=FEW),
    "params --sort": lambda demo, _: gpt2ln_cli.params(model=demo, layers=FEW, sort="bias_max", top=2),
    "params --features": lambda demo, _: gpt2ln_cli.params(model=demo, layers=FEW, features=2),
    "count": lambda _, __: gpt2ln_cli.count(),
    "models": lambda _, __: gpt2ln_cli.models(),
    "verify": lambda demo, _: gpt2ln_cli.verify("the war was over", model=demo),
    "compare": lambda demo, _: gpt2ln_cli.compare(model=demo, layers=FEW),
    "compare --context": lambda demo, _: gpt2ln_cli.compare(model=demo, layers=FEW, context=True),
    "compare --context, long": lambda demo, _: gpt2ln_cli.compare(
        [list(range(20))], model=demo, layers=FEW, context=True
    ),
    "ablate": lambda demo, _: gpt2ln_cli.ablate("the war was over", model=demo, layers=FEW),
    "ablate --feature": lambda _, make: gpt2ln_cli.ablate([[3, 1, 4], [9, 2]], model=make(), ablated_features=[5, 7]),
    "features": lambda _, make: gpt2ln_cli.features(
        [[3, 1, 4], [9, 2]], model=make(lambda body: body.h[0].mlp.c_proj.bias.data[5].add_(3000))
    ),
    "features, a site": lambda demo, _: gpt2ln_cli.features("the", model=demo, layers=0, sites=["ln_1"]),
    "attribute": lambda demo, _: gpt2ln_cli.attribute("the war", model=demo, layers=0, feature=37),
    "attribute --per-token": lambda _, make: gpt2ln_cli.attribute(
        [[3, 1, 4], [9, 2]], model=make(), by_head=True, per_token=True
    ),
    "diff": lambda _, make: gpt2ln_cli.diff(
        make(), make(lambda body: body.h[1].ln_2.weight.data.mul_(1.25)), [[3, 1, 4], [9, 2]]
    ),
    "diff of parameters": lambda demo, _: gpt2ln_cli.diff(demo, demo, layers=FEW),
    "track": lambda _, make: gpt2ln_cli.track([make(), "./none", make(grow_massive)], [[3, 1, 4], [9, 2]]),
    "track of parameters": lambda demo, _: gpt2ln_cli.track(demo, layers=FEW),
    "tour": lambda demo, _: gpt2ln_cli.tour(model=demo),
    "profile": lambda demo, make: gpt2ln_cli.profile(
        ["the war", HOSTILE], model=with_tokenizer(make(vocab_size=demo.checkpoint.config.vocab_size)), top=2, threads=1
    ),
    "report": lambda demo, _: gpt2ln_cli.report(["the war", HOSTILE], model=demo, layers=FEW),
}


def with_tokenizer(folder):
    """The model with the tokenizer of the demo."""
    shutil.copy(BUNDLED["demo"] / "tokenizer.json", folder)
    return folder


def same(_):
    """No change of a model."""


def diff_of_runs(*models):
    """What two models make of one corpus."""
    with tempfile.TemporaryDirectory() as name:
        corpus, *runs = (Path(name, part) for part in ("corpus.txt", "a", "b"))
        corpus.write_text("the war was over\nhatred\n")
        for run, model in zip(runs, models, strict=True):
            gpt2ln_cli.profile([corpus], output=run, model=model, threads=1)
        return gpt2ln_cli.diff_runs(*runs)


@pytest.fixture(scope="session")
def records(demo, make_folder):
    return {shape: make(demo, make_folder) for shape, make in SHAPES.items()}


def written(record, output_format, tmp_path, **how):
    """The bytes of the record in a format."""
    path = tmp_path / "out"
    with path.open("w", encoding="utf-8", newline="") as stream:
        output.write(gpt2ln_cli.view(record), output_format, stream, **how)
    return path.read_bytes()


def document_of(record, tmp_path):
    return json.loads(written(record, "json", tmp_path))


def objects_of(record, tmp_path, table):
    return [json.loads(line) for line in written(record, "ndjson", tmp_path, table=table).decode().splitlines()]


# Objects whose names are no fields; a cell holds them whole.
FREE = ("figures",)


def flat(value, prefix=""):
    """Everything in a JSON object but its lists of objects, by the names joined with underscores."""
    found = {}
    for name, inner in value.items():
        if isinstance(inner, dict) and name not in FREE:
            found |= flat(inner, f"{prefix}{name}_")
        elif not (isinstance(inner, list) and inner and isinstance(inner[0], dict)):
            found[prefix + name] = inner
    return found


def lists_of(value, path=""):
    """Every object of a JSON document's lists, by where it stands, with the objects of lists that it stands in."""
    found = {}

    def walk(value, path, above):
        for name, inner in value.items():
            if isinstance(inner, dict):
                walk(inner, f"{path}{name}.", above)
            elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
                for item in inner:
                    found.setdefault(path + name, []).append((item, above))
                    walk(item, f"{path}{name}[].", (*above, item))

    walk(value, path, ())
    return found


# What tells objects of a list apart from their neighbours.
NAMES = ("name", "site", "sequence", "template", "token_id")


def tells(row, item, above):
    """Whether a table's row has all of an object's values under their names, and the names of those it stands in."""
    own = all(
        any(column == name or column.endswith(f"_{name}") for column, found in flat(row).items() if found == value)
        for name, value in flat(item).items()
        if value not in (None, [])
    )
    names = [next((one[name] for name in NAMES if one.get(name) is not None), None) for one in above]
    return own and all(name is None or name in row.values() for name in names)


def is_told(items, rows):
    """Whether a table has a row for each object, in their order."""
    left = iter(rows)
    return all(any(tells(row, *item) for row in left) for item in items)


class Cells(HTMLParser):
    """The texts of a page's cells, row by row; each fact is a row of its own."""

    def __init__(self):
        super().__init__()
        self.rows, self.text = [], None

    def handle_starttag(self, tag, _):
        if tag in ("tr", "dd"):
            self.rows.append([])
        if tag in ("td", "th", "dd"):
            self.text = ""

    def handle_data(self, data):
        if self.text is not None:
            self.text += data

    def handle_endtag(self, tag):
        if tag in ("td", "th", "dd"):
            self.rows[-1].append(self.text)
            self.text = None


def lines_read(output_format, text):
    """The words or cells of each line or row of what a person reads."""
    if output_format == "html":
        parser = Cells()
        parser.feed(text)
        return parser.rows
    if output_format == "markdown":
        plain = re.sub(r"\\([^\w\s])", r"\1", text.replace(r"\|", "\0"))
        return [
            re.split(r" \| |: ", re.sub(r"^(\| |- )| \|$", "", line.replace("**", ""))) for line in plain.split("\n")
        ]
    return [line.split() for line in text.split("\n")]


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_format_of_every_command_has_the_numbers_of_its_json(records, shape, tmp_path, monkeypatch):
    record = records[shape]
    view = gpt2ln_cli.view(record)
    document = document_of(record, tmp_path)
    tables = {name: objects_of(record, tmp_path, name) for name in view.tables()}

    # Whatever JSON holds is in a table.
    (whole,) = tables[RECORD]
    assert {name: value for name, value in flat(document).items() if value not in (None, [])}.items() <= whole.items()
    for place, items in lists_of(document).items():
        assert any(is_told(items, rows) for rows in tables.values()), f"{place} is in no table"

    # Data formats have the same values.
    for name, objects in tables.items():
        read = pyarrow.parquet.read_table(io.BytesIO(written(record, "parquet", tmp_path, table=name)))
        assert read.num_rows == len(objects)
        assert read.column_names == [column.name for column in view.table(name).for_data().columns]
        for column in read.column_names:
            # A list within a cell, but for lists of scalars, is JSON text.
            assert [
                json.loads(value) if isinstance(value, str) and isinstance(one[column], list | dict) else value
                for value, one in zip(read.column(column).to_pylist(), objects, strict=True)
            ] == [one[column] for one in objects]
        text = written(record, "csv", tmp_path, table=name).decode()
        for row, one in zip(csv.DictReader(io.StringIO(text, newline="")), objects, strict=True):
            assert row.keys() == one.keys()
            for column, value in one.items():
                if value is None:
                    assert row[column] == ""
                else:
                    assert (row[column] if isinstance(value, str) else json.loads(row[column])) == value

    # What a person reads has them to the digits that it shows, as often as the tables do.
    shown = [
        [cell(column, value) for column, value in zip(table.columns, row, strict=True) if is_number(value)]
        for table in (view.table(name).for_data() for name in tables)
        for row in table.rows()
    ]
    for output_format in DOCUMENTS:
        for width in (80, 140) if output_format == "table" else (80,):
            monkeypatch.setenv("COLUMNS", str(width))
            text = written(record, output_format, tmp_path, everything=True).decode()
            lines = lines_read(output_format, text)
            assert Counter(word for row in shown for word in row) <= Counter(word for line in lines for word in line)
            if output_format == "table":
                assert max(map(cell_len, text.split("\n"))) <= width
                assert "…" not in text


def test_a_record_of_every_command_was_tried_and_every_table_is_known(records, demo, make_folder):
    found = {command: set() for command in WITH_RECORD}
    size = demo.checkpoint.config.vocab_size
    # Of two runs the quantiles stand one below the other (tests/test_diff_runs.py), unlike in JSON.
    runs = diff_of_runs(*(with_tokenizer(make_folder(change, vocab_size=size)) for change in (same, grow_massive)))
    for record in [*records.values(), runs]:
        tables = gpt2ln_cli.view(record).tables()
        found[record.command] |= set(tables)
        for table in tables.values():
            names = [column.name for column in table.columns]
            assert len(set(names)) == len(names)
    assert found == {command: set(table_names(command)) for command in WITH_RECORD}


COMMANDS = {
    "inspect": ("the war", "--layer", "0"),
    "stats": ("the war", "--layer", "0"),
    "params": ("--layer", "0"),
    "count": (),
    "verify": ("the war",),
    "compare": ("the war", "--context", "--layer", "0"),
    "ablate": ("the war", "--layer", "0"),
    "features": ("the war", "--layer", "0"),
    "attribute": ("the war", "--layer", "0"),
    "diff": ("demo", "demo", "--layer", "0", "--all"),
    "report": ("the war", "--layer", "0"),
    "track": ("demo", "--prompt", "the war", "--layer", "0"),
    "tour": (),
    "models": (),
    "profile": ("--threads", "1"),
}


@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=[pytest.mark.slow] if one == "tour" else []) for one in WITH_RECORD]
)
def test_every_command_makes_a_page_that_loads_nothing(command, capsys):
    assert main([command, *COMMANDS[command], "--format", "html"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("<!doctype html>")
    assert "default-src &#39;none&#39;" in page
    assert "<table" in page
    assert re.findall(r' (?:src|href)="([^"#][^"]*)"', page) == ["data:,"]


@pytest.mark.parametrize("output_format", [*ONE_TABLE, *DOCUMENTS])
def test_the_command_line_writes_the_table_that_is_asked_for_and_no_other(output_format, tmp_path):
    words = ["params", "--layer", "0", "--site", "ln_1", "--features", "3", "--format", output_format]
    (site,) = gpt2ln_cli.params(layers=0, sites=["ln_1"], features=3).sites
    far, start = site.gain.extremes[2].value, site.gain.rms_distance  # the third is neither least nor greatest
    texts = {}
    for table in table_names("params"):
        path = tmp_path / table
        assert main([*words, "--table", table, "-o", str(path)]) == 0
        if output_format == "parquet":
            texts[table] = str(pyarrow.parquet.read_table(path).to_pylist())
        else:
            texts[table] = path.read_text(encoding="utf-8")
    shown = number if output_format in DOCUMENTS else str
    assert {table for table, text in texts.items() if shown(far) in text} == {"extremes"}
    # Of one site, it is the least and the greatest of all as well; a sentence has it to four digits.
    assert {table for table, text in texts.items() if shown(start) in text} == {"sites", "claims"}
    assert {table for table, text in texts.items() if "learned_gain" in text.replace("\\", "")} == {"record"}


def test_the_command_line_writes_the_same_run_in_every_format(tmp_path, capsys):
    words = ["stats", HOSTILE, "--layer", "0,final"]
    for name, known in FORMATS.items():
        all_columns = ["--all"] if known.document else []
        assert main([*words, "--format", name, "-o", str(tmp_path / name), *all_columns]) == 0
    rows = json.loads((tmp_path / "json").read_text(encoding="utf-8"))["rows"]
    assert len(rows) == 3 * rows[-1]["position"] + 3
    assert [json.loads(line) for line in (tmp_path / "ndjson").read_text(encoding="utf-8").splitlines()] == rows
    assert pyarrow.parquet.read_table(tmp_path / "parquet").to_pylist() == rows
    with (tmp_path / "csv").open(encoding="utf-8", newline="") as stream:
        for row, wanted in zip(csv.DictReader(stream), rows, strict=True):
            assert row["token"] == wanted["token"]
            assert float(row["sigma"]) == wanted["sigma"]
    table, markdown = ((tmp_path / name).read_text(encoding="utf-8") for name in ("table", "markdown"))
    for row in rows:
        for name in ("mean", "sigma", "pre_norm", "normalized_norm", "post_norm", "max_deviation", "excess_kurtosis"):
            assert number(row[name]) in table.split()
            assert f"| {number(row[name])} |" in markdown
    capsys.readouterr()


def test_parquet_says_what_its_columns_are_and_which_model_it_was(records, tmp_path):
    schema = pyarrow.parquet.read_schema(io.BytesIO(written(records["stats"], "parquet", tmp_path)))
    assert "Population standard deviation" in schema.field("sigma").metadata[b"description"].decode()
    about = json.loads(schema.metadata[b"gpt2ln"])
    assert about["model_name"] == "demo"
    assert about["counts_total"] == records["stats"].counts.total


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "csv", "--table", "tokens"), "no table 'tokens' in what params gives; it has sites, extremes, "),
        (
            ("--table", "tokens"),
            "no table 'tokens' in what params gives; it has sites, extremes, claims, warnings, record",
        ),
        (("--json", "--table", "sites"), "--format json writes everything; --table is for the other formats"),
        (("--all", "--format", "csv"), "--format csv has all columns anyway; leave out --all"),
        (("--format", "xlsx"), "xlsx"),
        (("--format", "csv", "--json"), "--json is --format json"),
        (("--csv-safe",), "--csv-safe goes with --format csv; leave it out, or --format table"),
        (("--csv-safe", "--format", "ndjson"), "--csv-safe goes with --format csv"),
        (("--output", ""), "the name of the output file is empty"),
    ],
)
def test_what_can_not_be_written_is_said_before_the_work(capsys, words, said):
    assert main(["params", "--model", "/nowhere", *words]) == 2
    assert said in capsys.readouterr().err


EXECUTED = ("=1+1", "+cmd|' /C calc'!A0", "-1", "@SUM(A1)", "\t=1+1", "\r=1+1")


def test_a_spreadsheet_finds_no_formula_in_the_texts_of_a_safe_csv(demo):
    """A prompt is anybody's text, and quoting a cell does not keep a spreadsheet from computing what it says."""
    texts = [*EXECUTED, "1 = 1", "'=1+1", "the war"]
    record = gpt2ln_cli.inspect(texts, model=demo, layers=0, sites=["ln_1"], per_token=True)
    for table in ("prompts", "rows"):
        read = {}
        for safe in (False, True):
            stream = io.StringIO(newline="")
            output.write(gpt2ln_cli.view(record), "csv", stream, table=table, csv_safe=safe)
            read[safe] = list(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))
        changed = set()
        for plain, safe in zip(read[False], read[True], strict=True):
            for name, text in plain.items():
                is_text = name in ("text", "token", "site")
                assert safe[name] == ("'" + text if is_text and text[:1] in tuple("=+-@\t\r") else text)
                changed |= {text} if safe[name] != text else set()
        assert changed >= (set(EXECUTED) if table == "prompts" else {"=", "+", "-", "@"})
    # Numbers below 0 stay numbers.
    assert any(float(row["mean"]) < 0 for row in read[True])
    with pytest.raises(UsageError, match="--csv-safe goes with --format csv"):
        output.write(gpt2ln_cli.view(record), "ndjson", io.StringIO(), csv_safe=True)


def test_the_option_for_a_safe_csv(capsys):
    words = ["inspect", "=1+1", "--layer", "0", "--format", "csv", "--table", "prompts"]
    assert main(words) == 0
    assert ",=1+1," in capsys.readouterr().out
    assert main([*words, "--csv-safe"]) == 0
    assert ",'=1+1," in capsys.readouterr().out


def test_without_pyarrow_parquet_names_the_extra(capsys, monkeypatch):
    monkeypatch.setattr("gpt2ln_cli.shell.output.find_spec", lambda name: None)
    assert main(["count", "--format", "parquet"]) == 2
    assert 'pip install ".[parquet]"' in capsys.readouterr().err


def test_records_become_frames_in_one_line(records):
    """As the README has it."""
    for name, record in records.items():
        if name == "tour":  # polars has no column for a table of words and numbers within a cell
            continue
        table = gpt2ln_cli.view(record).table()
        objects = list(table.objects())
        for frame in (
            pandas.DataFrame(table.objects()),
            polars.DataFrame(list(table.objects()), infer_schema_length=None),
        ):
            assert list(frame.columns) == list(objects[0])
            assert len(frame) == len(objects)
    record = records["inspect --per-token"]
    assert pandas.DataFrame(gpt2ln_cli.view(record).table("rows").objects())["sigma"].to_list() == [
        row.sigma for row in record.rows
    ]


def test_rows_are_a_sequence(records):
    rows = records["inspect --per-token"].rows
    listed = list(rows)
    assert len(rows) == len(listed) == records["inspect --per-token"].counts.total
    assert rows == listed
    assert rows[0] == listed[0]
    assert rows[-1] == listed[-1]
    assert rows[3:9:2] == listed[3:9:2]
    with pytest.raises(IndexError):
        rows[len(rows)]
    decoded = msgspec.json.decode(msgspec.json.encode(records["inspect --per-token"], enc_hook=list), type=Inspection)
    assert decoded == records["inspect --per-token"]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_the_ledger_gives_back_what_it_was_given(data):
    """In memory and from a file, whichever pass a token was of."""
    sites, quantities = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    whole = data.draw(arrays(np.float64, (sites, quantities, sum(sizes))))
    places = np.split(np.array(data.draw(st.permutations(range(sum(sizes))))), np.cumsum(sizes)[:-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledgers, "MEMORY", data.draw(st.sampled_from([8, 2**20])))
        ledger = Ledger()
        for part in places:
            ledger.add(whole[:, :, part], part)
        for site in range(sites):
            np.testing.assert_array_equal(ledger.site(site), whole[site])


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(demo, tmp_path, monkeypatch, output_format):
    """Eight times the rows take no more memory to write, and the run's own numbers go to a file."""
    monkeypatch.undo()  # what holds every JSON against the schema keeps it in memory
    monkeypatch.setattr(ledgers, "MEMORY", 2**16)
    monkeypatch.setattr("gpt2ln_cli.output.parquet.ROWS_AT_ONCE", 256)
    peaks = []
    for layers in (range(8), [0], range(8)):  # the first fills the caches of what is imported
        record = gpt2ln_cli.inspect([[1] * 256], model=demo, layers=layers, per_token=True)
        with (tmp_path / "out").open("w") as stream:
            tracemalloc.start()
            output.write(gpt2ln_cli.view(record), output_format, stream)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    # 14 x 256 rows more; one of them alone, as a record, takes over 500 bytes. Half of that leaves room for a resize of
    # Rich's cache of widths, 292 KiB in one piece, which either run may meet.
    assert peaks[2] - peaks[1] < 250 * 14 * 256


def test_from_python_an_unknown_format_or_table_is_named(records):
    with pytest.raises(UsageError, match="no format 'xml': it is none of table, json"):
        output.write(gpt2ln_cli.view(records["count"]), "xml", io.StringIO())
    with pytest.raises(UsageError, match="no table 'rows' in what count gives"):
        gpt2ln_cli.view(records["count"]).table("rows")


def test_asking_for_the_rows_makes_them(capsys):
    words = ["inspect", "--token-ids", "1,2", "--layer", "final", "--format", "csv"]
    assert main([*words, "--table", "rows"]) == 0
    rows = capsys.readouterr().out
    assert main([*words, "--per-token"]) == 0
    assert rows == capsys.readouterr().out
    assert rows.count("\n") == 3
