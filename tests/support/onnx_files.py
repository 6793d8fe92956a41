"""ONNX files as other tools write them, made node by node, and their answers beside those of their int8 forms."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from lstm_edge_exporters.functions import DOMAIN, function_for
from lstm_edge_runtime.providers import open_session
from support.networks import snr_db

__all__ = [
    "FLIP",
    "FLOAT",
    "LEAST_SNR_DB",
    "B",
    "H",
    "I",
    "T",
    "assert_close_int8",
    "both",
    "feeds_of",
    "gru_model",
    "gru_weights",
    "lstm_model",
    "model",
    "operator_session",
    "weights",
]

I, H, B, T = 3, 5, 4, 6  # noqa: E741  the equations' own letters
LEAST_SNR_DB = 30.0
# Rounding flips: see test_operators.
FLIP = 5e-3
FLOAT = TensorProto.FLOAT


def weights(sides: int, *, inputs: int = I, hidden: int = H, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"W": (sides, 4 * hidden, inputs), "R": (sides, 4 * hidden, hidden)}
    shapes |= {"B": (sides, 8 * hidden), "P": (sides, 3 * hidden)}
    return {
        name: (rng.standard_normal(shape) * (shape[-1] ** -0.5 if len(shape) == 3 else 0.5)).astype(np.float32)
        for name, shape in shapes.items()
    }


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list]],
    outputs: dict[str, list],
    arrays: dict[str, np.ndarray],
    *,
    opset: int = 18,
    functions: list[onnx.FunctionProto] | None = None,
    kinds: Mapping[str, int] = MappingProxyType({}),
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "other",
        [helper.make_tensor_value_info(name, kind, axes) for name, (kind, axes) in inputs.items()],
        [helper.make_tensor_value_info(name, kinds.get(name, FLOAT), axes) for name, axes in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid("other", 1)] * bool(functions)
    proto = helper.make_model(graph, opset_imports=imports, functions=functions or [], ir_version=8)
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def lstm_model(
    direction: str = "forward",
    *,
    bias: bool = True,
    lengths: bool = False,
    state: bool = False,
    peephole: bool = False,
    outputs: tuple[str, ...] = ("Y", "Y_h", "Y_c"),
    squeeze: bool = False,
    **attributes: Any,
) -> bytes:
    """A file with one LSTM node, in any of the forms that ONNX gives it."""
    sides = 2 if direction == "bidirectional" else 1
    arrays = weights(sides)
    inputs = {"x": (FLOAT, ["time", "batch", I])}
    names = ["x", "W", "R", "B" if bias else "", "", "", "", "P" if peephole else ""]
    if lengths:
        inputs["rows"], names[4] = (TensorProto.INT32, ["batch"]), "rows"
    if state:
        for position, name in ((5, "h0"), (6, "c0")):
            inputs[name], names[position] = (FLOAT, [sides, "batch", H]), name
    shapes = {"Y": ["time", sides, "batch", H], "Y_h": [sides, "batch", H], "Y_c": [sides, "batch", H]}
    found = [name if name in outputs else "" for name in ("Y", "Y_h", "Y_c")]
    nodes = [
        helper.make_node("LSTM", names, found, name="rnn", hidden_size=H, direction=direction, **attributes),
    ]
    results = {name: shapes[name] for name in outputs}
    if squeeze:
        arrays["one"] = np.array([1])
        nodes.append(helper.make_node("Squeeze", ["Y", "one"], ["flat"], name="squeeze"))
        del results["Y"]
        results["flat"] = ["time", "batch", H]
    used = {name for node in nodes for name in node.input}
    return model(nodes, inputs, results, {name: array for name, array in arrays.items() if name in used})


def gru_weights(
    sides: int, *, inputs: int = I, hidden: int = H, seed: int = 0, gates: int = 3
) -> dict[str, np.ndarray]:
    """W, R and B of a GRU node, gates z r h, drawn as the LSTM's; of an RNN node with one gate."""
    rng = np.random.default_rng(seed)
    rows = gates * hidden
    shapes = {"W": (sides, rows, inputs), "R": (sides, rows, hidden), "B": (sides, 2 * rows)}
    return {
        name: (rng.standard_normal(shape) * (shape[-1] ** -0.5 if len(shape) == 3 else 0.5)).astype(np.float32)
        for name, shape in shapes.items()
    }


