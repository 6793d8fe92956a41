"""The tables of the commands, which a device prints without rich, look as rich draws them."""

import io
import random

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from lstm_edge_runtime.cli.tables import format_table


def drawn_by_rich(columns, rows, width):
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    file = io.StringIO()
    Console(file=file, width=width, highlight=False, markup=False).print(table)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def drawn(seed, most):
    generator = random.Random(seed)

    def text():
        return "".join(generator.choices("abc XYZ-_.,日é", k=generator.randrange(most))).strip()

    columns = [f"{text()}t" for _ in range(generator.randrange(1, 6))]
    return columns, [[text() for _ in columns] for _ in range(generator.randrange(6))]


@pytest.mark.parametrize("seed", range(30))
def test_a_table_that_fits_has_the_lines_of_rich(seed):
    columns, rows = drawn(seed, 15)
    assert format_table(columns, rows, 100) == drawn_by_rich(columns, rows, 100)


@pytest.mark.parametrize("seed", range(30))
def test_a_table_that_does_not_fit_is_wrapped_and_loses_nothing(seed):
    columns, rows = drawn(seed, 60)
    lines = format_table(columns, rows, 60)
    assert all(Console(width=60).measure(line).maximum <= 60 for line in lines)
    for character in "abcXYZ日é":
        expected = "".join((*columns, *(cell for row in rows for cell in row))).count(character)
        assert "".join(lines).count(character) == expected
