"""Damages the node around its constants: inputs, outputs, names, attributes, the way in which a constant is stored."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from lstm_edge_exporters.functions import parse_float32_name

__all__ = ["damage_node"]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The model that is changed, and where: the node's input number ``at``, or the constant ``tensor``."""

    rng: np.random.Generator
    model: onnx.ModelProto
    at: int
    tensor: onnx.TensorProto

    @property
    def graph(self) -> onnx.GraphProto:
        return self.model.graph

    @property
    def node(self) -> onnx.NodeProto:
        return self.model.graph.node[0]


def damage_node(rng: np.random.Generator, model: bytes) -> tuple[bytes, str, str]:
    """Change one thing about the node of a model.

    Args:
        rng: of the case.
        model: of one node, without a function.

    Returns:
        The model; what must come of it if it was sound: "open", "refuse" or "either"; and what was changed.
    """
    proto = onnx.load_from_string(model)
    place = _Place(
        rng=rng,
        model=proto,
        at=int(rng.integers(len(proto.graph.node[0].input))),
        tensor=proto.graph.initializer[int(rng.integers(len(proto.graph.initializer)))],
    )
    about = f"input {place.at} or constant {place.tensor.name}"
    change = list(CHANGES)[rng.integers(len(CHANGES))]
    must = CHANGES[change](place)
    return proto.SerializeToString(), must, f"{change}: {about}"


def _inputs_left_out(place: _Place) -> str:
    if place.rng.random() < 0.5:
        left_out, place.node.input[place.at] = place.node.input[place.at], ""
        # A float32 operator of one ONNX node may have no h and no c.
        optional = left_out in {"", "h", "c"} and parse_float32_name(place.node.op_type) is not None
        return "either" if optional else "refuse"
    del place.node.input[place.at :]
    return "refuse"


def _input_too_many(place: _Place) -> str:
    place.node.input.append(place.tensor.name)
    return "refuse"


def _input_twice(place: _Place) -> str:
    before = place.node.input[place.at]
    place.node.input[place.at] = place.node.input[int(place.rng.integers(len(place.node.input)))]
    return "open" if place.node.input[place.at] == before else "either"


def _output_left_out(place: _Place) -> str:
    place.node.output[int(place.rng.integers(len(place.node.output)))] = ""
    return "either"


def _output_too_many(place: _Place) -> str:
    place.node.output.append("more")
    return "refuse"


def _output_of_another_type(place: _Place) -> str:
    place.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return "refuse"


def _another_name(place: _Place) -> str:
    name = place.node.op_type
    place.node.op_type = str(place.rng.choice([f"{name}2", name.lower(), "", f"{name[:-1]}3", "x" * 9999]))
    return "refuse"


def _another_domain(place: _Place) -> str:
    place.node.domain = str(place.rng.choice(["", "lstm_edge2", "LSTM_EDGE", "ai.onnx.ml"]))
    return "refuse"


def _another_version_of_the_domain(place: _Place) -> str:
    place.model.opset_import[1].version = int(place.rng.choice([2, 7, 1000]))
    return "open"


def _attributes(place: _Place) -> str:
    place.node.attribute.append(helper.make_attribute("hidden_size", int(place.rng.integers(-(2**62), 2**62))))
    place.node.attribute.append(helper.make_attribute("w", [1.5, 2.5]))
    return "either"


def _constant_as_an_input(place: _Place) -> str:
    shape = [f"d{axis}" for axis in range(len(place.tensor.dims))]
    place.graph.input.append(helper.make_tensor_value_info(place.tensor.name, place.tensor.data_type, shape))
    if place.rng.random() < 0.5:  # else the initializer is its default
        place.graph.initializer.remove(place.tensor)
    return "refuse"


def _constant_from_a_node(place: _Place) -> str:
    name = place.tensor.name
    node = helper.make_node("Constant", [], [name], value=place.tensor)
    place.graph.initializer.remove(place.tensor)
    place.graph.node.insert(0, node)
    return "open"


def _constant_computed(place: _Place) -> str:
    place.graph.node.insert(0, helper.make_node("Identity", ["stored"], [place.tensor.name]))
    place.tensor.name = "stored"
    return "either"


def _data_cut_off(place: _Place) -> str:
    size = len(place.tensor.raw_data)
    kept = int(place.rng.integers(size + 1))
    place.tensor.raw_data = place.tensor.raw_data[:kept]
    return "open" if kept == size else "refuse"


def _other_dimensions(place: _Place) -> str:
    sizes = [int(place.rng.choice([0, 1, 2**24 - 1, 2**31, 2**62, -1])) for _ in place.tensor.dims]
    del place.tensor.dims[:]
    place.tensor.dims.extend(sizes)
    return "either"


def _in_a_subgraph(place: _Place) -> str:
    """Put the node into the branches of an If; its inputs are then the outer graph's."""
    graph = place.graph
    outputs = list(place.node.output)
    branches = []
    for branch in ("yes", "no"):
        node = onnx.NodeProto()
        node.CopyFrom(place.node)
        del node.output[:]
        node.output.extend(f"{branch}_{output}" for output in outputs)
        results = [
            helper.make_tensor_value_info(f"{branch}_{output.name}", TensorProto.FLOAT, None) for output in graph.output
        ]
        branches.append(helper.make_graph([node], branch, [], results))
    graph.initializer.append(helper.make_tensor("condition", TensorProto.BOOL, [], [True]))
    del graph.node[:]
    graph.node.append(helper.make_node("If", ["condition"], outputs, then_branch=branches[0], else_branch=branches[1]))
    return "open"


CHANGES: dict[str, Callable[[_Place], str]] = {
    function.__name__.strip("_").replace("_", " "): function
    for function in (
        *(_inputs_left_out, _input_too_many, _input_twice),
        *(_output_left_out, _output_too_many, _output_of_another_type),
        *(_another_name, _another_domain, _another_version_of_the_domain, _attributes),
        *(_constant_as_an_input, _constant_from_a_node, _constant_computed),
        *(_data_cut_off, _other_dimensions, _in_a_subgraph),
    )
}
