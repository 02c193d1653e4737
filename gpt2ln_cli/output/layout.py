"""Tables as a person reads them: cut by a key, with a key's values across, and only the columns to be shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from gpt2ln_cli.output.blocks import RECORD, Block, Column, Fact, Facts, Heading, Look, Row, Table, View
from gpt2ln_cli.output.text import cell


@dataclass(frozen=True)
class Head:
    """What stands above a column, and how the column is laid out."""

    text: str
    left: bool = False
    """Whether its values stand on the left."""
    rank: int = 0
    """As for :class:`gpt2ln_cli.output.blocks.Look`."""


@dataclass(frozen=True)
class Group:
    """Columns of text that belong together under one title."""

    title: str
    heads: Sequence[Head]
    rows: Sequence[Sequence[str]]

    @property
    def headings(self) -> list[str]:
        """The texts above the columns."""
        return [head.text for head in self.heads]

    def only(self, places: Sequence[int]) -> Group:
        """The group with these columns alone."""
        return Group(
            self.title, [self.heads[place] for place in places], [[row[place] for place in places] for row in self.rows]
        )


@dataclass(frozen=True)
class Sheet:
    """A table, or a piece of one, as text."""

    title: str
    keys: Group
    groups: Sequence[Group]
    stressed: Sequence[bool]
    """Whether each row stands out."""
    totals: bool
    """Whether the last row is one of totals."""

    @property
    def rank(self) -> int:
        """The greatest of its columns."""
        return max((head.rank for group in self.groups for head in group.heads), default=0)

    def below(self, rank: int) -> Sheet:
        """The sheet without the columns of this rank and greater ones."""
        groups = [
            group.only([place for place, head in enumerate(group.heads) if head.rank < rank]) for group in self.groups
        ]
        return replace(self, groups=[group for group in groups if group.heads])


def laid_out(view: View, *, table: str | None = None, everything: bool = False) -> list[Block]:
    """What is read of a view.

    Args:
        view: the view.
        table: the name of the only table that is; None for all blocks.
        everything: whether a table stands in the place of another that shows it in brief, and all are followed by each
            table that is for data alone and has rows, under its name.

    Raises:
        UsageError: the view has no such table.
    """
    if table is not None:
        return [_one(view.table(table))]
    # A table of which no column has a look has nothing to lay out: it is for data alone.
    data = [one for one in view.blocks if isinstance(one, Table) and not any(column.look for column in one.columns)]
    blocks = [block for block in view.blocks if block not in data]
    if everything:
        blocks = in_full(view, blocks)
        more = [one for one in [*data, *view.more, view.table(RECORD)] if next(one.rows(), None) is not None]
        blocks += [block for one in more if one not in blocks for block in (Heading(one.name), _one(one))]
    return blocks


def in_full(view: View, blocks: Sequence[Block]) -> list[Block]:
    """The blocks, each table that shows another in brief replaced by that."""
    return [view.table(one.brief) if isinstance(one, Table) and one.brief is not None else one for one in blocks]


def _one(table: Table) -> Block:
    """The table; that of the record has one row, whose columns are read below one another."""
    if table.name != RECORD:
        return table
    (row,) = table.rows()
    return Facts([Fact(column.name, cell(column, value)) for column, value in zip(table.columns, row, strict=True)])


def sheets(table: Table, *, everything: bool = False) -> Iterator[Sheet]:
    """The table in the pieces that it is read in; a piece is made when the one before was taken.

    Args:
        table: the table.
        everything: whether the columns that are for data alone are shown too, under their names.
    """
    shown = [column for column in table.columns if column.look is not None]
    if everything:
        shown = [replace(column, look=_unranked(column)) for column in table.columns]
    places = [table.index(column.name) for column in shown]
    if table.by is None:
        pieces: Iterator[tuple[str, list[Row]]] = iter([("", list(table.rows()))])
    else:
        by = table.index(table.by)
        pieces = ((str(value), list(rows)) for value, rows in groupby(table.rows(), lambda row: row[by]))
        shown, places = _without(table.by, shown, places)
    for title, rows in pieces:
        columns = shown
        picked: list[Row] = [[row[place] for place in places] for row in rows]
        stressed = [table.stressed(row) for row in rows]
        if table.across is not None:
            columns, picked = _across(columns, picked, table.across)
            stressed = [False] * len(picked)
        elif table.totals is not None:
            picked.append([table.totals[place] for place in places])
            stressed.append(True)
        yield _sheet(title or table.title, columns, picked, stressed, totals=table.totals is not None)


def _unranked(column: Column) -> Look:
    return replace(column.look, rank=0) if column.look else Look(column.name, column.within)


def _without(name: str, columns: Sequence[Column], places: Sequence[int]) -> tuple[list[Column], list[int]]:
    kept = [index for index, column in enumerate(columns) if column.name != name]
    return [columns[index] for index in kept], [places[index] for index in kept]


def _across(columns: Sequence[Column], rows: Sequence[Row], name: str) -> tuple[list[Column], list[Row]]:
    """One row for each value of the other keys, one column for each value column and value of the named key."""
    turned = next(index for index, column in enumerate(columns) if column.name == name)
    keys = [index for index, column in enumerate(columns) if column.look and column.look.key and index != turned]
    values = [index for index in range(len(columns)) if index != turned and index not in keys]
    labels = list(dict.fromkeys(cell(columns[turned], row[turned]) for row in rows))
    found: dict[tuple[str, ...], list[object]] = {}
    for row in rows:
        key = tuple(cell(columns[index], row[index]) for index in keys)
        line = found.setdefault(key, [*(row[index] for index in keys), *[None] * (len(values) * len(labels))])
        place = labels.index(cell(columns[turned], row[turned]))
        for number, index in enumerate(values):
            line[len(keys) + number * len(labels) + place] = row[index]
    spread = [
        Column(column.name, column.type, look=Look(label, _title(column), column.form, rank=_rank(column)))
        for column in (columns[index] for index in values)
        for label in labels
    ]
    return [*(columns[index] for index in keys), *spread], list(found.values())


def _rank(column: Column) -> int:
    return column.look.rank if column.look else 0


def _title(column: Column) -> str:
    assert column.look is not None
    return ": ".join(part for part in (column.look.group, column.look.heading) if part)


def _sheet(
    title: str, columns: Sequence[Column], rows: Sequence[Row], stressed: Sequence[bool], *, totals: bool
) -> Sheet:
    looks = [column.look or Look(column.name) for column in columns]
    # Where none tells what a row is of, the first does.
    keys = [index for index, look in enumerate(looks) if look.key] or [0]
    others = [index for index in range(len(looks)) if index not in keys]

    def group(title: str, chosen: Sequence[int]) -> Group:
        return Group(
            title,
            [Head(looks[index].heading, columns[index].is_text, looks[index].rank) for index in chosen],
            [[cell(columns[index], row[index]) for index in chosen] for row in rows],
        )

    return Sheet(
        title,
        group("", keys),
        [group(title, list(chosen)) for title, chosen in groupby(others, lambda index: looks[index].group)]
        or [group("", [])],
        stressed,
        totals,
    )
