"""The two project files: one version, and extras of lstm-edge that come from the runtime."""

import shutil
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from support.scripts import load_script

ROOT = Path(__file__).parents[2]
TOOLKIT, RUNTIME = (
    tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in (".", "runtime")
)
SHARED = ("version", "requires-python", "license", "maintainers", "urls")


def test_both_have_one_version_licence_and_range_of_python():
    assert {name: RUNTIME[name] for name in SHARED} == {name: TOOLKIT[name] for name in SHARED}
    assert (ROOT / "LICENSE").read_bytes() == (ROOT / "runtime" / "LICENSE").read_bytes()
    languages = [[line for line in project["classifiers"] if ":: Python ::" in line] for project in (TOOLKIT, RUNTIME)]
    assert languages[0] == languages[1]


def test_lstm_edge_requires_exactly_its_runtime():
    required = [*TOOLKIT["dependencies"], *chain(*TOOLKIT["optional-dependencies"].values())]
    ours = [Requirement(text) for text in required if text.startswith("lstm-edge-runtime")]
    assert {str(requirement.specifier) for requirement in ours} == {f"=={TOOLKIT['version']}"}
    assert not ours[0].extras
    # An extra of the same name is that of the runtime: the range of onnxruntime is written once.
    shared = set(TOOLKIT["optional-dependencies"]) & set(RUNTIME["optional-dependencies"])
    assert shared == {"cpu", "cuda", "sign", "text"}
    assert {extra for requirement in ours[1:] for extra in requirement.extras} == shared


def test_the_runtime_requires_numpy_alone():
    assert [Requirement(text).name for text in RUNTIME["dependencies"]] == ["numpy"]


def test_the_c_library_has_the_version_of_the_project():
    text = (ROOT / "runtime" / "c" / "CMakeLists.txt").read_text()
    assert "${CMAKE_CURRENT_SOURCE_DIR}/../pyproject.toml VERSION_LINE" in text


def test_make_wheels_refuses_a_toolkit_with_other_contents_or_another_pin(tmp_path, monkeypatch):
    wheels = load_script("wheels")
    good = f"Requires-Dist: lstm-edge-runtime=={TOOLKIT['version']}\n"
    assert wheels.toolkit_problems(toolkit(tmp_path, good)) == []
    for metadata in ("", "Requires-Dist: lstm-edge-runtime\n", "Requires-Dist: lstm-edge-runtime>=0.1.0\n"):
        [problem] = wheels.toolkit_problems(toolkit(tmp_path, metadata))
        assert problem.startswith("it does not require exactly its version of the runtime")
    [problem] = wheels.toolkit_problems(toolkit(tmp_path, good, "lstm_edge_runtime/stream.py"))
    assert problem.startswith("it contains ['lstm_edge', 'lstm_edge_exporters', 'lstm_edge_runtime'], expected")


def toolkit(folder, metadata, *more):
    """A wheel of lstm-edge with these requirements and more files."""
    tree = folder / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("lstm_edge/__init__.py", "lstm_edge_exporters/__init__.py", "x.dist-info/METADATA", *more):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(metadata if name.endswith("METADATA") else "")
    return Path(shutil.make_archive(str(folder / "wheel"), "zip", tree))
