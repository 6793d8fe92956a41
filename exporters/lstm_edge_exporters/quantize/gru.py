"""ONNX's ``GRU``, read into the operators' terms."""

from collections.abc import Mapping
from typing import ClassVar

from lstm_edge_exporters.functions import GruVariant
from lstm_edge_exporters.gates import GRU_ONNX, GRU_PYTORCH, reorder_gates
from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.quantize.recurrent import FloatCell
from lstm_edge_runtime.arrays import Array

__all__ = ["Gru", "gru_operator_weights"]


class Gru(FloatCell):
    """ONNX's ``GRU``."""

    activations: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh")
    gates: ClassVar[int] = 3
    states: ClassVar[int] = 1

    @property
    def resets_after(self) -> bool:
        """Whether the reset gate follows the product with R: "when set to a nonzero value" that comes first."""
        return bool(attribute_of(self.node, "linear_before_reset", 0) != 0)

    def variant(self, *, ragged: bool, peephole: bool) -> GruVariant:
        """Return the operator."""
        assert not peephole
        return GruVariant(reset_after=self.resets_after, ragged=ragged)

    def to_operator(self, side: Mapping[str, Array]) -> dict[str, Array]:
        """Return the arrays of one direction in the operators' layout."""
        return gru_operator_weights(side, reset_after=self.resets_after)


def gru_operator_weights(side: Mapping[str, Array], *, reset_after: bool) -> dict[str, Array]:
    """From ONNX's layout (zrh rows) to the operators' (columns r z n), one direction.

    Args:
        side: float32 W [3H, I], R [3H, H] and B [6H], the input's biases before the recurrent ones.
        reset_after: the candidate's recurrent bias stays apart (``rb``), because the reset gate scales it.

    Returns:
        w [I, 3H], r [H, 3H], b [3H], and with ``reset_after`` rb [H].
    """

    def gates(array: Array) -> Array:
        return reorder_gates(array, src=GRU_ONNX, dst=GRU_PYTORCH)

    hidden = side["R"].shape[-1]
    b, recurrent = gates(side["B"][: 3 * hidden]), gates(side["B"][3 * hidden :])
    arrays = {"w": gates(side["W"]).T, "r": gates(side["R"]).T}
    if not reset_after:
        return {**arrays, "b": b + recurrent}
    b[: 2 * hidden] += recurrent[: 2 * hidden]
    return {**arrays, "b": b, "rb": recurrent[2 * hidden :]}
