"""A table as Apache Parquet, each column with what it means."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO, get_args

from gpt2ln_cli.output.blocks import RECORD
from gpt2ln_cli.output.json import encode

if TYPE_CHECKING:
    import pyarrow

    from gpt2ln_cli.output.blocks import Row, Table, View

# Rows that are held in memory at a time; of a table with vectors, numbers.
ROWS_AT_ONCE = 16_384


def write(view: View, table: Table, stream: TextIO) -> None:
    """Write the table to the stream's binary buffer.

    Anything deeper than a list of scalars is JSON text. What the table does not say (which model it was, the counts) is
    in the file's metadata, as JSON under ``gpt2ln``.
    """
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = pyarrow.schema(
        [
            pyarrow.field(column.name, _arrow(column.type), metadata={"description": column.description})
            for column in table.columns
        ],
        metadata={"gpt2ln": encode(next(view.table(RECORD).objects()))},
    )
    deep = [column.type is list for column in table.columns]
    with ParquetWriter(stream.buffer, schema) as writer:
        for rows in _in_groups(table.rows()):
            columns = [
                [encode(value) if value is not None else None for value in values] if is_deep else values
                for values, is_deep in zip(zip(*rows, strict=True), deep, strict=True)
            ]
            arrays = [pyarrow.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))


def _arrow(kind: Any) -> pyarrow.DataType:
    import pyarrow

    scalars = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string(), bool: pyarrow.bool_()}
    if kind is list:
        return pyarrow.string()
    return scalars[kind] if kind in scalars else pyarrow.list_(scalars[get_args(kind)[0]])


def _in_groups(rows: Iterator[Row]) -> Iterator[list[Row]]:
    group = list(islice(rows, 1))
    longest = max((len(value) for row in group for value in row if isinstance(value, list)), default=0)
    while group:
        group += islice(rows, max(0, ROWS_AT_ONCE // max(1, longest) - len(group)))
        yield group
        group = list(islice(rows, 1))
