"""No two modules import each other, however far round, not even for their annotations."""

import graphlib
import sys

import grimp
import pytest

PACKAGES = ("lstm_edge", "lstm_edge_exporters", "lstm_edge_runtime")


def circle(*packages):
    """The modules of the first circle of imports that is found, or nothing."""
    graph = grimp.build_graph(*packages, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return set(error.args[1])
    return set()


def test_no_module_imports_itself_through_others():
    assert circle(*PACKAGES) == set()


@pytest.mark.parametrize("late", ["import round_trip.a", "if TYPE_CHECKING:\n    import round_trip.a"])
def test_a_circle_is_found(tmp_path, monkeypatch, late):
    folder = tmp_path / "round_trip"
    folder.mkdir()
    for name, text in {"__init__": "", "a": "import round_trip.b", "b": "import round_trip.c", "c": late}.items():
        (folder / f"{name}.py").write_text(f"from typing import TYPE_CHECKING\n{text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert circle("round_trip") == {f"round_trip.{name}" for name in "abc"}
    assert "round_trip" not in sys.modules
