"""Where a float32 graph's quantizable layers read their activations, and which rows each matrix multiplies.

A matrix of an operator is named as the quantizer names it to a rounder: ``lstm.w``, ``lstm.r``, ``head.weight``. What R
multiplies are the states before each step, h[t-1]: the initial state and the layer's own outputs, shifted by one.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lstm_edge_exporters.functions import CellVariant
from lstm_edge_exporters.functions.simulation import sigmoid, tanh
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import append_node
from lstm_edge_exporters.onnx_graph.nodes import attribute_of, inputs_of
from lstm_edge_exporters.quantize.dynamic import DynamicLstm
from lstm_edge_exporters.quantize.feedforward import Linear
from lstm_edge_exporters.quantize.gru import Gru
from lstm_edge_exporters.quantize.layer import Reader
from lstm_edge_exporters.quantize.layers import find_layers
from lstm_edge_exporters.quantize.lstm import Lstm, OwnCell
from lstm_edge_exporters.quantize.recurrent import DIRECTIONS
from lstm_edge_exporters.quantize.rnn import Rnn
from lstm_edge_runtime.arrays import Array

__all__ = ["Tap", "add_pairs", "add_taps", "find_taps"]

Float = NDArray[np.float32]
Rows = Iterator[tuple[str, Float]]

NESTED = "it stands inside the body of an If, Loop or Scan, whose values cannot be read from outside"
RESET_BEFORE = "its reset gate acts on h before the product, so that the candidate sees r · h, which is not collected"
TWICE = "another layer with other weights has the same name"


@dataclass(frozen=True, kw_only=True)
class Tap:
    """One layer: the values to read, and how the rows [R, K] of each of its matrices follow from them.

    ``values``: by role, ``x``, ``y``, ``h``, ``c``, ``lengths``; ``rows`` takes an array for each role that is there.
    ``digest``: of the layer's weights; a layer that is called twice has one name and one digest.
    """

    names: tuple[str, ...]
    values: Mapping[str, ir.Value]
    rows: Callable[[Mapping[str, Array]], Rows]
    digest: str


def find_taps(model: ir.Model) -> tuple[tuple[Tap, ...], dict[str, str]]:
    """Find the layers that a quantizer rounds matrices of, in graph order.

    Returns:
        A tap for each layer of the main graph, and the matrices that have none, each with the reason.
    """
    taps: list[Tap] = []
    missing: dict[str, str] = {}
    for reader in find_layers(model):
        tap = _tap(reader)
        if tap is None:
            continue
        if reader.node.graph is not model.graph:
            missing |= dict.fromkeys(tap.names, NESTED)
            continue
        if isinstance(reader, Gru) and not reader.resets_after:
            missing |= {name: RESET_BEFORE for name in tap.names if name.endswith(".r")}
        taps.append(tap)
    digests: dict[str, set[str]] = {}
    for tap in taps:
        for name in tap.names:
            digests.setdefault(name, set()).add(tap.digest)
    missing |= {name: TWICE for name, found in digests.items() if len(found) > 1}
    return tuple(taps), missing


def add_taps(model: ir.Model, taps: tuple[Tap, ...]) -> tuple[dict[str, str], ...]:
    """Make the values that taps read outputs of the graph, in place.

    Returns:
        For each tap the output's name by role.
    """
    return tuple(
        {role: _expose(model.graph, value, f"lstm_edge.tap.{i}.{role}") for role, value in tap.values.items()}
        for i, tap in enumerate(taps)
    )


def add_pairs(model: ir.Model, pairs: Sequence[tuple[ir.Value, ir.Value]]) -> tuple[tuple[str, str], ...]:
    """Make pairs of float32 values outputs of the graph, in place; return the outputs' names."""
    return tuple(
        (
            _expose(model.graph, x, f"lstm_edge.convolution.{i}.x"),
            _expose(model.graph, y, f"lstm_edge.convolution.{i}.y"),
        )
        for i, (x, y) in enumerate(pairs)
    )


def _expose(graph: ir.Graph, value: ir.Value, name: str) -> str:
    # A separate node: a value may be an input, an initializer or an output already. Lengths become int64.
    kind = ir.DataType.INT64 if name.endswith(".lengths") else ir.DataType.FLOAT
    if not value.name:  # an unused output has no name
        value.name = f"{name}.value"
    output = append_node(graph, "Cast", value, name=name, output=name, attributes={"to": kind.value})
    output.type = ir.TensorType(kind)
    graph.outputs.append(output)
    return name


def _tap(reader: Reader) -> Tap | None:
    """The tap of a layer; None where it has no matrix that a rounder would see."""
    node = reader.node
    if isinstance(reader, Linear):
        name = f"{reader.name}.weight"
        return _made(node, (name,), {"x": node.inputs[0]}, partial(_linear_rows, name), node.inputs[1:2])
    if isinstance(reader, OwnCell):
        return _cell_tap(reader)
    if not isinstance(reader, Lstm | Gru | Rnn | DynamicLstm):
        return None
    x, w, r, _, lengths, h = inputs_of(node, 6)
    paths = (reader.path, f"{reader.path}_reverse")[: reader.sides]
    names = tuple(f"{path}.{matrix}" for path in paths for matrix in "wr")
    backward = DIRECTIONS.get(attribute_of(node, "direction", "forward"), (False,))
    values = {"x": x, "y": node.outputs[0], "h": h, "lengths": lengths}
    return _made(node, names, values, partial(_operator_rows, paths, backward), (w, r))


