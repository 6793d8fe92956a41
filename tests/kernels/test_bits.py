"""The same bits on every instruction set, alone or in a batch, in any chunks, on any number of threads."""

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from kernel_cases import INT4, INT8, cell, feeds_of, gru, linear, rnn, with_scheme

from lstm_edge_exporters.functions.names import CellVariant, GruVariant, RnnVariant

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# From best to slowest; the library falls back to the portable one where a processor lacks what was asked for.
INSTRUCTION_SETS = ("amx", "avx512vnni", "avxvnni", "avx2", "neon-dot", "neon", "portable")
VARIANTS = (
    CellVariant(storage="int8"),
    CellVariant(storage="int4"),
    CellVariant(storage="int8", peephole="full", projected=True),
    CellVariant(storage="int8", peephole="diagonal", ragged=True),
    CellVariant(storage="int4", peephole="full", projected=True, ragged=True),
    CellVariant(peephole="full", projected=True),
)
TIME, ROWS = 24, 37  # two whole groups of 16 rows and a part of one


def names(variant):
    return variant.name


def made(variant):
    return cell(variant, 40, 50, 20, with_scheme(variant)[-1], seed=2)


def run(session, feeds):
    return session.run(["y", "h_out", "c_out"], feeds)


def rows_of(feeds, rows):
    """The feeds of some rows; the batch is the second axis of all but the lengths."""
    return {name: array[rows] if name == "lengths" else array[:, rows] for name, array in feeds.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "instruction_set",
    [pytest.param(name, marks=[pytest.mark.long] * (name in ("avxvnni", "avx2"))) for name in INSTRUCTION_SETS],
)
def test_every_instruction_set_gives_the_models_bits(library_path, golden_folder, instruction_set):
    environment = os.environ | {"LSTM_EDGE_ISA": instruction_set, "PYTHONPATH": str(ROOT / "runtime")}
    command = [sys.executable, str(HERE / "check_golden.py"), str(golden_folder), instruction_set]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    asked_for_nothing = f"LSTM_EDGE_ISA asks for the instruction set '{instruction_set}', which this processor"
    if asked_for_nothing in result.stderr:
        pytest.skip(f"this processor or library has no {instruction_set}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f" 0 differ, instruction set {instruction_set}" in result.stdout


@pytest.mark.slow
def test_the_golden_check_can_fail(library_path, golden_folder, tmp_path):
    # One bit of one expected value: the check must name the file and leave with 1.
    source = sorted(golden_folder.glob("*LstmInt8V1*.npz"))[0]
    with np.load(source) as arrays:
        changed = dict(arrays)
    changed["out.y"] = np.nextafter(changed["out.y"], np.float32(9))
    np.savez(tmp_path / source.name, **changed)
    (tmp_path / source.with_suffix(".onnx").name).write_bytes(source.with_suffix(".onnx").read_bytes())
    environment = os.environ | {"PYTHONPATH": str(ROOT / "runtime")}
    command = [sys.executable, str(HERE / "check_golden.py"), str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 1
    assert f"{source.stem}: y differs by up to" in result.stdout


@pytest.mark.parametrize("variant", VARIANTS, ids=names)
def test_a_row_does_not_see_its_batch(kernel, variant):
    operator = made(variant)
    session, feeds = kernel(operator.model), feeds_of(operator, TIME, ROWS)
    # Rows of very different sizes: a scale shared between rows would show.
    feeds["x"] *= np.exp2(np.arange(ROWS) % 9)[None, :, None].astype(np.float32)
    together = run(session, feeds)
    for rows in (slice(0, 1), slice(5, 7), slice(15, 18), slice(36, 37), slice(16, 32)):
        for whole, part in zip(together, run(session, rows_of(feeds, rows)), strict=True):
            assert part.tobytes() == whole[:, rows].tobytes(), f"rows {rows}"


# Instruction sets with block products take 64 inputs at a time, and what is left of them.
@pytest.mark.parametrize(("inputs", "hidden"), [(64, 128), (66, 130), (200, 77), (3, 259)])
def test_many_rows_give_the_bits_of_each(kernel, inputs, hidden):
    for operator in (
        cell(CellVariant(storage="int8"), inputs, hidden, hidden, INT8),
        gru(GruVariant(storage="int8"), inputs, hidden, INT8),
        gru(GruVariant(storage="int8", reset_after=True), inputs, hidden, INT8),
        rnn(RnnVariant(storage="int8"), inputs, hidden, INT8),
        linear("LinearInt8V1", inputs, hidden, INT8),
    ):
        session, feeds = kernel(operator.model), feeds_of(operator, 3, ROWS)
        together = session.run(None, feeds)
        for row in (0, 6, 17, ROWS - 1):
            alone = session.run(None, rows_of(feeds, slice(row, row + 1)))
            for whole, part in zip(together, alone, strict=True):
                assert part.tobytes() == whole[:, row : row + 1].tobytes(), f"{operator}, row {row}"


@pytest.mark.parametrize("variant", [v for v in VARIANTS if not v.ragged], ids=names)
@pytest.mark.parametrize("batch", [1, 5])
def test_chunks_give_the_whole_sequence(kernel, variant, batch):
    operator = made(variant)
    session, feeds = kernel(operator.model), feeds_of(operator, TIME, batch)
    y, h, c = run(session, feeds)
    for cut in ((1,) * TIME, (2, TIME - 3, 1), (TIME - 1, 1), (12, 12), (7, 17)):
        state, parts, start = {"h": feeds["h"], "c": feeds["c"]}, [], 0
        for steps in cut:
            part, *last = run(session, {"x": feeds["x"][start : start + steps], **state})
            state = dict(zip(("h", "c"), last, strict=True))
            parts.append(part)
            start += steps
        assert np.concatenate(parts).tobytes() == y.tobytes(), cut
        assert (state["h"].tobytes(), state["c"].tobytes()) == (h.tobytes(), c.tobytes()), cut


@pytest.mark.parametrize("variant", VARIANTS, ids=names)
def test_threads_change_nothing(kernel, variant):
    # 64 rows of 40 + 50 inputs and 200 columns over 24 steps: enough work that groups go to several threads.
    operator = made(variant)
    feeds = feeds_of(operator, TIME, 64)
    one = run(kernel(operator.model), feeds)
    for threads in (2, 4):
        for answer, expected in zip(run(kernel(operator.model, threads=threads), feeds), one, strict=True):
            assert answer.tobytes() == expected.tobytes(), threads


@pytest.mark.parametrize("threads", [1, 2])
def test_four_threads_on_one_session(kernel, threads):
    operators = [
        made(VARIANTS[2]),
        made(VARIANTS[4]),
        linear("LinearInt8V1", 60, 130, INT8),
        linear("LinearInt4V1", 60, 130, INT4[0]),
    ]
    for operator in operators:
        session = kernel(operator.model, threads=threads)
        # Shapes differ, so that a buffer shared between calls would be too small, or seen by the other.
        given = [feeds_of(operator, 3 + 4 * number, 1 + 9 * number, seed=number) for number in range(4)]
        serial = [[array.tobytes() for array in session.run(None, feeds)] for feeds in given]
        wrong: list[int] = []
        start = threading.Barrier(4)

        def work(number, session=session, given=given, serial=serial, wrong=wrong, start=start):
            start.wait()
            for _ in range(25):
                if [array.tobytes() for array in session.run(None, given[number])] != serial[number]:
                    wrong.append(number)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not wrong, operator


def test_sessions_opened_at_once(kernel):
    # Registering the library is the only thing that kernels share between sessions.
    operator = made(VARIANTS[0])
    feeds = feeds_of(operator, 3, 2)
    expected = run(kernel(operator.model), feeds)[0].tobytes()
    found: list[bytes] = []
    workers = [
        threading.Thread(target=lambda: found.append(run(kernel(operator.model), feeds)[0].tobytes())) for _ in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [expected] * 8


def test_the_library_shows_its_functions_only(library_path):
    library = ctypes.CDLL(str(library_path))
    names = {"RegisterCustomOps", "LstmEdgeInstructionSet", "LstmEdgeAllFinite", "LstmEdgeSelectOperators"}
    assert all(hasattr(library, name) for name in names)
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", str(library_path)], capture_output=True, text=True, check=False
    )
    if symbols.returncode == 0:
        shown = {line.split()[-1] for line in symbols.stdout.splitlines() if line.split()[-2] in "TWVuBD"}
        assert {name for name in shown if not name.startswith("__")} <= names
