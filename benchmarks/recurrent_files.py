"""Two-layer LSTMs and GRUs for benchmarks/kernels.py, written as ONNX nodes: faster than an export by PyTorch."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from lstm_edge import adopt
from lstm_edge_exporters.quantize import Scheme, quantize
from lstm_edge_runtime.session import Session

GATES = {"LSTM": 4, "GRU": 3}
DENSITY = 1 / 3
LAYERS = 2
_MIXED = {"W": Scheme(), "R": Scheme(kind="int4", block=128)}


@dataclass(frozen=True, kw_only=True)
class CellFiles:
    """One cell at one size in several forms: paths of .onnx files.

    All have weights of which a third of the blocks is not zero; only ``sparse`` leaves the zeros out, and the time of
    the others does not depend on them. ``mixed``: W int8, R int4. ``both_int8``: bidirectional; ``both_other``: what it
    is compared with, DynamicQuantizeLSTM or a float32 GRU.
    """

    float32: Path
    float_kernel: Path
    dense: Path
    sparse: Path
    mixed: Path
    int4: Path
    int4_wide: Path
    both_int8: Path
    both_other: Path


def make_cell_files(folder: Path, cell: str, inputs: int, hidden: int) -> CellFiles:
    """Write a cell with seeded weights in every form."""
    stem = str(folder / f"{cell.lower()}{hidden}.made")
    files = CellFiles(**{field.name: Path(f"{stem}.{field.name}.onnx") for field in fields(CellFiles)})
    plain, both = Path(f"{stem}.plain.onnx"), Path(f"{stem}.both.onnx")
    _write(plain, cell, inputs, hidden, density=DENSITY)
    adopt(plain, files.float32)  # so that it streams
    quantize(files.float32, files.float_kernel, scheme="float32")
    quantize(files.float32, files.dense, sparse="off")
    quantize(files.float32, files.sparse, sparse="required")
    parts = {f"rnn{layer}.{matrix}": scheme for layer in range(LAYERS) for matrix, scheme in _MIXED.items()}
    quantize(files.float32, files.mixed, parts=parts, sparse="off")
    quantize(files.float32, files.int4, scheme=Scheme(kind="int4", block=32))
    quantize(files.float32, files.int4_wide, scheme=Scheme(kind="int4", block=128))
    _write(both, cell, inputs, hidden, sides=2)
    quantize(both, files.both_int8)
    if cell == "LSTM":
        quantize_dynamic(both, files.both_other, weight_type=QuantType.QInt8)
    else:
        files.both_other.write_bytes(both.read_bytes())
    return files


def _write(path: Path, cell: str, inputs: int, hidden: int, *, sides: int = 1, density: float = 1.0) -> None:
    """Write a float32 file, time-major, with explicit states."""
    rng = np.random.default_rng(0)
    kinds = "hc" if cell == "LSTM" else "h"
    gates, direction = GATES[cell], "bidirectional" if sides == 2 else "forward"
    nodes, constants, moving = [], [], [_value("x", ["time", "batch", inputs])]
    results, x = [], "x"
    constants.append(numpy_helper.from_array(np.array([0, 0, sides * hidden]), "shape"))
    for layer in range(LAYERS):
        width = inputs if layer == 0 else sides * hidden
        for name, columns in (("W", width), ("R", hidden)):
            matrix = rng.standard_normal((sides, gates * hidden, columns)) * hidden**-0.5
            kept = [pruned(rows, density, rng) for rows in matrix]
            constants.append(numpy_helper.from_array(np.stack(kept).astype(np.float32), f"{name}{layer}"))
        bias = 0.1 * rng.standard_normal((sides, 2 * gates * hidden))
        constants.append(numpy_helper.from_array(bias.astype(np.float32), f"B{layer}"))
        states = [f"rnn{layer}.{kind}" for kind in kinds]
        moving += [_value(name, [sides, "batch", hidden]) for name in states]
        results += [_value(f"{name}_out", [sides, "batch", hidden]) for name in states]
        attributes = {"linear_before_reset": 1} if cell == "GRU" else {}
        nodes += [
            helper.make_node(
                cell, [x, f"W{layer}", f"R{layer}", f"B{layer}", "", *states],
                [f"all{layer}", *(f"{name}_out" for name in states)], name=f"rnn{layer}", hidden_size=hidden,
                direction=direction, **attributes,
            ),
            helper.make_node("Transpose", [f"all{layer}"], [f"turned{layer}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"turned{layer}", "shape"], [f"y{layer}"]),
        ]  # fmt: skip
        x = f"y{layer}"
    graph = helper.make_graph(nodes, "g", moving, [_value(x, ["time", "batch", sides * hidden]), *results], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


def pruned(rows: np.ndarray[Any, Any], density: float, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return weights [gates * H, K] with all but a share of the blocks of 16 cells by 4 inputs set to zero.

    H and K are multiples of 16 and of 4.
    """
    kept = rng.permutation(rows.shape[0] // 16 * (rows.shape[1] // 4)) < density * rows.size / 64
    return rows * np.kron(kept.reshape(rows.shape[0] // 16, -1), np.ones((16, 4)))


def _value(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def check_bits(files: CellFiles, inputs: int) -> None:
    """Check that the sparse file gives the bits of the dense one."""
    x = np.random.default_rng(5).standard_normal((7, 2, inputs)).astype(np.float32)
    answers = []
    for path in (files.dense, files.sparse):
        outputs, states = Session(path, kernels="required").run(x)
        answers.append([*outputs.values(), *states.values()])
    for dense, sparse in zip(*answers, strict=True):
        np.testing.assert_array_equal(dense, sparse)
