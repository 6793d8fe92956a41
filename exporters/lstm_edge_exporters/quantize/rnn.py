"""ONNX's ``RNN``, read into the operators' terms."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from lstm_edge_exporters.functions import RnnVariant
from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.quantize.layer import Refusal
from lstm_edge_exporters.quantize.recurrent import FloatCell
from lstm_edge_runtime.arrays import Array

__all__ = ["Rnn", "rnn_operator_weights"]


class Rnn(FloatCell):
    """ONNX's ``RNN``."""

    activations: ClassVar[tuple[str, ...]] = ("Tanh",)
    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1

    @property
    def relu(self) -> bool:
        """Whether the activation is ``Relu``: of the first direction, where ``direction`` refuses different ones."""
        found = attribute_of(self.node, "activations") or ["Tanh"]
        return str(found[0]).lower() == "relu"

    def direction(self, *activations: str) -> str:
        """Honour or refuse each attribute; all directions must have the same activation, Tanh or Relu."""
        found = attribute_of(self.node, "activations") or activations
        if {str(name).lower() for name in found} not in ({"tanh"}, {"relu"}):
            raise Refusal(
                f"attribute activations is {', '.join(map(str, found))}: only Tanh or Relu, the same for all directions"
            )
        return super().direction("Relu" if self.relu else "Tanh")

    def variant(self, *, ragged: bool, peephole: bool) -> RnnVariant:
        """Return the operator."""
        assert not peephole
        return RnnVariant(relu=self.relu, ragged=ragged)

    def to_operator(self, side: Mapping[str, Array]) -> dict[str, Array]:
        """Return the arrays of one direction in the operators' layout."""
        return rnn_operator_weights(side)


def rnn_operator_weights(side: Mapping[str, Array]) -> dict[str, Array]:
    """From ONNX's layout to the operators', one direction.

    Args:
        side: float32 W [H, I], R [H, H] and B [2H], the input's bias before the recurrent one.

    Returns:
        w [I, H], r [H, H], b [H].
    """
    hidden = side["R"].shape[-1]
    b = np.asarray(side["B"][:hidden] + side["B"][hidden:], np.float32)
    return {"w": side["W"].T, "r": side["R"].T, "b": b}
