"""Mutated checkpoint files of every layout: no traceback, no hang, no gigabyte, always an exit code that was agreed.

``GPT2LN_MUTATIONS=2000 pytest tests/test_mutations.py`` runs that many; without it, a slice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MUTATIONS = os.environ.get("GPT2LN_MUTATIONS")

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is told by /proc")


def mutate(examples, *words):
    examples = int(MUTATIONS or examples)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "mutate.py"), str(examples), *words],
        capture_output=True,
        text=True,
        timeout=600 + 5 * examples,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(told)
    assert told["examples"] >= examples
    # Both kinds of outcome were met: what survives a change, and what is refused.
    assert told["by_code"]["0"] > 0 < told["by_code"]["3"]
    return done.stderr


@pytest.mark.parametrize("examples", [50, pytest.param(150, marks=pytest.mark.slow)])
def test_mutated_files_are_read_or_refused(examples):
    mutate(examples, "20240326")


@pytest.mark.parametrize("examples", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_mutated_files_of_tensorflow_are_read_or_refused(examples):
    mutate(examples, "20240326", "tensorflow")


@pytest.mark.parametrize("examples", [50, pytest.param(2000, marks=pytest.mark.slow)])
def test_mutated_tokenizers_are_read_or_refused(examples):
    # A panic prints itself past sys.stderr, where the examples look.
    assert "panicked" not in mutate(examples, "20240326", "tokenizers")
