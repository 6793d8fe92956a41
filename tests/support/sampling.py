"""Long tables of cases: ``make test`` runs every n-th row, ``make test-long`` the others."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest

__all__ = ["sampled", "thin_slow_tables"]

# Of a slow test with so many rows or more, `make test` runs every fourth: exports, trainings and searches.
LONG_TABLE = 9
EVERY = 4


def sampled(cases: Iterable[Any], every: int, ids: Callable[[Any], str] | None = None) -> list[Any]:
    """Return a table's rows for ``parametrize``, of which only every n-th, from the first, is not marked long."""
    rows = []
    for number, case in enumerate(cases):
        marks = [pytest.mark.long] if number % every else []
        rows.append(pytest.param(case, id=None if ids is None else ids(case), marks=marks))
    return rows


def thin_slow_tables(items: Iterable[pytest.Item]) -> None:
    """Mark the rows of long tables of slow tests as long, except for every fourth from the first."""
    tables = defaultdict(list)
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("long") and hasattr(item, "callspec"):
            tables[item.nodeid.partition("[")[0]].append(item)
    for rows in tables.values():
        for number, row in enumerate(rows if len(rows) >= LONG_TABLE else ()):
            if number % EVERY:
                row.add_marker(pytest.mark.long)
