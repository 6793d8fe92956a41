"""``lstm-edge data check``: what a file of data is understood to be."""

import os

from lstm_edge.data import Columns, Missing, Task, table_options
from lstm_edge.data.checking import understand
from lstm_edge.data.report import DataReport

__all__ = ["check_data"]


def check_data(
    file: str | os.PathLike[str],
    *,
    columns: Columns | str | None = None,
    step_every: str | float | None = None,
    missing: Missing = "refuse",
    targets: str | None = None,
    task: Task | None = None,
) -> DataReport:
    """Say what a file of data is understood to be; implements ``lstm-edge data check``.

    The report has sequences, lengths, columns, classes, gaps and missing values. Its ``check()`` raises if the other
    commands refuse the file with these options.

    Args:
        file: a bundled name, or a file: a table, ``.npz``, ``.npy``, ``.jsonl``, or a text (docs/data.md).
        columns: roles of the columns of a table, as ``sequence=id,step=t,target=y,features=a+b``.
        step_every: expected spacing of the steps of a table: ``"1s"``, ``"100ms"``, ``0.5``, or ``"any"``; None: 1 for
            integers, any even spacing otherwise.
        missing: what becomes of missing cells and steps of a table: ``"refuse"``, ``"ffill"`` or ``"drop"``.
        targets: the ``.npy`` file of the targets, if ``file`` is an ``.npy`` file.
        task: task of the targets; None: follows from the file.

    Raises:
        DataError: the file cannot be read.
        InputError: an option is malformed, or is for another kind of file.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
    """
    return understand(os.fspath(file), table=table_options(columns, step_every, missing, targets), task=task)
