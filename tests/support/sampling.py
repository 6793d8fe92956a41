"""Long tables of cases: ``make test`` runs every n-th row, ``make test-long`` the others."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

__all__ = ["sampled"]


def sampled(cases: Iterable[Any], every: int, ids: Callable[[Any], str] | None = None) -> list[Any]:
    """Return a table's rows for ``parametrize``, of which only every n-th, from the first, is not marked long."""
    rows = []
    for number, case in enumerate(cases):
        marks = [pytest.mark.long] if number % every else []
        rows.append(pytest.param(case, id=None if ids is None else ids(case), marks=marks))
    return rows
