"""Tables of any kind of file: which files are tables, and how their rows are read."""

from collections.abc import Sequence
from pathlib import Path

from lstm_edge.data._assembly import assemble
from lstm_edge.data._csv import read_csv
from lstm_edge.data._json_tables import is_json_table, read_json_table
from lstm_edge.data._parquet import read_parquet
from lstm_edge.data._rows import Rows
from lstm_edge.data._sequences import Dataset, Task
from lstm_edge.data._table_options import TableOptions
from lstm_edge.data_names import JSON_LINES, TABLES
from lstm_edge_runtime.errors import DataError, InputError
from lstm_edge_runtime.reading import translated

__all__ = ["is_table", "load_table", "read_table", "refuse_options"]


def is_table(spec: str, table: TableOptions | None = None) -> bool:
    """Return whether a name is the path of a table: by its ending, a JSON Lines file by its first object.

    A JSON Lines file is also a table if its columns are named. A file that cannot be read is none.
    """
    if not spec.endswith(JSON_LINES):
        return spec.endswith(TABLES)
    if table is not None and table.columns is not None:
        return True
    try:
        return is_json_table(spec)
    except DataError:
        return False


def refuse_options(spec: str, table: TableOptions | None) -> None:
    """Refuse the options of tables for other data.

    Raises:
        InputError: ``table`` is given.
    """
    if table is not None:
        raise InputError(f"data {spec}: --columns, --step-every and --missing are for tables, leave them out")


def load_table(
    path: str | Path,
    *,
    table: TableOptions | None = None,
    task: Task | None = None,
    labels: Sequence[str] | None = None,
) -> Dataset:
    """Read a table: CSV, TSV, Parquet, or JSON Lines with columns; see docs/data.md.

    Args:
        path: the file.
        table: roles of the columns, spacing of the steps, what becomes of what is missing.
        task: task of the targets; None: integers and texts are classes, numbers with a decimal point are values.
        labels: the only labels allowed, in their order; None: those of the file, sorted.

    Raises:
        DataError: one sentence with the file and the line or row.
        InputError: the spacing is not of the kind of the steps.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
    """
    options = table or TableOptions()
    if options.columns is not None and options.columns.named:
        raise InputError(
            f"data {path}: columns name inputs or targets, or no target, which is for validate, quantize and export; "
            "expected features and target here"
        )
    with translated(DataError, f"data {path}: cannot be read"):
        return assemble(read_table(path, options), options, task=task, labels=labels)


def read_table(path: str | Path, options: TableOptions) -> Rows:
    """Read all rows of a table; see ``load_table``."""
    if str(path).endswith(JSON_LINES):
        return read_json_table(path, options)
    return read_parquet(path, options) if str(path).endswith(".parquet") else read_csv(path, options)
