"""What a folded cell is made of, and the checks that LSTM, GRU and RNN cells share."""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.adopt.cells.affine import Affine, Stop, is_op, label, through
from lstm_edge_exporters.onnx_graph.shapes import Shape, shape_of
from lstm_edge_runtime.arrays import Array

__all__ = [
    "ACTIVATIONS",
    "Cell",
    "check_inside",
    "check_rows",
    "factors",
    "has_recurrent_matrix",
    "join_sources",
]

# How torch and Keras call the matrix that h meets; used only where widths and data flow leave two candidates.
_RECURRENT_NAME = re.compile(r"weight_hh|recurrent", re.IGNORECASE)


# Activations that cells use for their gates; only Sigmoid and Tanh are folded.
ACTIVATIONS = ("Sigmoid", "Tanh", "HardSigmoid", "Relu", "LeakyRelu", "Elu", "Selu", "Softsign", "Softplus", "Clip")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell that is certain: what goes in, what comes out, and its weights in ONNX's layout.

    ``x``: values ``[B, n]`` that are joined to the input ``[B, I]``; ``states``: h, for LSTM also c, ``[B, H]``;
    ``outputs``: h', for LSTM also c'; ``weights``: W ``[1, G*H, I]``, R ``[1, G*H, H]``, B ``[1, 2*G*H]``, float32,
    gates in the order iofc or zrh, one for RNN; ``anchor``: the node before which the new one goes; ``nodes``: all
    that it replaces; ``activation``: of an RNN cell, ``Tanh`` or ``Relu``.
    """

    kind: Literal["LSTM", "GRU", "RNN"]
    anchor: ir.Node
    x: tuple[ir.Value, ...]
    states: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]
    weights: tuple[Array, Array, Array]
    hidden_size: int
    nodes: frozenset[ir.Node]
    linear_before_reset: int = 0
    activation: str = "Tanh"


def factors(product: ir.Value | None) -> list[ir.Value]:
    """Return what a ``Mul`` node multiplies, past ``Identity`` nodes; nothing for other values."""
    node = product.producer() if product is not None else None
    if node is None or node.op_type != "Mul":
        return []
    return [through(value) for value in node.inputs if value is not None]


def join_sources(gates: Sequence[Affine], x: Sequence[ir.Value], h: ir.Value) -> tuple[Array, Array, Array]:
    """Stack the gates' weights, given in ONNX's order, as W, R and B."""
    W = np.concatenate([np.concatenate([gate.weights[source] for source in x], axis=0).T for gate in gates], axis=0)
    R = np.concatenate([gate.weights[h].T for gate in gates], axis=0)
    B = np.concatenate([*(gate.bias(*x, None) for gate in gates), *(gate.bias(h) for gate in gates)])
    return W[None].astype(np.float32), R[None].astype(np.float32), B[None].astype(np.float32)


def check_rows(values: Sequence[ir.Value], widths: Mapping[ir.Value, int], shapes: Mapping[ir.Value, Shape]) -> None:
    """Check that all values are ``[B, n]`` with one B: ``Add`` and ``Mul`` broadcast, a recurrent node does not.

    Raises:
        Stop: an axis differs or is unknown.
    """
    batch: int | str | None = None
    for value in values:
        shape = shape_of(value, shapes)
        if shape is None or len(shape) != 2:
            known = "is not known" if shape is None else f"has {len(shape)} axes"
            raise Stop(f"the shape of {value.name!r} {known}, expected [batch, features]")
        if value in widths and shape[1] != widths[value]:
            raise Stop(f"{value.name!r} has {shape[1]} columns, expected {widths[value]}")
        if shape[0] is None or (batch is not None and shape[0] != batch):
            first = values[0].name
            raise Stop(f"the batch axes of {first!r} and {value.name!r} are not known to be equal")
        batch = shape[0]


def check_inside(nodes: AbstractSet[ir.Node], results: AbstractSet[ir.Value]) -> None:
    """Check that nothing but the new states leaves the cell.

    Raises:
        Stop: an inner value is used elsewhere, or a node is in another graph.
    """
    graphs = {node.graph for node in nodes}
    if len(graphs) > 1:
        raise Stop("its nodes are in several graphs")
    for node in sorted(nodes, key=lambda node: node.name or ""):
        for value in node.outputs:
            if value in results:
                continue
            if value.is_graph_output():
                raise Stop(f"{value.name!r}, inside the cell, is an output of the graph ({label(node)})")
            outside = [user for user in value.consumers() if user not in nodes]
            if outside:
                raise Stop(f"{value.name!r}, inside the cell, is also used by {label(outside[0])}")


def has_recurrent_matrix(source: ir.Value) -> bool:
    """Say whether a value is multiplied with a matrix that has the name of a recurrent one."""
    return any(
        is_op(node, "Gemm", "MatMul")
        and any(value is not None and _RECURRENT_NAME.search(value.name or "") for value in node.inputs[1:2])
        for node in source.consumers()
    )
