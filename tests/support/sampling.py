"""Long tables of cases: ``make test`` runs one of each four rows, ``make test-long`` the others."""

import random
from collections import defaultdict
from collections.abc import Iterable

import pytest

__all__ = ["thin_slow_tables"]

# Slow tests with so many rows or more are thinned: exports, trainings and searches.
LONG_TABLE = 9
EACH = 4


def thin_slow_tables(items: Iterable[pytest.Item]) -> None:
    """Mark the rows of long tables of slow tests as long, except for one of each four.

    It is drawn, the same in every run: a fixed place of the four would take the same scheme in a table of cases and
    schemes.
    """
    tables = defaultdict(list)
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("long") and hasattr(item, "callspec"):
            tables[item.nodeid.partition("[")[0]].append(item)
    for rows in tables.values():
        if len(rows) < LONG_TABLE:
            continue
        draw = random.Random(0)  # no secret
        for first in range(0, len(rows), EACH):
            four = rows[first : first + EACH]
            kept = draw.choice(four)
            for row in four:
                if row is not kept:
                    row.add_marker(pytest.mark.long)
