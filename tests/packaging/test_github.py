"""What runs elsewhere is at least parsed, and calls what exists: workflows, templates, pre-commit, dependabot."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def parsed(path):
    return yaml.safe_load(path.read_text())


def commands(workflow):
    """Each ``run`` line, with the matrix filled in."""
    for job in workflow["jobs"].values():
        values = job.get("strategy", {}).get("matrix", {}).get("target", [""])
        for step in job["steps"]:
            for value in values if "run" in step else ():
                yield step["run"].replace("${{ matrix.target }}", value)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_targets_that_exist(path):
    workflow = parsed(path)
    assert workflow[True], "the key `on`, which YAML 1.1 reads as true"
    assert workflow["permissions"]
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())
    made = [
        target for command in commands(workflow) if command.startswith("make ") for target in shlex.split(command)[1:]
    ]
    assert made
    assert set(made) <= TARGETS


def test_the_tests_run_on_every_python_that_the_package_names_and_on_arm():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)]
    matrix = parsed(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == named
    assert named[0] == project["requires-python"].removeprefix(">=")
    assert any(entry["os"].endswith("-arm") for entry in matrix["include"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_a_form_needs(path):
    form = parsed(path)
    assert {"name", "description", "body"} <= set(form)
    identities = [field["id"] for field in form["body"]]
    assert len(set(identities)) == len(identities)
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_the_action_is_of_the_form_that_a_runner_reads():
    action = parsed(ROOT / "action.yml")
    assert {"name", "description", "inputs", "runs"} <= set(action)
    assert action["runs"]["using"] == "composite"
    used = [step["uses"] for step in action["runs"]["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", name) for name in used)
    # A step that runs a command names its shell; a runner refuses a composite action otherwise.
    assert all("shell" in step for step in action["runs"]["steps"] if "run" in step)


def test_dependabot_watches_the_pins_and_the_actions():
    updates = parsed(ROOT / ".github" / "dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "github-actions"}


def test_pre_commit_runs_pinned_tools():
    path = ROOT / ".pre-commit-config.yaml"
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    pins = (ROOT / "constraints.txt").read_text()
    for hook in (hook for repository in parsed(path)["repos"] for hook in repository["hooks"]):
        tool = Path(hook["entry"].split()[0]).name
        assert f"\n{ {'lint-imports': 'import-linter'}.get(tool, tool) }==" in pins, tool
