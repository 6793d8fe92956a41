"""The work of an edit grows with the graph and not with its square: counted in lines of Python, not in seconds."""

import itertools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.fallen_cells import FORMS, STATE_IFGO, H, I, lstm_arrays

from lstm_edge_exporters.adopt.cells import fold_cells
from lstm_edge_exporters.adopt.describe import name_layers
from lstm_edge_exporters.adopt.find import find_layers
from lstm_edge_exporters.adopt.recognize import recognize_states
from lstm_edge_exporters.adopt.stateful import make_stateful
from lstm_edge_exporters.onnx_graph.fold import fold
from lstm_edge_exporters.onnx_graph.layout import rewrite_layout
from lstm_edge_exporters.onnx_graph.names import Names
from lstm_edge_exporters.onnx_graph.opset import raise_opset
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.onnx_graph.tidy import tidy
from lstm_edge_exporters.quantize.activations import add_taps, find_taps
from lstm_edge_exporters.quantize.layers import find_layers as find_readers
from lstm_edge_exporters.quantize.parts import resolve
from lstm_edge_exporters.quantize.request import LayerRequest
from lstm_edge_exporters.quantize.rewrite import rewrite
from lstm_edge_exporters.quantize.rounding import round_matrix
from lstm_edge_exporters.quantize.schemes import Scheme
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec

FLOAT = TensorProto.FLOAT
INT8 = Scheme(kind="int8")
SMALL, LARGE = 25, 100
# Four times the layers are four times the lines. One scan of all nodes for each node that is added makes it over six.
MOST = 4.6
COUNTED = ("lstm_edge_exporters", "onnx_ir")


