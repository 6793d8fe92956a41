"""Layers as TensorFlow's converter writes them: a Loop of single operators, its weights handed from step to step."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lstm_edge_runtime.arrays import Array

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
GATES = {"lstm": 4, "gru": 3, "gru after": 3}


def info(name: str, shape: list[Any] | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


@dataclass(kw_only=True)
class Graph:
    """Nodes and initializers of a file that grows."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)

    def add(self, op: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, list(outputs), name=f"n/{outputs[0]}", **attributes))
        return outputs[0]

    def number(self, value: Any, name: str) -> str:
        self.arrays.setdefault(name, np.asarray(value))
        return name

    def model(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> bytes:
        held = [numpy_helper.from_array(array, name) for name, array in self.arrays.items()]
        graph = helper.make_graph(self.nodes, "looped", inputs, outputs, held)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.checker.check_model(made)
        return made.SerializeToString()


def cell(g: Graph, kind: str, p: str, x: str, h: str, c: str, w: tuple[str, str, str], axes: dict[str, str]) -> None:
    """One step; its new states are ``<p>h`` and ``<p>c``."""
    add = g.add
    if kind == "lstm":  # Keras: i f g o, one bias
        add("Add", [add("MatMul", [x, w[0]], p + "xw"), add("MatMul", [h, w[1]], p + "hr")], p + "s")
        add("Split", [add("Add", [p + "s", w[2]], p + "z")], *(p + v for v in "ifgo"), axis=1, num_outputs=4)
        for gate, op in zip("ifgo", ("Sigmoid", "Sigmoid", "Tanh", "Sigmoid"), strict=True):
            add(op, [p + gate], f"{p}a{gate}")
        add("Mul", [p + "af", c], p + "fc")
        add("Mul", [p + "ai", p + "ag"], p + "ig")
        add("Tanh", [add("Add", [p + "fc", p + "ig"], p + "c")], p + "tc")
        add("Mul", [p + "ao", p + "tc"], p + "h")
        return
    add("Add", [add("MatMul", [x, w[0]], p + "xw"), w[2]], p + "xb")  # Keras: z r h
    add("Split", [p + "xb"], *(p + "x" + v for v in "zrn"), axis=1, num_outputs=3)
    if kind == "gru":  # reset_after=True: a bias of the recurrent product too
        add("Add", [add("MatMul", [h, w[1]], p + "hw"), w[2] + "2"], p + "hb")
        add("Split", [p + "hb"], *(p + "h" + v for v in "zrn"), axis=1, num_outputs=3)
    else:
        for v in "zr":
            add("MatMul", [h, add("Slice", [w[1], axes[v], axes[v + "end"], axes["one"]], p + "w" + v)], p + "h" + v)
    for v in "zr":
        add("Sigmoid", [add("Add", [p + "x" + v, p + "h" + v], p + "s" + v)], p + v)
    if kind == "gru":
        add("Mul", [p + "r", p + "hn"], p + "rn")
    else:
        matrix = add("Slice", [w[1], axes["n"], axes["nend"], axes["one"]], p + "wn")
        add("MatMul", [add("Mul", [p + "r", h], p + "rh"), matrix], p + "rn")
    add("Tanh", [add("Add", [p + "xn", p + "rn"], p + "sn")], p + "n")
    add("Mul", [add("Sub", ["unit", p + "z"], p + "zz"), p + "n"], p + "k")
    add("Add", [add("Mul", [p + "z", h], p + "m"), p + "k"], p + "h")


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to write the layer.

    Attributes:
        kind: ``lstm``, ``gru`` (Keras's reset_after) or ``gru after`` (its older form).
        counted: the Loop counts its own steps and stops by a condition, as TensorFlow's while does.
        batch_first: the body takes its step from axis 1 of x.
        dead: a first step beside the Loop, for the shape of the initial state.
        change: ``index``, ``steps``, ``answer``, ``weights``, ``mask``: one thing that is not the plain layer.
    """

    kind: str = "lstm"
    inputs: int = 6
    cells: int = 5
    counted: bool = False
    batch_first: bool = False
    dead: bool = False
    change: str = ""


def layer(g: Graph, form: Form, x: str, name: str, *, seed: int = 0, reverse: bool = False) -> str:
    """A Keras layer over ``x`` [batch, time, I] as a Loop; returns its answers [batch, time, H]."""
    rng, count = np.random.default_rng(seed), GATES[form.kind] * form.cells
    hidden = form.cells
    shapes = {"W": (form.inputs, count), "R": (hidden, count), "b": (count,), "b2": (count,)}
    used = [key for key in shapes if key != "b2" or form.kind == "gru"]
    for key in used:
        g.arrays[f"{name}/{key}"] = (rng.normal(size=shapes[key]) * 0.4).astype(np.float32)
    one, zero = g.number([1], "one"), g.number([0], "zero")
    g.number(np.float32(1), "unit")
    axes = {"one": one, "z": zero, "zend": g.number([hidden], f"{hidden}"), "r": f"{hidden}"}
    axes |= {"rend": g.number([2 * hidden], f"{2 * hidden}"), "n": f"{2 * hidden}"}
    axes |= {"nend": g.number([3 * hidden], f"{3 * hidden}")}
    if reverse:
        bounds = [g.number([-1], "last"), g.number([-(2**31)], "before"), one, g.number([-1], "step")]
        x = g.add("Slice", [x, *bounds], f"{name}/turned")
    major = x if form.batch_first else g.add("Transpose", [x], f"{name}/major", perm=[1, 0, 2])
    sizes = g.add("Shape", [x], f"{name}/sizes")
    n = g.add("Gather", [sizes, g.number(1, "i1")], f"{name}/n")
    batch = g.add("Gather", [sizes, zero], f"{name}/batch")
    width = g.number([hidden], f"{name}/H")
    size = g.add("Concat", [batch, width], f"{name}/bh", axis=0)
    start = g.add("Expand", [g.number(np.float32(0), "f0"), size], f"{name}/z")
    first = start
    weights = (f"{name}/W", f"{name}/R", f"{name}/b")
    if form.dead:
        step = g.add("Gather", [major, g.number(0, "i0")], f"{name}/x0", axis=int(form.batch_first))
        cell(g, form.kind, f"{name}/dead/", step, start, start, weights, axes)
        first = g.add("Expand", ["f0", g.add("Shape", [f"{name}/dead/h"], f"{name}/shape")], f"{name}/h0")
    body = _body(g, form, name, major, used, axes, n)
    carried = {"h": first} | ({"c": start} if form.kind == "lstm" else {})
    carried |= {key: f"{name}/{key}" for key in used} | ({"k": g.number(0, "i0")} if form.counted else {})
    limit = n
    if form.change == "steps":
        limit = g.add("Sub", [n, g.number(1, "i1")], f"{name}/fewer")
    go = ""
    if form.counted:
        go = g.add("Less", [g.number(0, "i0"), limit], f"{name}/go")
        limit = g.number(2**63 - 1, "endless")
    outs = [f"{name}/{key}N" for key in carried]
    g.add("Loop", [limit, go, *carried.values()], *outs, f"{name}/ys", body=body)
    answers = g.add("Transpose", [f"{name}/ys"], f"{name}/out", perm=[1, 0, 2])
    return g.add("Slice", [answers, *bounds], f"{name}/back") if reverse else answers


def _body(g: Graph, form: Form, name: str, x: str, used: list[str], axes: dict[str, str], n: str) -> onnx.GraphProto:
    inner, p = Graph(), f"{name}/in/"
    states = ["h", "c"] if form.kind == "lstm" else ["h"]
    carried = [*states, *used, *(["k"] if form.counted else [])]
    index = p + ("k" if form.counted else "it")
    if form.change == "index":
        index = inner.add("Sub", [inner.add("Sub", [n, g.number(1, "i1")], p + "end"), index], p + "other")
    step = inner.add("Gather", [x, index], p + "x", axis=int(form.batch_first))
    cell(inner, form.kind, p + "new/", step, p + "h", p + "c", (p + "W", p + "R", p + "b"), axes)
    new = {key: f"{p}new/{key}" for key in states}
    if form.change == "mask":
        keep = inner.add("Gather", [f"{name}/mask", index], p + "keep", axis=0)
        new = {key: inner.add("Where", [keep, value, p + key], f"{p}kept/{key}") for key, value in new.items()}
    leaving = new | {key: p + key for key in used}
    if form.change == "weights":
        leaving["W"] = inner.add("Mul", [p + "W", g.number(np.float32(0.5), "half")], p + "smaller")
    if form.counted:
        leaving["k"] = inner.add("Add", [p + "k", g.number(1, "i1")], p + "k1")
    answer = inner.add("Relu", [new["h"]], p + "relu") if form.change == "answer" else new["h"]
    if form.counted:
        inner.add("Less", [leaving["k"], n], p + "on")
    else:
        inner.add("Identity", [p + "go"], p + "on")
    for key in carried:
        inner.add("Identity", [leaving[key]], f"{p}{key}/next")
    inner.add("Identity", [answer], p + "y")
    shapes: dict[str, Any] = {key: g.arrays[f"{name}/{key}"].shape for key in used} | {"k": []}
    kinds = {"k": INT64}
    ins = [info(p + "it", [], INT64), info(p + "go", [], BOOL)]
    ins += [info(p + key, shapes.get(key), kinds.get(key, FLOAT)) for key in carried]
    outs = [info(p + "on", [], BOOL)]
    outs += [info(f"{p}{key}/next", shapes.get(key), kinds.get(key, FLOAT)) for key in carried] + [info(p + "y", None)]
    return helper.make_graph(inner.nodes, f"{name}/body", ins, outs)


def looped(form: Form, *, layers: int = 1, reverse: bool = False, both: bool = False) -> bytes:
    """A file of one or two such layers, stacked or, with ``both``, in two directions."""
    g, x, masked = Graph(), "x", form.change == "mask"
    if masked:
        g.add("Transpose", ["m"], "l0/mask", perm=[1, 0, 2])
    for index in range(layers):
        sized = form if index == 0 else Form(**(vars(form) | {"inputs": form.cells}))
        x = layer(g, sized, x, f"l{index}", seed=index, reverse=reverse)
    if both:
        x = g.add("Concat", [x, layer(g, form, "x", "b0", seed=7, reverse=True)], "two", axis=2)
    y = g.add("Identity", [x], "y")
    inputs = [info("x", ["b", "t", form.inputs])] + ([info("m", ["b", "t", 1], BOOL)] if masked else [])
    return g.model(inputs, [info(y, ["b", "t", form.cells * (2 if both else 1)])])


def scanned(*, backward: bool = False, batch_first: bool = False, width: int = 6) -> bytes:
    """An LSTM as a Scan whose weights are state variables, perhaps from the end and over axis 1."""
    g, inner, cells = Graph(), Graph(), 5
    rng = np.random.default_rng(4)
    arrays = {"W": (width, 4 * cells), "R": (cells, 4 * cells), "b": (4 * cells,)}
    for key, shape in arrays.items():
        g.arrays[key] = (rng.normal(size=shape) * 0.4).astype(np.float32)
    batch = g.add("Shape", ["x"], "batch", start=1 - batch_first, end=2 - batch_first)
    size = g.add("Concat", [batch, g.number([cells], "cells")], "size", axis=0)
    zeros = g.add("ConstantOfShape", [size], "zeros")
    cell(inner, "lstm", "c/", "xt", "h", "c", ("w", "r", "bb"), {})
    for before, after in (("c/h", "h2"), ("c/c", "c2"), ("w", "w2"), ("r", "r2"), ("bb", "b2"), ("c/h", "y1")):
        inner.add("Identity", [before], after)
    sizes = {"w": arrays["W"], "r": arrays["R"], "bb": arrays["b"]}
    names = ["h", "c", "w", "r", "bb"]
    ins = [info(name, list(sizes[name]) if name in sizes else [None, cells]) for name in (*names,)]
    ins.append(info("xt", [None, width]))
    outs = [info(name, None) for name in ("h2", "c2", "w2", "r2", "b2", "y1")]
    body = helper.make_graph(inner.nodes, "body", ins, outs)
    turn = {"scan_input_directions": [1], "scan_output_directions": [1]} if backward else {}
    turn |= {"scan_input_axes": [1], "scan_output_axes": [1]} if batch_first else {}
    inputs, outputs = [zeros, zeros, "W", "R", "b", "x"], ("hN", "cN", "wN", "rN", "bN", "y")
    g.add("Scan", inputs, *outputs, body=body, num_scan_inputs=1, **turn)
    axes = ["b", "t"] if batch_first else ["t", "b"]
    return g.model([info("x", [*axes, width])], [info("y", [*axes, cells]), info("hN", ["b", cells])])
