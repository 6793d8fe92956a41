"""The recurrent cases as ONNX graphs: of ``LSTM`` and ``GRU`` nodes, and of ``MatMul`` and elementwise operators."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from given import Array, Case
from onnx import helper, numpy_helper

__all__ = ["GATES", "cells_graph", "standard_graph"]

GATES = {"LSTM": 4, "GRU": 3}
# ONNX's order of gates -> their places in PyTorch's order.
ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}


def reordered(case: Case, matrix: Array) -> Array:
    """Bring the gates [gates * H, ...] into ONNX's order."""
    gates = matrix.reshape(len(ORDER[case.cell]), case.hidden, *matrix.shape[1:])
    return np.ascontiguousarray(gates[list(ORDER[case.cell])].reshape(matrix.shape))


def standard_graph(case: Case, steps: int) -> Any:
    """Build ``x`` [steps, 1, I] and states [L, 1, H] to ``y`` [steps, 1, H] and states, of ONNX's own operators."""
    nodes, constants, x = [], {"one": np.array([1], np.int64)}, "x"
    for layer in range(case.layers):
        w, r, bias_w, bias_r = (reordered(case, weight) for weight in case.weights(layer))
        constants |= {f"W{layer}": w[None], f"R{layer}": r[None], f"B{layer}": np.concatenate([bias_w, bias_r])[None]}
        constants[f"at{layer}"] = np.array([layer], np.int64)
        for state in case.states:
            nodes.append(helper.make_node("Gather", [state, f"at{layer}"], [f"{state}{layer}"], axis=0))
        given = [x, f"W{layer}", f"R{layer}", f"B{layer}", "", *(f"{state}{layer}" for state in case.states)]
        made = [f"Y{layer}", *(f"{state}_out{layer}" for state in case.states)]
        reset = {"linear_before_reset": 1} if case.cell == "GRU" else {}
        nodes.append(helper.make_node(case.cell, given, made, hidden_size=case.hidden, **reset))
        x = "y" if layer == case.layers - 1 else f"y{layer}"
        nodes.append(helper.make_node("Squeeze", [f"Y{layer}", "one"], [x]))
    for state, after in case.states.items():
        parts = [f"{state}_out{layer}" for layer in range(case.layers)]
        nodes.append(helper.make_node("Concat", parts, [after], axis=0))
    return model_of(case, steps, nodes, constants)


def cells_graph(case: Case) -> Any:
    """Build one step of the same model with a ``MatMul`` for each matrix, in PyTorch's order of gates."""
    nodes: list[Any] = []
    constants: dict[str, Array] = {"axes": np.array([0], np.int64)}

    def add(operator: str, given: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, given, [name], **attributes))
        return name

    x = add("Squeeze", ["x", "axes"], "x0")
    after: dict[str, list[str]] = {state: [] for state in case.states}
    for layer in range(case.layers):
        w, r, bias_w, bias_r = case.weights(layer)
        mark = f".{layer}"
        constants |= {f"W{mark}": np.ascontiguousarray(w.T), f"R{mark}": np.ascontiguousarray(r.T)}
        constants |= {f"bias_w{mark}": bias_w, f"bias_r{mark}": bias_r, f"at{mark}": np.array(layer, np.int64)}
        before = {state: add("Gather", [state, f"at{mark}"], f"{state}{mark}", axis=0) for state in case.states}
        a = add("Add", [add("MatMul", [x, f"W{mark}"], f"xw{mark}"), f"bias_w{mark}"], f"a{mark}")
        b = add("Add", [add("MatMul", [before["h"], f"R{mark}"], f"hr{mark}"), f"bias_r{mark}"], f"b{mark}")
        if case.cell == "LSTM":
            made = lstm_cell(add, nodes, mark, a=a, b=b, before=before["c"])
        else:
            made = gru_cell(add, nodes, mark, a=a, b=b)
        for state, name in made.items():
            after[state].append(add("Unsqueeze", [name, "axes"], f"{state}.new{mark}"))
        x = made["h"]
    add("Unsqueeze", [x, "axes"], "y")
    for state, name in case.states.items():
        add("Concat", after[state], name, axis=0)
    return model_of(case, 1, nodes, constants)


def lstm_cell(add: Any, nodes: list[Any], mark: str, *, a: str, b: str, before: str) -> dict[str, str]:
    """Add an LSTM cell; the gates are i, f, g, o."""
    gates = [f"{gate}{mark}" for gate in "ifgo"]
    nodes.append(helper.make_node("Split", [add("Add", [a, b], f"ab{mark}")], gates, axis=-1, num_outputs=4))
    i, f, o = (add("Sigmoid", [gates[k]], f"{gates[k]}.s") for k in (0, 1, 3))
    g = add("Tanh", [gates[2]], f"{gates[2]}.t")
    kept = add("Mul", [f, before], f"kept{mark}")
    c = add("Add", [kept, add("Mul", [i, g], f"ig{mark}")], f"cell{mark}")
    return {"h": add("Mul", [o, add("Tanh", [c], f"ct{mark}")], f"hidden{mark}"), "c": c}


def gru_cell(add: Any, nodes: list[Any], mark: str, *, a: str, b: str) -> dict[str, str]:
    """Add a GRU cell; the gates are r, z, n, and the reset gate applies after the product."""
    for part, name in (("a", a), ("b", b)):
        made = [f"{part}{gate}{mark}" for gate in "rzn"]
        nodes.append(helper.make_node("Split", [name], made, axis=-1, num_outputs=3))
    r, z = (
        add("Sigmoid", [add("Add", [f"a{k}{mark}", f"b{k}{mark}"], f"{k}.sum{mark}")], f"{k}.s{mark}") for k in "rz"
    )
    reset = add("Mul", [r, f"bn{mark}"], f"rn{mark}")
    n = add("Tanh", [add("Add", [f"an{mark}", reset], f"n.sum{mark}")], f"n{mark}")
    moved = add("Mul", [z, add("Sub", [f"h{mark}", n], f"hn{mark}")], f"zh{mark}")
    return {"h": add("Add", [n, moved], f"hidden{mark}")}


def model_of(case: Case, steps: int, nodes: list[Any], constants: Mapping[str, Array]) -> Any:
    """Close a graph of fixed shapes and check it."""

    def value(name: str, shape: tuple[int, ...]) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    state = (case.layers, 1, case.hidden)
    graph = helper.make_graph(
        nodes,
        case.name,
        [value("x", (steps, 1, case.inputs)), *(value(name, state) for name in case.states)],
        [value("y", (steps, 1, case.hidden)), *(value(name, state) for name in case.states.values())],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
