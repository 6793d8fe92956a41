"""The steps of action.yml: ``action.py install`` and ``action.py check``, with the action's inputs as variables.

No input is ever part of a shell's text: commands are started with lists of arguments, a value is joined to its option
with ``=``, and ``--`` ends the options. Python is isolated (``-I``): of the pull request's files only a factory and a
metric that are asked for are imported. Exit codes are those of lstm-edge: 1 over the budget, 2 usage or environment.
"""

import html
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
SCHEMES = ("auto", "int8", "int4", "float16", "float32")
VERSION = re.compile(r"[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?")


def refuse(sentence: str) -> NoReturn:
    """Print an error and exit with 2."""
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def given(name: str) -> str:
    """Return an input of the action without the spaces around it, or an empty text."""
    return os.environ.get(f"LSTM_EDGE_{name}", "").strip()


def runner_path(name: str) -> Path:
    """Return the path in a variable that the runner sets."""
    value = os.environ.get(name, "")
    if not value:
        refuse(f"{name} is not set, expected the path that a GitHub runner sets")
    return Path(value)


@contextmanager
def no_workflow_commands() -> Iterator[None]:
    """Let the runner print lines that begin with ``::`` instead of obeying them: a model's names are in the output."""
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}", flush=True)
    try:
        yield
    finally:
        print(f"::{token}::", flush=True)


def install() -> int:
    """Install lstm-edge: a version of the package index, or the sources that the action comes with."""
    version, extras = given("VERSION"), "[cpu,export,keras,report,parquet,audio]"
    if version and not VERSION.fullmatch(version):
        refuse(f"version is {version!r}, expected one such as 0.1.0")
    what = [f"lstm-edge{extras}=={version}"] if version else [str(ROOT / "runtime"), f"{ROOT}{extras}"]
    command = [sys.executable, "-I", "-m", "pip", "install", *what]
    return subprocess.run(command, check=False).returncode  # noqa: S603  # the version is checked above


def options(**values: str) -> list[str]:
    """Return ``--name=value`` for each value that is not empty."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value]


def run(*arguments: str) -> None:
    """Run a command of lstm-edge; exit with its code if it fails."""
    with no_workflow_commands():
        command = [sys.executable, "-I", "-m", "lstm_edge", *arguments]
        code = subprocess.run(command, check=False).returncode  # noqa: S603  # inputs are values of options
    if code:
        summarize(f"`lstm-edge {arguments[0]}` failed with exit code {code}; the log of the step says why.")
        raise SystemExit(code)


def exported(folder: Path) -> str:
    """Return the path of the float32 file: the source, or what it is exported to."""
    source, weights, example = given("SOURCE"), given("WEIGHTS"), given("EXAMPLE")
    specs = [line.strip() for line in given("INPUTS").splitlines() if line.strip()]
    if source.endswith(".onnx"):
        if weights or example or specs:
            refuse("source is an .onnx file, which takes no weights, example or inputs: leave them out")
        return source
    target = str(folder / "float32.onnx")
    inputs = [f"--input={spec}" for spec in specs]
    run("export", *options(output=target, weights=weights, example=example), *inputs, "--", source)
    return target


def check() -> int:
    """Export, quantize and validate; write the summary and the path of the file."""
    folder = runner_path("RUNNER_TEMP") / "lstm-edge"
    # The action may be used twice in a job.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("SOURCE", "DATA"):
        if not given(name):
            refuse(f"{name.lower()} is empty, expected a value: it is a required input of the action")
    scheme, data, judge = given("SCHEME") or "auto", given("DATA"), {"metric": given("METRIC")}
    if scheme not in SCHEMES:
        refuse(f"scheme is {scheme!r}, expected one of {', '.join(SCHEMES)}")
    judge |= {"max_drop": given("BUDGET"), "confidence": given("CONFIDENCE")}
    float32, quantized = exported(folder), str(folder / "quantized.onnx")
    search = options(**judge, report=str(folder / "report.html")) if scheme == "auto" else []
    # float32 and float16 are not calibrated.
    calibrated = options(data=data) if scheme in ("auto", "int8", "int4") else []
    run("quantize", *options(output=quantized, scheme=scheme), *calibrated, *search, "--", float32)
    with runner_path("GITHUB_OUTPUT").open("a", encoding="utf-8") as file:
        file.write(f"model={quantized}\n")
    return validate(folder, quantized, float32, options(data=given("VALIDATION_DATA") or data, **judge))


def validate(folder: Path, quantized: str, float32: str, chosen: Sequence[str]) -> int:
    """Judge the file, keep the report as ``validation.json``, and return the exit code."""
    command = [sys.executable, "-I", "-m", "lstm_edge", "validate", f"--against={float32}", *chosen, "--json"]
    command += ["--", quantized]
    with no_workflow_commands():
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603  # as above
    if found.returncode not in (0, 1) or not found.stdout.strip():
        summarize("`lstm-edge validate` could not judge the file; the log of the step says why.")
        return found.returncode or 2
    (folder / "validation.json").write_text(found.stdout, encoding="utf-8")
    report = json.loads(found.stdout)
    summarize(table(report))
    print(f"{'within' if report['passed'] else 'over'} the budget: {sentence(report)}")
    return found.returncode


def sentence(report: dict[str, Any]) -> str:
    """Return the figures of a report in one line."""
    bound = "" if report["drop_bound"] is None else f" (at most {figure(report['drop_bound'])} with confidence)"
    lost = f"{report['metric']} lost {figure(report['drop'])}{bound} of {figure(report['max_drop'])} {report['unit']}"
    return " ".join(lost.split())


def figure(value: float | None) -> str:
    """Return a number as text; JSON has null for one that is not finite."""
    return "not finite" if value is None else f"{value:.6g}"


def table(report: dict[str, Any]) -> str:
    """Return the summary's table: both files, the loss and the budget."""
    rows = [
        ("", "float32", "quantized"),
        ("---", "---:", "---:"),
        (report["metric"], figure(report["reference"]), figure(report["candidate"])),
        ("bytes", f"{report['reference_bytes']:,}", f"{report['candidate_bytes']:,}"),
    ]
    verdict = "Within the budget" if report["passed"] else "**Over the budget**"
    loss = f"{verdict}: {cell(sentence(report))}. `report.html` (with scheme auto) and both files are in the artifact."
    return "\n".join(["| " + " | ".join(map(cell, row)) + " |" for row in rows] + ["", loss])


def cell(value: str) -> str:
    """Return a text that stays text in Markdown: no tags, links, columns or lines of its own."""
    return html.escape(re.sub(r"([\\`*_\[\]|~])", r"\\\1", " ".join(value.split())), quote=False)


def summarize(markdown: str) -> None:
    """Add a section to the page of the run."""
    with runner_path("GITHUB_STEP_SUMMARY").open("a", encoding="utf-8") as file:
        file.write(f"### lstm-edge\n\n{markdown}\n\n")


if __name__ == "__main__":
    steps = {"install": install, "check": check}
    if len(sys.argv) != 2 or sys.argv[1] not in steps:
        refuse("expected action.py install or action.py check")
    sys.exit(steps[sys.argv[1]]())
