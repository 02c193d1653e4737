"""Records as flat tables, for the formats that have rows and columns.

A table is a list of the record, named by its path: ``sites``, or ``settings.tokens.sites`` for lists within lists,
whose rows repeat what the elements above them say, in columns such as ``tokens_position``. A struct within a row is
spread over columns of its own: ``rest.sigma.mean`` becomes ``rest_sigma_mean``. The table ``record`` has one row, of
everything that stands outside of the lists.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.record_schema import RECORDS, descriptions
from gpt2ln_cli.records import (
    Ablation,
    Arithmetic,
    Comparison,
    Difference,
    Inspection,
    Models,
    Parameters,
    Report,
    Tour,
    Verification,
)

if TYPE_CHECKING:
    from gpt2ln_cli.records import Record

Path = tuple[str, ...]
Rows = Callable[[Any], Iterator[list[Any]]]
RECORD = "record"
# What is written unless another table is asked for: the first of these that the record has.
MAIN: dict[type[Record], Sequence[str]] = {
    Inspection: ("rows", "sites"),
    Parameters: ("sites",),
    Arithmetic: ("readings",),
    Models: ("models",),
    Verification: ("readings",),
    Comparison: ("settings.tokens.sites", "contexts.sites.tokens"),
    Ablation: ("ladder",),
    Difference: ("sites",),
    Tour: ("answers",),
    Report: ("inspection.rows",),
}
# Tables made of several fields of one type, which mean little without each other.
JOINED: dict[type[Record], dict[str, Sequence[Path]]] = {Ablation: {"ladder": (("real",), ("replaced",))}}


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: Any
    """``int``, ``float``, ``str``, ``bool``, or a list of these; ``list`` alone for anything deeper."""
    description: str
    """What the record's documentation says of the field."""
    struct: str
    """The field that holds it, where that is a struct within the row; else nothing."""


@dataclass(frozen=True)
class Table:
    """A table whose rows are made while they are read."""

    name: str
    columns: Sequence[Column]
    keys: int
    """How many columns, from the first, tell what a row is of."""
    rows: Iterator[list[Any]]
    """Each with one value for each column; None where there is none."""

    def objects(self) -> Iterator[dict[str, Any]]:
        """The rows as objects, by column name."""
        return (dict(zip((column.name for column in self.columns), row, strict=True)) for row in self.rows)


def names(kind: type[Record]) -> list[str]:
    """The tables that a type of record has."""
    return [RECORD, *JOINED.get(kind, ()), *map(".".join, _paths(kind))]


def choose(record: Record, name: str | None = None) -> Table:
    """The named table of the record, or its main one.

    Raises:
        UsageError: the record has no such table.
    """
    kind = type(record)
    if name is None:
        name = next((main for main in MAIN[kind] if _is_there(record, main)), MAIN[kind][-1])
    else:
        check_name(record.command, name)
    if name == RECORD:
        cells = _cells(kind)
        return Table(name, [cell.column for cell in cells], 0, iter([[cell.of(record) for cell in cells]]))
    parts = [_walk(kind, path) for path in JOINED.get(kind, {}).get(name, (tuple(name.split(".")),))]
    columns, keys, _ = parts[0]
    return Table(name, columns, keys, (row for _, _, rows in parts for row in rows(record)))


def check_name(command: str, name: str) -> None:
    """Find out before the work whether there will be such a table.

    Raises:
        UsageError: the record of the command has none of this name.
    """
    known = names(RECORDS[command])
    if name not in known:
        raise UsageError(f"no table '{name}' in what {command} gives; it has {', '.join(known)}.")


@dataclass(frozen=True)
class _Cell:
    """Where a column's value stands in an element."""

    column: Column
    path: Path

    def of(self, element: Any) -> Any:
        for name in self.path:
            if element is None:
                return None
            element = getattr(element, name)
        return element


def _is_there(record: Record, name: str) -> bool:
    return name in JOINED.get(type(record), ()) or bool(getattr(record, name.partition(".")[0]))


def _walk(kind: type[msgspec.Struct], path: Path) -> tuple[list[Column], int, Rows]:
    """Columns and keys of the table at the path, and what makes its rows from an element of ``kind``."""
    name, *below = path
    inner, many = _inner(get_type_hints(kind)[name])
    if not below:
        cells = _cells(inner)
        return (
            [cell.column for cell in cells],
            1,
            lambda element: ([cell.of(item) for cell in cells] for item in _items(getattr(element, name))),
        )
    columns, keys, rows = _walk(inner, tuple(below))
    own = [cell for cell in _cells(inner, prefix=f"{name}_") if len(cell.path) == 1] if many else []
    return (
        [*(cell.column for cell in own), *columns],
        len(own) + keys,
        lambda element: (
            [*(cell.of(item) for cell in own), *row] for item in _items(getattr(element, name)) for row in rows(item)
        ),
    )


def _items(value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    return (value,) if isinstance(value, msgspec.Struct) else value


def _paths(kind: type[msgspec.Struct]) -> Iterator[Path]:
    for name, hint in get_type_hints(kind).items():
        inner, many = _inner(hint)
        if inner is not None:
            if many:
                yield (name,)
            yield from ((name, *below) for below in _paths(inner))


def _cells(kind: type[msgspec.Struct], prefix: str = "", path: Path = ()) -> list[_Cell]:
    """What has one value for an element, structs within it included."""
    described = descriptions(kind)
    found = []
    for name, hint in get_type_hints(kind).items():
        inner, many = _inner(hint)
        if inner is None:
            column = Column(prefix + name, _plain(hint), described.get(name, ""), path[0] if path else "")
            found.append(_Cell(column, (*path, name)))
        elif not many:
            found += _cells(inner, f"{prefix}{name}_", (*path, name))
    return found


def _inner(hint: Any) -> tuple[Any, bool]:
    """The struct that a field holds, if any, and whether it holds a list of them."""
    hint = _without_none(hint)
    many = get_origin(hint) in (list, Sequence)
    inner = get_args(hint)[0] if many else hint
    is_struct = isinstance(inner, type) and issubclass(inner, msgspec.Struct)
    return (inner, many) if is_struct else (None, False)


def _plain(hint: Any) -> Any:
    hint = _without_none(hint)
    if get_origin(hint) is Literal:
        return type(get_args(hint)[0])
    if get_origin(hint) is list and get_args(hint)[0] not in (str, int, float, bool):
        return list
    return hint


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    (only,) = (part for part in get_args(hint) if part is not types.NoneType)
    return only
