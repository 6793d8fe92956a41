"""action.yml and its script: run with a runner's variables, without a network; inputs are values and never code."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

from lstm_edge_runtime import Session

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "action.py"
MODEL = ROOT / "tests" / "device" / "models" / "exported_float32.onnx"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = ACTION["runs"]["steps"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sequences whose targets are the float32 model's own answers, so that any rounding costs something."""
    path = tmp_path_factory.mktemp("data") / "my data.npz"
    x = np.random.default_rng(0).standard_normal((48, 9, 6)).astype(np.float32)
    np.savez(path, x=x, y=Session(MODEL).run(x)[0]["logits"])
    return path


# Refused after a command of seconds.
LATE = (
    {"data": "d.npz; touch pwned"},
    {"metric": "mse`touch pwned`"},
    {"budget": '0.1" && touch pwned #'},
)


@pytest.fixture
def action(tmp_path, data):
    """Run a step of the script as a runner would; returns its exit code and what it printed."""

    def run(step="check", /, *, cwd=None, **inputs):
        runner = tmp_path / "runner"
        runner.mkdir(parents=True, exist_ok=True)
        variables = {"GITHUB_OUTPUT": "output", "GITHUB_STEP_SUMMARY": "summary", "RUNNER_TEMP": "temp"}
        variables = {name: str(runner / value) for name, value in variables.items()}
        chosen = {"source": str(MODEL), "data": str(data), "scheme": "int8", "metric": "mse", "budget": "0.1"} | inputs
        variables |= {f"LSTM_EDGE_{name.upper()}": value for name, value in chosen.items()}
        found = subprocess.run(
            [sys.executable, SCRIPT, step],
            cwd=cwd or tmp_path,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return found.returncode, found.stdout + found.stderr

    run.runner = tmp_path / "runner"
    return run


@pytest.mark.slow
def test_a_model_within_the_budget_is_exit_0_with_files_and_a_summary(action):
    code, printed = action()
    assert code == 0, printed
    folder = action.runner / "temp" / "lstm-edge"
    assert {path.name for path in folder.iterdir()} == {"quantized.onnx", "validation.json"}
    assert (action.runner / "output").read_text() == f"model={folder / 'quantized.onnx'}\n"
    summary = (action.runner / "summary").read_text()
    assert "| mse | 0 |" in summary
    assert f"| bytes | {MODEL.stat().st_size:,} | {(folder / 'quantized.onnx').stat().st_size:,} |" in summary
    assert "Within the budget: mse lost" in summary


@pytest.mark.slow
def test_a_model_over_the_budget_is_exit_1_and_says_so(action):
    code, printed = action(budget="0")
    assert code == 1, printed
    assert "**Over the budget**: mse lost" in (action.runner / "summary").read_text()
    assert (action.runner / "temp" / "lstm-edge" / "validation.json").is_file()


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"source": ""}, "source is empty, expected a value"),
        ({"data": " "}, "data is empty, expected a value"),
        ({"scheme": "int3"}, "scheme is 'int3', expected one of auto, int8, int4, float16, float32"),
        ({"weights": "w.pt"}, "source is an .onnx file, which takes no weights, example or inputs"),
        ({"source": "--help"}, "--help"),
        ({"source": "$(touch pwned).onnx"}, "$(touch pwned).onnx"),
        *(pytest.param(inputs, "touch pwned", marks=pytest.mark.long) for inputs in LATE),
    ],
)
def test_what_is_wrong_is_exit_2_and_an_input_is_never_code(action, tmp_path, inputs, says):
    code, printed = action(**inputs)
    assert code == 2, printed
    assert says in " ".join(printed.split())
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("version", ["--index-url=http://x", "1.0 --pre", "1.0;touch pwned", "latest"])
def test_another_text_than_a_version_is_not_given_to_pip(action, version):
    code, printed = action("install", version=version)
    assert code == 2
    assert printed == f"error: version is {version!r}, expected one such as 0.1.0\n"


def test_the_extras_that_are_installed_exist():
    [named] = re.findall(r'extras = .*"\[([a-z,]+)\]"', SCRIPT.read_text())
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(named.split(",")) <= set(known)


def test_what_a_command_prints_is_no_command_to_the_runner(action):
    code, printed = action(source="none.onnx")
    assert code == 2
    tokens = re.findall(r"^::stop-commands::([0-9a-f]{32})$", printed, re.MULTILINE)
    assert tokens
    assert all(f"\n::{token}::\n" in printed for token in tokens)


def test_a_runner_that_sets_no_folder_is_refused():
    kept = {name: value for name, value in os.environ.items() if name != "RUNNER_TEMP"}
    found = subprocess.run([sys.executable, SCRIPT, "check"], env=kept, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "error: RUNNER_TEMP is not set, expected the path that a GitHub runner sets\n"


def test_a_step_has_no_expression_in_its_commands_and_hands_over_each_input():
    handed = {}
    for step in STEPS:
        if "run" not in step:
            continue
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"
        program, path, name = step["run"].split()
        assert (program, path) == ("python3", '"$GITHUB_ACTION_PATH/.ci/action.py"')
        assert f'"{name}": ' in SCRIPT.read_text()
        handed |= step["env"]
    expected = {name: f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"]}
    for name in ("working-directory", "artifact"):
        expected.pop(name)
    assert handed == {f"LSTM_EDGE_{name.upper().replace('-', '_')}": value for name, value in expected.items()}
    read = set(re.findall(r'given\("([A-Z_]+)"\)', SCRIPT.read_text())) | {"SOURCE", "DATA"}
    assert {f"LSTM_EDGE_{name}" for name in read} == set(handed)


def test_the_report_is_kept_when_the_budget_failed():
    [upload] = [step for step in STEPS if "uses" in step]
    assert upload["if"] == "${{ !cancelled() }}"
    assert upload["with"]["path"] == "${{ runner.temp }}/lstm-edge"
    assert all(value["description"] for value in ACTION["inputs"].values())
    assert {name for name, value in ACTION["inputs"].items() if value.get("required")} == {"source", "data"}


def test_the_page_shows_each_input():
    page = (ROOT / "docs" / "github-action.md").read_text()
    assert all(f"| `{name}` |" in page for name in ACTION["inputs"])
    assert "pull_request_target" in page


@pytest.mark.long
def test_a_factory_is_exported_and_the_search_leaves_a_report(action, tmp_path, data):
    (tmp_path / "mine.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.lstm = torch.nn.LSTM(6, 24, batch_first=True)\n        self.head = torch.nn.Linear(24, 4)\n\n"
        "    def forward(self, x):\n        return self.head(self.lstm(x)[0])\n"
    )
    (action.runner / "temp" / "lstm-edge").mkdir(parents=True)
    (action.runner / "temp" / "lstm-edge" / "report.json").write_text("of another use in this job")
    inputs = {"source": "mine:Net", "inputs": "x: float32[batch, time, 6]\n", "scheme": "auto", "budget": "10%"}
    code, printed = action(**inputs)
    assert code == 0, printed
    folder = action.runner / "temp" / "lstm-edge"
    assert "<html" in (folder / "report.html").read_text()
    assert {"float32.onnx", "quantized.onnx", "validation.json"} <= {path.name for path in folder.iterdir()}
