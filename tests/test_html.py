"""A page of HTML for any view: complete, harmless, and with the numbers of the record."""

from __future__ import annotations

import io

import pytest
from test_report import HOSTILE, PROMPTS, Parts

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.commands.inspect.view import view as inspected
from gpt2ln_cli.commands.params.view import view as learned
from gpt2ln_cli.commands.verify.view import view as verified
from gpt2ln_cli.output.blocks import Code, Fact, Facts, Heading, Paragraph, View
from gpt2ln_cli.output.text import number, percent
from gpt2ln_cli.quantities import QUANTITIES


def page_of(view, **how):
    stream = io.StringIO()
    output.write(view, "html", stream, **how)
    return stream.getvalue()


def parsed(page):
    parts = Parts()
    parts.feed(page)
    return parts


@pytest.fixture(scope="module")
def inspection(demo):
    return gpt2ln_cli.inspect(PROMPTS, model=demo, layers=[5, "final"], per_token=True)


def test_a_page_without_pictures_has_no_script_and_loads_nothing(inspection):
    page = page_of(inspected(inspection))
    parts = parsed(page)
    assert "script" not in parts.tags
    assert {reference for reference in parts.references if not reference.startswith("#")} == {"data:,"}
    assert "script-src 'none';" in parts.policy
    anchors = [reference[1:] for reference in parts.references if reference.startswith("#")]
    assert len(anchors) == 1 + 3
    assert all(f'id="{anchor}"' in page for anchor in anchors)
    assert HOSTILE not in page
    assert len(page) < 60_000


def test_every_token_has_its_row_with_the_records_numbers(inspection):
    tables = parsed(page_of(inspected(inspection))).tables
    for site in inspection.sites:
        rows = [row for row in inspection.rows if row.site == site.name]
        assert [cells[:2] + cells[3:] for cells in tables[site.name][1:]] == [
            [
                str(row.sequence),
                str(row.position),
                *(
                    (percent if each.share else number)(getattr(row, name))
                    for name, each in QUANTITIES.items()
                    if name != "normalized_norm"  # which is said once
                ),
            ]
            for row in rows
        ]


def test_a_heatmap_alone_is_a_page_with_its_scripts(inspection):
    page = page_of(inspected(inspection, heatmap="post_norm"))
    assert parsed(page).tags.count("script") == 3
    assert '"quantity":4' in page


def test_everything_has_the_columns_and_tables_that_are_for_data(demo):
    record = gpt2ln_cli.verify(PROMPTS, model=demo)
    some, everything = page_of(verified(record)), page_of(verified(record), everything=True)
    assert "runner_up" not in some
    assert "runner_up" in everything
    for table in verified(record).more:
        assert (f">{table.name}</h2>" in everything) == any(True for _ in table.rows())
    assert ">record</h2>" in everything


def test_features_farthest_from_their_start_are_read_as_text_and_written_as_numbers():
    record = gpt2ln_cli.params(features=2)
    view = learned(record)
    assert set(view.tables()) == {"sites", "extremes", "claims", "warnings", "record"}
    rows = list(view.table("extremes").objects())
    assert len(rows) == 25 * 2 * 2
    first = record.sites[0].gain.extremes
    text = "  ".join(f"{one.index}:{number(one.value)}" for one in first)
    assert text in page_of(view)
    assert [(row["index"], row["value"]) for row in rows[:2]] == [(one.index, one.value) for one in first]
    stream = io.StringIO()
    output.write(view, "table", stream)
    assert text in stream.getvalue()


def test_whatever_is_foreign_is_escaped(inspection):
    hostile = f"{HOSTILE}\x1b\u202e"
    shown = [
        Facts([Fact(hostile, hostile), Fact("b", hostile, hostile, "bad")]),
        Paragraph(hostile, "warning"),
        Heading(hostile),
        Heading(hostile, level=3),
        Paragraph(hostile, "strong"),
        Code(f"{hostile}\n{hostile}", lead=hostile),
    ]
    page = page_of(View(inspection, shown, title=hostile))
    assert not {"script", "img"} & set(parsed(page).tags)
    assert not {"\x1b", "\u202e"} & set(page)
    assert page.count(r"\x1b\u202e") == 13
