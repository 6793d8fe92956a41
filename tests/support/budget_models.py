"""A small classifier and data for it, made node by node: what the tests of the budget search share."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lstm_edge.data import Dataset
from lstm_edge.validation.judge import predict

__all__ = ["CLASSES", "FEATURES", "write_classifier", "write_data"]

FEATURES, HIDDEN, CLASSES = 12, 40, 4


def write_classifier(path: Path, *, seed: int = 0, scale: float = 1.0, hidden: int = HIDDEN) -> Path:
    """Write x float32 [time, batch, 12] -> LSTM -> last h -> linear -> logits [batch, 4], without a model card."""
    random = np.random.default_rng(seed)
    shapes = {"W": (1, 4 * hidden, FEATURES), "R": (1, 4 * hidden, hidden), "B": (1, 8 * hidden)}
    shapes |= {"head.weight": (hidden, CLASSES), "head.bias": (CLASSES,)}
    arrays = {name: random.normal(size=shape) * (2 * scale / shape[-1] ** 0.5) for name, shape in shapes.items()}
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    weights.append(numpy_helper.from_array(np.array([0]), "axis"))
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["", "h"], name="lstm", hidden_size=hidden),
        helper.make_node("Squeeze", ["h", "axis"], ["last"]),
        helper.make_node("MatMul", ["last", "head.weight"], ["product"], name="head"),
        helper.make_node("Add", ["product", "head.bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("time", "batch", FEATURES))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("batch", CLASSES))],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def write_data(path: Path, model: Path, *, samples: int = 120, seed: int = 1, features: int = FEATURES) -> Path:
    """Write sequences of 3 to 8 steps with the classes that the model itself says, one in ten of them another."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 9, samples)
    x = random.normal(size=(int(lengths.sum()), features)).astype(np.float32)
    y = np.zeros(samples, np.int64)
    if features == FEATURES:
        y = predict(model, Dataset(name="made", x=x, lengths=lengths, y=y)).outputs.argmax(axis=1)
    wrong = random.random(samples) < 0.1
    np.savez(path, x=x, lengths=lengths, y=np.where(wrong, (y + 1) % CLASSES, y))
    return path
