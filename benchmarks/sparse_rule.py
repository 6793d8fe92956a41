"""``make bench-sparse-rule``: step and sequence time of sparse int8 weights against dense ones, by cells and density.

The rule of ``quantize --sparse auto`` (``MOST_DENSITY`` and ``LEAST_CELLS`` in the quantizer) follows from this table:
auto chooses sparse weights where no ratio is above 1 by more than the noise. One layer with as many inputs as cells,
one thread, batch 1, random weights. Each ratio is the median of those of interleaved turns in one process, so that
another load on the machine counts for both sides.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.quantize.zero_blocks import LEAST_CELLS, MOST_DENSITY
from lstm_edge_runtime.session import Session

CELLS = (32, 64, 96, 128, 256, 512, 1024)
DENSITIES = (0.25, 1 / 3, 0.5, 0.6, 0.75)
GATES = {"LSTM": 4, "GRU": 3}
STEPS = 100
# Microseconds of a turn; a turn of less would be a handful of calls.
TURN_US = 3000.0

Call = Callable[[], object]


def pruned_file(operator: str, cells: int, density: float) -> bytes:
    """A float32 file with one recurrent node whose W and R have that density by blocks."""
    random, gates, wide = np.random.default_rng(0), GATES[operator], -(-cells // 16)
    arrays = {}
    for name in "WR":
        kept = random.permutation(gates * wide * (cells // 4)) < density * gates * wide * (cells // 4)
        mask = kept.reshape(gates, wide, cells // 4).repeat(16, axis=1)[:, :cells].repeat(4, axis=2)
        weights = random.standard_normal((1, gates * cells, cells)) * cells**-0.5
        arrays[name] = (weights * mask.reshape(1, gates * cells, cells)).astype(np.float32)
    states = ["h", "c"] if operator == "LSTM" else ["h"]
    node = helper.make_node(
        operator,
        ["x", "W", "R", "", "", *states],
        ["Y", *(f"{name}_out" for name in states)],
        name="rnn",
        hidden_size=cells,
        **({"linear_before_reset": 1} if operator == "GRU" else {}),
    )
    one = numpy_helper.from_array(np.array([1]), "one")
    squeeze = helper.make_node("Squeeze", ["Y", "one"], ["y"])

    def info(name: str, *axes: str | int) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, axes)

    inputs = [info("x", "time", "batch", cells), *(info(name, 1, "batch", cells) for name in states)]
    outputs = [info("y", "time", "batch", cells), *(info(f"{name}_out", 1, "batch", cells) for name in states)]
    constants = [*(numpy_helper.from_array(array, name) for name, array in arrays.items()), one]
    graph = helper.make_graph([node, squeeze], "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def calls(data: bytes, cells: int) -> tuple[Call, Call]:
    """One step, and a sequence, of a quantized file, without what Python does around them."""
    session = Session(data, kernels="required")
    states = {spec.name: np.full((1, 1, cells), 0.1, np.float32) for spec in session.inputs if spec.name != "x"}
    x = np.random.default_rng(1).standard_normal((STEPS, 1, cells)).astype(np.float32)
    run = session.onnxruntime_session.run
    return lambda: run(None, {"x": x[:1]} | states), lambda: run(None, {"x": x} | states)


def ratio(sparse: Call, dense: Call, turns: int) -> float:
    """The median over turns of the time of sparse by that of dense."""
    count = max(3, int(TURN_US / max(_turn(dense, 3), 1.0)))
    found = []
    for turn in range(turns):
        first, second = (sparse, dense) if turn % 2 else (dense, sparse)
        times = {first: _turn(first, count), second: _turn(second, count)}
        found.append(times[sparse] / times[dense])
    return statistics.median(found)


def _turn(call: Call, count: int) -> float:
    """Microseconds of the fastest call; the first ones bring the weights into the caches."""
    times = []
    for _ in range(2 + count):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1000)
    return min(times[2:])


def rows(operators: list[str], turns: int) -> Iterator[tuple[str, ...]]:
    """Yield a row of the table for each layer: ratios of a step and of a sequence at each density."""
    for operator in operators:
        for cells in CELLS:
            cells_of_row = [operator, str(cells)]
            for density in DENSITIES:
                data = pruned_file(operator, cells, density)
                files = [quantize_bytes(data, sparse=choice).data for choice in ("smaller", "off")]
                pairs = [calls(file, cells) for file in files]
                found = [ratio(sparse, dense, turns) for sparse, dense in zip(*pairs, strict=True)]
                chosen = cells >= LEAST_CELLS and density <= MOST_DENSITY
                cells_of_row.append(f"{found[0]:.2f} / {found[1]:.2f}{' *' * chosen}")
                gc.collect()
            yield tuple(cells_of_row)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15, help="turns of each pair")
    parser.add_argument("--operators", nargs="*", default=list(GATES), choices=list(GATES))
    options = parser.parse_args()
    heads = ["layer", "cells", *(f"density {density:.2f}" for density in DENSITIES)]
    print("Time of sparse int8 divided by that of dense int8, step / sequence of 100; * where auto chooses sparse.\n")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for row in rows(options.operators, options.turns):
        print(f"| {' | '.join(row)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
