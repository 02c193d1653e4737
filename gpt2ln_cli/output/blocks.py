"""What a command shows, whatever the format: a view is a record and a list of blocks.

A block is a heading, a paragraph, a list of facts, something to copy, the texts that were read, a table or a picture.
Formats render blocks; none of them knows a command, and no command lays anything out.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.output.matrix import Matrix
from gpt2ln_cli.output.pictures import Bars, Boxes, Vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gpt2ln_cli.records import Record

Form = Literal["number", "integer", "plain", "percent", "share", "text", "token", "json"]
"""How a value reads: four significant digits, digits in groups, digits as they are, a share as a percentage (with four
digits, or rounded down), text, a token in quotation marks, or JSON."""
Tone = Literal["plain", "note", "strong", "warning", "good", "bad", "unsure"]
"""A note explains what stands beside it, where a page has a smaller print."""
RECORD = "record"


@dataclass(frozen=True)
class Heading:
    """A title of what follows; ``level`` 2 is a section, 3 a part of one."""

    text: str
    level: Literal[2, 3] = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Fact:
    """A name and what is said of it; with a mark, such as a verdict, between the two."""

    name: str
    value: str
    mark: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True)
class Facts:
    """Names and what is said of each, below one another; an empty name goes on with the one before."""

    facts: Sequence[Fact]


@dataclass(frozen=True)
class Code:
    """Something to copy: a command line or a program."""

    text: str
    lead: str = ""
    """What stands before it on its line."""


@dataclass(frozen=True)
class Quote:
    """A text that was read, or its beginning; None where it came as token ids."""

    text: str | None
    note: str


@dataclass(frozen=True)
class Quotes:
    """The texts that were read, for a page alone: a terminal's user has just given them, and data have them in full."""

    title: str
    quotes: Sequence[Quote]
    more: int = 0
    """How many further ones there are."""


@dataclass(frozen=True)
class Look:
    """How a column is laid out where a person reads it."""

    heading: str
    group: str = ""
    """A title above neighbouring columns that have the same."""
    form: Form | None = None
    """None follows from the type."""
    key: bool = False
    """Whether it tells what a row is of, and is repeated where a table is too wide for one piece."""
    rank: int = 0
    """Where a table is too wide for the terminal, columns of the greatest rank are left out first; of rank 0 never."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    """In CSV, NDJSON and Parquet."""
    type: Any
    """``int``, ``float``, ``str``, ``bool``, or a list of these; ``list`` alone for anything deeper."""
    description: str = ""
    unit: str = ""
    look: Look | None = None
    """None where only data formats have it, and the others where everything is asked for."""
    within: str = ""
    """The field that holds it, where that is a struct within the row's."""
    data: bool = True
    """Whether data formats have it; not where it only puts others into words."""
    place: int = 0
    """Where it stands in data formats, whose order is that of the record's fields however a person's table is laid."""

    @property
    def form(self) -> Form:
        """How its values read."""
        if self.look is not None and self.look.form is not None:
            return self.look.form
        return {int: "integer", float: "number", str: "text"}.get(self.type, "json")  # type: ignore[return-value]

    @property
    def is_text(self) -> bool:
        """Whether its values read as text, which stands on the left, and not as numbers, which stand on the right."""
        return self.form in ("text", "token", "json")


Row = Sequence[Any]


@dataclass(frozen=True)
class Table:
    """A table whose rows are made while they are read."""

    name: str
    columns: Sequence[Column]
    rows: Callable[[], Iterator[Row]]
    """Begins again at each call; a row has one value for each column, None where there is none."""
    title: str = ""
    by: str | None = None
    """A key by whose values the table is cut into several, each under its own, where a person reads it."""
    across: str | None = None
    """A key whose values run across as headings where a person reads it."""
    stressed: Callable[[Row], bool] = field(default=lambda _: False)
    """Whether a row stands out."""
    totals: Row | None = None
    """A last row for reading alone."""
    brief: str | None = None
    """The table that this one shows in brief, which takes its place where nothing is left out."""

    def index(self, name: str) -> int:
        """The place of a column."""
        return next(index for index, column in enumerate(self.columns) if column.name == name)

    def objects(self) -> Iterator[dict[str, Any]]:
        """The rows as objects, by column name."""
        names = [column.name for column in self.columns]
        return (dict(zip(names, row, strict=True)) for row in self.rows())

    def for_data(self) -> Table:
        """The table without what is only for reading."""
        kept = [index for index, column in enumerate(self.columns) if column.data]
        kept.sort(key=lambda index: self.columns[index].place)
        columns = [self.columns[index] for index in kept]
        return replace(
            self, columns=columns, totals=None, rows=lambda: ([row[index] for index in kept] for row in self.rows())
        )


