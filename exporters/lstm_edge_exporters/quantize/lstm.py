"""ONNX's ``LSTM`` and our own float32 cells, read into the operators' terms."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import onnx_ir as ir

from lstm_edge_exporters.functions import CellVariant, parse_cell_name
from lstm_edge_exporters.gates import LSTM_ONNX, LSTM_PYTORCH, PEEPHOLE_ONNX, PEEPHOLE_PYTORCH, reorder_gates
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.quantize.layer import RecurrentLayer, Refusal
from lstm_edge_exporters.quantize.recurrent import FloatCell, Recurrent
from lstm_edge_runtime.arrays import Array

__all__ = ["Lstm", "OwnCell", "lstm_operator_weights"]


class Lstm(FloatCell):
    """ONNX's ``LSTM``."""

    apart: ClassVar[Literal["nothing", "matrices", "gates"]] = "gates"
    activations: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh", "Tanh")
    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2

    def variant(self, *, ragged: bool, peephole: bool) -> CellVariant:
        """Return the operator."""
        return CellVariant(peephole="diagonal" if peephole else "none", ragged=ragged)

    def to_operator(self, side: Mapping[str, Array]) -> dict[str, Array]:
        """Return the arrays of one direction in the operators' layout."""
        return lstm_operator_weights(side)


class OwnCell(Recurrent):
    """A float32 operator of ours: a cell that ONNX's ``LSTM`` cannot express."""

    apart: ClassVar[Literal["nothing", "matrices", "gates"]] = "gates"

    @property
    def path(self) -> str:
        """The layer's name."""
        return self.name

    @property
    def title(self) -> str:
        """The layer's name."""
        return self.name

    @property
    def variant(self) -> CellVariant:
        """The operator."""
        variant = parse_cell_name(self.node.op_type)
        assert variant is not None
        return variant

    @property
    def by_name(self) -> dict[str, ir.Value | None]:
        """The node's inputs by the operator's names."""
        return dict(zip(self.variant.inputs, self.node.inputs, strict=True))

    def stored(self) -> Mapping[int, tuple[str, str]]:
        """Return the matrices."""
        variant = self.variant
        matrices = [name for name in variant.weights if variant.is_quantized(name)]
        return {variant.inputs.index(name): (name, name) for name in matrices}

    def read(self) -> RecurrentLayer:
        """Read the node.

        Raises:
            Refusal: a weight is not constant.
        """
        variant, inputs = self.variant, self.by_name
        arrays = {}
        for name in variant.weights:
            constant = constant_of(inputs[name])
            if constant is None:
                raise Refusal(f"input {name} is not constant")
            arrays[name] = constant
        return RecurrentLayer(
            variant=variant,
            sides=(arrays,),
            direction="forward",
            lengths=inputs.get("lengths"),
            states=(inputs["h"], inputs["c"]),
            size_bytes=sum(array.nbytes for array in arrays.values()),
            moving=tuple(value for name, value in inputs.items() if name not in variant.weights),
        )


def lstm_operator_weights(side: Mapping[str, Array]) -> dict[str, Array]:
    """From ONNX's layout (iofc rows) to the operators' (columns i f g o), one direction.

    Args:
        side: float32 W [4H, I], R [4H, H], B [8H], the input's biases before the recurrent ones, and perhaps P [3H].

    Returns:
        w [I, 4H], r [H, 4H], b [4H], and where there is P p [3, H].
    """

    def gates(array: Array) -> Array:
        return reorder_gates(array, src=LSTM_ONNX, dst=LSTM_PYTORCH)

    hidden, bias = side["R"].shape[-1], side["B"]
    arrays = {
        "w": gates(side["W"]).T,
        "r": gates(side["R"]).T,
        "b": gates(bias[: 4 * hidden]) + gates(bias[4 * hidden :]),
    }
    if "P" in side:
        arrays["p"] = reorder_gates(side["P"], src=PEEPHOLE_ONNX, dst=PEEPHOLE_PYTORCH).reshape(3, hidden)
    return arrays
