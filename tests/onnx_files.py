"""ONNX files as other tools write them, made node by node, and their answers beside those of their int8 forms."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
from networks import snr_db
from onnx import TensorProto, helper, numpy_helper

from lstm_edge_runtime.providers import open_session

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
    "lstm_model",
    "model",
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
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "other",
        [helper.make_tensor_value_info(name, kind, axes) for name, (kind, axes) in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, axes) for name, axes in outputs.items()],
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
