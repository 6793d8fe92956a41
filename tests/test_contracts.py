"""The import contracts of pyproject.toml: each holds, and each fails where somebody breaks it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SOURCES = ("lstm_edge", "exporters", "runtime")
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

# For each contract, files and the line that breaks it there: at the top, within a function, and through others.
LAYERS = "lstm_edge -> lstm_edge_exporters -> lstm_edge_runtime, never back"
DEVICE = "the device runtime imports numpy and onnxruntime only"
NO_TORCH = "what works on ONNX files needs no torch"
ON_DEVICE = "data sets and validation run on the device"
VIOLATIONS = [
    (LAYERS, "runtime/lstm_edge_runtime/stream.py", "import lstm_edge_exporters.gates"),
    (LAYERS, "exporters/lstm_edge_exporters/gates.py", "import lstm_edge.data"),
    (DEVICE, "runtime/lstm_edge_runtime/stream.py", "def _late():\n    import onnx"),
    (DEVICE, "runtime/lstm_edge_runtime/signature.py", "def _late():\n    import cryptography"),
    (NO_TORCH, "exporters/lstm_edge_exporters/verify/inputs.py", "import torch"),
    (NO_TORCH, "exporters/lstm_edge_exporters/artifact.py", "def _late():\n    from torch import nn"),
    (NO_TORCH, "exporters/lstm_edge_exporters/onnx_graph/fold.py", "import lstm_edge_exporters.pytorch.calls"),
    (NO_TORCH, "lstm_edge/validation/judge.py", "def _late():\n    import lstm_edge.checkpoint"),
    (ON_DEVICE, "lstm_edge/validation/report.py", "import lstm_edge_exporters.gates"),
    (ON_DEVICE, "lstm_edge/data/text.py", "def _late():\n    import onnx"),
]


def broken(folder: Path) -> set[str]:
    """Lint a tree; returns the names of the contracts that it breaks."""
    paths = [folder, folder / "exporters", folder / "runtime"]
    result = subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--no-logo"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    verdicts = dict(re.findall(r"^(.*) (KEPT|BROKEN)(?: \(.*\))?$", result.stdout, re.MULTILINE))
    assert set(verdicts) == {contract["name"] for contract in CONTRACTS}, result.stdout + result.stderr
    assert result.returncode == ("BROKEN" in verdicts.values())
    return {name for name, verdict in verdicts.items() if verdict == "BROKEN"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the sources."""
    folder = tmp_path_factory.mktemp("tree")
    for source in SOURCES:
        only_python = shutil.ignore_patterns("__pycache__", "*.so", "*.npz", "*.xz")
        shutil.copytree(ROOT / source, folder / source, ignore=only_python)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_contracts_hold(tree):
    assert broken(tree) == set()


@pytest.mark.parametrize(("contract", "file", "line"), VIOLATIONS, ids=range(len(VIOLATIONS)))
def test_a_contract_fails_where_it_is_broken(tree, contract, file, line):
    path = tree / file
    before = path.read_text()
    try:
        path.write_text(f"{before}\n\n{line}\n")
        assert contract in broken(tree)
    finally:
        path.write_text(before)


def test_every_contract_is_seen_to_fail():
    assert {contract for contract, _, _ in VIOLATIONS} == {contract["name"] for contract in CONTRACTS}


def test_only_two_folders_of_the_exporters_may_import_torch():
    [contract] = [contract for contract in CONTRACTS if contract["name"] == NO_TORCH]
    folder = ROOT / "exporters" / "lstm_edge_exporters"
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    free = {f"lstm_edge_exporters.{name}" for name in modules - {"__init__", "pytorch", "keras"}}
    assert {name for name in contract["source_modules"] if name.startswith("lstm_edge_exporters.")} == free
