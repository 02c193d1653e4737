"""The JSON Schema of the records, and what their fields mean, both read off the record types."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import msgspec

from gpt2ln_cli.commands import COMMANDS
from gpt2ln_cli.errors import UsageError, did_you_mean
from gpt2ln_cli.records import SCHEMA_VERSION, Record

DIALECT = "https://json-schema.org/draft/2020-12/schema"
WITH_RECORD = tuple(command.name for command in COMMANDS if command.record is not None)
"""The commands that return a record."""


def record_types(command: str) -> list[type[Record]]:
    """The records that a command of ``WITH_RECORD`` returns."""
    home, _, names = next(one.record for one in COMMANDS if one.name == command and one.record).partition(".")
    return [getattr(import_module(f"gpt2ln_cli.commands.{home}.record"), name) for name in names.split("|")]


def schema(command: str | None = None) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what a command returns, or of whatever any of them does; ``gpt2ln schema``.

    Descriptions are included. A later record of the same ``schema_version`` may have more fields, never fewer.

    Args:
        command: its name; None for all.

    Raises:
        UsageError: no command of this name returns a record.
    """
    if command is not None and command not in WITH_RECORD:
        known, meant = ", ".join(WITH_RECORD), did_you_mean(command, WITH_RECORD)
        raise UsageError(f"no record comes from '{command}'; there is a schema for {known}. {meant}".rstrip())
    names = [command] if command is not None else WITH_RECORD
    wanted = list(dict.fromkeys(one for name in names for one in record_types(name)))
    references, definitions = msgspec.json.schema_components(wanted, ref_template="#/$defs/{name}")
    for definition in definitions.values():
        for field, described in definition["properties"].items():
            if field == "schema_version":
                del described["default"]
                described["const"] = SCHEMA_VERSION
            if "anyOf" in described:
                # Versions of msgspec differ in their order.
                described["anyOf"].sort(key=lambda kind: (kind == {"type": "null"}, json.dumps(kind)))
        # A default spares Python's callers an argument; the JSON always has the field.
        definition["required"] = list(definition["properties"])
    return {
        "$schema": DIALECT,
        "title": f"gpt2ln {command}" if command is not None else "gpt2ln",
        **(references[0] if len(references) == 1 else {"anyOf": list(references)}),
        "$defs": definitions,
    }
