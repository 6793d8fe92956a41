"""Rows of benchmarks/kernels.py for the forms that both cells have: GRU, sparse, mixed, bidirectional."""

from collections.abc import Mapping

import kernel_models as models
from kernel_calls import BATCH, STEPS, Row, bare_loop, medians, run_sequences, sequences, streaming
from recurrent_files import CellFiles

# Hidden size -> largest accepted ratio of a sparse to a dense step, and the goal.
SPARSE_STEP = {128: (1.0, None), 256: (0.70, 0.60), 512: (0.55, 0.45), 1024: (0.50, 0.40)}
SPARSE_SEQUENCE = {512: 0.85, 1024: 0.85}


def cell_rows(cell: str, files: CellFiles, size: tuple[int, int], bandwidth: Mapping[str, float]) -> list[Row]:
    """Measure the forms of one cell at one size; times of sequences are per step."""
    return [*_steps(cell, files, size, bandwidth), *_sequences(cell, files, size)]


def _steps(cell: str, files: CellFiles, size: tuple[int, int], bandwidth: Mapping[str, float]) -> list[Row]:
    inputs, hidden = size
    calls = {name: streaming(getattr(files, name), inputs) for name in ("dense", "sparse", "mixed")}
    if cell == "GRU":
        calls |= {name: streaming(getattr(files, name), inputs) for name in ("int4", "int4_wide")}
        calls |= {
            "batch": streaming(files.dense, inputs, batch=BATCH),
            "float32": bare_loop(files.float32, inputs, 1),
            "float kernel": streaming(files.float_kernel, inputs),
            "float stream": streaming(files.float32, inputs, kernels="off"),
        }
    t = medians(calls, 50 if hidden < 1024 else 20)
    reading = {
        name: models.weight_bytes(getattr(files, name)) / bandwidth[f"{cell} {name}"] * 1e6 for name in vars(files)
    }
    where, dense = f"{inputs}, {hidden}", t["dense"]
    limit, goal = SPARSE_STEP[hidden]
    rows = []
    if cell == "GRU":
        rows = [
            Row(what="GRU int8 step / onnxruntime's float32 GRU", size=where, ours_us=dense, other_us=t["float32"],
                reading_us=reading["dense"]),
            Row(what=f"GRU int8 step, batch {BATCH}, per stream / batch 1", size=where, ours_us=t["batch"] / BATCH,
                other_us=dense, reading_us=reading["dense"] / BATCH),
            Row(what="GRU int4 step (block 32) / int8 step", size=where, ours_us=t["int4"], other_us=dense,
                reading_us=reading["int4"]),
            Row(what="GRU int4 step (block 128) / int8 step", size=where, ours_us=t["int4_wide"], other_us=dense,
                reading_us=reading["int4_wide"]),
            Row(what="float32 step by a kernel / onnxruntime's GRU", size=where, ours_us=t["float kernel"],
                other_us=t["float stream"], reading_us=reading["float32"]),
        ]  # fmt: skip
    return [
        *rows,
        Row(what=f"{cell} step, W int8 and R int4 (block 128) / int8 step", size=where, ours_us=t["mixed"],
            other_us=dense, reading_us=reading["mixed"]),
        Row(what=f"{cell} sparse int8 step, density 1/3 / dense int8 step", size=where, ours_us=t["sparse"],
            other_us=dense, limit=limit, goal=goal, reading_us=reading["sparse"]),
    ]  # fmt: skip


def _sequences(cell: str, files: CellFiles, size: tuple[int, int]) -> list[Row]:
    inputs, hidden = size
    calls = {
        "dense": sequences(files.dense, inputs),
        "sparse": sequences(files.sparse, inputs),
        "both": run_sequences(files.both_int8, inputs),
        "both other": bare_loop(files.both_other, inputs, STEPS),
    }
    if cell == "GRU":
        calls["float32"] = bare_loop(files.float32, inputs, STEPS)
    times = medians(calls, 10 if hidden < 1024 else 5, settling=1, burst=5)
    t = {name: time / STEPS for name, time in times.items()}
    where = f"{inputs}, {hidden}"
    other = "DynamicQuantizeLSTM" if cell == "LSTM" else "onnxruntime's float32 GRU"
    rows = [
        Row(what=f"{cell} sparse int8 T = {STEPS}, per step / dense int8", size=where, ours_us=t["sparse"],
            other_us=t["dense"], limit=SPARSE_SEQUENCE.get(hidden)),
        Row(what=f"bidirectional {cell} int8 T = {STEPS}, per step / {other}", size=where, ours_us=t["both"],
            other_us=t["both other"]),
    ]  # fmt: skip
    if cell == "LSTM":
        return rows
    first = Row(what=f"GRU int8 T = {STEPS}, per step / {other}", size=where, ours_us=t["dense"], other_us=t["float32"])
    return [first, *rows]
