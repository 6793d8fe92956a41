"""A selection that is killed at random points and started again gives the result of one that was not.

`make test-select-kills`: each run is a process of its own, five minutes in all.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SEED = 11
KILLS = 10
HIDDEN, FOLDS, EPOCHS = (2, 3), 2, 2
# What a run is called, and when and how fast it ran.
TIMES = ("seconds", "per_second")


def drive(data, runs):
    """Do runs of the command one after the other, each ``(folder, point)``; return how each ended and its events."""
    command = ["select", "--data", data, "--hidden-sizes", ",".join(map(str, HIDDEN))]
    command += ["--folds", FOLDS, "--epochs", EPOCHS, "--seed", 3, "-o", "m.safetensors", "--json"]
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "exporters", "runtime"))
    ends = []
    for folder, point in runs:
        plan = {"data": str(data), "hidden": HIDDEN, "command": [str(part) for part in command]}
        plan |= {"folder": str(folder), "point": int(point), "measured": str(data.parent / "measured")}
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests" / "soak" / "selection_driver.py"), json.dumps(plan)],
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (folder / "events.json").exists(), done.stderr
        ends.append({"ended": done.returncode, "events": json.loads((folder / "events.json").read_text())})
    return ends


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(entry) for key, entry in value.items() if key not in TIMES}
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


def outcome(folder):
    """Return the report without its times, and the model's bytes."""
    return without_times(json.loads((folder / "stdout").read_text())), (folder / "m.safetensors").read_bytes()


def trials(folder):
    """Return how many trials of the study there are in each state."""
    with closing(sqlite3.connect(folder / "m.selection-study.sqlite3")) as connection:
        return Counter(state for (state,) in connection.execute("SELECT state FROM trials"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "d.npz"
    x = np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32)
    np.savez(path, x=x, lengths=np.full(30, 3), y=np.arange(30) % 2)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    """The folder of a run that nobody killed, and its events."""
    folder = tmp_path_factory.mktemp("whole")
    (run,) = drive(data, [(folder, 0)])
    assert run["ended"] == 0, (folder / "stderr").read_text()
    return folder, run["events"]


def test_killed_at_ten_random_points_and_resumed_it_gives_the_result_of_an_uninterrupted_run(tmp_path, data, whole):
    expected, events = whole
    updates = events.count("before an update")
    # Batches of 16: one or two for each fold's 13 or 14 sequences, two for the last training's 26.
    assert updates == EPOCHS * (len(HIDDEN) * FOLDS + 2)
    points = np.sort(np.random.default_rng(SEED).choice(np.arange(2, len(events) + 1), KILLS, replace=False))
    folders = [tmp_path / f"killed-at-{point}" for point in points]
    for folder in folders:
        folder.mkdir()
    plan = [run for folder, point in zip(folders, points, strict=True) for run in ((folder, point), (folder, 0))]
    ends = drive(data, plan)
    for folder, point, killed, resumed in zip(folders, points, ends[::2], ends[1::2], strict=True):
        # Optuna's heartbeat adds statements by the clock, so the events before the kill differ from run to run.
        assert (killed["ended"], len(killed["events"])) == (-signal.SIGKILL, point)
        assert resumed["ended"] == 0, (folder / "stderr").read_text()
        assert outcome(folder) == outcome(expected), point
        assert trials(folder)["COMPLETE"] == len(HIDDEN) * FOLDS
        assert trials(folder)["RUNNING"] == trials(folder)["WAITING"] == 0
        # What was done is not done again, except for the trial that was under way and the last training.
        again = killed["events"].count("after an update") + resumed["events"].count("before an update") - updates
        assert again <= 2 * EPOCHS, point


def test_killed_again_and_again_it_comes_to_the_same_end(tmp_path, data, whole):
    points = np.random.default_rng(SEED).integers(60, 120, KILLS)
    ends = drive(data, [*((tmp_path, point) for point in points), (tmp_path, 0)])
    # Each of the first comes a trial or so further; the last finishes.
    assert [end["ended"] for end in ends[:3]] == 3 * [-signal.SIGKILL]
    assert ends[-1]["ended"] == 0, (tmp_path / "stderr").read_text()
    assert outcome(tmp_path) == outcome(whole[0])
    assert trials(tmp_path)["COMPLETE"] == len(HIDDEN) * FOLDS
