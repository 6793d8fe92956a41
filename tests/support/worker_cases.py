"""Searches with worker processes: their command lines, and what is left of them."""

import os
import subprocess
from pathlib import Path

from lstm_edge_runtime.fresh_python import python_command
from support.auto_cases import DROP, METRIC
from support.budget_models import write_classifier, write_data
from support.postgresql import PATIENCE_S

__all__ = ["WATCHED", "children", "comparable", "ended", "finish", "made", "start", "write_files", "write_metric"]

PACKAGES = ("lstm_edge", "lstm_edge_exporters", "lstm_edge_runtime")
# Few schemes: the search has some 25 evaluations.
CLI = """
from lstm_edge.precision_search import expected, smallest, space
space.SCHEMES = ("int8", "int4:32")
smallest.UNIFORM = expected.UNIFORM = ("float16", *space.SCHEMES)
from lstm_edge.cli import main
main()
"""
# A metric that says which process calls it how often, and of which call process $STOPS never returns.
WATCHED = """
import os, time
import numpy as np
calls = []
def loss(outputs, targets):
    calls.append(0)
    with open("calls.log", "a") as log:
        log.write(f"{os.getpid()} {len(calls)}\\n")
    if len(calls) == int(os.environ.get("STOPS", 0)):
        open("stopped", "w").close()
        time.sleep(10_000)
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log_p[range(len(targets)), targets]
"""


def write_files(folder):
    """Write a model of three parts and its data; returns both paths."""
    model = write_classifier(folder / "model.onnx", hidden=96, seed=1)
    return model, write_data(folder / "data.npz", model)


def write_metric(folder):
    """Write the metric ``watched:loss:less`` into a folder, from which the search must be started."""
    (folder / "watched.py").write_text(WATCHED)


def start(files, output, *more, folder=None, metric=METRIC, **environment):
    """Start `lstm-edge quantize --scheme auto` in a session of its own; standard error is piped."""
    words = [files[0], "-o", output, "--scheme", "auto", "--data", files[1], "--metric", metric, "--max-drop", DROP]
    words += ["--max-evaluations", 60, "--calibration-samples", 40, *more]
    return subprocess.Popen(
        python_command(CLI, "quantize", *map(str, words), packages=PACKAGES),
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, code=0):
    """Wait for the end of a search; returns its standard error."""
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, errors
    assert "Traceback" not in errors, errors
    return errors


def made(errors):
    """Return how many evaluations a search says that its workers made, and those of others."""
    [line] = [line for line in errors.splitlines() if "were made here" in line]
    numbers = [int(word) for word in line.replace(",", "").split() if word.isdigit()]
    return numbers[0], numbers[-1]


def children(pid):
    """Return the ids of the processes that the main thread of a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ended(pids):
    """Return whether none of these processes is left; one that nobody has waited for has ended."""
    return all(_state(pid) in ("", "Z") for pid in pids)


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def comparable(report):
    """Return a report without what differs from run to run: times, and the path of the output."""
    values = report.to_json()
    values.pop("elapsed_s")
    values.pop("command")
    for file in (values["source"], values["result"]):
        file.pop("path")
        file.pop("step_us")
    return values
