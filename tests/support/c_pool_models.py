"""Files whose streams cannot share calls, made of stored ones: other axes, or rows that depend on each other."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from support.c_models import stored_models

__all__ = ["UNPOOLED", "mixed_rows", "unpooled"]

_TRAILER, _CARD = "lstm_edge.sha256", "lstm_edge"


def _edited(name: str, edit: Callable[[onnx.ModelProto, dict[str, Any]], None]) -> bytes:
    """Return a stored file with another graph and card; it has no trailer then."""
    model = onnx.load_from_string(stored_models((name,))[name])
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    card = json.loads(metadata[_CARD])
    edit(model, card)
    del model.metadata_props[:]
    metadata[_CARD] = json.dumps(card)
    for key, value in metadata.items():
        if key != _TRAILER:
            model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())


def mixed_rows(by: float, *, exact: bool, name: str = "exported_int8") -> bytes:
    """Return a file that adds ``by`` times the mean over its rows to an output.

    Args:
        by: how strongly rows depend on each other.
        exact: whether its card says that the bits of its rows do not.
        name: of the stored file.
    """

    def edit(model: onnx.ModelProto, card: dict[str, Any]) -> None:
        graph, output = model.graph, card["outputs"][0]["name"]
        for node in graph.node:
            node.output[:] = [f"{output}.own" if each == output else each for each in node.output]
        graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "mixed.axes"))
        graph.initializer.append(numpy_helper.from_array(np.array(by, np.float32), "mixed.by"))
        graph.node.append(helper.make_node("ReduceSum", [f"{output}.own", "mixed.axes"], ["mixed.sum"], keepdims=1))
        graph.node.append(helper.make_node("Mul", ["mixed.sum", "mixed.by"], ["mixed.part"]))
        graph.node.append(helper.make_node("Add", [f"{output}.own", "mixed.part"], [output]))
        if exact:
            card["quantization"]["inexact"] = {}

    return _edited(name, edit)


def _fixed_batch(tensors: tuple[str, ...]) -> bytes:
    """Return a file with one row in some inputs and outputs."""

    def edit(model: onnx.ModelProto, card: dict[str, Any]) -> None:
        for value in (*model.graph.input, *model.graph.output):
            if value.name in tensors:
                for axis in value.type.tensor_type.shape.dim:
                    if axis.dim_param == "batch":
                        axis.dim_value = 1
        for spec in (*card["inputs"], *card["outputs"], *card["states"]):
            if spec.get("name", spec.get("input")) in tensors:
                spec["axes"] = [1 if axis == "batch" else axis for axis in spec["axes"]]

    return _edited("exported_float32", edit)


_STATES = tuple(f"lstm.{layer}.{kind}{end}" for layer in range(2) for kind in "hc" for end in ("", "_out"))
UNPOOLED = {
    "no input has a dynamic batch axis": ("x", "logits", *_STATES),
    "output 'logits' has no batch axis": ("logits",),
    "state 'lstm.0.h' has no batch axis": ("lstm.0.h", "lstm.0.h_out"),
}


def unpooled(sentence: str) -> bytes:
    """Return the file that is refused with a sentence of ``UNPOOLED``."""
    return _fixed_batch(UNPOOLED[sentence])
