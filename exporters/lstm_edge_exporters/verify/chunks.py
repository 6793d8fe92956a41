"""Tests whether a model can be fed in chunks: answers for chunks are compared with those for the whole sequence.

Unidirectional does not mean streamable: convolution, pooling or attention over time break chunking.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.verify.inputs import InputMaker, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_exporters.verify.parity import EXPORT
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, Layer, StateSpec, Streaming, TensorSpec
from lstm_edge_runtime.errors import first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS

__all__ = ["CUTS", "cut_time", "join_time", "judge_streaming", "obstacle", "shared_scales"]


STEPS = 12
BATCH_SIZE = 2
# Single steps, two uneven pieces, and pieces with a ragged tail; each sums up to STEPS.
CUTS: tuple[tuple[int, ...], ...] = ((1,) * STEPS, (5, 7), (5, 5, 2))


def judge_streaming(
    model: OpenModel,
    maker: InputMaker,
    *,
    outputs: Sequence[TensorSpec],
    states: Sequence[StateSpec],
    layers: Sequence[Layer],
    lengths: str | None,
    fewest: int = 1,
) -> Streaming:
    """Return the verdict ``every-step``, ``last-step`` or ``none`` with its reason (see ``Streaming``).

    ``layers`` are the recurrent layers that run along time: one over another axis, such as the frequencies of a frame,
    may have a reverse direction, and starts from zeros in each call. ``fewest`` are the steps that the original needs
    (``Comparison.fewest_steps``): where a single one is too few, nothing is tried.
    """
    problem = obstacle(maker, states, layers)
    if not problem and fewest > 1:
        problem = (
            f"sequences of fewer than {fewest} steps were refused: something besides the recurrent layers looks across "
            "time, such as convolution or pooling"
        )
    if problem:
        return Streaming(verdict="none", reason=problem)
    trial = _Trial(model, maker, outputs, states, lengths)
    for cut in CUTS:
        problem = trial.compare(cut)
        if problem:
            return Streaming(verdict="none", reason=problem)
    pooled = [spec.name for spec in outputs if TIME not in spec.axes]
    if pooled:
        return Streaming(verdict="last-step", reason=f"output {', '.join(pooled)} has no time axis")
    return Streaming(verdict="every-step")


def obstacle(maker: InputMaker, states: Sequence[StateSpec], layers: Sequence[Layer]) -> str:
    """Return why no part of a sequence can be fed alone, or an empty text."""
    backward = [layer.name for layer in layers if layer.directions > 1]
    if backward:
        which = "are bidirectional: their reverse directions need"
        if len(backward) == 1:
            which = "is bidirectional: its reverse direction needs"
        return f"{', '.join(backward)} {which} the whole sequence"
    if not states and layers:
        return "the state is hidden inside the graph: export with explicit state"
    free = [(s.name, a) for s in maker.specs for a in s.axes if isinstance(a, str) and a not in (BATCH, TIME)]
    if free:
        return f"the axis {free[0][1]!r} of input {free[0][0]} is neither batch nor time"
    if not any(TIME in spec.axes for spec in maker.specs):
        return f"input {', '.join(spec.name for spec in maker.specs)} has no time axis to cut along"
    return ""


# onnxruntime's operators that take one activation scale from all rows and steps of a call (facts of their definitions).
_SHARED_SCALES = frozenset(("DynamicQuantizeLSTM", "DynamicQuantizeLinear", "DynamicQuantizeMatMul"))


def shared_scales(model: bytes) -> str:
    """Return why int8 operators of onnxruntime make a chunk's answer another one, or an empty text."""
    found = sorted({node.op_type for node in parse_model(model).graph.all_nodes()} & _SHARED_SCALES)
    if not found:
        return ""
    verb = "take" if len(found) > 1 else "takes"
    return (
        f"{', '.join(found)} {verb} one activation scale from all rows and steps of a call, so answers depend on "
        "where the sequence is cut; int8 of lstm-edge quantize has a scale for each row and step"
    )


def _likely_cause(model: bytes) -> str:
    """Name what makes a chunk's answer differ from the whole sequence's."""
    return shared_scales(model) or (
        "something besides the recurrent layers looks across time, such as convolution, pooling, attention or "
        "normalization, or changes the state once in each call"
    )


class _Trial:
    """One random sequence, its whole answer, and the answers of its pieces."""

    def __init__(
        self,
        model: OpenModel,
        maker: InputMaker,
        outputs: Sequence[TensorSpec],
        states: Sequence[StateSpec],
        lengths: str | None,
    ) -> None:
        rng = np.random.default_rng(7)
        self.model = model
        self.specs, self.outputs, self.states, self.lengths = maker.specs, outputs, states, lengths
        self.inputs = maker.make(rng, BATCH_SIZE, STEPS)
        self.state = random_state(states, rng, BATCH_SIZE, zero=False)
        self.whole = self._run(self.inputs, self.state, STEPS)

    def compare(self, cut: Sequence[int]) -> str:
        """Return why the pieces' answers differ from the whole's, or nothing when they agree."""
        state, start, pieces = self.state, 0, []
        for steps in cut:
            part = cut_time(self.specs, self.inputs, start, steps)
            try:
                answers = self._run(part, state, steps)
            except RUNTIME_ERRORS as error:
                return f"a chunk of {steps} steps fails: {first_line(error)}"
            state = {spec.input: answers[spec.output] for spec in self.states}
            pieces.append(answers)
            start += steps
        return self._difference(pieces, "single steps" if max(cut) == 1 else f"chunks of {max(cut)} steps")

    def _difference(self, pieces: Sequence[Mapping[str, Array]], how: str) -> str:
        states: list[tuple[str, tuple[str | int, ...]]] = [(spec.output, ()) for spec in self.states]
        for name, axes in [*((spec.name, spec.axes) for spec in self.outputs), *states]:
            joined = join_time([piece[name] for piece in pieces], axes)
            whole = self.whole[name]
            if joined.shape != whole.shape:
                return f"{how} give {name} of shape {list(joined.shape)}, the whole sequence {list(whole.shape)}"
            distance = float(np.max(np.abs(joined.astype(np.float64) - whole)))
            if not distance <= EXPORT.absolute * max(1.0, float(np.max(np.abs(whole)))):
                return (
                    f"{how} give another {name} than the whole sequence (difference {distance:.2g}): "
                    f"{_likely_cause(self.model.data)}"
                )
        return ""

    def _run(self, inputs: Mapping[str, Array], state: Mapping[str, Array], steps: int) -> dict[str, Array]:
        feeds = {**inputs, **state}
        if self.lengths:
            feeds[self.lengths] = np.full(BATCH_SIZE, steps, np.int64)
        return self.model.answers(feeds)


def cut_time(specs: Sequence[TensorSpec], inputs: Mapping[str, Array], start: int, steps: int) -> dict[str, Array]:
    """Return the inputs of some steps; one without a time axis, such as a sample rate, is for every call."""
    return {
        spec.name: np.take(inputs[spec.name], range(start, start + steps), axis=spec.axes.index(TIME))
        if TIME in spec.axes
        else inputs[spec.name]
        for spec in specs
    }


def join_time(pieces: Sequence[Array], axes: Sequence[str | int]) -> Array:
    """Return the answers of pieces as one: joined along the time axis; without one, the last is the answer."""
    return np.concatenate(pieces, axis=axes.index(TIME)) if TIME in axes else pieces[-1]
