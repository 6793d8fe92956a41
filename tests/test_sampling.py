"""`make test` runs one of each four rows of a long table of slow tests, and all of what is short or fast."""

from collections.abc import Mapping

import pytest
from support.sampling import EACH, LONG_TABLE, thin_slow_tables


class Item:
    """What a collected test has of pytest's."""

    def __init__(self, name: str, *marks: str, table: bool = True) -> None:
        self.nodeid, self.marks = name, set(marks)
        if table:
            self.callspec: Mapping[str, int] = {}

    def get_closest_marker(self, name: str) -> bool:
        return name in self.marks

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks.add(mark.name)


def left(items: list[Item]) -> list[str]:
    thin_slow_tables(items)
    return [item.nodeid for item in items if "long" not in item.marks]


def test_one_of_each_four_rows_of_a_long_table_of_slow_tests_is_left() -> None:
    names = [f"a.py::test[{number}]" for number in range(10 * LONG_TABLE + 1)]
    kept = left([Item(name, "slow") for name in names])
    assert [names.index(name) // EACH for name in kept] == list(range(len(kept)))
    assert len(kept) == -(-len(names) // EACH)
    assert left([Item(name, "slow") for name in names]) == kept


@pytest.mark.parametrize("inner", [2, 3, 4, 5, 8])
def test_every_value_of_both_parameters_of_a_table_has_its_turn(inner: int) -> None:
    names = {f"a.py::test[{outer}-{value}]": (outer, value) for outer in range(40) for value in range(inner)}
    found = [names[name] for name in left([Item(name, "slow") for name in names])]
    assert len({value for _, value in found}) == inner


@pytest.mark.parametrize("marks", [("slow",), ()])
def test_short_tables_fast_ones_and_single_tests_stay_whole(marks: tuple[str, ...]) -> None:
    rows = [Item(f"a.py::test[{number}]", *marks) for number in range(LONG_TABLE - len(marks))]
    rows += [Item(f"b.py::test_{number}", "slow", table=False) for number in range(LONG_TABLE)]
    assert len(left(rows)) == len(rows)
