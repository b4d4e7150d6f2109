"""JSON rows as Parquet: two passes, the first to learn the type of each column."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import parquet

Row = dict[str, Any]
_GROUP = 4096


def write(rows: Callable[[], Iterable[Row]], out: BinaryIO) -> None:
    """Writes the rows; a column whose values have no common type holds their JSON text."""
    types: dict[str, pa.DataType | None] = {}
    for group in _groups(rows()):
        for key in dict.fromkeys(chain.from_iterable(group)):
            types[key] = _common(types.get(key, pa.null()), [row.get(key) for row in group])
    mixed = {key for key, kind in types.items() if kind is None}
    schema = pa.schema([(key, kind or pa.string()) for key, kind in types.items()])
    with parquet.ParquetWriter(out, schema) as writer:
        for group in _groups(rows()):
            columns = [
                pa.array(
                    [_value(row.get(key), key in mixed) for row in group], schema.field(key).type
                )
                for key in types
            ]
            writer.write_table(pa.table(columns, schema=schema))


def _groups(rows: Iterable[Row]) -> Iterator[tuple[Row, ...]]:
    rows = iter(rows)
    while group := tuple(islice(rows, _GROUP)):
        yield group


def _common(known: pa.DataType | None, values: list[Any]) -> pa.DataType | None:
    """The type that the column needs with these values too; None where there is none."""
    if known is None:
        return None
    try:
        found = pa.array(values).type
        if "struct<>" in str(found):  # {} has no place in Parquet
            return None
        schemas = [pa.schema([("x", kind)]) for kind in (known, found)]
        return pa.unify_schemas(schemas, promote_options="permissive").field("x").type
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return None


def _value(value: Any, mixed: bool) -> Any:
    return json.dumps(value, ensure_ascii=False) if mixed and value is not None else value