def _cell_tap(reader: OwnCell) -> Tap | None:
    variant, inputs = reader.variant, reader.by_name
    weights = {name: array for name in variant.weights if (array := constant_of(inputs[name])) is not None}
    if len(weights) < len(variant.weights):
        return None
    matrices = [name for name in variant.weights if variant.is_quantized(name)]
    names = tuple(f"{reader.path}.{name}" for name in matrices)
    values: dict[str, ir.Value | None] = {role: inputs[role] for role in ("x", "h", "c")}
    values |= {"lengths": inputs.get("lengths"), "y": reader.node.outputs[0]}
    rows = partial(_cell_rows, reader.path, variant, weights)
    return _made(reader.node, names, values, rows, [inputs[name] for name in matrices])


def _made(
    node: ir.Node,
    names: tuple[str, ...],
    values: Mapping[str, ir.Value | None],
    rows: Callable[[Mapping[str, Array]], Rows],
    constants: Any,
) -> Tap | None:
    digest = hashlib.sha256(node.op_type.encode())
    for value in constants:
        array = constant_of(value)
        if array is None:
            return None  # the quantizer leaves a layer whose weights are computed as it is
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    present = {role: value for role, value in values.items() if value is not None}
    return Tap(names=names, values=present, rows=rows, digest=digest.hexdigest())


def _linear_rows(name: str, arrays: Mapping[str, Array]) -> Rows:
    """Rows of zeros are left out: a step past a row's length is one, and no row of zeros says anything of a weight."""
    rows = arrays["x"].reshape(-1, arrays["x"].shape[-1])
    yield name, rows[rows.any(axis=-1)]


def _operator_rows(paths: tuple[str, ...], backward: tuple[bool, ...], arrays: Mapping[str, Array]) -> Rows:
    """Of ONNX's LSTM, GRU and RNN: x [T, B, I], y [T, D, B, H], h [D, B, H], lengths [B]."""
    x, y = arrays["x"], arrays["y"]
    h = arrays.get("h", np.zeros(y.shape[1:], np.float32))
    lengths = _lengths(arrays, x)
    valid = np.arange(len(x))[:, None] < lengths
    for side, (path, reverse) in enumerate(zip(paths, backward, strict=True)):
        yield f"{path}.w", x[valid]
        yield f"{path}.r", _before(y[:, side], h[side], lengths, reverse=reverse)[valid]


def _lengths(arrays: Mapping[str, Array], x: Array) -> NDArray[np.int64]:
    return np.asarray(arrays.get("lengths", np.full(x.shape[1], len(x))), np.int64)


def _before(y: Array, h: Array, lengths: NDArray[np.int64], *, reverse: bool) -> Array:
    """The state before each step, [T, B, H], of one direction; past a row's length it means nothing.

    Args:
        y: states after each step, [T, B, H], in the sequence's own order.
        h: the initial state, [B, H].
        lengths: [B]; a backward layer starts at a row's last valid step.
        reverse: the layer runs backward.
    """
    if not reverse:
        return np.concatenate([h[None], y[:-1]])
    before = np.concatenate([y[1:], h[None]])
    rows = np.flatnonzero(lengths > 0)
    before[lengths[rows] - 1, rows] = h[rows]
    return before


def _cell_rows(layer: str, variant: CellVariant, weights: Mapping[str, Array], arrays: Mapping[str, Array]) -> Rows:
    """Of our own float32 cells, whose other matrices see c[t-1], c[t] and the output before its projection."""
    x, y = arrays["x"], arrays["y"]
    before, lengths = np.concatenate([arrays["h"], y[:-1]]), _lengths(arrays, x)
    valid = np.arange(len(x))[:, None] < lengths
    yield f"{layer}.w", x[valid]
    yield f"{layer}.r", before[valid]
    if variant.peephole != "full" and not variant.projected:
        return
    old, new, outputs = _trace(variant, weights, (x @ weights["w"] + weights["b"]) + before @ weights["r"], arrays["c"])
    if variant.peephole == "full":
        yield f"{layer}.p", old[valid]
        yield f"{layer}.po", new[valid]
    if variant.projected:
        yield f"{layer}.v", outputs[valid]


def _trace(variant: CellVariant, weights: Mapping[str, Array], z: Float, c: Float) -> tuple[Float, Float, Float]:
    """Return c before and after each step and o · tanh(c), each [T, B, H], from z = x × w + b + h × r [T, B, 4H]."""
    old, new, outputs, state = [], [], [], c[0]
    for step in z:
        z_i, z_f, z_g, z_o = np.split(step, 4, axis=-1)
        old.append(state)
        if variant.peephole == "diagonal":
            z_i, z_f = z_i + weights["p"][0] * state, z_f + weights["p"][1] * state
        elif variant.peephole == "full":
            c_i, c_f, c_g = np.split(state @ weights["p"], 3, axis=-1)
            z_i, z_f, z_g = z_i + c_i, z_f + c_f, z_g + c_g
        state = np.asarray(sigmoid(z_f) * state + sigmoid(z_i) * tanh(z_g), np.float32)
        if variant.peephole == "diagonal":
            z_o = z_o + weights["p"][2] * state
        elif variant.peephole == "full":
            z_o = z_o + state @ weights["po"]
        new.append(state)
        outputs.append(np.asarray(sigmoid(z_o) * tanh(state), np.float32))
    return np.stack(old), np.stack(new), np.stack(outputs)
