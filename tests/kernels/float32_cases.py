"""Models of one float32 operator and of the ONNX node that is its body, with seeded weights in ONNX's layout."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lstm_edge_exporters.functions import DOMAIN, Float32Variant, all_float32, function_for
from lstm_edge_exporters.functions.float32 import Direction, float32
from lstm_edge_runtime.arrays import Array

__all__ = ["DIRECTIONS", "Float32Case", "feeds_of", "float32_case", "golden_cases", "one_call"]

DIRECTIONS: tuple[Direction, ...] = ("forward", "reverse", "bidirectional")


@dataclass(frozen=True, kw_only=True)
class Float32Case:
    """One operator with its constants: its model, and that of the ONNX node alone."""

    variant: Float32Variant
    direction: Direction
    inputs: int
    hidden: int
    states: tuple[str, ...]
    weights: Mapping[str, Array]
    model: bytes = field(repr=False)
    node: bytes = field(repr=False)

    @property
    def sides(self) -> int:
        """How many directions there are."""
        return 2 if self.direction == "bidirectional" else 1

    def expected(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the NumPy model's answer."""
        states, lengths = tuple(feeds.get(name) for name in self.variant.states), feeds.get("lengths")
        answers = float32(self.variant, feeds["x"], states, self.weights, lengths=lengths, direction=self.direction)
        return dict(zip(self.variant.outputs, answers, strict=True))

    def __str__(self) -> str:
        return f"{self.variant.name}-{self.direction}-{self.inputs}x{self.hidden}"


def float32_case(  # a layer's sizes, in the order in which they are said
    variant: Float32Variant,
    inputs: int,
    hidden: int,
    direction: Direction = "forward",
    states: tuple[str, ...] | None = None,
    seed: int = 0,
) -> Float32Case:
    """Make an operator: matrices of deviation 1 / sqrt(columns), biases and diagonals of deviation 0.3.

    ``states`` are those that the call gives; all of them by default.
    """
    rng = np.random.default_rng(seed)
    sides, gates = (2 if direction == "bidirectional" else 1), (4 if variant.cell == "LSTM" else 3)
    shapes = {"w": (sides, gates * hidden, inputs), "r": (sides, gates * hidden, hidden)}
    shapes |= {"b": (sides, 2 * gates * hidden), "p": (sides, 3 * hidden)}
    weights = {
        name: (rng.standard_normal(shapes[name]) * (shapes[name][-1] ** -0.5 if name in "wr" else 0.3)).astype("f")
        for name in variant.weights
    }
    given = variant.states if states is None else states
    attributes = {"hidden_size": hidden, "direction": direction}
    call = helper.make_node(
        variant.name,
        [name if name in given or name not in variant.states else "" for name in variant.inputs],
        list(variant.outputs),
        domain=DOMAIN,
        **attributes,
    )
    alone = [name if name in given or name not in variant.states else "" for name in variant.onnx_inputs]
    node = helper.make_node(variant.cell, alone, list(variant.outputs), **attributes, **variant.attributes)
    return Float32Case(
        variant=variant,
        direction=direction,
        inputs=inputs,
        hidden=hidden,
        states=given,
        weights=weights,
        model=one_call(call, weights),
        node=one_call(node, weights),
    )


def golden_cases() -> Iterator[tuple[Float32Case, int, int]]:
    """Yield every operator in each direction, over all sizes, with T and B: what any machine must answer alike."""
    sizes, shapes = ((12, 32), (5, 17), (1, 1), (40, 100)), ((20, 1), (7, 3), (3, 19), (9, 7))
    for number, (variant, direction) in enumerate(product(all_float32(), DIRECTIONS)):
        states = (None, (), variant.states[-1:])[number % 3]
        yield float32_case(variant, *sizes[number % 4], direction, states, seed=number), *shapes[(number + 1) % 4]


def one_call(node: onnx.NodeProto, weights: Mapping[str, Array], *, body: bool = True) -> bytes:
    """Serialize a model of one node, whose inputs that are no weights are the graph's.

    ``body`` False leaves the function out, so that only a kernel can run the model.
    """
    kinds = {"lengths": onnx.TensorProto.INT32}
    moving = [
        helper.make_tensor_value_info(
            name, kinds.get(name, onnx.TensorProto.FLOAT), ["n"] if name == "lengths" else [f"{name}{i}" for i in "012"]
        )
        for name in node.input
        if name and name not in weights
    ]
    results = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in node.output if name]
    constants = [numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in weights.items()]
    graph = helper.make_graph([node], "operator", moving, results, constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    functions = [function_for(node.op_type)] if body and node.domain == DOMAIN else []
    model = helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def feeds_of(case: Float32Case, time: int, batch: int, seed: int = 1) -> dict[str, Array]:
    """Draw inputs: x normal, h uniform, c normal, lengths from 0 to T with both ends in it."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {"x": rng.standard_normal((time, batch, case.inputs)).astype(np.float32)}
    shape = (case.sides, batch, case.hidden)
    if "h" in case.states:
        feeds["h"] = rng.uniform(-0.9, 0.9, shape).astype(np.float32)
    if "c" in case.states:
        feeds["c"] = rng.standard_normal(shape).astype(np.float32)
    if case.variant.ragged:
        feeds["lengths"] = np.array([0, time, *rng.integers(0, time + 1, max(0, batch - 2))], np.int32)[-batch:]
    return feeds
