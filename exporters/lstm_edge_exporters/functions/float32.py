"""The float32 operators whose body is one ONNX ``LSTM`` or ``GRU`` node: names, inputs, bodies, and the NumPy model.

``docs/operators.md`` is normative. Their arrays have ONNX's layout, so that a call and the node turn into one another
without touching a weight.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lstm_edge_exporters.functions.names import DOMAIN, CellVariant, GruVariant
from lstm_edge_exporters.functions.rounding import OPSET
from lstm_edge_exporters.functions.simulation import gru, lstm

__all__ = ["Direction", "Float32Variant", "all_float32", "float32", "float32_text", "parse_float32_name"]

Float = NDArray[np.float32]
Weights = Mapping[str, NDArray[Any]]
Direction = Literal["forward", "reverse", "bidirectional"]

_LSTM_NAME = re.compile(r"Lstm(Diagonal)?(Ragged)?V2")
_GRU_NAME = re.compile(r"Gru(ResetAfter)?(Ragged)?V1")
# Where the operators' gates stand among ONNX's: i f g o among i o f c, r z n among z r h, peepholes i f o among i o f.
_LSTM_GATES, _GRU_GATES, _PEEPHOLES = (0, 2, 3, 1), (1, 0, 2), (0, 2, 1)


@dataclass(frozen=True, kw_only=True)
class Float32Variant:
    """One operator: the parts of its name, and the inputs that follow from them.

    ``diagonal``: an LSTM has peephole weights; ``reset_after``: a GRU's reset gate acts on the product of h (ONNX's
    linear_before_reset = 1); ``ragged``: rows have lengths.
    """

    cell: Literal["LSTM", "GRU"]
    diagonal: bool = False
    reset_after: bool = False
    ragged: bool = False

    @property
    def name(self) -> str:
        """The operator's name, for example ``LstmDiagonalRaggedV2``."""
        if self.cell == "LSTM":
            return f"Lstm{'Diagonal' * self.diagonal}{'Ragged' * self.ragged}V2"
        return f"Gru{'ResetAfter' * self.reset_after}{'Ragged' * self.ragged}V1"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the operator's inputs, in order; ``h`` and ``c`` may be absent."""
        return ("x", *self.states, *(("lengths",) if self.ragged else ()), *self.weights)

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the initial states, which are also those of the final ones without ``_out``."""
        return ("h", "c") if self.cell == "LSTM" else ("h",)

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of the constant inputs, in order."""
        return ("w", "r", "b", *(("p",) if self.diagonal else ()))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return ("y", *(f"{state}_out" for state in self.states))

    @property
    def onnx_inputs(self) -> tuple[str, ...]:
        """The operator's inputs in the order of the ONNX node, with an empty name for each that is absent."""
        names = ["x", "w", "r", "b", "lengths" if self.ragged else "", *self.states, "p" if self.diagonal else ""]
        while not names[-1]:
            names.pop()
        return tuple(names)

    @property
    def attributes(self) -> dict[str, int]:
        """The attributes that the ONNX node has besides ``hidden_size`` and ``direction``."""
        return {"linear_before_reset": 1} if self.reset_after else {}


def parse_float32_name(name: str) -> Float32Variant | None:
    """Return the variant of an operator's name, or None if it is none of these."""
    match = _LSTM_NAME.fullmatch(name)
    if match is not None:
        return Float32Variant(cell="LSTM", diagonal=bool(match[1]), ragged=bool(match[2]))
    match = _GRU_NAME.fullmatch(name)
    if match is not None:
        return Float32Variant(cell="GRU", reset_after=bool(match[1]), ragged=bool(match[2]))
    return None


def all_float32() -> tuple[Float32Variant, ...]:
    """Return every operator of this version."""
    flags = [(a, b) for a in (False, True) for b in (False, True)]
    lstms = [Float32Variant(cell="LSTM", diagonal=a, ragged=b) for a, b in flags]
    return (*lstms, *(Float32Variant(cell="GRU", reset_after=a, ragged=b) for a, b in flags))