def lines_of(work: Callable[[], Any]) -> int:
    """How many lines of our code and of onnx_ir's run."""
    count = 0

    def local(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        return local if any(part in frame.f_code.co_filename for part in COUNTED) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def chain(
    layer: Callable[[int], list[onnx.NodeProto]], count: int, arrays: dict[str, np.ndarray], *, opset: int = 18
) -> bytes:
    """Layers one behind the other, each from ``a{i}`` to ``b{i}``.

    Between them stands what no constant comes from: up to 64 nodes are followed to see whether a value is constant,
    which would hide what is counted here.
    """
    ends = [helper.make_node("RandomNormalLike", [f"b{i - 1}"], [f"a{i}"], name=f"end{i}") for i in range(count + 1)]
    nodes = [ends[0], *itertools.chain.from_iterable([*layer(i), ends[i + 1]] for i in range(count))]
    nodes.append(helper.make_node("Identity", [f"a{count}"], ["out"], name="last"))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("b-1", FLOAT, [5, 3, H])],
        [helper.make_tensor_value_info("out", FLOAT, [None, None, None])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return proto.SerializeToString()


def linear(count: int, name: str = "layer{}") -> bytes:
    def layer(i: int) -> list[onnx.NodeProto]:
        return [
            helper.make_node("MatMul", [f"a{i}", "w"], [f"m{i}"], name=f"{name.format(i)}/MatMul"),
            helper.make_node("Add", [f"m{i}", "b"], [f"b{i}"], name=f"{name.format(i)}/Add"),
        ]

    return chain(layer, count, {"w": np.eye(H, dtype=np.float32), "b": np.zeros(H, np.float32)})


def lstms(count: int, *, layout: int = 0, name: str = "lstm{}", states: bool = False, negated: bool = False) -> bytes:
    """LSTM layers, perhaps batch first, with initial states, or with weights behind a node of their own."""

    def layer(i: int) -> list[onnx.NodeProto]:
        attributes = {"hidden_size": H} | ({"layout": 1} if layout else {})
        weight = f"w{i}" if negated else "W"
        inputs = [f"a{i}", weight, "R", *(["", "", "zero", "zero"] if states else [])]
        nodes = [helper.make_node("Neg", ["W"], [weight], name=f"neg{i}")] if negated else []
        return [
            *nodes,
            helper.make_node("LSTM", inputs, [f"y{i}"], name=name.format(i), **attributes),
            helper.make_node("Squeeze", [f"y{i}", "axis"], [f"b{i}"], name=f"squeeze{i}"),
        ]

    arrays = {"W": np.ones((1, 4 * H, H), np.float32), "R": np.ones((1, 4 * H, H), np.float32)}
    arrays |= {"axis": np.array([2 if layout else 1]), "zero": np.zeros((1, 3, H), np.float32)}
    return chain(layer, count, arrays)


def residual(count: int) -> bytes:
    """Each layer's initial state is computed from all layers before it."""

    def layer(i: int) -> list[onnx.NodeProto]:
        return [
            helper.make_node("ReduceMax", [f"a{i}", "axis"], [f"h{i}"], name=f"max{i}"),
            helper.make_node("LSTM", [f"a{i}", "W", "R", "", "", f"h{i}"], [f"y{i}"], name=f"lstm{i}", hidden_size=H),
            helper.make_node("Squeeze", [f"y{i}", "one"], [f"s{i}"], name=f"squeeze{i}"),
            helper.make_node("Add", [f"a{i}", f"s{i}"], [f"b{i}"], name=f"add{i}"),
        ]

    arrays = {"W": np.ones((1, 4 * H, H), np.float32), "R": np.ones((1, 4 * H, H), np.float32)}
    return chain(layer, count, arrays | {"axis": np.array([0]), "one": np.array([1])})


def old(count: int) -> bytes:
    def layer(i: int) -> list[onnx.NodeProto]:
        return [
            helper.make_node("Unsqueeze", [f"a{i}"], [f"u{i}"], name=f"wide{i}", axes=[0]),
            helper.make_node("Squeeze", [f"u{i}"], [f"b{i}"], name=f"narrow{i}", axes=[0]),
        ]

    return chain(layer, count, {}, opset=11)


def cells(count: int) -> bytes:
    """A loop over an LSTM cell that was unrolled, in single operators."""
    text = (FORMS["MatMul and Add"] + STATE_IFGO).strip()
    single = onnx.parser.parse_graph(f"cell (float[b, {I}] x) => (float[b, {H}] h_out) {{ {text} }}")
    shared = ("x", "wx", "wh", "bx", "bh")
    nodes = []
    for i in range(count):
        names = {name: name for name in shared} | {"h": f"h_out.{i}", "c": f"c_out.{i}"}
        for node in single.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.op_type}_{node.output[0]}.{i}"
            copy.input[:] = [names.get(name, f"{name}.{i + 1}") for name in node.input]
            copy.output[:] = [f"{name}.{i + 1}" for name in node.output]
            nodes.append(copy)
    states = [helper.make_tensor_value_info(name, FLOAT, ["b", H]) for name in ("h_out.0", "c_out.0")]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, ["b", I]), *states],
        [helper.make_tensor_value_info(f"h_out.{count}", FLOAT, ["b", H])],
        [numpy_helper.from_array(array, name) for name, array in lstm_arrays().items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def quantize(model: ir.Model) -> None:
    readers = find_readers(model)
    parts = {reader.name: INT8 for reader in readers}
    requests = resolve(readers, parts, lambda _kind: LayerRequest(scheme=INT8))
    rewrite(model, readers, requests, round_matrix, default=INT8)


def tap(model: ir.Model) -> None:
    add_taps(model, find_taps(model)[0])


def recognize(model: ir.Model) -> None:
    inputs = (TensorSpec(name="b-1", dtype="float32", axes=(TIME, BATCH, H)),)
    data = ir.to_proto(model).SerializeToString()
    recognize_states(data, inputs, named={}, known=(), scalars={}, ids_below=2)


WORK: dict[str, tuple[Callable[[int], bytes], Callable[[ir.Model], Any]]] = {
    "quantize linear layers": (linear, quantize),
    "quantize linear layers of one name": (lambda count: linear(count, "same"), quantize),
    "quantize LSTM layers": (lstms, quantize),
    "calibrate": (linear, tap),
    "name layers": (lambda count: lstms(count, name="same"), name_layers),
    "find layers": (residual, find_layers),
    "turn batch first": (lambda count: lstms(count, layout=1), rewrite_layout),
    "make states explicit": (lstms, make_stateful),
    "recognize states": (lambda count: lstms(count, states=True), recognize),
    "raise the opset": (old, raise_opset),
    "fold weights": (lambda count: lstms(count, negated=True), fold),
    "fold cells": (cells, fold_cells),
    "tidy": (lambda count: linear(count, "same"), lambda model: tidy(model, prefix="", root="net")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(WORK))
def test_the_work_is_linear(name: str) -> None:
    build, work = WORK[name]
    models = [parse_model(build(count)) for count in (SMALL, LARGE)]
    work(parse_model(build(2)))  # imports and caches
    small, large = (lines_of(lambda model=model: work(model)) for model in models)
    assert large > 2 * small, "nothing was done"
    assert large < MOST * small, f"{small:,} lines for {SMALL} layers, {large:,} for {LARGE}"


def test_one_name_for_all_is_counted_up_once() -> None:
    def take(count: int) -> None:
        names = Names()
        for _ in range(count):
            names.take("Add")

    small, large = lines_of(lambda: take(200)), lines_of(lambda: take(800))
    assert large < MOST * small
