"""How data are read: for a table the columns, spacing and missing values, for an array the file of its targets."""

from dataclasses import dataclass
from typing import Literal, get_args

from lstm_edge.data._columns import Columns, parse_columns
from lstm_edge.data._steps import Spacing, parse_spacing
from lstm_edge_runtime.errors import InputError

__all__ = ["Missing", "TableOptions", "table_options"]

Missing = Literal["refuse", "ffill", "drop"]


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How a table (CSV, TSV, JSON Lines, Parquet) is read, or an array in an ``.npy`` file.

    Attributes:
        columns: the roles of the columns; None: the default names.
        spacing: the expected spacing of the steps; None: 1 for integers, and any even spacing for numbers and times.
        missing: what becomes of missing cells and rows: ``refuse`` them, fill them with the values of the step before
            (``ffill``), or leave the steps out (``drop``).
        targets: for data that are an array in an ``.npy`` file: the ``.npy`` file of the targets.
    """

    columns: Columns | None = None
    spacing: Spacing | None = None
    missing: Missing = "refuse"
    targets: str | None = None


def table_options(
    columns: Columns | str | None = None,
    step_every: str | float | None = None,
    missing: Missing = "refuse",
    targets: str | None = None,
) -> TableOptions | None:
    """Parse the options of a command; None if none of them is given.

    Args:
        columns: see ``parse_columns``.
        step_every: see ``lstm_edge.data.parse_spacing``.
        missing: ``refuse``, ``ffill`` or ``drop``.
        targets: the ``.npy`` file of the targets.

    Raises:
        InputError: an option is malformed.
    """
    if missing not in get_args(Missing):
        raise InputError(f"missing is {missing!r}, expected one of {', '.join(get_args(Missing))}")
    options = TableOptions(
        columns=parse_columns(columns) if isinstance(columns, str) else columns,
        spacing=None if step_every is None else parse_spacing(step_every),
        missing=missing,
        targets=targets,
    )
    return None if options == TableOptions() else options
