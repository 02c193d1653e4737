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

EXAMPLES = int(os.environ.get("GPT2LN_MUTATIONS", "150"))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is told by /proc")
def test_mutated_files_are_read_or_refused():
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "mutate.py"), str(EXAMPLES), "20240326"],
        capture_output=True,
        text=True,
        timeout=600 + 5 * EXAMPLES,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(told)
    assert told["examples"] >= EXAMPLES
    # Both kinds of outcome were met: what survives a change, and what is refused.
    assert told["by_code"]["0"] > 0 < told["by_code"]["3"]
