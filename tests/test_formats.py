"""One run carries the same numbers in every format; rows are streamed."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc

import msgspec
import numpy as np
import pandas
import polars
import pyarrow.parquet
import pytest
from gpt2ln_cli.render import FORMATS, write
from gpt2ln_cli.render.layout import number
from gpt2ln_cli.render.tables import MAIN, choose, names
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.inspect.record import Inspection
from gpt2ln_cli.commands.schema.compute import RECORDS
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.measure import ledger as ledgers
from gpt2ln_cli.measure.ledger import Ledger

HOSTILE = 'a,"b"\nc\rd |e| <script> \x1b[31m = 日本'


@pytest.fixture(scope="session")
def records(demo):
    """A record of each command, and of each shape that it may take."""
    few = [0, "final"]
    return {
        "inspect": gpt2ln_cli.inspect(["the war was over", HOSTILE], model=demo, layers=few),
        "inspect --per-token": gpt2ln_cli.inspect(["the war", HOSTILE], model=demo, layers=few, per_token=True),
        "stats": gpt2ln_cli.stats([[1, 2, 3]], model=demo, layers=0, sort="sigma", top=2),
        "params": gpt2ln_cli.params(layers=few, top=2),
        "count": gpt2ln_cli.count(),
        "models": gpt2ln_cli.models(),
        "verify": gpt2ln_cli.verify("the war was over", model=demo),
        "compare": gpt2ln_cli.compare(model=demo, layers=few),
        "compare --context": gpt2ln_cli.compare(model=demo, layers=few, context=True),
        "ablate": gpt2ln_cli.ablate("the war was over, but the hatred was not", model=demo, layers=few),
        "diff": gpt2ln_cli.diff("demo", "demo", "ok", layers=few),
        "tour": gpt2ln_cli.tour(model=demo),
    }


def written(record, output_format, tmp_path, table=None):
    """The bytes of the record in a format."""
    path = tmp_path / "out"
    with path.open("w", encoding="utf-8", newline="") as stream:
        write(record, output_format, stream, table=table)
    return path.read_bytes()


def document_of(record):
    stream = io.StringIO()
    write(record, "json", stream)
    return json.loads(stream.getvalue())


def flat(value, prefix=""):
    """Everything in a JSON object but its lists of objects, by the names joined with underscores."""
    found = {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            found |= flat(inner, f"{prefix}{name}_")
        elif not (isinstance(inner, list) and inner and isinstance(inner[0], dict)):
            found[prefix + name] = inner
    return found


def rows_of(document, path):
    """The rows of the table at a path, each with what stands above it, from the JSON alone."""
    name, *below = path
    value = document[name]
    for item in [] if value is None else value if isinstance(value, list) else [value]:
        if not below:
            yield flat(item)
            continue
        own = {}
        if isinstance(value, list):
            own = flat({key: inner for key, inner in item.items() if not isinstance(inner, dict)}, f"{name}_")
        for row in rows_of(item, below):
            yield {**own, **row}


def expected(document, table):
    if table == "record":
        return [flat(document)]
    if table == "ladder":
        return [flat(one) for one in [document["real"], *document["replaced"]]]
    return list(rows_of(document, table.split(".")))


def assert_same(got, wanted):
    """Equal, but that what is null as a whole in the JSON, or an empty list, may have no column or several."""
    assert len(got) == len(wanted)
    for ours, theirs in zip(got, wanted, strict=True):
        assert {name: value for name, value in ours.items() if value not in (None, [])} == {
            name: value for name, value in theirs.items() if value not in (None, [])
        }


def cells(text):
    return [re.sub(r"\\([^\w\s])", r"\1", cell) for cell in re.split(r"(?<!\\) \| ", text.strip()[2:-2])]


def test_every_table_holds_what_the_json_holds(records, tmp_path):
    tables = 0
    for record in records.values():
        document = document_of(record)
        for table in names(type(record)):
            wanted = expected(document, table)
            lines = written(record, "ndjson", tmp_path, table).decode().splitlines()
            objects = [json.loads(line) for line in lines]
            assert_same(objects, wanted)

            parquet = pyarrow.parquet.read_table(io.BytesIO(written(record, "parquet", tmp_path, table)))
            assert len(set(parquet.column_names)) == len(parquet.column_names)
            assert parquet.num_rows == len(wanted)
            for name in parquet.column_names:
                # A list within a cell, but for lists of scalars, is JSON text.
                column = [
                    json.loads(value) if isinstance(value, str) and isinstance(row[name], list) else value
                    for value, row in zip(parquet.column(name).to_pylist(), objects, strict=True)
                ]
                assert column == [row[name] for row in objects], name

            text = written(record, "csv", tmp_path, table).decode()
            read = list(csv.DictReader(io.StringIO(text, newline="")))
            assert len(read) == len(objects)
            for ours, theirs in zip(read, objects, strict=True):
                for name, value in theirs.items():
                    cell = ours[name]
                    if value is None:
                        assert cell == ""
                    else:
                        assert (cell if isinstance(value, str) else json.loads(cell)) == value
            tables += bool(wanted)
    assert tables > 40


def test_markdown_holds_the_main_table_to_four_digits(records, tmp_path):
    for record in records.values():
        text = written(record, "markdown", tmp_path).decode()
        assert not re.search(r"[\x00-\x09\x0b-\x1f]|(?<!\\)<", text)
        objects = [json.loads(line) for line in written(record, "ndjson", tmp_path).decode().splitlines()]
        shown = [{} for _ in objects]
        blocks = [block for block in text.split("\n\n") if block.startswith("| ")]
        for block in blocks:
            headings, _, *rows = [cells(line) for line in block.strip().split("\n")]
            assert len(rows) == len(objects)
            for row, line in zip(shown, rows, strict=True):
                row.update(zip(headings, line, strict=True))
        for row, wanted in zip(shown, objects, strict=True):
            assert set(row) == set(wanted)
            for name, value in wanted.items():
                if isinstance(value, float):
                    assert row[name] == number(value)
                elif isinstance(value, int):
                    assert row[name] == json.dumps(value)
                elif value is None:
                    assert row[name] == "-"
        facts = dict(line[2:].split(": ", 1) for line in text.split("\n") if line.startswith("- "))
        for name, value in flat(document_of(record)).items():
            if isinstance(value, int):
                assert facts[name] == json.dumps(value)


def test_the_command_line_writes_the_same_run_in_every_format(tmp_path, capsys):
    words = ["stats", HOSTILE, "--layer", "0,final"]
    for name in FORMATS:
        assert main([*words, "--format", name, "-o", str(tmp_path / name)]) == 0
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
        (("--format", "csv", "--table", "tokens"), "no table 'tokens' in what params gives; it has record, sites"),
        (("--table", "sites"), "--table goes with --format ndjson, csv, markdown, parquet"),
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
            write(record, "csv", stream, table=table, csv_safe=safe)
            read[safe] = list(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))
        changed = set()
        for plain, safe in zip(read[False], read[True], strict=True):
            for name, cell in plain.items():
                is_text = name in ("text", "token", "site")
                assert safe[name] == ("'" + cell if is_text and cell[:1] in tuple("=+-@\t\r") else cell)
                changed |= {cell} if safe[name] != cell else set()
        assert changed >= (set(EXECUTED) if table == "prompts" else {"=", "+", "-", "@"})
    # Numbers below 0 stay numbers.
    assert any(float(row["mean"]) < 0 for row in read[True])
    with pytest.raises(UsageError, match="csv_safe goes with csv, not ndjson"):
        write(record, "ndjson", io.StringIO(), csv_safe=True)


def test_the_option_for_a_safe_csv(capsys):
    words = ["inspect", "=1+1", "--layer", "0", "--format", "csv", "--table", "prompts"]
    assert main(words) == 0
    assert ",=1+1," in capsys.readouterr().out
    assert main([*words, "--csv-safe"]) == 0
    assert ",'=1+1," in capsys.readouterr().out


def test_without_pyarrow_parquet_names_the_extra(capsys, monkeypatch):
    monkeypatch.setattr("gpt2ln_cli.shell.running.find_spec", lambda name: None)
    assert main(["count", "--format", "parquet"]) == 2
    assert 'pip install ".[parquet]"' in capsys.readouterr().err


def test_every_record_is_provided_for():
    assert set(RECORDS.values()) == set(MAIN)
    for kind, mains in MAIN.items():
        assert set(mains) <= set(names(kind))


def test_records_become_frames_in_one_line(records):
    """As the README has it."""
    for name, record in records.items():
        if name == "tour":  # polars has no column for a table of words and numbers within a cell
            continue
        objects = list(choose(record).objects())
        for frame in (
            pandas.DataFrame(choose(record).objects()),
            polars.DataFrame(list(choose(record).objects()), infer_schema_length=None),
        ):
            assert list(frame.columns) == list(objects[0])
            assert len(frame) == len(objects)
    record = records["inspect --per-token"]
    assert pandas.DataFrame(choose(record).objects())["sigma"].to_list() == [row.sigma for row in record.rows]


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


@pytest.mark.parametrize("output_format", ["json", "ndjson", "csv", "markdown", "parquet"])
def test_memory_does_not_grow_with_the_rows(demo, tmp_path, monkeypatch, output_format):
    """Seventeen times the rows take no more memory to write, and the run's own numbers go to a file."""
    monkeypatch.undo()  # what holds every JSON against the schema keeps it in memory
    monkeypatch.setattr(ledgers, "MEMORY", 2**16)
    monkeypatch.setattr("gpt2ln_cli.render.parquet.ROWS_AT_ONCE", 256)
    peaks = []
    for layers in (["final"], range(8)):
        record = gpt2ln_cli.inspect([[1] * 256], model=demo, layers=layers, per_token=True)
        with (tmp_path / "out").open("w") as stream:
            tracemalloc.start()
            write(record, output_format, stream)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    # 16 x 256 rows more; one of them alone, as a record, takes over 500 bytes.
    assert peaks[1] - peaks[0] < 40 * 16 * 256


def test_from_python_an_unknown_format_or_table_is_named(records):
    with pytest.raises(UsageError, match="no format 'xml': it is none of table, json"):
        write(records["count"], "xml", io.StringIO())
    with pytest.raises(UsageError, match="no table 'rows' in what count gives"):
        choose(records["count"], "rows")


def test_asking_for_the_rows_makes_them(capsys):
    words = ["inspect", "--token-ids", "1,2", "--layer", "final", "--format", "csv"]
    assert main([*words, "--table", "rows"]) == 0
    rows = capsys.readouterr().out
    assert main([*words, "--per-token"]) == 0
    assert rows == capsys.readouterr().out
    assert rows.count("\n") == 3
