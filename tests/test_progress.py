"""Whoever waits is told what for."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

import gpt2ln_cli
from gpt2ln_cli.shell.progress import Bar


class Told:
    """Takes what a progress bar is told."""

    def __init__(self):
        self.heard = []

    def __call__(self, done, total):
        self.heard.append((done, total))

    def phase(self, name):
        self.heard.append(name)


def test_report_says_what_it_is_doing(demo):
    told = Told()
    gpt2ln_cli.report([[1, 2, 3]], model=demo, layers=0, vectors=True, progress=told)
    assert told.heard == ["inspecting", (3, 3), "reading vectors", "verifying"]


@pytest.mark.parametrize(
    ("options", "phases"),
    [
        ({"probe": True, "layers": 0, "sites": ["ln_1"]}, ["comparing", "fitting linear probes"]),
        ({"probe": False}, ["comparing"]),
        ({"context": True, "layers": 0}, ["comparing contexts"]),
    ],
)
def test_compare_says_what_it_is_doing(demo, options, phases):
    told = Told()
    gpt2ln_cli.compare([[1, 2, 3], [4, 5]], model=demo, progress=told, **options)
    assert [one for one in told.heard if isinstance(one, str)] == phases
    assert (5, 5) in told.heard


@pytest.mark.slow
def test_tour_says_what_it_is_doing(demo):
    told = Told()
    gpt2ln_cli.tour(model=demo, progress=told)
    phases = [one for one in told.heard if isinstance(one, str)]
    assert phases == [
        "counting statistics",
        "trying every axis",
        "comparing",
        "fitting linear probes",
        "comparing contexts",
        "replacing LayerNorms",
        "measuring gradients",
    ]


def test_the_bar_shows_the_phase_and_begins_anew():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"), console=console
    )
    bar = Bar(progress)

    def shown():
        (task,) = progress.tasks
        return task.description, task.fields["done"], task.completed, task.total

    assert shown() == ("loading", "", 0, None)
    bar(5, 10)
    assert shown() == ("running", "5 of 10 tokens", 5, 10)
    bar.phase("verifying")
    assert shown() == ("verifying", "", 0, None)
    bar(1, 4)
    assert shown() == ("verifying", "1 of 4 tokens", 1, 4)
    progress.stop()
    assert "verifying" in stream.getvalue()


def test_a_plain_function_is_still_enough(demo):
    heard = []
    gpt2ln_cli.report([[1, 2, 3]], model=demo, layers=0, progress=lambda *step: heard.append(step))
    assert heard == [(3, 3)]
