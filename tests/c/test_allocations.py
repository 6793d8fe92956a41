"""After the first push of a shape the C library asks for no memory, takes no lock and makes no system call."""

import json
import subprocess
from pathlib import Path

import pytest
from support.c_build import ROOT, build_program, find_onnxruntime

MODELS = ROOT / "tests" / "device" / "models"
PUSHES = 1000
# Model, rows, steps of a piece (0: frames), pushes before counting. A stream that keeps steps calls the graph with
# several numbers of steps, and each of them is new once.
KEEPING = (
    ("kept_padded", 1, 0, 8), ("kept_strided", 2, 1, 8), ("kept_condition", 1, 2, 8), ("kept_up", 1, 3, 8),
    ("kept_look_ahead", 3, 2, 8), ("kept_image", 1, 3, 8), ("kept_ragged", 1, 0, 8), ("kept_ids", 2, 5, 8),
    ("kept_last", 1, 1, 8),
)  # fmt: skip
CASES = (
    ("exported_int8", 1, 0, 1), ("exported_int8", 3, 4, 1), ("exported_float32", 1, 0, 1), ("two_inputs", 2, 3, 1),
    ("language_model", 1, 0, 1), ("each_call", 1, 1, 1), ("last_step", 1, 2, 1), ("lengths", 2, 2, 1),
    ("exported_full_lengths_int8", 1, 0, 1), *KEEPING,
)  # fmt: skip
DIRECT = {"exported_int8"}


@pytest.fixture(scope="module")
def program(c_build, tmp_path_factory) -> Path:
    source = ROOT / "tests" / "c" / "allocations.cpp"
    return build_program(source, c_build, tmp_path_factory.mktemp("allocations") / "allocations", "-rdynamic")


def started(program: Path, model: str, *numbers: int, words: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    command = [program, find_onnxruntime(), MODELS / f"{model}.onnx", *map(str, (*numbers, PUSHES)), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


# Streams of a pool: as many as a call has exactly, and more; the third push of rows side by side has another plan.
POOLS = (
    ("exported_int8", 12, 0, 3), ("exported_int8", 40, 3, 3), ("exported_float32", 33, 0, 3), ("two_inputs", 5, 2, 3),
    ("language_model_time_first", 20, 3, 3), ("each_call_whole", 9, 2, 3), ("lengths", 18, 1, 3),
)  # fmt: skip


def check_counts(done: subprocess.CompletedProcess, model: str, *numbers: int) -> None:
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    print(f"{model} {numbers}: {counts}")
    assert (counts["ours"], counts["locks_ours"]) == (0, 0), counts
    # A graph of kernels alone runs without onnxruntime; with the others the hook is seen to work.
    assert (counts["onnxruntime"] == 0) == (model in DIRECT), counts
    assert (counts["others"], counts["locks_others"]) == (0, 0), counts


@pytest.mark.parametrize(("model", "batch", "steps", "warm"), CASES)
def test_pushes_ask_for_nothing(program, model, batch, steps, warm):
    check_counts(started(program, model, batch, steps, warm), model, batch, steps)


@pytest.mark.parametrize(("model", "streams", "steps", "warm"), POOLS)
def test_pushes_of_a_pool_ask_for_nothing(program, model, streams, steps, warm):
    check_counts(started(program, model, streams, steps, warm, words=("pool",)), model, streams, steps)


# Where the heap begins is drawn at each start of a process, and with it whether glibc would give memory back.
STARTS = 12


@pytest.mark.parametrize(
    ("model", "batch", "steps", "warm", "words"),
    [*((*case, ()) for case in (*CASES[:2], *KEEPING[:7])), *((*case, ("pool",)) for case in POOLS[:2])],
)
def test_pushes_make_no_system_call(program, model, batch, steps, warm, words):
    for _ in range(STARTS):
        done = started(program, model, batch, steps, warm + 20, words=("sealed", *words))
        if done.returncode == 3:
            pytest.skip("this system has no seccomp, or locks no memory")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["sealed"]
