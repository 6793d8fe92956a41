"""An interrupted training goes on to the same bits, and the state of another training is refused."""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.training_cases import TASKS, train
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge.training import Checkpoint
from lstm_edge_runtime.errors import ArtifactError, InputError, OutputError

ROOT = Path(__file__).parents[2]

# Everything whose state could be forgotten: dropout and noise draw numbers, AdamW and the plateaus remember.
HARD = {"epochs": 5, "optimizer": "adamw", "weight_decay": 0.1, "schedule": "plateau", "step_epochs": 1}
DROPOUT = {"layers": 2, "dropout": 0.3}


class InterruptionError(Exception):
    pass


def interrupt_after(number):
    def on_epoch(epoch):
        if epoch.number == number:
            raise InterruptionError

    return on_epoch


def equal(first, second):
    mine, theirs = first.state_dict(), second.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_interrupted_training_gives_the_same_weights_and_history(tmp_path, task, optimizer):
    options = HARD | {"optimizer": optimizer}
    whole, expected = train(task, options=options, config=DROPOUT)
    path = tmp_path / "state"
    with pytest.raises(InterruptionError):
        train(task, options=options, config=DROPOUT, checkpoint=Checkpoint(path=path), on_epoch=interrupt_after(3))
    torch.manual_seed(12345)  # nothing may come from the process's own random state
    resumed, report = train(task, options=options, config=DROPOUT, checkpoint=Checkpoint(path=path, resume=True))
    assert report.history == expected.history
    assert equal(whole, resumed)


def test_random_resets_go_on_as_without_the_interruption(tmp_path):
    options = HARD | {"reset_probability": 0.3}
    whole, expected = train("language-model", options=options, config=DROPOUT)
    path = tmp_path / "state"
    with pytest.raises(InterruptionError):
        train(
            "language-model",
            options=options,
            config=DROPOUT,
            checkpoint=Checkpoint(path=path),
            on_epoch=interrupt_after(2),
        )
    resumed, report = train(
        "language-model", options=options, config=DROPOUT, checkpoint=Checkpoint(path=path, resume=True)
    )
    assert report.history == expected.history
    assert equal(whole, resumed)
    # The resets made a difference.
    assert train("language-model", options=HARD, config=DROPOUT)[1].history != expected.history


def test_the_test_notices_a_forgotten_random_state(tmp_path, monkeypatch):
    path = tmp_path / "state"
    with pytest.raises(InterruptionError):
        train("tagging", options=HARD, config=DROPOUT, checkpoint=Checkpoint(path=path), on_epoch=interrupt_after(3))
    monkeypatch.setattr(torch, "set_rng_state", lambda _: None)
    _, report = train("tagging", options=HARD, config=DROPOUT, checkpoint=Checkpoint(path=path, resume=True))
    assert report.history != train("tagging", options=HARD, config=DROPOUT)[1].history


def test_the_best_weights_survive_an_interruption(tmp_path):
    # At this rate the held-out loss goes up: the best epoch lies before the interruption.
    options = {"epochs": 6, "optimizer": "sgd", "learning_rate": 1.0, "schedule": "constant", "clip_norm": None}
    whole, expected = train("forecast", options=options)
    assert expected.best.number < 4 < len(expected.history)
    path = tmp_path / "state"
    with pytest.raises(InterruptionError):
        train("forecast", options=options, checkpoint=Checkpoint(path=path), on_epoch=interrupt_after(5))
    resumed, report = train("forecast", options=options, checkpoint=Checkpoint(path=path, resume=True))
    assert report.best == expected.best
    assert equal(whole, resumed)


def test_a_finished_training_is_not_continued(tmp_path):
    checkpoint = Checkpoint(path=tmp_path / "state")
    whole, expected = train("tagging", checkpoint=checkpoint)
    seen = []
    again, report = train("tagging", checkpoint=Checkpoint(path=checkpoint.path, resume=True), on_epoch=seen.append)
    assert (seen, report.history) == ([], expected.history)
    assert equal(whole, again)
    # The seconds before the interruption count; those of an epoch are rounded to a thousandth.
    assert report.seconds >= sum(epoch.seconds - 0.001 for epoch in expected.history) > 0


