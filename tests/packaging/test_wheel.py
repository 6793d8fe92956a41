"""The runtime's wheel with numpy and onnxruntime, and both wheels with typer too; no torch, no onnx, no checkout.

pip installs the wheels; what they need comes from the environment that runs the tests (links to what is installed), so
nothing is downloaded.
"""

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.environments import linked_environment, run

from lstm_edge_runtime.checkpoint_header import CHECKPOINT_KEY

pytestmark = [pytest.mark.slow, pytest.mark.long]

ROOT = Path(__file__).parents[2]
# What the device has beside the runtime's wheel, and what the tests there need.
DEVICE = ("numpy", "onnxruntime")
TEST_TOOLS = ("pytest", "hypothesis")
NOT_THERE = ("torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "typer", "click", "rich", "pydantic", "lstm_edge")
# What the runtime may add to a virtual environment that has onnxruntime, with the byte code that pip compiles.
MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def device(runtime_wheel, tmp_path_factory):
    """A virtual environment like a device's, with the runtime's wheel; returns its folder."""
    folder = tmp_path_factory.mktemp("device")
    linked_environment(folder / "venv", *DEVICE, *TEST_TOOLS, with_pip=True)
    install(folder, runtime_wheel)
    # Outside of the checkout, so that nothing of it can be on the path.
    shutil.copytree(ROOT / "tests" / "device", folder / "device", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def both(device, runtime_wheel, toolkit_wheel, tmp_path_factory):
    """A device with lstm-edge too; returns its command."""
    folder = tmp_path_factory.mktemp("both")
    linked_environment(folder / "venv", *DEVICE, "typer", with_pip=True)
    install(folder, runtime_wheel, toolkit_wheel)
    return (folder / "venv" / "bin" / "lstm-edge",)


def install(folder, *wheels):
    """Let pip itself install wheels; what they need is there already, and nothing else may be fetched."""
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-index", "--no-deps", *wheels, cwd=folder)


@pytest.fixture(scope="module")
def python(device):
    return device / "venv" / "bin" / "python"


@pytest.fixture
def lstm_edge(device):
    """The command that pip installed with the runtime."""
    return (device / "venv" / "bin" / "lstm-edge",)


def contents(wheel):
    """The names of a wheel's files, that of its metadata's folder, and what it requires without an extra."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name for name in names if name.endswith("/METADATA")).split("/")[0]
        metadata = archive.read(f"{info}/METADATA").decode()
        scripts = archive.read(f"{info}/entry_points.txt").decode() if f"{info}/entry_points.txt" in names else ""
    # The runtime owns the command, and loads lstm-edge where that is installed.
    ours = "lstm_edge_runtime/__init__.py" in names
    assert ("lstm-edge = lstm_edge_runtime.entry:main" in scripts) == ours
    assert ("lstm-edge" in scripts) == ours
    return names, info, sorted(re.findall(r"^Requires-Dist: ([^;\n]*)$", metadata, re.MULTILINE))


def modules(*packages):
    """The Python files of packages of the checkout, as a wheel has them."""
    found = ((ROOT / package).parent for package in packages)
    return {
        path.relative_to(parent).as_posix()
        for parent, package in zip(found, packages, strict=True)
        for path in (ROOT / package).rglob("*.py")
    }


def test_the_runtimes_wheel_holds_its_package_and_nothing_else(runtime_wheel):
    names, info, required = contents(runtime_wheel)
    assert {name.split("/")[0] for name in names} == {"lstm_edge_runtime", info}
    assert {"lstm_edge_runtime/py.typed", f"{info}/licenses/LICENSE"} <= set(names)
    library = [name for name in names if name.startswith("lstm_edge_runtime/c/")]
    assert {name.split("/")[2] for name in library} <= {"bin", "include", "lib", "share"}
    assert not [name for name in names if name.endswith((".onnx", ".a"))]
    assert {name for name in names if name.endswith(".py")} == modules("runtime/lstm_edge_runtime")
    assert required == ["numpy>=1.26"]


def test_the_toolkits_wheel_holds_its_packages_and_nothing_else(toolkit_wheel):
    names, info, required = contents(toolkit_wheel)
    assert toolkit_wheel.name.endswith("-py3-none-any.whl")
    assert {name.split("/")[0] for name in names} == {"lstm_edge", "lstm_edge_exporters", info}
    for name in (
        "lstm_edge/py.typed",
        "lstm_edge_exporters/py.typed",
        "lstm_edge/data/japanese_vowels.npz",
        "lstm_edge/data/kjv.txt.xz",
        "lstm_edge/data/ATTRIBUTION.md",
        *(f"lstm_edge/html_report/templates/{name}" for name in ("report.html", "drawings.html", "style.css")),
        f"{info}/licenses/LICENSE",
    ):
        assert name in names
    assert not [name for name in names if name.endswith(".onnx") or "/test_" in name or name.startswith("tests/")]
    assert {name for name in names if name.endswith(".py")} == modules("lstm_edge", "exporters/lstm_edge_exporters")
    assert required == [f"lstm-edge-runtime=={toolkit_wheel.name.split('-')[1]}", "numpy>=1.26", "typer>=0.15"]


def test_the_device_has_neither_torch_nor_onnx_nor_the_checkout(python, device):
    code = (
        "import importlib.util, json, lstm_edge_runtime\n"
        f"there = [name for name in {NOT_THERE!r} + ('numpy',) if importlib.util.find_spec(name)]\n"
        "print(json.dumps([there, lstm_edge_runtime.__file__]))"
    )
    there, file = json.loads(run(python, "-c", code, cwd=device).stdout)
    assert there == ["numpy"]  # numpy shows that the search itself finds something
    assert Path(file).is_relative_to(device / "venv")


def test_the_runtime_adds_little_to_a_device(python, device):
    code = (
        "import importlib.metadata, json\n"
        "files = importlib.metadata.files('lstm-edge-runtime')\n"
        "print(json.dumps({str(file): file.locate().stat().st_size for file in files}))"
    )
    sizes = json.loads(run(python, "-c", code, cwd=device).stdout)
    assert {"../../../bin/lstm-edge", "lstm_edge_runtime/c/lib/liblstm_edge.so.1"} <= set(sizes)
    assert len([name for name in sizes if name.endswith(".pyc")]) > 60
    assert 3_000_000 < sum(sizes.values()) <= MOST_BYTES


def test_the_device_tests_pass_with_the_installed_packages(python, device):
    (device / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n")
    check = device / "device" / "test_where.py"
    check.write_text(
        "import sys\nimport lstm_edge_runtime\n\n"
        "def test_it_is_the_installed_package():\n"
        f"    assert lstm_edge_runtime.__file__.startswith({str(device / 'venv')!r})\n"
        f"    assert not [entry for entry in sys.path if entry.startswith({str(ROOT)!r})]\n"
    )
    result = run(python, "-m", "pytest", "device", "-q", cwd=device)
    # 400 and more today; a collection that finds nothing must not pass.
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) > 300, result.stdout


def test_the_device_commands_work_on_an_int8_file(lstm_edge, device):
    model = device / "device" / "models" / "exported_int8.onnx"
    assert "passed: 2 golden vectors" in run(*lstm_edge, "check", model, cwd=device).stdout
    assert "lstm_edge::LstmInt8V1" in run(*lstm_edge, "inspect", model, cwd=device).stdout
    np.save(device / "x.npy", np.zeros((1, 4, 6), np.float32))
    run(*lstm_edge, "run", model, "x.npy", "-o", "y.npy", cwd=device)
    answer = np.load(device / "y.npy")
    assert answer.shape == (1, 4, 4)
    lines = run(*lstm_edge, "run", model, "--stream", cwd=device, stdin="[0, 0, 0, 0, 0, 0]\n" * 4).stdout.splitlines()
    np.testing.assert_array_equal(np.array([json.loads(line) for line in lines], np.float32), answer[0])


def test_the_budget_can_be_checked_on_the_device(both, device):
    model = device / "device" / "models" / "exported_last_step_int8.onnx"
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 6)).astype(np.float32)
    np.savez(device / "data.npz", x=x, lengths=np.full(12, 5), y=random.integers(0, 4, 12))
    result = run(*both, "validate", model, "--against", model, "--data", "data.npz", "--json", cwd=device)
    report = json.loads(result.stdout)
    assert (report["passed"], report["samples"], report["agreement"]) == (True, 12, 1.0)


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (
            ("train", "classification", "--data", "japanese-vowels", "-o", "m.safetensors"),
            "torch|safetensors",
            "export",
        ),
        (("export", "m.safetensors", "-o", "m.onnx"), "torch", "export"),
        (("quantize", "m.onnx", "-o", "q.onnx"), "onnx|onnx_ir", "onnx"),
        (("adopt", "m.onnx", "-o", "q.onnx"), "onnx|onnx_ir", "onnx"),
    ],
)
def test_a_command_that_the_device_lacks_names_its_extra(lstm_edge, both, device, arguments, package, extra):
    # Files that exist, with a beginning of their kind: others are refused before a package is needed.
    header = json.dumps({"__metadata__": {CHECKPOINT_KEY: "{}"}}).encode()
    (device / "m.onnx").write_bytes(b"\x08\x08")
    (device / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    missing = "which is not installed: pip install 'lstm-edge["
    alone = run(*lstm_edge, *arguments, cwd=device, exit_code=2).stderr
    assert alone.startswith(f"error: lstm-edge {arguments[0]} needs lstm-edge, {missing}")
    result = run(*both, *arguments, cwd=device, exit_code=2)
    what = r"this command|export|lstm_edge\.\w+"
    pattern = rf"error: ({what}) needs '({package})', which is not installed: pip install 'lstm-edge\[{extra}\]'"
    assert re.search(pattern, result.stderr.splitlines()[-1]), result.stderr


def test_the_commands_help_on_the_device(lstm_edge, both, device):
    for command in (lstm_edge, both):
        assert "quantize" in run(*command, "--help", cwd=device).stdout
        assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(*command, "--version", cwd=device).stdout)


def test_the_commands_of_the_device_say_the_same_with_lstm_edge(lstm_edge, both, device):
    model = device / "device" / "models" / "exported_int8.onnx"
    for arguments in (("check", model), ("inspect", model), ("check", model, "--json")):
        assert run(*lstm_edge, *arguments, cwd=device).stdout == run(*both, *arguments, cwd=device).stdout
