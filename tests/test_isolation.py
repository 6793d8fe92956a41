"""What gets imported, in a fresh interpreter: anything else would see what other tests imported before."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "tests" / "device" / "models" / "tagger.onnx"

# What a device does not have. typer is a dependency of lstm-edge, not of the runtime.
# cryptography is loaded only to verify a signature.
NOT_ON_THE_DEVICE = (
    *("torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "typer", "click", "rich", "pydantic", "cryptography"),
    *("lstm_edge", "lstm_edge_exporters"),
)
HEAVY = ("numpy", "torch", "onnx", "onnxscript", "onnx_ir", "onnxruntime", "safetensors")

USE_THE_RUNTIME = f"""
import numpy
import lstm_edge_runtime
session = lstm_edge_runtime.Session({str(MODEL)!r})
session.run(numpy.zeros((2, 3, 3), numpy.float32))
session.stream().push(numpy.zeros(3, numpy.float32))
assert lstm_edge_runtime.self_test(session).passed
"""
EVERY_MODULE = """
import importlib, pkgutil, lstm_edge_runtime
names = [m.name for m in pkgutil.walk_packages(lstm_edge_runtime.__path__, "lstm_edge_runtime.")]
assert "lstm_edge_runtime.stream" in names, names
for name in names:
    importlib.import_module(name)
"""
WITHOUT_TORCH = (
    "lstm_edge.commands.adopt",
    "lstm_edge.commands.quantize",
    "lstm_edge.commands.validate",
    "lstm_edge.fleet",
    "lstm_edge.precision_search",
    "lstm_edge.refusals",
    "lstm_edge.validation",
    "lstm_edge_exporters.adopt",
    "lstm_edge_exporters.artifact",
    "lstm_edge_exporters.front_end",
    "lstm_edge_exporters.functions",
    "lstm_edge_exporters.gates",
    "lstm_edge_exporters.onnx_graph",
    "lstm_edge_exporters.quantize",
    "lstm_edge_exporters.verify",
)
EVERY_MODULE_OF = """
import importlib, pkgutil
package = importlib.import_module({package!r})
for found in pkgutil.walk_packages(getattr(package, "__path__", ()), {package!r} + "."):
    importlib.import_module(found.name)
"""
HELP = """
import sys
from lstm_edge.cli import main
sys.argv = ["lstm-edge", "--help"]
try:
    main()
except SystemExit as leaving:
    assert not leaving.code, leaving.code
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter that sees this checkout."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "exporters", ROOT / "runtime")))}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def imported(code: str, watched: tuple[str, ...]) -> set[str]:
    """Run ``code`` in a fresh interpreter; returns which of the ``watched`` packages it imported."""
    report = f"\nimport sys\nprint('imported:', *(name for name in {watched!r} if name in sys.modules))"
    result = run_python(code + report)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].removeprefix("imported:").split())


@pytest.mark.parametrize("code", [USE_THE_RUNTIME, EVERY_MODULE], ids=["use", "every module"])
def test_the_runtime_needs_numpy_and_onnxruntime_only(code):
    assert imported(code, NOT_ON_THE_DEVICE) == set()


@pytest.mark.slow
@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_what_works_on_onnx_files_needs_no_torch(package):
    code = EVERY_MODULE_OF.format(package=package)
    assert imported(code, ("torch", "safetensors")) == set()


@pytest.mark.parametrize(
    ("code", "watched"),
    [("import lstm_edge_runtime", HEAVY), ("import lstm_edge", HEAVY), (HELP, HEAVY)],
    ids=["import lstm_edge_runtime", "import lstm_edge", "--help"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code, watched):
    assert imported(code, watched) == set()


@pytest.mark.parametrize("command", ["run", "check", "inspect"])
def test_a_missing_onnxruntime_names_its_extra(command):
    words = ["lstm-edge", command, str(MODEL)] + ["--stream"] * (command == "run")
    code = f"import sys\nsys.modules['onnxruntime'] = None\nsys.argv = {words!r}"
    result = run_python(code + "\nfrom lstm_edge.cli import main\nmain()")
    assert result.returncode == 2
    assert result.stderr == (
        "error: this command needs 'onnxruntime', which is not installed: pip install 'lstm-edge[cpu]'\n"
    )


@pytest.mark.parametrize("package", ["json", "typer", "numpy"])
def test_the_check_itself_sees_an_import(package):
    # The check must fail where something is imported; these packages are there in every environment of the tests.
    assert imported(f"import {package}", (package, "lstm_edge_nothing")) == {package}


@pytest.mark.parametrize("package", ["torch", "onnx"])
def test_the_check_sees_what_a_module_of_the_runtime_imports(tmp_path, package):
    # A stand-in package of that name: the test must not depend on the real one being installed.
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport {package}\n{USE_THE_RUNTIME}"
    assert imported(code, NOT_ON_THE_DEVICE) == {package}


# Whatever hands an address to C++ without a copy.
LENDING = {"ortvalue_from_numpy", "ortvalue_from_numpy_with_onnx_type", "bind_cpu_input", "bind_input", "bind_output"}


def lenders(source):
    """The attributes in a source text that lend memory."""
    attributes = (node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute))
    return [name for name in attributes if name in LENDING or name.startswith("bind_ortvalue")]


def test_memory_is_lent_to_onnxruntime_in_one_place():
    # bindings.py returns the owner with the loan; anywhere else nobody would.
    paths = [path for folder in ("lstm_edge", "exporters", "runtime") for path in (ROOT / folder).rglob("*.py")]
    found = {path.name for path in paths if lenders(path.read_text(encoding="utf-8"))}
    assert found == {"bindings.py"}
    assert len(paths) > 50
    assert lenders("onnxruntime.OrtValue.ortvalue_from_numpy(x)") == ["ortvalue_from_numpy"]
