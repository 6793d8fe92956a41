"""Float32 operators whose body is one ONNX node: their layers, models and inputs, and docs/operators.md as a check."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from float32_cases import DIRECTIONS, one_call
from kernel_cases import Array
from node_values import BATCHES, SIZES, TIMES, activations, floats
from onnx import helper

from lstm_edge_exporters.functions import DOMAIN, Float32Variant, all_float32, parse_float32_name
from lstm_edge_exporters.functions.float32 import float32

__all__ = ["FLOAT32_NAMES", "Float32Layer", "change_attributes", "draw_layer"]

FLOAT32_NAMES = tuple(variant.name for variant in all_float32())
# An axis of a constant has fewer elements than this; so do a call's rows. A call has fewer steps than the second.
MOST_ELEMENTS, MOST_STEPS = 2**24, 2**30


@dataclass(frozen=True, kw_only=True)
class Float32Layer:
    """The call of one operator: which of the states it gives, and its attributes."""

    variant: Float32Variant
    states: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sides(self) -> int:
        """How many directions there are."""
        return 2 if self.attributes.get("direction") == "bidirectional" else 1

    @property
    def gates(self) -> int:
        """How many gates a cell has."""
        return 4 if self.variant.cell == "LSTM" else 3

    def model(self, weights: Mapping[str, Array]) -> bytes:
        """Serialize a model of the call, without a function."""
        absent = set(self.variant.states) - set(self.states)
        inputs = ["" if name in absent else name for name in self.variant.inputs]
        node = helper.make_node(
            self.variant.name, inputs, list(self.variant.outputs), domain=DOMAIN, **dict(self.attributes)
        )
        return one_call(node, weights, body=False)

    def wrong_constants(self, weights: Mapping[str, Array]) -> str:
        """Return the first thing about constants and attributes that docs/operators.md does not allow, or ""."""
        hidden, direction = (self.attributes.get(name) for name in ("hidden_size", "direction"))
        if type(hidden) is not int or direction not in DIRECTIONS:
            return f"hidden_size is {hidden}, direction is {direction}"
        if not 0 < hidden < MOST_ELEMENTS // self.gates:
            return f"hidden_size is {hidden}"
        rows = self.gates * hidden
        wanted = {"w": (self.sides, rows, -1), "r": (self.sides, rows, hidden), "b": (self.sides, 2 * rows)}
        wanted["p"] = (self.sides, 3 * hidden)
        for name in self.variant.weights:
            array = weights[name]
            shape = tuple(-1 if (name, axis) == ("w", 2) else size for axis, size in enumerate(array.shape))
            if array.dtype != np.float32 or shape != wanted[name]:
                return f"{name} is {array.dtype} {array.shape}"
            if not 0 < min(array.shape) <= max(array.shape) < MOST_ELEMENTS:
                return f"{name} has shape {array.shape}"
        return ""

    def feeds(self, rng: np.random.Generator, weights: Mapping[str, Array], ordinary: bool) -> dict[str, Array]:
        """Draw the inputs of a call; a length may be one that is refused."""
        time, batch = int(rng.choice(TIMES)), int(rng.choice(BATCHES))
        feeds = {"x": activations(rng, (time, batch, weights["w"].shape[2]), ordinary)}
        for name in self.states:
            feeds[name] = activations(rng, (self.sides, batch, weights["r"].shape[2]), ordinary) * np.float32(0.3)
        if self.variant.ragged:
            feeds["lengths"] = rng.integers(0, time + 1, batch).astype(np.int32)
            if rng.random() < 0.3:
                edges = (-(2**31), -1, 0, time, time + 1, 2**31 - 1)
                feeds["lengths"] = rng.choice(edges, batch).astype(np.int32)
        return feeds

    def wrong_feeds(self, weights: Mapping[str, Array], feeds: Mapping[str, Array]) -> str:
        """Return what is wrong about a call's inputs; "" when all is well."""
        x = feeds["x"]
        if any(array.dtype != (np.int32 if name == "lengths" else np.float32) for name, array in feeds.items()):
            return "an input is of another type"
        if x.ndim != 3 or x.shape[2] != weights["w"].shape[2] or 0 in x.shape:
            return f"x has shape {x.shape}"
        steps, batch, _ = x.shape
        if steps >= MOST_STEPS or batch >= MOST_ELEMENTS:
            return "x has too many steps or rows"
        wanted = dict.fromkeys(self.variant.states, (self.sides, batch, weights["r"].shape[2]))
        wanted["lengths"] = (batch,)
        for name, array in feeds.items():
            if name != "x" and array.shape != wanted[name]:
                return f"{name} has another shape"
        lengths = feeds.get("lengths", np.zeros(1, np.int32))
        return "lengths are not within 0 to T" if lengths.min() < 0 or lengths.max() > steps else ""

    def expected(self, weights: Mapping[str, Array], feeds: Mapping[str, Array]) -> tuple[Array, ...]:
        """Return the NumPy model's answer to a call that is not wrong."""
        states = tuple(feeds.get(name) for name in self.variant.states)
        direction = self.attributes["direction"]
        return float32(self.variant, feeds["x"], states, weights, lengths=feeds.get("lengths"), direction=direction)


def draw_layer(rng: np.random.Generator, name: str, ordinary: bool) -> tuple[Float32Layer, dict[str, Array]]:
    """Draw a layer of an operator, and its constants: of the size that training leaves, or some at float32's edges."""
    variant = parse_float32_name(name)
    assert variant is not None
    inputs, hidden = (int(rng.choice(SIZES)) for _ in range(2))
    states = tuple(state for state in variant.states if rng.random() < 0.8)
    attributes = {"hidden_size": hidden, "direction": str(rng.choice(DIRECTIONS))}
    layer = Float32Layer(variant=variant, states=states, attributes=attributes)
    rows, sides = layer.gates * hidden, layer.sides
    shapes = {"w": (sides, rows, inputs), "r": (sides, rows, hidden), "b": (sides, 2 * rows), "p": (sides, 3 * hidden)}
    deviations = {"w": inputs**-0.5, "r": hidden**-0.5, "b": 0.3, "p": 0.3}
    return layer, {key: floats(rng, shapes[key], deviations[key], ordinary) for key in variant.weights}


def change_attributes(rng: np.random.Generator, layer: Float32Layer) -> tuple[Float32Layer, str]:
    """Change or remove an attribute; returns the layer, and what was changed."""
    name = str(rng.choice(["hidden_size", "direction"]))
    hidden, attributes = layer.attributes["hidden_size"], dict(layer.attributes)
    values: dict[str, tuple[Any, ...]] = {
        "hidden_size": (0, -1, -hidden, hidden + 1, hidden - 1, 4 * hidden, 2**22, 2**62, -(2**62), 1.5, "1", [hidden]),
        "direction": (*DIRECTIONS, "sideways", "Forward", "forward ", "bidirectional" * 9, 1, 0.5),
    }
    changed = values[name][rng.integers(len(values[name]))]
    attributes[name] = changed
    if rng.random() < 0.2:
        del attributes[name]
    why = f"{name} = {attributes.get(name, 'absent')!r}"
    return Float32Layer(variant=layer.variant, states=layer.states, attributes=attributes), why
