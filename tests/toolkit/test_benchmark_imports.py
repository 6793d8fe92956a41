"""What a benchmark imports from a file beside it is defined there: nothing else runs most of them."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
FILES = sorted(FOLDER.rglob("*.py"))


def defined(tree: ast.Module) -> set[str]:
    """The names that a file defines itself."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_names_are_imported_from_where_they_are_defined(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.level:
            continue
        beside = file.parent / f"{node.module}.py"
        if beside.exists():
            missing = {alias.name for alias in node.names} - defined(ast.parse(beside.read_text(encoding="utf-8")))
            assert not missing, f"{file.name} imports {sorted(missing)} from {beside.name}"
