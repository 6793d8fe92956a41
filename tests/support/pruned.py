"""Recurrent layers whose weights are zero in blocks, and ONNX files of them as other tools write them."""

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import TensorProto, helper

from support.onnx_files import FLOAT, model

__all__ = ["GATES", "naive_blocks", "prune", "pruned_file", "recurrent_feeds", "recurrent_weights"]

# ONNX's operators and how many gates their weights have.
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def prune(rows: np.ndarray, density: float, *, gates: int, seed: int = 0) -> np.ndarray:
    """Return weights [gates * H, K] with all but a share of the blocks of 16 cells by 4 inputs set to zero."""
    pruned, cells = rows.copy(), len(rows) // gates
    places = [
        (slice(gate * cells + cell, gate * cells + min(cell + 16, cells)), slice(k, k + 4))
        for gate in range(gates)
        for cell in range(0, cells, 16)
        for k in range(0, rows.shape[1], 4)
    ]
    for place in np.random.default_rng(seed).permutation(len(places))[round(density * len(places)) :]:
        pruned[places[place]] = 0.0
    return pruned


def naive_blocks(matrix: np.ndarray, gates: int) -> dict[int, np.ndarray]:
    """Return the blocks [4, 16] of a matrix [K, gates * H] that are not zero by their number, element by element."""
    found: dict[int, np.ndarray] = {}
    inputs, cells = matrix.shape[0], matrix.shape[1] // gates
    for k in range(inputs):
        for column in range(matrix.shape[1]):
            if matrix[k, column]:
                gate, cell = divmod(column, cells)
                number = (gate * -(-cells // 16) + cell // 16) * -(-inputs // 4) + k // 4
                found.setdefault(number, np.zeros((4, 16), np.int8))[k % 4, cell % 16] = matrix[k, column]
    return found


def recurrent_weights(
    operator: str, inputs: int, cells: int, density: Mapping[str, float], *, sides: int = 1, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return W [sides, G * H, I], R [sides, G * H, H] and B of an ONNX node; ``density`` of W and of R."""
    rng, gates = np.random.default_rng(seed), GATES[operator]
    arrays = {"B": (0.1 * rng.standard_normal((sides, 2 * gates * cells))).astype(np.float32)}
    for name, columns in (("W", inputs), ("R", cells)):
        drawn = (rng.standard_normal((sides, gates * cells, columns)) * columns**-0.5).astype(np.float32)
        arrays[name] = np.stack(
            [prune(rows, density[name], gates=gates, seed=seed + side) for side, rows in enumerate(drawn)]
        )
    return arrays


def pruned_file(
    operator: str,
    arrays: Mapping[str, np.ndarray],
    *,
    direction: str = "forward",
    lengths: bool = False,
    **attributes: int | Sequence[str],
) -> bytes:
    """Return a file with one node, its states as inputs and outputs, and lengths if asked."""
    sides, rows, inputs = arrays["W"].shape
    cells = rows // GATES[operator]
    moving: dict[str, tuple[int, list]] = {"x": (FLOAT, ["time", "batch", inputs])}
    names = ["x", *"WRB", "rows" if lengths else "", "h0", *(["c0"] if operator == "LSTM" else [])]
    if operator == "LSTM" and "P" in arrays:
        names.append("P")
    moving |= {name: (FLOAT, [sides, "batch", cells]) for name in names if name in ("h0", "c0")}
    moving |= {"rows": (TensorProto.INT32, ["batch"])} if lengths else {}
    results = {"Y": ["time", sides, "batch", cells], "Y_h": [sides, "batch", cells]}
    results |= {"Y_c": [sides, "batch", cells]} if operator == "LSTM" else {}
    options = {"hidden_size": cells, "direction": direction} | attributes
    node = helper.make_node(operator, names, list(results), name="rnn", **options)
    return model([node], moving, results, {name: arrays[name] for name in names if name in arrays})


def recurrent_feeds(
    operator: str, arrays: Mapping[str, np.ndarray], *, lengths: bool = False, batch: int = 3, steps: int = 5
) -> dict[str, np.ndarray]:
    """Return random inputs and states for ``pruned_file``."""
    rng, (sides, rows, inputs) = np.random.default_rng(7), arrays["W"].shape
    feeds = {"x": rng.standard_normal((steps, batch, inputs)).astype(np.float32)}
    for name in ("h0", "c0") if operator == "LSTM" else ("h0",):
        feeds[name] = rng.uniform(-0.9, 0.9, (sides, batch, rows // GATES[operator])).astype(np.float32)
    return feeds | ({"rows": np.array([steps, 1, 3][:batch], np.int32)} if lengths else {})
