"""Show that the rows of a call do not depend on each other, before streams share calls."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, StateSpec, TensorSpec
from lstm_edge_runtime.errors import InputError, StreamingError, first_line
from lstm_edge_runtime.pieces import shape_of
from lstm_edge_runtime.pool_store import batch_axis, is_shared
from lstm_edge_runtime.state import State

__all__ = ["CLOSE", "RowModel", "check_rows", "inexact_outputs"]

# How far a row of float32 may be from the same row alone: float32 sums are taken in another order. Relative to the
# largest value of the output, or absolute below 1.
CLOSE = 2e-6
_ROWS = 3
_ADVICE = "use one Stream for each of its streams (session.stream())"


class RowModel(Protocol):
    """What is asked of an open model here; ``Session`` provides it."""

    card: ModelCard | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]

    def run(self, inputs: Mapping[str, Array], /) -> tuple[dict[str, Array], State]:
        """Run a whole sequence."""
        ...


def inexact_outputs(card: ModelCard | None) -> frozenset[str] | None:
    """Return the outputs and new states whose last bits may depend on the batch; None if those of all may."""
    if card is None or card.quantization is None or card.quantization.inexact is None:
        return None
    return frozenset(card.quantization.inexact)


def check_rows(session: RowModel) -> None:
    """Refuse a model whose streams cannot share calls.

    Three rows of made input run together and each alone. Outputs and states that the card says are the same in any
    batch must have the same bits, others agree to ``CLOSE``.

    Raises:
        StreamingError: an input, output or state has no batch axis, or a row depends on the others.
    """
    if not any(BATCH in spec.axes for spec in session.inputs):
        raise StreamingError(f"the model cannot be pooled: no input has a dynamic batch axis; {_ADVICE}")
    for spec in session.outputs:
        if batch_axis(spec.axes) is None:
            raise StreamingError(f"the model cannot be pooled: output {spec.name!r} has no batch axis; {_ADVICE}")
    for state in session.states:
        if is_shared(state) and not (state.kind == "cache" or state.counts):
            raise StreamingError(f"the model cannot be pooled: state {state.input!r} has no batch axis; {_ADVICE}")
    inputs = _made_inputs(session)
    try:
        alone = [session.run(_rows_of(session, inputs, row, row + 1)) for row in range(_ROWS)]
        outputs, states = session.run(inputs)
    except InputError as error:
        raise StreamingError(
            f"the model cannot be pooled: whether its rows depend on each other could not be seen, because "
            f"{_ROWS} rows of made input were refused ({first_line(error)}); {_ADVICE}"
        ) from error
    inexact = inexact_outputs(session.card)
    for spec in session.outputs:
        _compare(spec.name, outputs[spec.name], [one[spec.name] for one, _ in alone], spec.axes, inexact)
    for state in session.states:
        if not is_shared(state):
            _compare(state.output, states[state.input], [one[state.input] for _, one in alone], state.axes, inexact)


def _made_inputs(session: RowModel) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    card = session.card
    streaming = None if card is None else card.streaming
    steps = 2 if streaming is None else streaming.first + 2 * streaming.every
    if card is not None and card.front_end is not None:
        steps = max(steps, card.front_end.first + 2 * card.front_end.every)
    made = {}
    for spec in session.inputs:
        shape = shape_of(spec, {BATCH: _ROWS, TIME: steps})
        if spec.dtype.startswith("float"):
            least, most = spec.range or (-1.0, 1.0)
            drawn: Array = rng.uniform(least, most, shape)
        else:
            low, high = map(int, spec.range or (0, 1))
            drawn = rng.integers(low, high + 1, shape)
        made[spec.name] = np.asarray(drawn, spec.dtype)
    return made


def _rows_of(session: RowModel, arrays: Mapping[str, Array], start: int, stop: int) -> dict[str, Array]:
    cut = {}
    for spec in session.inputs:
        axis = batch_axis(spec.axes)
        rows: tuple[Any, ...] = () if axis is None else ((slice(None),) * axis + (slice(start, stop),))
        cut[spec.name] = np.ascontiguousarray(arrays[spec.name][rows]).reshape(
            [stop - start if a == BATCH else s for a, s in zip(spec.axes, arrays[spec.name].shape, strict=True)]
        )
    return cut


def _compare(
    name: str, together: Array, alone: list[Array], axes: tuple[str | int, ...], inexact: frozenset[str] | None
) -> None:
    axis = next(index for index, a in enumerate(axes) if isinstance(a, str) and a.startswith(BATCH))
    joined = np.concatenate(alone, axis=axis)
    if joined.shape != together.shape:
        raise StreamingError(
            f"the model cannot be pooled: {name!r} has shape {list(together.shape)} for {_ROWS} rows in a call, and "
            f"{list(joined.shape)} for the same rows alone; {_ADVICE}"
        )
    if joined.tobytes() == together.tobytes():
        return
    exact = inexact is not None and name not in inexact
    bound = 0.0 if exact else CLOSE * max(1.0, float(np.nanmax(np.abs(joined), initial=0.0)))
    with np.errstate(invalid="ignore"):  # infinity in both
        difference = float(np.nanmax(np.abs(together - joined), initial=0.0))
    if exact or not difference <= bound or (np.isnan(together) != np.isnan(joined)).any():
        allowed = "the card says that they have the same bits" if exact else f"at most {bound:.2g} is allowed"
        raise StreamingError(
            f"the model cannot be pooled: {name!r} of {_ROWS} rows in a call differs by up to {difference:.2g} from "
            f"that of each row alone, {allowed}; {_ADVICE}"
        )