@dataclass(frozen=True)
class Strip:
    """One sequence of a grid."""

    title: str
    columns: Sequence[str]
    """What each column is of, as a person reads it: a token in quotation marks, or its id."""
    ids: Sequence[int]
    """The columns' token ids."""


@dataclass(frozen=True)
class Grid:
    """Quantities of every token at every site as a picture: sites downwards, tokens to the right."""

    title: str
    quantities: Sequence[Column]
    chosen: str
    """The quantity that is drawn where only one is."""
    rows: Sequence[str]
    """Names of the sites."""
    strips: Sequence[Strip]
    values: Callable[[str, int | None], list[NDArray[np.float64]]]
    """Of a quantity, for each strip (rows, columns), NaN where a number is not finite; where a number of columns is
    given, of the first that many of all strips together."""
    signed: Collection[str] = ()
    """The quantities that may be negative, and so have no logarithmic scale."""

    vectors: Sequence[Vectors] | None = None
    """Of some cells what went through the LayerNorm, for a page; None where nobody asked for any."""

    @property
    def quantity(self) -> Column:
        """The chosen one."""
        return next(column for column in self.quantities if column.name == self.chosen)


Block = Heading | Paragraph | Facts | Code | Quotes | Table | Grid | Boxes | Bars | Matrix


@dataclass(frozen=True)
class View:
    """What a command shows of its record."""

    record: Record
    blocks: Sequence[Block]
    more: Sequence[Table] = ()
    """Tables that data formats can write and nothing lays out."""
    main: str | None = None
    """The table that is written where only one is; None is the first."""
    title: str | None = None
    """Of a page; None names the command."""
    brief: Sequence[Block] | None = None
    """What a terminal shows unless all is asked for; None is ``blocks``."""

    def tables(self) -> dict[str, Table]:
        """All tables by name; ``record`` has one row, with what stands outside of the record's lists."""
        tables = [block for block in [*self.blocks, *self.more] if isinstance(block, Table)]
        found = {table.name: table for table in tables if any(column.data for column in table.columns)}
        return {**found, RECORD: table_of(RECORD, type(self.record), [self.record])}

    def table(self, name: str | None = None) -> Table:
        """The named table, or the main one.

        Raises:
            UsageError: there is no such table.
        """
        tables = self.tables()
        chosen = name or self.main or next(iter(tables))
        if chosen not in tables:
            raise UsageError(f"no table '{chosen}' in what {self.record.command} gives; it has {', '.join(tables)}.")
        return tables[chosen]


@dataclass(frozen=True)
class Part:
    """One of the structs that a row is made of."""

    kind: type[msgspec.Struct]
    prefix: str = ""
    """Stands before the names of its columns."""


