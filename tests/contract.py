"""The JSON Schema that the JSON of every test is held against."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

import gpt2ln_cli


@cache
def validator(command: str) -> Draft202012Validator:
    """Of the command's schema, but no field may be there that it does not name."""
    schema = copy.deepcopy(gpt2ln_cli.schema(command))
    for definition in schema["$defs"].values():
        definition["additionalProperties"] = False
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def validated(document: Any) -> Any:
    validator(document["command"]).validate(document)
    return document
