"""The files and rows of `make bench-kernels`, at sizes and numbers of calls that prove no figure."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import recurrent_files  # noqa: E402
from kernel_calls import Row  # noqa: E402

from lstm_edge_runtime.session import Session  # noqa: E402


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_a_cell_comes_in_every_form_and_sparse_has_the_bits_of_dense(cell, tmp_path):
    files = recurrent_files.make_cell_files(tmp_path, cell, 16, 32)
    recurrent_files.check_bits(files, 16)
    sessions = {name: Session(path) for name, path in vars(files).items() if name != "both_other"}
    coverage = {
        name: {row.scheme for row in session.card.quantization.coverage}
        for name, session in sessions.items()
        if session.card.quantization is not None
    }
    assert sessions["float_kernel"].operators == 2
    assert coverage["dense"] == {"int8"}
    assert all("sparse int8" in scheme for scheme in coverage["sparse"])
    assert all("int4" in scheme and "int8" in scheme for scheme in coverage["mixed"])
    assert {session.card.streaming.verdict for name, session in sessions.items() if "both" not in name} == {
        "every-step"
    }
    assert sessions["both_int8"].outputs[0].axes == ("time", "batch", 64)


def test_a_third_of_the_blocks_is_left():
    rng = np.random.default_rng(0)
    rows = recurrent_files.pruned(np.ones((4 * 32, 24)), 1 / 3, rng)
    blocks = rows.reshape(8, 16, 6, 4).any(axis=(1, 3))
    assert blocks.sum() == 16
    assert rows.sum() == 16 * 64


def test_a_row_says_whether_its_limit_and_its_goal_are_met():
    row = Row(what="a / b", size="1, 2", ours_us=5.0, other_us=10.0, limit=0.5, goal=0.45)
    assert (row.missed, row.cells()[4:7]) == (False, ("0.50", "0.50", "0.45 missed"))
    row = Row(what="a / b", size="1, 2", ours_us=5.1, other_us=10.0, limit=0.5, goal=0.6)
    assert (row.missed, row.cells()[4:7]) == (True, ("0.51", "0.50 MISSED", "0.60 met"))
    assert Row(what="a / b", size="1, 2", ours_us=5.0, other_us=1.0).cells()[5:] == ("", "", "")


@pytest.mark.slow
@pytest.mark.long
def test_everything_that_is_timed_runs():
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "kernels.py"), "--quick", "--sizes", "0"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode == 2:
        pytest.skip(result.stderr)
    assert result.returncode == 0, result.stderr
    for part in (
        "GRU int8 step /",
        "GRU sparse int8 step",
        "LSTM sparse int8 T = 100",
        "projected int8",
        "bidirectional GRU",
    ):
        assert f"| {part}" in result.stdout
    assert "no time above means anything" in result.stdout
