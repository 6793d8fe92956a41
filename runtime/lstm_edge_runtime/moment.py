"""Everything that a stream knows between two pieces, as one immutable value, and the same as named arrays.

Array names: a state has the name of its graph input; ``stream:counts`` is int64 [6] (steps, begun, ended, whether the
last piece lacked the batch axis, whether calls came before the last, its output steps or -1); ``kept:``, ``call:``,
``condition:`` and ``call.condition:`` come before the name of an input, ``before:`` before the name of a state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, Streaming, TensorSpec
from lstm_edge_runtime.checks import check_array, check_finite
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.pieces import PieceReader, shape_of
from lstm_edge_runtime.state import State
from lstm_edge_runtime.stepping import completes, given_steps, ready_steps

__all__ = ["COUNTS", "LastCall", "Moment", "PlannedPush", "moment_from_arrays", "moment_to_arrays"]

COUNTS = "stream:counts"
_NO_CALL = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class LastCall:
    """The last call of the graph: the state before it, its inputs, its conditions and the output steps it gave.

    ``begun`` says whether other calls came before it.
    """

    begun: bool
    before: Mapping[str, Array]
    inputs: Mapping[str, Array]
    conditions: Mapping[str, Array]
    gave: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """What a stream knows between two pieces.

    Attributes:
        state: the state after the last call, by graph input.
        steps: input steps since the start.
        begun: whether the graph was called since the initial state.
        ended: whether the sequence was ended.
        lacks_batch: whether the last piece lacked the batch axis.
        kept: the steps that have completed no output, with all axes, by input; ``kept_steps`` is their number.
        call: the last call, where the end of the sequence needs it.
        conditions: the inputs without a time axis.
        pushes: pieces since the stream was made. A snapshot has neither this number nor the next.
        past: input steps of the sequences before this one.
    """

    state: Mapping[str, Array]
    steps: int = 0
    begun: bool = False
    ended: bool = False
    lacks_batch: bool = False
    kept: Mapping[str, Array] = field(default_factory=dict)
    kept_steps: int = 0
    call: LastCall | None = None
    conditions: Mapping[str, Array] = field(default_factory=dict)
    pushes: int = 0
    past: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedPush:
    """A piece that was read, and the call that it completes.

    Attributes:
        steps: its steps; ``lacks_batch`` says whether it lacked the batch axis.
        conditions: the inputs without a time axis, for the call.
        joined: the kept steps and those of the piece, ``available`` steps.
        count: steps of the call; 0 if the piece completes no output.
        gives: output steps of the call.
        inputs: the steps of the call, with all axes.
    """

    steps: int
    lacks_batch: bool
    conditions: Mapping[str, Array]
    joined: Mapping[str, Array]
    available: int
    count: int
    gives: int
    inputs: Mapping[str, Array]


def moment_to_arrays(moment: Moment) -> dict[str, Array]:
    """Return copies of everything by the names that the module's docstring gives."""
    call = moment.call
    last = (False, _NO_CALL) if call is None else (call.begun, call.gave)
    counts = [moment.steps, moment.begun, moment.ended, moment.lacks_batch, *last]
    groups: dict[str, Mapping[str, Array]] = {
        "": moment.state,
        "kept:": moment.kept,
        "condition:": moment.conditions,
    }
    if call is not None:
        groups |= {"before:": call.before, "call:": call.inputs, "call.condition:": call.conditions}
    arrays = {prefix + name: array.copy() for prefix, group in groups.items() for name, array in group.items()}
    return {**arrays, COUNTS: np.array(counts, np.int64)}


def moment_from_arrays(arrays: Mapping[str, Any], reader: PieceReader, streaming: Streaming) -> Moment:
    """Read the arrays of ``moment_to_arrays``; nothing of them is kept.

    Args:
        arrays: the arrays by name.
        reader: the model's tensors and the number of rows.
        streaming: how the card counts steps.

    Raises:
        InputError: an array is missing, unknown, of a wrong dtype or shape, or not finite, or they contradict each
            other.
    """
    return _Reading(arrays, reader, streaming).read()


