"""One table of the record as Apache Parquet, each column with what it means."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO, get_args

from gpt2ln_cli.render.json import encode
from gpt2ln_cli.render.tables import RECORD, choose

if TYPE_CHECKING:
    import pyarrow

    from gpt2ln_cli.records import Record

# Rows that are held in memory at a time.
ROWS_AT_ONCE = 16_384


def write(record: Record, stream: TextIO, table: str | None = None) -> None:
    """Write the table to the stream's binary buffer.

    Anything deeper than a list of scalars is JSON text. What the table does not say (which model it was, the counts) is
    in the file's metadata, as JSON under ``gpt2ln``.
    """
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    chosen, about = choose(record, table), choose(record, RECORD)
    schema = pyarrow.schema(
        [
            pyarrow.field(column.name, _arrow(column.type), metadata={"description": column.description})
            for column in chosen.columns
        ],
        metadata={"gpt2ln": encode(next(about.objects()))},
    )
    deep = [column.type is list for column in chosen.columns]
    with ParquetWriter(stream.buffer, schema) as writer:
        for rows in _in_groups(chosen.rows):
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


def _in_groups(rows: Iterator[list[Any]]) -> Iterator[list[list[Any]]]:
    while group := list(islice(rows, ROWS_AT_ONCE)):
        yield group
