"""What stands about the project in .github: the workflow runs the gate and the tests, the forms are forms."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import posix

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
JOBS = yaml.safe_load((GITHUB / "workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
FORMS = [path for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]


def test_the_gate_runs_whole():
    (script,) = (step["run"] for step in JOBS["gate"]["steps"] if "run" in step)
    assert os.access(ROOT / script, os.X_OK)
    assert "ubuntu" in JOBS["gate"]["runs-on"]


def test_every_python_and_system_is_tried():
    matrix = JOBS["tests"]["strategy"]["matrix"]
    tried = {(system, python) for system in matrix["os"] for python in matrix["python"]}
    tried |= {(one["os"], one["python"]) for one in matrix["include"]}
    oldest = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    pythons = [f"3.{minor}" for minor in range(int(oldest), 15)]
    assert {python for system, python in tried if system == "ubuntu-latest"} == set(pythons)
    for system in ("macos-latest", "windows-latest"):
        assert {python for one, python in tried if one == system} >= {pythons[0], pythons[-1]}


@posix
def test_the_tests_are_run_by_the_command_of_the_readme():
    script = next(step["run"] for step in JOBS["tests"]["steps"] if "run" in step)
    find = next(line for line in script.splitlines() if line.startswith("command="))
    assert find in (ROOT / ".ci/run").read_text()
    found = subprocess.run(["bash", "-c", f'{find}; echo "$command"'], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == 'pip install -e ".[test]" && pytest\n'


def test_actions_of_others_are_pinned_to_a_release():
    used = [step["uses"] for job in JOBS.values() for step in job["steps"] if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", action)] == []


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_for_something(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form.keys() >= {"name", "description", "body"}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields) > 1
    assert any(field.get("validations", {}).get("required") for field in fields)
