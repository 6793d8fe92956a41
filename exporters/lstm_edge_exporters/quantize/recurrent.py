"""What readers of recurrent nodes share: states and constants by name, attributes honoured or refused by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.quantize.layer import LayerKind, Reader, RecurrentLayer, Refusal
from lstm_edge_exporters.quantize.schemes import EVERY_SCHEME, Scheme
from lstm_edge_runtime.arrays import Array

__all__ = ["DIRECTIONS", "FLOAT_SCHEMES", "Recurrent", "Rnn", "check_attributes", "check_shapes", "constant_inputs"]

# For each direction of a node whether it runs backwards.
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
FLOAT_SCHEMES = tuple(scheme for scheme in EVERY_SCHEME if scheme.kind in ("float32", "float16"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Recurrent(Reader):
    """A recurrent node."""

    kind: ClassVar[LayerKind] = "recurrent"

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
        """How many directions the node has; one for a direction that ``check_attributes`` will refuse."""
        return 2 if self.attribute("direction", "forward") == "bidirectional" else 1

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute's value."""
        return self.node.attributes[name].value if name in self.node.attributes else default

    def inputs(self, count: int) -> list[ir.Value | None]:
        """Return the first inputs, those left out at the end as None."""
        return [*self.node.inputs, *[None] * count][:count]

    def schemes(self) -> tuple[Scheme, ...]:
        """Return every scheme, but only float32 and float16 of a node that cannot be read."""
        try:
            with np.errstate(all="ignore"):  # biases that are infinite are refused in a sentence, without a warning
                self.read()
        except Refusal:
            return FLOAT_SCHEMES
        return EVERY_SCHEME

    def stored(self) -> Mapping[int, tuple[str, str]]:
        """Return the two matrices."""
        return {1: ("W", "W"), 2: ("R", "R")}

    def read(self) -> RecurrentLayer:
        """Read the node; errors as ``Reader.read``."""
        raise NotImplementedError


class Rnn(Recurrent):
    """ONNX's ``RNN``, whose weights can be stored as float16 and no more."""

    def read(self) -> RecurrentLayer:
        """Refuse: no operator of ours is an RNN."""
        raise Refusal(f"operator {self.node.op_type} has no quantized form in this version")


def check_attributes(reader: Recurrent, *, activations: Sequence[str]) -> str:
    """Honour or refuse, by name, each attribute of ONNX's LSTM and GRU (opset 14) but ``linear_before_reset``.

    ``hidden_size`` says what the weights' shapes say; onnxruntime runs no node in which it is another.

    Args:
        reader: of the recurrent node.
        activations: the only ones that our operators have, of one direction.

    Returns:
        The direction.

    Raises:
        Refusal: an attribute cannot be honoured.
    """
    attributes = {name: attribute.value for name, attribute in reader.node.attributes.items()}
    if attributes.get("layout", 0) != 0:
        raise Refusal("attribute layout is 1, which onnxruntime does not run either")
    if "clip" in attributes:
        raise Refusal(f"attribute clip ({attributes['clip']}) has no int8 form")
    if attributes.get("input_forget", 0) != 0:
        raise Refusal("attribute input_forget has no int8 form")
    found = list(attributes.get("activations", [])) or [*activations] * reader.sides
    if [str(name).lower() for name in found] != [name.lower() for name in activations] * reader.sides:
        raise Refusal(f"attribute activations is {', '.join(map(str, found))}: only {', '.join(activations)}")
    direction = str(attributes.get("direction", "forward"))
    if direction not in DIRECTIONS:
        raise Refusal(f"attribute direction is {direction!r}")
    return direction


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


def check_shapes(arrays: Mapping[str, Array], sides: int, gates: int) -> None:
    """Refuse constants of ONNX's LSTM (4 gates) or GRU (3) whose shapes are not those that R [sides, G, H] asks for."""
    hidden = arrays["R"].shape[-1]
    rows = gates * hidden
    shapes = {"W": (sides, rows, arrays["W"].shape[-1]), "R": (sides, rows, hidden), "B": (sides, 2 * rows)}
    shapes |= {"P": (sides, 3 * hidden)}
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise Refusal(f"input {name} is {array.dtype} {list(array.shape)}, expected float32 {list(shapes[name])}")
