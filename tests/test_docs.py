"""What README.md and the pages show is what the commands print, and every command and topic has its page."""

from __future__ import annotations

import doctest
import re

import pytest
from docs import CLAIMS, FILES, ROOT, TABLE, blocks, output_of, table_of_claims, table_of_quantities

from gpt2ln_cli.commands import COMMANDS
from gpt2ln_cli.commands.help.compute import PAGES, names, page, topics
from gpt2ln_cli.output.blocks import RECORD
from gpt2ln_cli.shell.output import table_names

# Each is a process of its own: the README's every time, the pages' in the gate.
BLOCKS = [
    pytest.param(
        command,
        shown,
        marks=[] if path.name == "README.md" else [pytest.mark.slow],
        id=f"{path.name}: {command}",
    )
    for path, command, shown in blocks()
]
PYTHON = re.compile(r"```pycon\n(.*?)```", re.DOTALL)
README_LINES = 220
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
# What a difference of values that should be equal comes to: half a unit in the last place of float32 for each of two
# values of up to 64, the largest that the runs shown hand to a LayerNorm's successor.
ROUNDING = 64 * 2**-23
# Sums in another order, through twelve blocks: two units of the last of four digits.
KERNELS = 2e-3


def agree(got, shown):
    """Whether two printed figures are one, but for the last digit's rounding and for kernels that round differently."""
    ours, theirs = (float(figure.replace(",", "")) for figure in (got, shown))
    mantissa, _, exponent = shown.lstrip("-").partition("e")
    digits = mantissa.replace(",", "").replace(".", "").lstrip("0")
    counted = "." not in shown and not exponent and ("," in shown or len(digits) <= 3)
    if counted or len(digits) == 1:
        return ours == theirs
    if abs(theirs) < ROUNDING:
        return abs(ours) < ROUNDING
    last = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(ours - theirs) <= 1.001 * last + KERNELS * abs(theirs)


@pytest.mark.parametrize(
    ("got", "shown", "same"),
    [
        ("25,600", "25,600", True),
        ("25,601", "25,600", False),
        ("2e-05", "1e-05", False),
        ("4.633", "4.632", True),
        ("4.652", "4.632", False),
        ("-0.0002361", "-0.0002360", True),
        ("-0.0002410", "-0.0002360", False),
        ("1.9e-07", "7.596e-08", True),
        ("2.0e-05", "7.596e-08", False),
        ("-9.1e-16", "8.1e-16", True),
    ],
)
def test_what_the_comparison_takes_for_the_same(got, shown, same):
    assert agree(got, shown) is same


@pytest.mark.parametrize(("command", "shown"), BLOCKS)
def test_the_outputs_are_up_to_date(command, shown):
    """Words and counts exactly; figures to rounding, since kernels round differently elsewhere."""
    got = output_of(command)
    words = [re.sub(r"\s+|─+", " ", NUMBER.sub("#", text)) for text in (got, shown)]
    assert words[0] == words[1]
    pairs = zip(NUMBER.findall(got), NUMBER.findall(shown), strict=True)
    assert [pair for pair in pairs if not agree(*pair)] == []


@pytest.mark.parametrize("path", [path for path in FILES if PYTHON.search(path.read_text(encoding="utf-8"))])
def test_the_python_shown_runs(path):
    """A session at the prompt, with what it shows."""
    session = "\n".join(PYTHON.findall(path.read_text(encoding="utf-8")))
    test = doctest.DocTestParser().get_doctest(session, {}, path.name, str(path), 0)
    told: list[str] = []
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append).failed == 0, "".join(told)


def test_every_command_and_topic_has_a_page():
    about = topics()
    assert {command.name for command in COMMANDS} <= set(names())
    assert set(names()) == {command.name for command in COMMANDS} | set(about)
    for name in names():
        assert page(name).startswith((f"# gpt2ln {name}\n", f"# {name}: "))
    assert {"models", "formats", "python", "definitions", "exit-codes", "prompts"} <= set(about)


@pytest.mark.parametrize("command", [command.name for command in COMMANDS if command.record is not None])
def test_a_commands_page_names_its_tables(command):
    named = re.findall(r"`(\w+)`", page(command) + page("formats"))
    assert [table for table in table_names(command) if table not in {*named, RECORD}] == []


@pytest.mark.parametrize("path", [*FILES, ROOT / "tests/benchmarks/README.md", *(ROOT / ".github").glob("*.md")])
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert [link for link in links if not (path.parent / link).exists()] == []
    assert [name for name in re.findall(r"gpt2ln help ([a-z-]+)", text) if not (PAGES / f"{name}.md").exists()] == []


def test_the_quantities_are_those_that_are_measured():
    assert TABLE.findall(page("definitions")) == [table_of_quantities()]


def test_the_claims_are_those_that_are_worded():
    assert CLAIMS.findall(page("claims")) == [table_of_claims()]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split("\n")) <= README_LINES