def table_of(
    name: str,
    parts: type[msgspec.Struct] | Sequence[Part],
    items: Iterable[Any] | Callable[[], Iterator[Any]],
    looks: Mapping[str, Look] | None = None,
    *,
    also: Sequence[tuple[Column, Callable[[Any], Any]]] = (),
    words: Mapping[str, Callable[[Any], str]] | None = None,
    title: str = "",
    by: str | None = None,
    across: str | None = None,
    stressed: Callable[[Row], bool] = lambda _: False,
    totals: Any = None,
    first: Sequence[str] = (),
    without: Collection[str] = (),
) -> Table:
    """A table with a column for whatever has one value in a struct, structs within it included.

    Types and descriptions are those of the struct's fields.

    Args:
        name: the table's.
        parts: the struct of which each row shows one; or several, and then each item is a tuple of them.
        items: what the rows show, read again at each time; or what begins to read them.
        looks: by column name, in the order in which the columns stand where a person reads them; a column without one
            comes after them and is for data alone.
        also: further columns, and what makes their values of an item.
        words: columns that put others into words where a person reads them, by name; each makes its text of an item.
        title: the table's caption.
        by: as for :class:`Table`.
        across: as for :class:`Table`.
        stressed: as for :class:`Table`.
        totals: what its row of totals shows, as for an item; None leaves it out.
        first: the columns that stand first in data formats, where the others have the order of the structs' fields.
        without: fields that are left out, in whatever struct, for what else stands in their place.
    """
    looks = looks or {}
    several = not isinstance(parts, type)
    cells: list[tuple[Column, Callable[[Any], Any]]] = [
        (column, partial(_value, number=number if several else None, path=path))
        for number, part in enumerate(parts if not isinstance(parts, type) else [Part(parts)])
        for column, path in _cells(part.kind, part.prefix)
        if path[-1] not in without
    ]
    cells += [*also, *((Column(name, str, data=False), text) for name, text in (words or {}).items())]
    names = [column.name for column, _ in cells]
    assert set(looks) <= set(names), f"{name} has no columns {set(looks) - set(names)}"
    order = [*looks, *(one for one in names if one not in looks)]
    places = {name: place for place, name in enumerate([*first, *(name for name in names if name not in first)])}
    cells.sort(key=lambda cell: order.index(cell[0].name))
    columns = [replace(column, look=looks.get(column.name), place=places[column.name]) for column, _ in cells]

    def rows() -> Iterator[Row]:
        for item in items() if callable(items) else items:
            yield [of(item) for _, of in cells]

    last = None if totals is None else [of(totals) for _, of in cells]
    return Table(name, columns, rows, title=title, by=by, across=across, stressed=stressed, totals=last)


def _value(item: Any, *, number: int | None, path: Sequence[str]) -> Any:
    element = item if number is None else item[number]
    for name in path:
        element = None if element is None else getattr(element, name)
    return element


def _cells(
    kind: type[msgspec.Struct], prefix: str = "", path: tuple[str, ...] = ()
) -> list[tuple[Column, tuple[str, ...]]]:
    """What has one value in a struct, and where it stands."""
    found = []
    for one in msgspec.structs.fields(kind):
        name, (plain, meta) = one.encode_name, _plain(one.type)
        inner, many = struct_in(plain)
        if inner is None:
            described = (meta.description or "") if meta else ""
            column = Column(prefix + name, _column_type(plain), described, _unit(meta), within="".join(path[:1]))
            found.append((column, (*path, one.name)))
        elif not many:
            found += _cells(inner, f"{prefix}{name}_", (*path, one.name))
    return found


def _unit(meta: msgspec.Meta | None) -> str:
    return str((meta.extra or {}).get("unit", "")) if meta else ""


def _plain(hint: Any) -> tuple[Any, msgspec.Meta | None]:
    """A hint without its annotation and without None, and what the annotation says."""
    meta = None
    while get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        meta = next((one for one in extras if isinstance(one, msgspec.Meta)), meta)
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [part for part in get_args(hint) if part is not types.NoneType]
        hint = kinds[0] if len(kinds) == 1 else list
        hint, inner = _plain(hint)
        meta = meta or inner
    return hint, meta


def struct_in(hint: Any) -> tuple[type[msgspec.Struct] | None, bool]:
    """The struct that a plain type holds, if any, and whether it holds a list of them."""
    many = get_origin(hint) in (list, Sequence)
    inner = _plain(get_args(hint)[0])[0] if many else hint
    return (inner, many) if isinstance(inner, type) and issubclass(inner, msgspec.Struct) else (None, False)


def _column_type(hint: Any) -> Any:
    if get_origin(hint) is Literal:
        return type(get_args(hint)[0])
    if get_origin(hint) is list:
        scalars: dict[Any, Any] = {str: list[str], int: list[int], float: list[float], bool: list[bool]}
        return scalars.get(_plain(get_args(hint)[0])[0], list)
    return hint if hint in (int, float, str, bool) or get_origin(hint) is list else list
