"""What quantized layers must answer, in plain NumPy: weights rounded and layers computed by hand, sharing no code.

ONNX's layouts throughout: an LSTM's W [D, 4H, I], R [D, 4H, H], B [D, 8H], P [D, 3H] with gates i o f c.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lstm_edge_exporters.artifact import Artifact
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import Quantization

__all__ = ["GATE_ROWS", "lstm_witness", "noted", "rounded_columns", "rounded_rows", "rows_times"]

# Where ONNX has the gates that requests call i, f, g, o.
GATE_ROWS = {"i": 0, "o": 1, "f": 2, "g": 3}


def noted(artifact: Artifact) -> Quantization:
    """Return what a quantized artifact's card says of its quantization."""
    assert artifact.card.quantization is not None
    return artifact.card.quantization


def rounded_columns(matrix: Array, text: str) -> Array:
    """Return what a matrix [K, N] is after rounding by a compact text, as float64."""
    kind, block, zero = [*text.split(":"), "32", ""][:3] if ":" not in text else [*text.split(":"), ""][:3]
    if kind == "float32":
        return matrix.astype(np.float64)
    if kind == "float16":
        return matrix.astype(np.float16).astype(np.float64)
    result = np.zeros(matrix.shape)
    step = len(matrix) if kind == "int8" else int(block)
    for start in range(0, len(matrix), step):
        for n in range(matrix.shape[1]):
            part = matrix[start : start + step, n].astype(np.float64)
            result[start : start + step, n] = _rounded(part, kind, zero == "zero")
    return result


def _rounded(part: Array, kind: str, zero_point: bool) -> Array:
    low, high = min(part.min(), 0.0), max(part.max(), 0.0)
    if kind == "int8":
        scale = np.float32(max(np.abs(part).max(), 2.0**-100) / 127)
        return np.rint(np.float32(part) / scale).clip(-127, 127) * np.float64(scale)
    scale = np.float32(max((high - low) / 15 if zero_point else max(-low / 8, high / 7), 2.0**-100))
    zero = np.rint(np.float32(-low) / scale) if zero_point else 8.0
    return ((np.rint(np.float32(part) / scale) + zero).clip(0, 15) - zero) * np.float64(scale)


def rounded_rows(table: Array, text: str) -> Array:
    """Return what a table [N, K] is after rounding by rows."""
    return rounded_columns(table.T, text).T


def rows_times(x: Array, matrix: Array, text: str) -> Array:
    """Return x [..., K] times a rounded matrix [K, N]; rows of x are rounded to int8 where the scheme says so."""
    if text.startswith("int"):
        amax = np.maximum(np.abs(x).max(axis=-1, keepdims=True), 2.0**-100)
        x = np.rint(x * (127 / amax)) * (amax / 127)
    return np.asarray(x @ matrix)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def lstm_witness(
    x: Array,
    h: Array,
    c: Array,
    weights: Mapping[str, Array],
    schemes: Mapping[str, str],
    *,
    lengths: Sequence[int] | None = None,
    direction: str = "forward",
) -> tuple[Array, Array, Array]:
    """Run one LSTM layer; ``schemes`` has a compact text for each of ``W.i`` ... ``R.o``.

    Returns:
        Y [T, D, B, H], Y_h [D, B, H], Y_c [D, B, H].
    """
    steps, batch, hidden = len(x), x.shape[1], h.shape[-1]
    rows = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    sides = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    y, ends = np.zeros((steps, len(sides), batch, hidden)), []
    for side, backward in enumerate(sides):
        parts: dict[str, Array] = {}
        for key, text in schemes.items():
            matrix, gate = key.split(".")
            block = weights[matrix][side].reshape(4, hidden, -1)[GATE_ROWS[gate]]
            parts[key] = rounded_columns(block.T, text)
        bias = weights["B"][side].astype(np.float64).reshape(2, 4, hidden).sum(axis=0)
        p = dict(zip("iof", weights["P"][side].reshape(3, hidden), strict=True)) if "P" in weights else None
        for row in range(batch):
            a, b = h[side, row].astype(np.float64), c[side, row].astype(np.float64)
            order = range(rows[row])[::-1] if backward else range(rows[row])
            for t in order:
                z = {
                    gate: rows_times(x[t, row], parts[f"W.{gate}"], schemes[f"W.{gate}"])
                    + rows_times(a, parts[f"R.{gate}"], schemes[f"R.{gate}"])
                    + bias[GATE_ROWS[gate]]
                    for gate in "ifgo"
                }
                if p is not None:
                    z["i"], z["f"] = z["i"] + p["i"] * b, z["f"] + p["f"] * b
                b = _sigmoid(z["f"]) * b + _sigmoid(z["i"]) * np.tanh(z["g"])
                if p is not None:
                    z["o"] = z["o"] + p["o"] * b
                a = _sigmoid(z["o"]) * np.tanh(b)
                y[t, side, row] = a
            ends.append((side, row, a, b))
    last_h, last_c = np.zeros_like(h, np.float64), np.zeros_like(c, np.float64)
    for side, row, a, b in ends:
        last_h[side, row], last_c[side, row] = a, b
    return y, last_h, last_c
