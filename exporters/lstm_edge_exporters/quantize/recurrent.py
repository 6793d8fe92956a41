"""What readers of recurrent nodes share: attributes and constants honoured, or refused by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.functions import Variant
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.nodes import attribute_of, inputs_of
from lstm_edge_exporters.quantize.layer import LayerKind, Reader, RecurrentLayer, Refusal
from lstm_edge_exporters.quantize.schemes import EVERY_SCHEME, Scheme
from lstm_edge_runtime.arrays import Array

__all__ = ["DIRECTIONS", "FloatCell", "Recurrent", "constant_inputs"]

# For each direction of a node whether it runs backwards.
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Recurrent(Reader):
    """A recurrent node."""

    kind: ClassVar[LayerKind] = "recurrent"
    apart: ClassVar[Literal["nothing", "matrices", "gates"]] = "matrices"

    @property
    def path(self) -> str:
        """What the names of its matrices begin with, for a rounder."""
        return self.node.name or self.node.op_type.lower()

    @property
    def title(self) -> str:
        """What the names of its new nodes and constants begin with."""
        return self.node.name or self.node.op_type.lower()

    @property
    def parameters(self) -> int:
        """How many weights and biases, which may be integers."""
        return sum(array.size for array in self.constants)

    @property
    def sides(self) -> int:
        """How many directions the node has; one for a direction that ``direction`` refuses."""
        return 2 if attribute_of(self.node, "direction", "forward") == "bidirectional" else 1

    def schemes(self) -> tuple[Scheme, ...]:
        """Return every scheme, but only float32 and float16 of a node that cannot be read."""
        try:
            with np.errstate(all="ignore"):  # biases that are infinite are refused in a sentence, without a warning
                self.read()
        except Refusal:
            return tuple(scheme for scheme in EVERY_SCHEME if scheme.kind in ("float32", "float16"))
        return EVERY_SCHEME

    def stored(self) -> Mapping[int, tuple[str, str]]:
        """Return the two matrices."""
        return {1: ("W", "W"), 2: ("R", "R")}

    def direction(self, *activations: str) -> str:
        """Honour or refuse, by name, each attribute of ONNX's LSTM, GRU and RNN (opset 14) but ``linear_before_reset``.

        ``hidden_size`` says what the weights' shapes say; onnxruntime runs no node in which it is another.

        Args:
            activations: the only ones that our operators have, of one direction.

        Returns:
            The direction.

        Raises:
            Refusal: an attribute cannot be honoured.
        """
        attributes = {name: attribute.value for name, attribute in self.node.attributes.items()}
        if attributes.get("layout", 0) != 0:
            raise Refusal("attribute layout is 1, which onnxruntime does not run either")
        if "clip" in attributes:
            raise Refusal(f"attribute clip ({attributes['clip']}) has no int8 form")
        if attributes.get("input_forget", 0) != 0:
            raise Refusal("attribute input_forget has no int8 form")
        found = list(attributes.get("activations", [])) or [*activations] * self.sides
        if [str(name).lower() for name in found] != [name.lower() for name in activations] * self.sides:
            raise Refusal(f"attribute activations is {', '.join(map(str, found))}: only {', '.join(activations)}")
        direction = str(attributes.get("direction", "forward"))
        if direction not in DIRECTIONS:
            raise Refusal(f"attribute direction is {direction!r}")
        return direction


class FloatCell(Recurrent):
    """ONNX's ``LSTM``, ``GRU`` or ``RNN``: X, W, R, B, sequence_lens, initial_h and, of LSTM, initial_c and P."""

    activations: ClassVar[tuple[str, ...]]
    gates: ClassVar[int]
    states: ClassVar[int]

    def variant(self, *, ragged: bool, peephole: bool) -> Variant:
        """Return the operator; a diagonal peephole is an LSTM's."""
        raise NotImplementedError

    def to_operator(self, side: Mapping[str, Array]) -> dict[str, Array]:
        """Return the arrays W, R, B and perhaps P of one direction in the operators' layout."""
        raise NotImplementedError

    def read(self) -> RecurrentLayer:
        """Read the node.

        Raises:
            Refusal: an attribute or input has no quantized form.
        """
        _, w, r, b, rows, h0, c0, p = inputs_of(self.node, 8)
        constants = constant_inputs({"W": w, "R": r, "B": b, "P": p}, "WR", {})
        hidden, columns, sides = constants["R"].shape[-1], constants["W"].shape[-1], self.sides
        direction, height = self.direction(*self.activations), self.gates * hidden
        shapes = {"W": (sides, height, columns), "R": (sides, height, hidden), "B": (sides, 2 * height)}
        shapes |= {"P": (sides, 3 * hidden)}
        for name, array in constants.items():
            if array.shape != shapes[name]:
                expected = list(shapes[name])
                raise Refusal(f"input {name} is {array.dtype} {list(array.shape)}, expected float32 {expected}")
        arrays = {"B": np.zeros(shapes["B"], np.float32)} | constants
        return RecurrentLayer(
            variant=self.variant(ragged=rows is not None, peephole="P" in constants),
            sides=tuple(self.to_operator({name: a[side] for name, a in arrays.items()}) for side in range(sides)),
            direction=direction,
            lengths=rows,
            states=(h0, c0)[: self.states],
            size_bytes=sum(array.nbytes for array in constants.values()),
        )


def constant_inputs(
    values: Mapping[str, ir.Value | None], needed: Sequence[str], kinds: Mapping[str, Sequence[Any]]
) -> dict[str, Array]:
    """Return the constants behind inputs; an optional one that is absent is left out.

    Args:
        values: the inputs by the names that ONNX gives them.
        needed: those that must be there.
        kinds: dtypes that an input may have, float32 where it says nothing.

    Raises:
        Refusal: an input is not constant, of another dtype, or without elements.
    """
    constants = {}
    for name, value in values.items():
        array = constant_of(value)
        if array is None and (value is not None or name in needed):
            raise Refusal(f"input {name} is not constant")
        if array is None:
            continue
        if array.dtype not in kinds.get(name, (np.float32,)):
            expected = " or ".join(np.dtype(kind).name for kind in kinds.get(name, (np.float32,)))
            raise Refusal(f"input {name} is {array.dtype} {list(array.shape)}, expected {expected}")
        if not array.size:
            raise Refusal(f"input {name} is {array.dtype} {list(array.shape)}, without elements")
        constants[name] = array
    return constants
