"""Models of one layer of each kind, quantized in parts, and how many bytes their schemes take."""

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from lstm_edge_exporters.quantize import Scheme, quantize_bytes
from lstm_edge_runtime.providers import open_session
from support.networks import parsed
from support.onnx_files import FLOAT, H, I, model, weights

# float32 sums of a few dozen products in another order.
CLOSE = 2e-6
TEXTS = ("float32", "float16", "int8", "int4:32", "int4:128", "int4:32:zero", "int4:128:zero")
SMALLER = TEXTS[1:]
V = 11


def random(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * max(shape[-1], 1) ** -0.5).astype(np.float32)


def embedding_model(rows: int, features: int) -> bytes:
    node = helper.make_node("Gather", ["table", "ids"], ["y"], name="embedding/Gather")
    inputs = {"ids": (TensorProto.INT64, ["batch", "time"])}
    return model([node], inputs, {"y": ["batch", "time", features]}, {"table": random((rows, features))})


def linear_model(k: int, n: int, *, gemm: bool = False) -> bytes:
    arrays = {"weight": random((n, k) if gemm else (k, n)), "bias": random((n,), seed=1)}
    if gemm:
        nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], name="head/Gemm", transB=1)]
    else:
        nodes = [
            helper.make_node("MatMul", ["x", "weight"], ["z"], name="head/MatMul"),
            helper.make_node("Add", ["z", "bias"], ["y"], name="head/Add"),
        ]
    return model(nodes, {"x": (FLOAT, ["batch", k])}, {"y": ["batch", n]}, arrays)


def convolution_model(shape: tuple[int, ...], *, groups: int = 1, bias: bool = True) -> bytes:
    arrays = {"weight": random(shape)} | ({"bias": random(shape[:1], seed=1)} if bias else {})
    node = helper.make_node("Conv", ["x", *arrays], ["y"], name="conv/Conv", group=groups)
    axes = ["batch", shape[1] * groups, *(["time", 8][: len(shape) - 2])]
    result = ["batch", shape[0], *(["steps", "columns"][: len(shape) - 2])]
    return model([node], {"x": (FLOAT, axes)}, {"y": result}, arrays)


def front_end(*, factor: float = 1.0) -> bytes:
    """A convolution, an LSTM, a head and tanh: named conv, rnn and head; ``factor`` scales the head's weights."""
    arrays = {"kernel": random((I, 2, 3)), "head": random((H, 4)) * np.float32(factor)}
    arrays |= {name: weights(1)[name] for name in ("W", "R", "B")} | {"one": np.array([1])}
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], name="conv/Conv", pads=[1, 1]),
        helper.make_node("Transpose", ["c"], ["t"], name="turn", perm=[2, 0, 1]),
        helper.make_node("LSTM", ["t", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H),
        helper.make_node("Squeeze", ["Y", "one"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "head"], ["z"], name="head/MatMul"),
        helper.make_node("Tanh", ["z"], ["y"], name="tanh"),
    ]
    return model(nodes, {"x": (FLOAT, ["batch", 2, "time"])}, {"y": ["time", "batch", 4]}, arrays)


def quantized(data: bytes, part: str, text: str, **options: Any):
    return quantize_bytes(data, scheme="float32", parts={part: Scheme.parse(text)}, **options)


def answers(data: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return open_session(data).run(None, feeds)


def stored_bytes(data: bytes, names: set[str]) -> int:
    return sum(len(tensor.raw_data) for tensor in parsed(data).graph.initializer if tensor.name in names)


def blocks_of(k: int, text: str) -> int:
    return -(-k // (128 if ":128" in text else 32))


def table_bytes(rows: int, columns: int, text: str) -> int:
    """Bytes of a table stored by rows."""
    if text == "float16":
        return 2 * rows * columns
    if text == "int8":
        return rows * columns + 4 * rows
    blocks = blocks_of(columns, text)
    return rows * ((columns + 1) // 2) + 4 * rows * blocks + (rows * blocks if "zero" in text else 1)


def replaced(data: bytes, arrays: dict[str, np.ndarray]) -> bytes:
    proto = parsed(data)
    for tensor in proto.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name].astype(np.float32), tensor.name))
    return proto.SerializeToString()


# --- schemes ---------------------------------------------------------------------------------------------------------