@pytest.mark.slow
def test_a_killed_process_goes_on(tmp_path):
    """The real thing: SIGKILL in the middle, the same command with --resume, the same file."""
    x = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, lengths=np.full(80, 5), y=np.arange(80) % 2)
    options = ["--hidden", 4, "--layers", 2, "--dropout", 0.3, "--epochs", 60, "--patience", 60, "--json"]
    command = [str(part) for part in ("train", "classification", "--data", tmp_path / "d.npz", *options)]
    result = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "whole.safetensors")])
    assert result.exit_code == 0, result.output
    output = tmp_path / "m.safetensors"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "exporters", "runtime"))
    }
    # A pipe that holds a page, and no buffer on this side: the process waits for its reader long before the last epoch.
    read, write = os.pipe()
    assert fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 4096) == 4096
    with (
        open(read, "rb", buffering=0) as lines_of,
        subprocess.Popen(
            [sys.executable, "-m", "lstm_edge", *command, "-o", str(output)],
            env=environment,
            stdout=write,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        os.close(write)
        lines = [json.loads(lines_of.readline()) for _ in range(3)]
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert [line["number"] for line in lines] == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.glob("m.*")) == ["m.safetensors.resume"]

    again = CliRunner().invoke(app, [*command, "-o", str(output)])
    assert again.exit_code == 2
    assert "this is the state of an interrupted training; continue it with --resume, or delete the file" in again.stderr
    resumed = CliRunner().invoke(app, [*command, "-o", str(output), "--resume"])
    assert resumed.exit_code == 0, resumed.output
    first = json.loads(resumed.stdout.splitlines()[0])
    assert 4 <= first["number"] <= 60
    assert output.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not output.with_name("m.safetensors.resume").exists()


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "s"
    train("tagging", checkpoint=Checkpoint(path=path))
    return path


@pytest.mark.parametrize(
    ("task", "changes", "sentence"),
    [
        ("forecast", {}, "it is a checkpoint of another task, tagging; this training is forecast"),
        (
            "tagging",
            {"options": {"learning_rate": 0.01}},
            "it is the state of another training: options.learning_rate was 0.003, now it is 0.01; give the same "
            "options and data, or delete the file",
        ),
        ("tagging", {"config": {"hidden": 5}}, "it is the state of another training: config.hidden was 4, now it is 5"),
        ("tagging", {"seed": 1}, "it is the state of another training: data was"),
    ],
)
def test_the_state_of_another_training_is_refused(stored, task, changes, sentence):
    before = stored.read_bytes()
    with pytest.raises(ArtifactError, match="^" + re.escape(f"{stored}: {sentence}")):
        train(task, checkpoint=Checkpoint(path=stored, resume=True), **changes)
    assert stored.read_bytes() == before


def test_nothing_to_resume_and_nothing_to_lose(tmp_path, stored):
    path = tmp_path / "none"
    with pytest.raises(InputError, match=r"none: no such file, so there is nothing to resume; leave --resume out$"):
        train("tagging", checkpoint=Checkpoint(path=path, resume=True))
    with pytest.raises(OutputError, match=r"this is the state of an interrupted training; continue it with --resume"):
        train("tagging", checkpoint=Checkpoint(path=stored))
    with pytest.raises(OutputError, match=r"the folder .* does not exist"):
        train("tagging", checkpoint=Checkpoint(path=tmp_path / "no" / "state"))


def test_a_damaged_state_is_refused(tmp_path, stored):
    data = stored.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for number, damaged in enumerate(
        (data[:100], data[:-10], data[:header].replace(b"history", b"hystory") + data[header:], b"")
    ):
        path = tmp_path / f"s{number}"
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match="^" + re.escape(str(path))):
            train("tagging", checkpoint=Checkpoint(path=path, resume=True))
