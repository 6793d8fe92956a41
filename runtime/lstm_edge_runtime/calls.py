"""Calls of ``Session.run`` whose shapes came before: buffers and a binding are ready, and the checks are short.

A call is prepared after the full checks of ``Session`` have accepted its shapes twice, and onnxruntime has answered
with the same shapes both times. What depends on values is checked in each call: dtypes, lengths, that every number is
finite. Whatever is not as expected here goes through the full checks, which refuse it with their sentence or run it.
"""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.bindings import Binding, Runner
from lstm_edge_runtime.contract import Contract
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.finite import finite_check
from lstm_edge_runtime.layout import StateLayout, layout_of, padded
from lstm_edge_runtime.providers import RUNTIME_ERRORS
from lstm_edge_runtime.state import State

__all__ = ["PreparedCalls"]

# Above it a call takes so long that its checks do not matter. All buffers of one call.
_MOST_BYTES = 2**18
# Shapes that are prepared, shapes that are remembered, and prepared calls of one shape (of so many threads at once).
_MOST_FORMS, _MOST_SEEN, _MOST_FREE = 8, 64, 8

_Shape = tuple[int, ...]
# Says why no sequence can continue after a call: of its steps, whether steps came before, and whether it ends.
Finish = Callable[[int, bool, bool], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """Buffers for one call; ``binding`` owns all that onnxruntime uses, and one thread at a time uses a plan.

    ``inputs`` has name, dtype and buffer of each input, ``states`` those of each state. ``block`` holds the states
    before, ``new_block`` those after the call. ``finite`` asks about every float that goes in.
    """

    inputs: tuple[tuple[str, np.dtype[Any], Array], ...]
    states: tuple[tuple[str, np.dtype[Any], Array], ...]
    block: Array
    lengths: Array | None
    end: Array | None
    finite: tuple[Callable[[Any], object], Any]
    outputs: tuple[tuple[str, Array], ...]
    new_block: Array
    binding: Binding
    handle: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class _Form:
    """The shapes of one kind of call, and the plans for it that no thread uses now."""

    layout: StateLayout
    steps: int
    batch_size: int
    inputs: tuple[_Shape, ...]
    outputs: tuple[_Shape, ...]
    free: list[_Plan] = field(default_factory=list)


class PreparedCalls:
    """The prepared calls of one session on the CPU; several threads may use them at once."""

    def __init__(self, session: onnxruntime.InferenceSession, contract: Contract, finish: Finish | None) -> None:
        """Prepare nothing yet.

        Args:
            session: the open graph.
            contract: its tensors.
            finish: ``finish(steps, begun, end)``, which returns why no sequence can continue from the state after a
                call, and raises InputError for a call that is refused; None where every step is like any other.
        """
        self._session, self._contract, self._finish = session, contract, finish
        self._runner = Runner(session)
        self._names = tuple(spec.name for spec in contract.inputs)
        self._name = self._names[0] if len(self._names) == 1 else None
        floats = {np.dtype(spec.dtype) for spec in contract.inputs if np.dtype(spec.dtype).kind == "f"}
        # One flat buffer holds every float, and another type of them would need its own.
        self._possible = floats <= {np.dtype(np.float32)}
        self._forms: dict[tuple[_Shape, ...], _Form] = {}
        self._seen: dict[tuple[_Shape, ...], tuple[_Shape, ...] | None] = {}
        self._lock = threading.Lock()

    def learn(self, feeds: Mapping[str, Array], answers: Mapping[str, Array], *, steps: int, batch_size: int) -> None:
        """Remember the shapes of a call that passed the full checks, and prepare such calls if they came before.

        Args:
            feeds: what the graph was given.
            answers: what it returned.
            steps: the number of time steps.
            batch_size: the number of rows.
        """
        if not self._possible:
            return
        key = tuple([feeds[name].shape for name in self._names])
        shapes = tuple([answers[spec.name].shape for spec in self._contract.outputs])
        with self._lock:
            if key in self._forms:
                return
            if key not in self._seen:
                size = sum(array.nbytes for arrays in (feeds, answers) for array in arrays.values())
                fits = size <= _MOST_BYTES and all(0 not in shape for shape in shapes)
                _add(self._seen, key, shapes if fits else None, _MOST_SEEN)
            elif self._seen[key] == shapes:
                layout = layout_of(self._contract.states, batch_size)
                _add(
                    self._forms,
                    key,
                    _Form(layout=layout, steps=steps, batch_size=batch_size, inputs=key, outputs=shapes),
                    _MOST_FORMS,
                )
            else:
                self._seen[key] = None

    def run(self, inputs: Any, state: Any, lengths: Any, end: bool) -> tuple[dict[str, Array], State] | None:
        """Run a prepared call; the arguments are those of ``Session.run``, not checked yet.

        Returns:
            What ``Session.run`` returns; None for a call that is not prepared, or that is not right.
        """
        if inputs.__class__ is np.ndarray:
            key = (inputs.shape,)
        elif inputs.__class__ is dict:
            try:
                key = tuple([inputs[name].shape for name in self._names])
            except (KeyError, AttributeError):
                return None
        else:
            return None
        try:
            form = self._forms.get(key)
        except TypeError:  # something else than an array, with a shape of its own
            return None
        if form is None:
            return None
        try:
            plan = form.free.pop()
        except IndexError:
            plan = self._make(form)
        answer = self._call(form, plan, (inputs, state, lengths, end))
        if len(form.free) < _MOST_FREE:
            form.free.append(plan)
        return answer

    def _call(
        self, form: _Form, plan: _Plan, given: tuple[Any, Any, Any, bool]
    ) -> tuple[dict[str, Array], State] | None:
        """Fill the buffers of a plan with what ``run`` was given, and run it."""
        inputs, state, lengths, end = given
        if not (
            self._fill_inputs(plan, inputs)
            and self._fill_states(form, plan, inputs, state)
            and _fill_lengths(plan.lengths, lengths, form.steps)
        ):
            return None
        blocked = ""
        if self._finish is not None:
            try:
                blocked = self._finish(form.steps, state is not None and state.begun, end)
            except InputError:
                return None
            if plan.end is not None:
                plan.end[0] = end
        ask, what = plan.finite
        if not ask(what):
            return None
        try:
            self._runner.run(plan.handle, self._runner.options)
        except RUNTIME_ERRORS:
            self._doubt(form, plan)
            return None
        new_state = State.from_block(form.layout, plan.new_block.copy(), begun=True, blocked=blocked)
        return {name: buffer.copy() for name, buffer in plan.outputs}, new_state

    def _fill_inputs(self, plan: _Plan, inputs: Any) -> bool:
        """Copy the inputs, whose shapes are those of the plan; return whether their dtypes are the model's."""
        if inputs.__class__ is np.ndarray:
            if self._name is None:
                return False
            inputs = {self._name: inputs}
        for name, dtype, buffer in plan.inputs:
            array = inputs[name]
            if array.__class__ is not np.ndarray or array.dtype is not dtype:
                return False
            buffer[...] = array
        return True

    def _fill_states(self, form: _Form, plan: _Plan, inputs: Any, state: Any) -> bool:
        """Copy the states, or zeros if there are none given; return whether they are the model's."""
        more = len(inputs) - len(plan.inputs) if inputs.__class__ is dict else 0
        if state is not None:
            return (
                not more and state.__class__ is State and not state.blocked and state.copy_into(form.layout, plan.block)
            )
        if not more:
            plan.block.fill(0)
            return True
        # Whether steps came before states that a caller made depends on their values: left to the full checks.
        if more != len(plan.states) or self._finish is not None:
            return False
        for name, dtype, buffer in plan.states:
            array = inputs.get(name)
            if array.__class__ is not np.ndarray or array.dtype is not dtype or array.shape != buffer.shape:
                return False
            buffer[...] = array
        return True

    def _make(self, form: _Form) -> _Plan:
        contract, layout = self._contract, form.layout
        sizes = [
            padded(math.prod(shape)) if spec.dtype == "float32" else 0
            for spec, shape in zip(contract.inputs, form.inputs, strict=True)
        ]
        block = np.zeros(sum(sizes) + layout.size, np.float32)
        before, new_block = block[sum(sizes) :], layout.block()
        inputs, at = {}, 0
        for spec, shape, size in zip(contract.inputs, form.inputs, sizes, strict=True):
            place = block[at : at + math.prod(shape)] if spec.dtype == "float32" else np.zeros(shape, spec.dtype)
            inputs[spec.name] = place.reshape(shape)
            at += size
        states, new_states = layout.views(before), layout.views(new_block)
        outputs = {
            spec.name: np.zeros(shape, spec.dtype) for spec, shape in zip(contract.outputs, form.outputs, strict=True)
        }
        extra: dict[str, Array] = {}
        if contract.lengths is not None:
            extra[contract.lengths] = np.full(form.batch_size, form.steps, np.int64)
        if contract.end is not None:
            extra[contract.end] = np.ones(1, np.int64)
        binding = self._runner.bind(
            inputs | states | extra, outputs | {spec.output: new_states[spec.input] for spec in contract.states}
        )
        return _Plan(
            inputs=tuple((name, array.dtype, array) for name, array in inputs.items()),
            states=tuple((name, array.dtype, array) for name, array in states.items()),
            block=before,
            lengths=None if contract.lengths is None else extra[contract.lengths],
            end=None if contract.end is None else extra[contract.end],
            finite=finite_check([block[: sum(sizes) + layout.floats]]),
            outputs=tuple(outputs.items()),
            new_block=new_block,
            binding=binding,
            handle=binding.handle,
        )

    def _doubt(self, form: _Form, plan: _Plan) -> None:
        """Forget a form if onnxruntime answers with other shapes than before: they depend on values."""
        try:
            self._session.run(None, dict(plan.binding.inputs))
        except RUNTIME_ERRORS:
            return
        with self._lock:
            self._forms.pop(form.inputs, None)
            self._seen[form.inputs] = None


def _fill_lengths(buffer: Array | None, lengths: Any, steps: int) -> bool:
    """Copy the valid lengths, all steps if there are none given; return whether they are right."""
    if buffer is None or lengths is None:
        if buffer is not None:
            buffer.fill(steps)
        return lengths is None
    if lengths.__class__ is np.ndarray and lengths.dtype.kind in "iu" and lengths.shape == buffer.shape:
        lengths = lengths.tolist()
    elif lengths.__class__ is not list or any(value.__class__ is not int for value in lengths):
        return False
    if len(lengths) != len(buffer) or min(lengths) < 0 or max(lengths) > steps:
        return False
    buffer[...] = lengths
    return True


def _add(entries: dict[Any, Any], key: Any, value: Any, most: int) -> None:
    """Add an entry to a dict of at most ``most``; the oldest one makes room."""
    if len(entries) >= most:
        del entries[next(iter(entries))]
    entries[key] = value
