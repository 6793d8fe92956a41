"""The C++ keeps the width of .clang-format, also where clang-format is not installed or leaves a line as it is."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("runtime/lstm_edge_runtime/kernels", "tests", "benchmarks")
    for suffix in ("*.cpp", "*.h")
    for path in (ROOT / folder).rglob(suffix)
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_line_has_over_120_columns(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [f"{path.name}:{number}" for number, line in enumerate(lines, start=1) if len(line) > 120] == []


def test_the_width_is_that_of_clang_format():
    assert "ColumnLimit: 120\n" in (ROOT / ".clang-format").read_text()
    assert len(SOURCES) > 20
