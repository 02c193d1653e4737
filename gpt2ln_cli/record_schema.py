"""The JSON Schema of the records, and what their fields mean, both read off the record types."""

from __future__ import annotations

import ast
import json
from functools import cache
from inspect import cleandoc, getsource
from typing import Any, get_args, get_type_hints

import msgspec

from gpt2ln_cli import records
from gpt2ln_cli.records import SCHEMA_VERSION, Record

DIALECT = "https://json-schema.org/draft/2020-12/schema"
RECORDS: dict[str, type[Record]] = {
    command: record for record in get_args(Record) for command in get_args(get_type_hints(record)["command"])
}
"""By command, the record that it returns."""


def json_schema(command: str | None = None) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of what ``command`` returns, or of every record; descriptions included.

    A later record of the same ``schema_version`` may have more fields, never fewer.
    """
    wanted = [RECORDS[command]] if command is not None else list(get_args(Record))
    references, definitions = msgspec.json.schema_components(wanted, ref_template="#/$defs/{name}")
    for name, definition in definitions.items():
        described = descriptions(getattr(records, name))
        for field, schema in definition["properties"].items():
            if field == "schema_version":
                del schema["default"]
                schema["const"] = SCHEMA_VERSION
            if "anyOf" in schema:
                # Versions of msgspec differ in their order.
                schema["anyOf"].sort(key=lambda kind: (kind == {"type": "null"}, json.dumps(kind)))
            if field in described:
                schema["description"] = described[field]
        # A default spares Python's callers an argument; the JSON always has the field.
        definition["required"] = list(definition["properties"])
    return {
        "$schema": DIALECT,
        "title": f"gpt2ln {command}" if command is not None else "gpt2ln",
        **(references[0] if command is not None else {"anyOf": list(references)}),
        "$defs": definitions,
    }


@cache
def descriptions(record: type[msgspec.Struct]) -> dict[str, str]:
    """What the text under each field of a record type says of it; fields without any are left out."""
    described: dict[str, str] = {}
    for base in reversed(record.__mro__):
        if base.__module__ == records.__name__:
            described |= _documented_fields(base)
    return described


def _documented_fields(record: type) -> dict[str, str]:
    # Python keeps no text under a field; it stands in the source alone, where Sphinx finds it too.
    (definition,) = ast.parse(getsource(record)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(cleandoc(str(text.value.value)).split())
    return found
