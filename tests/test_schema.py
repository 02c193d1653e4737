"""The JSON Schema is made from the records, describes them, and does not change unnoticed."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import click
import msgspec
import pytest
from contract import validator
from jsonschema import Draft202012Validator, ValidationError

import gpt2ln_cli
from gpt2ln_cli.app import gpt2ln, main
from gpt2ln_cli.commands.inspect import record as inspected
from gpt2ln_cli.commands.schema.compute import WITH_RECORD
from gpt2ln_cli.records import SCHEMA_VERSION

STORED = Path(__file__).parent / "schema.json"


def fields(schema):
    return {
        f"{name}.{field}": {key: value for key, value in definition.items() if key != "description"}
        for name, whole in schema["$defs"].items()
        for field, definition in whole["properties"].items()
    }


def keeps(now, before):
    """Whether a field still is what it was; an enumeration may have grown."""
    if now and "enum" in now and "enum" in before:
        return set(now["enum"]) >= set(before["enum"]) and {**now, "enum": 0} == {**before, "enum": 0}
    return now == before


def test_the_schema_is_the_stored_one():
    """Fields, and values of an enumeration, may come within a schema_version; none may go or become something else."""
    stored, now = json.loads(STORED.read_text(encoding="utf-8")), gpt2ln_cli.schema()
    before, after = fields(stored), fields(now)
    if before["Inspection.schema_version"] == after["Inspection.schema_version"]:
        broken = [name for name, definition in before.items() if not keeps(after.get(name), definition)]
        assert not broken, f"removed or changed: {broken}; if that must be, raise records.SCHEMA_VERSION."
    assert stored == now, f"fields or descriptions are new: gpt2ln schema > {STORED.name}, and commit it."


def test_every_command_of_a_record_has_its_schema():
    context = click.Context(gpt2ln)
    found = {name: gpt2ln.get_command(context, name) for name in gpt2ln.list_commands(context)}
    printed = {
        name for name, command in found.items() if any("--json" in parameter.opts for parameter in command.params)
    }
    assert printed == set(WITH_RECORD)
    for command in printed:
        Draft202012Validator.check_schema(gpt2ln_cli.schema(command))


def test_the_command_prints_it(capsys):
    assert main(["schema", "verify"]) == 0
    assert json.loads(capsys.readouterr().out) == gpt2ln_cli.schema("verify")
    assert main(["schema", "verified"]) == 2
    assert "there is a schema for inspect, stats" in capsys.readouterr().err


def test_it_tells_a_wrong_document():
    document = json.loads(msgspec.json.encode(gpt2ln_cli.count()))
    validator("count").validate(document)
    for change in ({"total": "many"}, {"total": None}, {"schema_version": "0.9"}, {"totals": 1}, {"command": "params"}):
        with pytest.raises(ValidationError):
            validator("count").validate({**document, **change})
    del document["readings"]
    with pytest.raises(ValidationError):
        validator("count").validate(document)


def test_descriptions_are_what_stands_at_the_fields():
    """Read from the source, not from its classes."""
    tree = ast.parse(Path(inspected.__file__).read_text(encoding="utf-8"))
    (row,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Row"]
    (field,) = [node for node in row.body if isinstance(node, ast.AnnAssign) and node.target.id == "max_deviation"]
    (said,) = [node.value.value for node in ast.walk(field) if isinstance(node, ast.keyword)]
    described = gpt2ln_cli.schema("stats")["$defs"]["Row"]["properties"]
    assert described["max_deviation"]["description"] == said
    for name in ("mean", "sigma", "pre_norm", "normalized_norm", "post_norm", "excess_kurtosis", "mean_share"):
        assert described[name]["description"]


def test_the_version_is_said():
    assert gpt2ln_cli.schema("count")["$defs"]["Arithmetic"]["properties"]["schema_version"]["const"] == SCHEMA_VERSION
