"""What a stream runs a model with: the buffers and bindings for one shape of a piece."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnxruntime

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.bindings import Binding, Runner
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, StateSpec, TensorSpec
from lstm_edge_runtime.finite import finite_check
from lstm_edge_runtime.pieces import PieceReader, shape_of
from lstm_edge_runtime.state import State

__all__ = ["OpenModel", "Plan", "make_plan"]


class OpenModel(Protocol):
    """What a stream needs from an open model; ``Session`` provides it."""

    card: ModelCard | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    lengths: str | None
    onnxruntime_session: onnxruntime.InferenceSession

    def initial_state(self, batch_size: int = 1) -> State:
        """Return the initial state of ``batch_size`` rows."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The buffers and bindings for one input shape, made once so that a push only copies, runs and checks.

    ``shape`` and ``dtype`` describe the model's only input (None if it has several inputs). The views show the buffers
    in the shape of the piece. ``bindings`` go from the first state buffer to the second, and back; they own every
    array that onnxruntime uses. ``handles`` are the handles of the bindings. ``finite`` asks about the float32 inputs;
    ``others`` says whether there are inputs of other floats.
    ``output`` is the model's only output in the shape of the piece (None if it has several). ``lacks_batch`` says
    whether the piece lacks the batch axis of the inputs.
    """

    steps: int
    lacks_batch: bool
    shape: tuple[int, ...] | None
    dtype: np.dtype[Any] | None
    view: Any
    input_views: dict[str, Array]
    finite: tuple[Callable[[Any], object], Any]
    others: bool
    output: Array | None
    output_shape: tuple[int, ...] | None
    output_dtype: np.dtype[Any] | None
    output_views: dict[str, Array]
    bindings: tuple[Binding, Binding]
    handles: tuple[Any, Any]


def make_plan(
    session: OpenModel,
    arrays: Mapping[str, Array],
    *,
    reader: PieceReader,
    batch_size: int,
    states: Sequence[Mapping[str, Array]],
    runner: Runner,
) -> Plan:
    """Return the buffers and bindings for pieces of the shapes of ``arrays``.

    Args:
        session: the model.
        arrays: the piece, by input.
        reader: what read it.
        batch_size: rows of the stream.
        states: the stream's two buffers of states, by input; a push goes from one to the other.
        runner: what binds.
    """
    lacks, steps = reader.find_form(arrays)
    sizes = {BATCH: batch_size, TIME: steps}
    inputs = {spec.name: np.zeros(shape_of(spec, sizes), spec.dtype) for spec in session.inputs}
    outputs = {spec.name: np.zeros(shape_of(spec, sizes), spec.dtype) for spec in session.outputs}
    input_views = {spec.name: inputs[spec.name].reshape(shape_of(spec, sizes, lacks)) for spec in reader.moving}
    input_views |= {spec.name: inputs[spec.name] for spec in reader.conditions}
    output_views = {spec.name: outputs[spec.name].reshape(shape_of(spec, sizes, lacks)) for spec in session.outputs}
    feeds = dict(inputs)
    if session.lengths is not None:
        feeds[session.lengths] = np.full(batch_size, steps, np.int64)
    first = next(iter(input_views.values()))
    alone = len(reader.moving) == 1
    output = next(iter(output_views.values())) if len(outputs) == 1 else None

    def bind(phase: int) -> Binding:
        """Bind the buffers to the graph so that the state goes from buffer ``phase`` to the other buffer."""
        new_states = {spec.output: states[1 - phase][spec.input] for spec in session.states}
        return runner.bind({**feeds, **states[phase]}, {**outputs, **new_states})

    bindings = (bind(0), bind(1))
    return Plan(
        steps=steps,
        lacks_batch=BATCH in lacks and any(BATCH in spec.axes for spec in reader.moving[:1]),
        shape=first.shape if alone else None,
        dtype=first.dtype if alone else None,
        view=first,
        input_views=input_views,
        finite=finite_check([array.reshape(-1) for array in inputs.values() if array.dtype == np.float32]),
        others=any(array.dtype.kind == "f" and array.dtype != np.float32 for array in inputs.values()),
        output=output,
        output_shape=None if output is None else output.shape,
        output_dtype=None if output is None else output.dtype,
        output_views=output_views,
        bindings=bindings,
        handles=(bindings[0].handle, bindings[1].handle),
    )