def gru_model(
    direction: str = "forward",
    *,
    bias: bool = True,
    lengths: bool = False,
    state: bool = False,
    outputs: tuple[str, ...] = ("Y", "Y_h"),
    squeeze: bool = False,
    inputs: int = I,
    hidden: int = H,
    operator: str = "GRU",
    **attributes: Any,
) -> bytes:
    """A file with one GRU (or RNN) node, in any of the forms that ONNX gives it."""
    sides = 2 if direction == "bidirectional" else 1
    arrays = gru_weights(sides, inputs=inputs, hidden=hidden, gates=3 if operator == "GRU" else 1)
    moving = {"x": (FLOAT, ["time", "batch", inputs])}
    names = ["x", "W", "R", "B" if bias else "", "", ""]
    if lengths:
        moving["rows"], names[4] = (TensorProto.INT32, ["batch"]), "rows"
    if state:
        moving["h0"], names[5] = (FLOAT, [sides, "batch", hidden]), "h0"
    shapes = {"Y": ["time", sides, "batch", hidden], "Y_h": [sides, "batch", hidden]}
    found = [name if name in outputs else "" for name in ("Y", "Y_h")]
    options = {"hidden_size": hidden, "direction": direction} | attributes
    nodes = [helper.make_node(operator, names, found, name="rnn", **options)]
    results = {name: shapes[name] for name in outputs}
    if squeeze:
        arrays["one"] = np.array([1])
        nodes.append(helper.make_node("Squeeze", ["Y", "one"], ["flat"], name="squeeze"))
        del results["Y"]
        results["flat"] = ["time", "batch", hidden]
    used = {name for node in nodes for name in node.input}
    return model(nodes, moving, results, {name: array for name, array in arrays.items() if name in used})


def operator_session(
    name: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    weights: dict[str, np.ndarray],
    ranks: dict[str, int],
    *,
    function: onnx.FunctionProto | None = None,
) -> onnxruntime.InferenceSession:
    """A session of a model that calls one of our operators; ``function`` is another body than the operator's own."""
    node = helper.make_node(name, list(inputs), list(outputs), domain=DOMAIN)
    kinds = {"lengths": TensorProto.INT64}
    moving = [
        helper.make_tensor_value_info(i, kinds.get(i, FLOAT), [f"{i}{k}" for k in range(ranks[i])])
        for i in inputs
        if i not in weights
    ]
    # Every output has the rank of x.
    axes = {o: [f"{o}{k}" for k in range(ranks["x"])] for o in outputs}
    results = [helper.make_tensor_value_info(o, FLOAT, axes[o]) for o in outputs]
    constants = [numpy_helper.from_array(array, key) for key, array in weights.items()]
    graph = helper.make_graph([node], "operator", moving, results, constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    functions = [function or function_for(name)]
    proto = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    return open_session(proto.SerializeToString())


def feeds_of(session: onnxruntime.InferenceSession, *, batch: int = B, time: int = T) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(9)
    sizes = {"batch": batch, "time": time}
    feeds = {}
    for value in session.get_inputs():
        shape = [sizes.get(axis, axis) for axis in value.shape]
        if "int32" in value.type:
            feeds[value.name] = np.array([time, *rng.integers(1, time + 1, batch - 1)], np.int32)
        elif "bool" in value.type:
            feeds[value.name] = np.array(True)
        else:
            feeds[value.name] = rng.standard_normal(shape).astype(np.float32)
    return feeds


def both(data: bytes, int8: bytes) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The answers of the float32 and of the int8 file to the same inputs."""
    answers = []
    for session in (open_session(data), open_session(int8)):
        names = [output.name for output in session.get_outputs()]
        answers.append(dict(zip(names, session.run(None, feeds_of(session)), strict=True)))
    assert answers[0].keys() == answers[1].keys()
    return answers[0], answers[1]


def assert_close_int8(data: bytes, int8: bytes) -> None:
    whole, got = both(data, int8)
    for name in whole:
        assert got[name].shape == whole[name].shape
        assert snr_db(whole[name], got[name]) > LEAST_SNR_DB, name
