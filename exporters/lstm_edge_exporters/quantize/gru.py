"""ONNX's ``GRU``, read into the operators' terms: all that the node can say is honoured, or refused by name."""

from collections.abc import Mapping

import numpy as np

from lstm_edge_exporters.functions import GruVariant
from lstm_edge_exporters.gates import GRU_ONNX, GRU_PYTORCH, reorder_gates
from lstm_edge_exporters.quantize.layer import RecurrentLayer
from lstm_edge_exporters.quantize.recurrent import Recurrent, check_attributes, check_shapes, constant_inputs
from lstm_edge_runtime.arrays import Array

__all__ = ["Gru", "gru_operator_weights"]


class Gru(Recurrent):
    """ONNX's ``GRU``."""

    @property
    def resets_after(self) -> bool:
        """Whether the reset gate follows the product with R: "when set to a nonzero value" that comes first."""
        return bool(self.attribute("linear_before_reset", 0) != 0)

    def read(self) -> RecurrentLayer:
        """Read the node.

        Raises:
            Refusal: an attribute or input has no quantized form.
        """
        _, w, r, b, rows, h0 = self.inputs(6)
        constants = constant_inputs({"W": w, "R": r, "B": b}, "WR", {})
        hidden = constants["R"].shape[-1]
        direction = check_attributes(self, activations=("Sigmoid", "Tanh"))
        check_shapes(constants, self.sides, 3)
        arrays = {"B": np.zeros((self.sides, 6 * hidden), np.float32)} | constants
        after = self.resets_after
        return RecurrentLayer(
            path=self.path,
            title=self.title,
            variant=GruVariant(reset_after=after, ragged=rows is not None),
            sides=tuple(
                gru_operator_weights({name: array[side] for name, array in arrays.items()}, reset_after=after)
                for side in range(self.sides)
            ),
            direction=direction,
            lengths=rows,
            states=(h0,),
            size_bytes=sum(array.nbytes for array in constants.values()),
        )


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
