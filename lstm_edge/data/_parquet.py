"""Tables in Parquet files, read in batches with pyarrow, which is imported only here."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_edge._imports import extra_named
from lstm_edge.data._columns import Columns, make_rows, required_columns
from lstm_edge.data._rows import Rows
from lstm_edge.data._steps import Time
from lstm_edge.data._table_options import TableOptions
from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.reading import Budget, most_unpacked, open_file

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["read_parquet"]

# The index of a pandas table, which pandas writes as a column.
_INDEX = re.compile(r"__index_level_\d+__")
_MOST_BYTES = 2**32
# Columns of few values compress well: a small file may hold a gigabyte, like one of arrays.
_LEAST_BYTES = 2**30
# A row takes about this many bytes in memory, however few it has in the file.
_ROW_BYTES = 64
_BATCH_CELLS = 2**20
_MOST_METADATA = 2**26


def read_parquet(path: str | Path, options: TableOptions) -> Rows:
    """Read all rows of a Parquet file.

    Columns are numbers, booleans (0 and 1), texts, times, dates, or lists of numbers.

    Raises:
        DataError: one sentence with the file and the row, from 1; or the file is damaged or over a limit.
        MissingExtraError: pyarrow is not installed.
    """
    with extra_named(f"data {path}"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    where = f"data {path}"
    with open_file(path, DataError, where=where) as raw:
        try:
            file = pq.ParquetFile(
                pa.PythonFile(raw, mode="r"),
                thrift_string_size_limit=_MOST_METADATA,
                thrift_container_size_limit=_MOST_METADATA // 64,
            )
            size = raw.seek(0, 2)
            return _read(str(path), file, options, Budget(most_unpacked(size, least=_LEAST_BYTES, most=_MOST_BYTES)))
        except pa.ArrowException as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{where}: not a Parquet file, or a damaged one ({reason})") from error


def _read(name: str, file: "pq.ParquetFile", options: TableOptions, budget: Budget) -> Rows:
    schema, columns = file.schema_arrow, options.columns or Columns()
    named = {column for _, column in required_columns(columns)}
    header = [column for column in schema.names if column in named or not _INDEX.fullmatch(column)]
    rows = make_rows(name, header, columns, drop=options.missing == "drop", unit="row")
    left_out = [column for column in schema.names if column not in header]
    if left_out:
        rows.notes.append(f"the index of pandas left out: {', '.join(left_out)}")
    wanted = [column for column in header if header.index(column) in rows.places.used]
    for column in wanted:
        _check_type(name, column, schema.field(column).type)
    # What the file declares, before any of it is unpacked.
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    budget.check(max(0, *(group.total_byte_size for group in groups), file.metadata.num_rows * _ROW_BYTES))
    number = 0
    batch_rows = max(1, _BATCH_CELLS // len(wanted))
    for batch in file.iter_batches(batch_size=batch_rows, columns=wanted, use_threads=False):
        budget.take(max(batch.nbytes, batch.num_rows * _ROW_BYTES))
        values = {column: _values(batch.column(column)) for column in wanted}
        for cells in _cells(header, values, batch.num_rows):
            number += 1
            rows.add(cells, number)
    return rows


def _cells(header: Sequence[str], values: dict[str, list[Any]], count: int) -> Iterator[list[Any]]:
    places = [values.get(column) for column in header]
    for row in range(count):
        yield [None if column is None else column[row] for column in places]


def _check_type(name: str, column: str, kind: "pa.DataType") -> None:
    from pyarrow import types

    def plain(kind: "pa.DataType") -> bool:
        checks = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
        return any(check(kind) for check in checks)

    def text(kind: "pa.DataType") -> bool:
        return any(check(kind) for check in (types.is_string, types.is_large_string, types.is_string_view))

    inner = kind.value_type if types.is_dictionary(kind) else kind
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    good = plain(inner) or text(inner) or types.is_timestamp(kind) or types.is_date(kind)
    if not (good or (lists and plain(kind.value_type))):
        raise DataError(
            f"data {name}: the column {column[:40]!r} is {str(kind)[:60]}; expected numbers, texts, booleans, times, "
            "dates, or lists of numbers. Name the features with columns to leave it out"
        )


def _values(column: "pa.Array") -> list[Any]:
    """Return a column's values; times as nanoseconds, decimals as float."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_timestamp(column.type) or types.is_date(column.type):
        zone = column.type.tz if types.is_timestamp(column.type) else None
        ns = column.cast(pa.timestamp("ns", tz=zone)).cast(pa.int64()).to_pylist()
        return [None if value is None else Time(value, zoned=zone is not None) for value in ns]
    if types.is_decimal(column.type) or types.is_float16(column.type):
        column = column.cast(pa.float64())
    values: list[Any] = column.to_pylist()
    return values
