"""SECURITY.md names a test for each promise: the tests are there, under these names."""

import re
from pathlib import Path
from typing import get_args

import pytest

from lstm_edge_runtime.card import Task

ROOT = Path(__file__).parents[1]
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", SECURITY)))
TARGETS = sorted(set(re.findall(r"`make ([\w-]+)`", SECURITY)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_promise_has_its_test(path: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_a_promise_has_its_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert len(TARGETS) >= 2
    for target in TARGETS:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_each_row_names_a_test() -> None:
    rows = [line for line in SECURITY.splitlines() if line.startswith("| ") and not line.startswith("| |")]
    assert len(rows) >= 15
    assert len(NAMED) >= 15
    assert all("`tests/" in row for row in rows)


def test_the_document_of_the_file_names_every_task() -> None:
    document = (ROOT / "docs" / "artifact.md").read_text(encoding="utf-8")
    [line] = [line for line in document.splitlines() if line.startswith("| `task` |")]
    assert [task for task in get_args(Task) if f"`{task}`" not in line] == []
