"""The mutation table: wrong equations, each of which the comparator has to catch on a named case.

A mutation answers the case with one thing wrong, in the weights, the inputs, the cell or the answer. ``seen_in``
names the part of the answer (y, h or c) in which it must be caught.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from unittest import mock

import numpy as np
import numpy.typing as npt

from lstm_edge import reference
from lstm_edge.reference import CellWeights, sigmoid
from support.cases import Answer, LstmCase, case_inputs, case_named, case_weights, reference_answer

__all__ = ["MUTATIONS", "Mutation"]

Arrays = dict[str, npt.NDArray]
Cell = Callable[[npt.NDArray, npt.NDArray, npt.NDArray, CellWeights], tuple[npt.NDArray, npt.NDArray]]


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One wrong equation: what is wrong, on which case it is tried, and where it must be seen."""

    name: str
    case: LstmCase
    seen_in: Literal["y", "h", "c"]
    answer: Callable[[LstmCase], Answer]

    def __str__(self) -> str:
        return self.name


def _weights(change: Callable[[str, npt.NDArray], npt.NDArray]) -> Callable[[LstmCase], Answer]:
    """Answer with every weight changed as ``change(name, value)`` says."""

    def answer(case: LstmCase) -> Answer:
        return reference_answer(case, weights={name: change(name, w) for name, w in case_weights(case).items()})

    return answer


def _inputs(change: Callable[[Arrays], Mapping[str, npt.NDArray]]) -> Callable[[LstmCase], Answer]:
    """Answer with the inputs that ``change`` puts in place of some of the case's."""

    def answer(case: LstmCase) -> Answer:
        inputs = case_inputs(case)
        return reference_answer(case, inputs={**inputs, **change(inputs)})

    return answer


def _output(change: Callable[[Answer], Answer]) -> Callable[[LstmCase], Answer]:
    """Answer with the parts that ``change`` puts in place of some of the right ones."""

    def answer(case: LstmCase) -> Answer:
        right = reference_answer(case)
        return {**right, **change(right)}

    return answer


def _cell(cell: Cell) -> Callable[[LstmCase], Answer]:
    """Answer with another cell function in place of the oracle's."""

    def answer(case: LstmCase) -> Answer:
        with mock.patch.object(reference, "lstm_cell", cell):
            return reference_answer(case)

    return answer


def _gates(order: tuple[int, ...]) -> Callable[[str, npt.NDArray], npt.NDArray]:
    def change(name: str, w: npt.NDArray) -> npt.NDArray:
        if name.startswith("weight_hr"):
            return w
        return np.concatenate([np.split(w, len(order))[gate] for gate in order])

    return change


def _only(prefix: str, change: Callable[[npt.NDArray], npt.NDArray]) -> Callable[[str, npt.NDArray], npt.NDArray]:
    return lambda name, w: change(w) if name.startswith(prefix) else w


def _block_set(block: int, blocks: int) -> Callable[[npt.NDArray], npt.NDArray]:
    """Return a change that puts zeros in place of one of so many gates."""

    def change(w: npt.NDArray) -> npt.NDArray:
        parts = np.split(w.copy(), blocks)
        parts[block][:] = 0.0
        return np.concatenate(parts)

    return change


def _transposed_gates(w: npt.NDArray) -> npt.NDArray:
    return np.concatenate([gate.T for gate in np.split(w, 4)])


def _parts(
    x: npt.NDArray, h: npt.NDArray, c: npt.NDArray, w: CellWeights
) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """The sums of i, f and g before their activations."""
    return (
        w.xi @ x + w.hi @ h + w.ci @ c + w.bi,
        w.xf @ x + w.hf @ h + w.cf @ c + w.bf,
        w.xg @ x + w.hg @ h + w.cg @ c + w.bg,
    )


def _old_cell_for_output_gate(x: npt.NDArray, h: npt.NDArray, c: npt.NDArray, w: CellWeights):
    i, f, g = _parts(x, h, c, w)
    c_new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    o = sigmoid(w.xo @ x + w.ho @ h + w.co @ c + w.bo)
    return o * np.tanh(c_new), c_new


def _no_tanh_on_cell(x: npt.NDArray, h: npt.NDArray, c: npt.NDArray, w: CellWeights):
    i, f, g = _parts(x, h, c, w)
    c_new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(w.xo @ x + w.ho @ h + w.co @ c_new + w.bo) * c_new, c_new


def _sigmoid_candidate(x: npt.NDArray, h: npt.NDArray, c: npt.NDArray, w: CellWeights):
    i, f, g = _parts(x, h, c, w)
    c_new = sigmoid(f) * c + sigmoid(i) * sigmoid(g)
    return sigmoid(w.xo @ x + w.ho @ h + w.co @ c_new + w.bo) * np.tanh(c_new), c_new


def _coupled_gates(x: npt.NDArray, h: npt.NDArray, c: npt.NDArray, w: CellWeights):
    _, f, g = _parts(x, h, c, w)
    c_new = sigmoid(f) * c + (1.0 - sigmoid(f)) * np.tanh(g)
    return sigmoid(w.xo @ x + w.ho @ h + w.co @ c_new + w.bo) * np.tanh(c_new), c_new


