"""Two processes that torchrun started give the single process's loss."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.training_cases import LENGTHS, ids, sequences
from typer.testing import CliRunner

from lstm_edge.checkpoint import load_checkpoint
from lstm_edge.cli import app

pytestmark = [pytest.mark.slow, pytest.mark.long]

ROOT = Path(__file__).parents[2]

# Gradients are averages of two halves instead of one mean: rounding of float32, grown over a few dozen updates.
# Measured 2e-8 on losses of order one.
TWO_PROCESSES = 1e-5


def torchrun(*arguments):
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "exporters", "runtime"))
    # Port 0: any free one, so that two tests at the same time do not meet.
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", "-m", "lstm_edge", "train"]
    return subprocess.run(
        [*command, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def write_cases(folder, task):
    if task == "language-model":
        path = folder / "t.txt"
        path.write_text("".join("abcdefg"[number] for number in ids(2000)))
        options = ("--hidden", 5, "--embedding", 3, "--batch-size", 4, "--window", 20, "--threads", 1)
        # A row is reset where the single process resets it, whichever process reads it.
        return path, (*options, "--reset-probability", 0.5)
    data = sequences(task)
    path = folder / "d.npz"
    np.savez(path, x=data.x, lengths=LENGTHS, y=data.y)
    # 9 sequences to train on, in batches of 4: the last one has a single row for two processes.
    return path, ("--hidden", 4, "--batch-size", 4, "--held-out", 0.25, "--peephole", "full")


def losses(lines):
    epochs = [json.loads(line) for line in lines[:-1]]
    return [(epoch["train_loss"], epoch["held_out_loss"], epoch["grad_norm_mean"]) for epoch in epochs]


@pytest.mark.parametrize("more", [(), ("--sparse", 0.5), ("--teacher",)], ids=["dense", "sparse", "taught"])
@pytest.mark.parametrize("task", ["tagging", "language-model"])
def test_two_processes_give_the_single_processs_loss(tmp_path, task, more):
    path, options = write_cases(tmp_path, task)
    # With pruning two blocks of cells, so that there is something to choose.
    big = tmp_path / "big.safetensors"
    if more == ("--teacher",):
        # Each process has the teacher, and the state that it carries through that process's rows.
        command = (task, "--data", path, *options, "--hidden", 9, "--epochs", 1, "-o", big)
        assert CliRunner().invoke(app, ["train", *map(str, command)]).exit_code == 0
        more = ("--teacher", big, "--alpha", 0.9)
    options = (*options, *more, *(("--hidden", 20) if "--sparse" in more else ()))
    command = (task, "--data", path, *options, "--epochs", 3, "--json")
    one = CliRunner().invoke(app, ["train", *map(str, command), "-o", str(tmp_path / "one.safetensors")])
    assert one.exit_code == 0, one.output
    two = torchrun(*command, "-o", tmp_path / "two.safetensors")
    assert two.returncode == 0, two.stderr
    lines = two.stdout.splitlines()
    # Process 0 alone printed, and it alone wrote.
    assert [json.loads(line)["event"] for line in lines] == ["epoch"] * 3 + ["report"]
    assert json.loads(lines[-1])["processes"] == 2
    assert two.stderr.count("training on") == 1
    np.testing.assert_allclose(losses(lines), losses(one.stdout.splitlines()), rtol=0, atol=TWO_PROCESSES)
    mine, theirs = (load_checkpoint(tmp_path / f"{name}.safetensors").state_dict() for name in ("one", "two"))
    for name, value in mine.items():
        assert (value - theirs[name]).abs().max() < 10 * TWO_PROCESSES, name
        assert torch.equal(value == 0, theirs[name] == 0), name
    big.unlink(missing_ok=True)
    assert {found.name for found in tmp_path.iterdir()} == {path.name, "one.safetensors", "two.safetensors"}


@pytest.mark.parametrize("said", ["none.npz: no such file", "broken.npz: not an .npz archive"])
def test_an_error_is_said_once(tmp_path, said):
    """Both that of a path, before torch is imported, and a later one."""
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    data = tmp_path / said.partition(":")[0]
    result = torchrun("tagging", "--data", data, "-o", tmp_path / "m.safetensors")
    assert result.returncode != 0
    assert result.stderr.count(f"error: data {tmp_path}/{said}") == 1