def float32_text(variant: Float32Variant) -> str:
    """Return the function of one operator as ONNX text: a single node, whose attributes are the call's."""
    given = ["hidden_size: int = @hidden_size", "direction: string = @direction"]
    given += [f"{name} = {value}" for name, value in variant.attributes.items()]
    outputs = ", ".join(variant.outputs)
    return (
        f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n'
        f"{variant.name} <hidden_size, direction> ({', '.join(variant.inputs)}) => ({outputs})\n{{\n"
        f"  {outputs} = {variant.cell} <{', '.join(given)}> ({', '.join(variant.onnx_inputs)})\n}}\n"
    )


def float32(
    variant: Float32Variant,
    x: Float,
    states: tuple[Float | None, ...],
    weights: Weights,
    *,
    lengths: NDArray[np.int32] | None = None,
    direction: Direction = "forward",
) -> tuple[Float, ...]:
    """Compute an operator in NumPy; D directions, one of them unless ``direction`` is ``bidirectional``.

    Args:
        variant: the operator.
        x: [T, B, I].
        states: h and of an LSTM c [D, B, H]; None for zeros.
        weights: by the operator's names, in ONNX's layout.
        lengths: [B] of a ragged operator.
        direction: as the attribute.

    Returns:
        y [T, D, B, H], and the final states [D, B, H].
    """
    hidden, batch = weights["r"].shape[-1], x.shape[1]
    backward = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    given = [np.zeros((len(backward), batch, hidden), np.float32) if state is None else state for state in states]
    sides = []
    for side, back in enumerate(backward):
        arrays = _operator_weights(variant, {name: weights[name][side] for name in variant.weights})
        sequence = _reversed(x, lengths) if back else x
        y, *last = _cell(variant, sequence, [state[side : side + 1] for state in given], arrays, lengths)
        sides.append((_reversed(y, lengths) if back else y, *last))
    ys, *lasts = zip(*sides, strict=True)
    return (np.stack(ys, axis=1), *(np.concatenate(last) for last in lasts))


def _cell(
    variant: Float32Variant, x: Float, states: list[Float], arrays: Weights, lengths: NDArray[np.int32] | None
) -> tuple[Float, ...]:
    rows = None if lengths is None else lengths.astype(np.int64)
    answers: tuple[Float, ...]
    if variant.cell == "LSTM":
        cell = CellVariant(peephole="diagonal" if variant.diagonal else "none", ragged=variant.ragged)
        answers = lstm(cell, x, states[0], states[1], arrays, rows)
    else:
        reset = GruVariant(reset_after=variant.reset_after, ragged=variant.ragged)
        answers = gru(reset, x, states[0], arrays, rows, storage="float32")
    if rows is None:
        return answers
    # As onnxruntime has it: a row without steps ends in zeros, not in the state it began with.
    empty = (rows == 0)[None, :, None]
    return (answers[0], *(np.where(empty, np.float32(0), last) for last in answers[1:]))


def _reversed(x: Float, lengths: NDArray[np.int32] | None) -> Float:
    """Reverse [T, B, F] in time, each row up to its length."""
    if lengths is None:
        return x[::-1]
    result = x.copy()
    for row, length in enumerate(lengths):
        result[:length, row] = x[:length, row][::-1]
    return result


def _operator_weights(variant: Float32Variant, side: Weights) -> dict[str, NDArray[Any]]:
    """Turn one direction's arrays into those of the operators without storage in ONNX's layout (columns, own gates)."""
    order = _LSTM_GATES if variant.cell == "LSTM" else _GRU_GATES

    def gates(array: NDArray[Any], order: tuple[int, ...] = order) -> NDArray[Any]:
        blocks = np.split(array, len(order))
        return np.concatenate([blocks[i] for i in order])

    given, recurrent = (gates(half) for half in np.split(side["b"], 2))
    arrays = {"w": gates(side["w"]).T, "r": gates(side["r"]).T, "b": given + recurrent}
    if variant.reset_after:
        hidden = side["r"].shape[-1]
        arrays["b"] = np.concatenate([arrays["b"][: 2 * hidden], given[2 * hidden :]])
        arrays["rb"] = recurrent[2 * hidden :]
    if variant.diagonal:
        arrays["p"] = gates(side["p"], _PEEPHOLES).reshape(3, -1)
    return arrays