def _reverse_runs_forwards(case: LstmCase) -> Answer:
    """One bidirectional layer whose reverse weights run from the first step on."""
    inputs, weights, right = case_inputs(case), case_weights(case), reference_answer(case)
    backwards = {name.removesuffix("_reverse"): w for name, w in weights.items() if name.endswith("_reverse")}
    y, (h, c) = reference.lstm(
        inputs["x"], backwards, hidden_size=case.hidden, state=(inputs["h"][1:], inputs["c"][1:])
    )
    return {
        "y": np.concatenate([right["y"][:, :, : case.hidden], y], axis=2),
        "h": np.concatenate([right["h"][:1], h]),
        "c": np.concatenate([right["c"][:1], c]),
    }


def _reverse_starts_in_padding(case: LstmCase) -> Answer:
    """Outputs past the lengths are zero, but the reverse direction ran through the padding first."""
    inputs = case_inputs(case)
    past = np.arange(case.time)[:, None] >= inputs.pop("lengths")
    answer = reference_answer(case, inputs=inputs)
    return {**answer, "y": np.where(past[:, :, None], 0.0, answer["y"])}


def _padding_outputs_kept(case: LstmCase) -> Answer:
    """States stop at the lengths, but the outputs go on."""
    inputs = case_inputs(case)
    del inputs["lengths"]
    return {**reference_answer(case), "y": reference_answer(case, inputs=inputs)["y"]}


def _empty_rows_zeroed(case: LstmCase) -> Answer:
    """A row of length 0 ends in zeros instead of its initial state (as onnxruntime's LSTM has it)."""
    right = reference_answer(case)
    keep = (np.array(case.lengths) > 0)[None, :, None]
    return {**right, "h": right["h"] * keep, "c": right["c"] * keep}


def _mutation(name: str, case: str, seen_in: Literal["y", "h", "c"], answer: Callable[[LstmCase], Answer]) -> Mutation:
    return Mutation(name=name, case=case_named(case), seen_in=seen_in, answer=answer)


MUTATIONS = (
    _mutation("swap-i-and-f", "standard", "y", _weights(_gates((1, 0, 2, 3)))),
    _mutation("onnx-order-taken-for-pytorch", "standard", "y", _weights(_gates((0, 3, 1, 2)))),
    _mutation("recurrent-bias-dropped", "standard", "y", _weights(_only("bias_hh", np.zeros_like))),
    _mutation("forget-bias-dropped", "standard", "c", _weights(_only("bias_ih", _block_set(1, 4)))),
    _mutation("recurrent-weights-transposed", "standard", "y", _weights(_only("weight_hh", _transposed_gates))),
    _mutation("candidate-by-sigmoid", "standard", "c", _cell(_sigmoid_candidate)),
    _mutation("no-tanh-on-the-cell", "standard", "y", _cell(_no_tanh_on_cell)),
    _mutation("input-gate-is-one-minus-forget", "standard", "c", _cell(_coupled_gates)),
    _mutation("scaled-by-1.01", "standard", "y", _output(lambda right: {"y": right["y"] * 1.01})),
    _mutation("time-reversed", "standard", "y", _output(lambda right: {"y": right["y"][::-1]})),
    _mutation("h-returned-for-c", "standard", "c", _output(lambda right: {"c": right["h"]})),
    _mutation("c-returned-for-h", "standard", "h", _output(lambda right: {"h": right["c"]})),
    _mutation("initial-h-for-c", "standard", "c", _inputs(lambda inputs: {"c": inputs["h"]})),
    _mutation("initial-state-ignored", "standard", "y", _inputs(lambda i: {"h": 0 * i["h"], "c": 0 * i["c"]})),
    _mutation("initial-c-ignored", "standard", "c", _inputs(lambda inputs: {"c": 0 * inputs["c"]})),
    _mutation("state-rows-exchanged", "standard", "h", _inputs(lambda inputs: {"h": inputs["h"][:, ::-1]})),
    _mutation("reverse-runs-forwards", "bidirectional", "y", _reverse_runs_forwards),
    _mutation("directions-exchanged", "bidirectional", "h", _output(lambda right: {"h": right["h"][::-1]})),
    _mutation(
        "states-by-direction-first", "bidirectional-2-layers", "y", _inputs(lambda i: {"h": i["h"][[0, 2, 1, 3]]})
    ),
    _mutation(
        "mask-forgotten", "standard-lengths", "h", _inputs(lambda inputs: {"lengths": 0 * inputs["lengths"] + 7})
    ),
    _mutation("padding-outputs-kept", "standard-lengths", "y", _padding_outputs_kept),
    _mutation("length-0-zeroes-the-state", "standard-lengths-zero", "h", _empty_rows_zeroed),
    _mutation("reverse-starts-in-the-padding", "bidirectional-lengths", "y", _reverse_starts_in_padding),
    _mutation("projection-skipped", "projection", "y", _weights(_only("weight_hr", lambda w: np.eye(*w.shape)))),
    _mutation("output-gate-sees-the-old-cell-full", "full", "y", _cell(_old_cell_for_output_gate)),
    _mutation("output-gate-sees-the-old-cell-diagonal", "diagonal", "y", _cell(_old_cell_for_output_gate)),
    _mutation("full-peephole-transposed", "full", "y", _weights(_only("weight_ch", _transposed_gates))),
    _mutation("full-peephole-without-candidate", "full", "c", _weights(_only("weight_ch", _block_set(2, 4)))),
    _mutation(
        "diagonal-peephole-in-onnx-order",
        "diagonal",
        "y",
        _weights(_only("weight_ch", lambda w: _gates((0, 2, 1))("", w))),
    ),
    _mutation("diagonal-output-peephole-dropped", "diagonal", "y", _weights(_only("weight_ch", _block_set(2, 3)))),
)