class _Reading:
    def __init__(self, arrays: Mapping[str, Any], reader: PieceReader, streaming: Streaming) -> None:
        self._arrays, self._reader, self._streaming = dict(arrays), reader, streaming

    def read(self) -> Moment:
        steps, begun, ended, lacks_batch, early, gave = self._counts()
        state = self._state("")
        conditions = self._group("condition:", self._reader.conditions, None)
        # A stream that was given a state has begun without a step, and may have no conditions and no last call yet.
        if conditions is None and steps and self._reader.conditions:
            raise InputError(f"the snapshot lacks 'condition:{self._reader.conditions[0].name}'")
        kept, kept_steps = self._timed("kept:")
        call = None
        if gave != _NO_CALL:
            inputs, call_steps = self._timed("call:")
            agrees = completes(self._streaming, call_steps, begun=early)
            if not begun or not agrees or given_steps(self._streaming, call_steps, begun=early) != gave:
                raise InputError(f"the snapshot's last call has {call_steps} steps, which do not give {gave}")
            of_call = self._group("call.condition:", self._reader.conditions, None)
            if of_call is None and self._reader.conditions:
                raise InputError(f"the snapshot lacks 'call.condition:{self._reader.conditions[0].name}'")
            before = self._state("before:")
            call = LastCall(begun=early, before=before, inputs=inputs, conditions=of_call or {}, gave=gave)
        if ready_steps(self._streaming, kept_steps, begun=begun) or kept_steps > steps:
            raise InputError(f"the snapshot keeps {kept_steps} steps, more than this model leaves after {steps}")
        if self._arrays:
            raise InputError(f"the snapshot has {next(iter(self._arrays))!r}, which this model's streams lack")
        return Moment(
            state=state, steps=steps, begun=begun, ended=ended, lacks_batch=lacks_batch, kept=kept,
            kept_steps=kept_steps, call=call, conditions=conditions or {},
        )  # fmt: skip

    def _counts(self) -> tuple[int, bool, bool, bool, bool, int]:
        counts = self._arrays.pop(COUNTS, None)
        if not isinstance(counts, np.ndarray) or counts.dtype != np.int64 or counts.shape != (6,):
            raise InputError(f"not a snapshot of a stream: expected {COUNTS!r}, int64 [6]")
        steps, begun, ended, lacks_batch, early, gave = counts.tolist()
        flags = {begun, ended, lacks_batch, early}
        if steps < 0 or gave < _NO_CALL or not flags <= {0, 1} or (lacks_batch and self._reader.batch_size != 1):
            raise InputError(f"the snapshot's {COUNTS!r} is {counts.tolist()}, which no stream of this model writes")
        return steps, bool(begun), bool(ended), bool(lacks_batch), bool(early), gave

    def _state(self, prefix: str) -> dict[str, Array]:
        specs = self._reader.contract.states
        given = {spec.input: self._arrays.pop(prefix + spec.input, None) for spec in specs}
        for name, array in given.items():
            if array is None:
                raise InputError(f"the snapshot lacks the state {prefix + name!r}")
        state = State.from_arrays(specs, given)
        if state.batch_size not in (None, self._reader.batch_size):
            raise InputError(f"the snapshot has {state.batch_size} rows, the stream has {self._reader.batch_size}")
        return state.to_arrays()

    def _timed(self, prefix: str) -> tuple[dict[str, Array], int]:
        """Return the inputs with a time axis under a prefix, and their number of steps; none at all are 0 steps."""
        moving = self._reader.moving
        first = self._arrays.get(prefix + moving[0].name)
        axis = moving[0].axes.index(TIME) if TIME in moving[0].axes else None
        if not isinstance(first, np.ndarray) or axis is None or first.ndim <= axis:
            return {}, 0
        return self._group(prefix, moving, first.shape[axis]) or {}, first.shape[axis]

    def _group(self, prefix: str, specs: tuple[TensorSpec, ...], steps: int | None) -> dict[str, Array] | None:
        """Return copies of the arrays under a prefix, or None where it has none of them."""
        if not any(prefix + spec.name in self._arrays for spec in specs):
            return None
        found = {}
        for spec in specs:
            name = prefix + spec.name
            if name not in self._arrays:
                raise InputError(f"the snapshot lacks {name!r}")
            array = check_array(spec, self._arrays.pop(name))
            expected = shape_of(spec, {BATCH: self._reader.batch_size, TIME: steps or 0})
            if array.shape != expected or not array.size:
                raise InputError(f"the snapshot's {name!r} has shape {list(array.shape)}, expected {list(expected)}")
            check_finite(spec.name, array)
            found[spec.name] = array.copy()
        return found
