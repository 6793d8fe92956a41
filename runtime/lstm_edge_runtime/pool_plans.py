"""The buffers and bindings of the calls of a pool: one plan for a form of piece and a number of rows.

A plan reads and writes the states in one of two ways. If the rows of a call lie side by side in the store, it is bound
to the store itself (``first`` is their first row), and no state is copied. Otherwise states are gathered into buffers
that all such plans of one thread share, and the new ones are scattered back.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import onnxruntime

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.bindings import Binding, Runner
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.contract import Contract
from lstm_edge_runtime.finite import finite_check
from lstm_edge_runtime.layout import layout_of
from lstm_edge_runtime.pieces import shape_of
from lstm_edge_runtime.pool_store import PLACE, PoolStore, batch_axis, is_shared, rows_first

__all__ = ["Form", "Plan", "Plans", "WrongDtypeError"]

# A plan's bindings take 5 to 20 kB; 46 plans have every size of a pool of 256.
MOST_PLANS = 96
# Calls of up to 16 rows have exactly the rows; longer ones are rounded up to a multiple of 8. A plan takes 40 µs to
# make, and a row that nobody needs 1.2 µs at 128 cells: few sizes that are all made soon cost less than exact ones.
_EXACT, _ROUND = 16, 8


@dataclass(frozen=True, kw_only=True)
class Form:
    """The form of the pieces of one call.

    Attributes:
        shapes: the shape of a piece of each input with a time axis, in the order of ``PieceReader.moving``.
        lacks: the axes that they lack.
        steps: their time steps.
    """

    shapes: tuple[tuple[int, ...], ...]
    lacks: frozenset[str]
    steps: int


class WrongDtypeError(Exception):
    """A piece has another dtype than the input."""


class Column:
    """Where one input of a call goes: ``fill`` copies what each stream gave."""

    def __init__(self, spec: TensorSpec, buffer: Array, lacks: frozenset[str]) -> None:
        """Find how pieces of a form lie in the buffer of all rows.

        Args:
            spec: the input.
            buffer: of the shape with all axes, for the plan's rows.
            lacks: the axes that a piece lacks.
        """
        axes = [axis for axis in spec.axes if axis == BATCH or axis not in lacks]
        sizes = dict(zip(spec.axes, buffer.shape, strict=True))
        view: Array = buffer.reshape([sizes[axis] for axis in axes])
        self._axis = axes.index(BATCH) if BATCH in axes else None
        # Pieces without a batch axis are joined along their first axis, if rows are the first axis of the buffer.
        self._each = 1
        self._joins = self._axis is not None and (BATCH not in lacks or (self._axis == 0 and view.ndim > 1))
        if self._joins and BATCH in lacks:
            self._each = view.shape[1]
            view = view.reshape(-1, *view.shape[2:])
        self._view = view if self._axis is None or self._joins else np.moveaxis(view, self._axis, 0)

    def fill(self, pieces: list[Any], whole: bool) -> None:
        """Copy the pieces into the first rows.

        Args:
            pieces: arrays of the right shape.
            whole: whether they are as many as the plan has rows.

        Raises:
            WrongDtypeError: a dtype is not the input's.
        """
        if self._axis is None:
            self._view[...] = pieces[0]
        elif self._joins:
            axis = self._axis
            out = self._view if whole else self._view[(slice(None),) * axis + (slice(0, len(pieces) * self._each),)]
            try:
                np.concatenate(pieces, axis, out=out, casting="no")
            except TypeError as error:
                raise WrongDtypeError from error
        elif set(map(attrgetter("dtype"), pieces)) != {self._view.dtype}:
            raise WrongDtypeError
        elif self._view.ndim == 1:
            self._view[: len(pieces)] = pieces
        else:
            for row, piece in zip(self._view, pieces, strict=False):
                row[...] = piece


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Buffers and bindings for calls of one form and number of rows.

    Attributes:
        rows: rows of the bound buffers.
        first: the first row of the store that it is bound to, or None; then states are gathered.
        columns: where each input goes, in the order of the form's shapes, then the conditions.
        inputs: the buffers of the inputs, by name.
        finite: asks about all float32 inputs; ``others`` says whether there are inputs of other floats.
        before, after: the states that are gathered, and the new ones to scatter; empty if it is bound to the store.
        finite_after: asks about the new states, for each place that they are written to.
        answers: by output a view of the buffer whose first axis are the rows, each in the form of the pieces.
        bindings: to the second places and to the first ones; they own what is lent.
    """

    rows: int
    first: int | None
    columns: tuple[Column, ...]
    inputs: Mapping[str, Array]
    finite: tuple[Callable[[Any], object], Any]
    others: bool
    before: list[Array]
    after: list[Array]
    finite_after: tuple[tuple[Callable[[Any], object], Any], ...]
    answers: Mapping[str, Array]
    bindings: tuple[Binding, ...]


class Plans:
    """The plans of one pool: those that were used last, at most ``MOST_PLANS``."""

    def __init__(
        self, session: onnxruntime.InferenceSession, contract: Contract, moving: tuple[TensorSpec, ...],
        conditions: tuple[TensorSpec, ...], store: PoolStore,
    ) -> None:  # fmt: skip
        """Make none yet; ``moving`` and ``conditions`` are those of the ``PieceReader``."""
        self._contract, self._store = contract, store
        self._moving, self._conditions = moving, conditions
        self._plans: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()
        # For each thread the buffers of states before and after a call.
        self._blocks: dict[int, tuple[Array, Array]] = {}
        self.runner = Runner(session)
        # Whether rows that lie side by side are one piece of memory.
        self.direct = all(len(table) == 1 for table in store.tables) and not any(map(is_shared, store.states))

    def find(self, form: Form, rows: int, *, first: int | None, thread: int) -> Plan:
        """Return a plan, made or found.

        Args:
            form: of the pieces.
            rows: their number.
            first: the row of the store that a call of rows side by side begins with; None: gather.
            thread: which of the pool's threads uses it; one uses a plan at a time.
        """
        if first is None and rows > _EXACT:
            rows = -(-rows // _ROUND) * _ROUND
        key = (form.shapes, rows, first, thread)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._make(form, rows, first, thread)
            if len(self._plans) > MOST_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan

    def has(self, form: Form, rows: int, first: int, thread: int) -> bool:
        """Return whether a plan for rows side by side was made."""
        return (form.shapes, rows, first, thread) in self._plans

    def _make(self, form: Form, rows: int, first: int | None, thread: int) -> Plan:
        contract, sizes = self._contract, {BATCH: rows, TIME: form.steps}
        inputs = {spec.name: np.zeros(shape_of(spec, sizes), spec.dtype) for spec in contract.inputs}
        outputs = {spec.name: np.zeros(shape_of(spec, sizes), spec.dtype) for spec in contract.outputs}
        feeds = dict(inputs)
        if contract.lengths is not None:
            feeds[contract.lengths] = np.full(rows, form.steps, np.int64)
        before, after, bindings, finite_after = self._bind(feeds, outputs, rows, first, thread)
        return Plan(
            rows=rows,
            first=first,
            columns=tuple(
                Column(spec, inputs[spec.name], form.lacks if spec in self._moving else frozenset())
                for spec in (*self._moving, *self._conditions)
            ),
            inputs=inputs,
            finite=finite_check([array.reshape(-1) for array in inputs.values() if array.dtype == np.float32]),
            others=any(array.dtype.kind == "f" and array.dtype != np.float32 for array in inputs.values()),
            before=before,
            after=after,
            finite_after=finite_after,
            answers={spec.name: _by_row(spec, outputs[spec.name], form) for spec in contract.outputs},
            bindings=bindings,
        )

    def _bind(
        self, feeds: Mapping[str, Array], outputs: Mapping[str, Array], rows: int, first: int | None, thread: int
    ) -> tuple[list[Array], list[Array], tuple[Binding, ...], tuple[Any, ...]]:
        """Return the states before and after, the bindings, and what asks about the new states of each."""
        states, store = self._contract.states, self._store
        layout = layout_of(states, rows)
        if first is None:
            old, new = (block[: layout.size] for block in self._state_blocks(thread))
            views, new_views = layout.views(old), layout.views(new)
            binding = self._one(feeds, outputs, views, new_views)
            count = {spec.input: 1 if is_shared(spec) else rows for spec in states}
            tables = [[rows_first(s, v[s.input], count[s.input]) for s in states] for v in (views, new_views)]
            return tables[0], tables[1], (binding,), (finite_check([new[: layout.floats]]),)
        places: list[dict[str, Array]] = []
        for place in (0, PLACE):
            begin = first + place * store.capacity
            found = {}
            for spec, flat in zip(states, store.flat, strict=True):
                each = flat.size // (2 * store.capacity)
                found[spec.input] = flat[0, begin * each : (begin + rows) * each].reshape(layout.shapes[spec.input])
            places.append(found)
        bindings = tuple(self._one(feeds, outputs, places[place], places[1 - place]) for place in (0, 1))
        asks = tuple(
            finite_check([array.reshape(-1) for array in places[1 - place].values() if array.dtype == np.float32])
            for place in (0, 1)
        )
        return [], [], bindings, asks

    def _one(
        self, feeds: Mapping[str, Array], outputs: Mapping[str, Array], old: Mapping[str, Array],
        new: Mapping[str, Array],
    ) -> Binding:  # fmt: skip
        new_states = {spec.output: new[spec.input] for spec in self._contract.states}
        return self.runner.bind({**feeds, **old}, {**outputs, **new_states})

    def _state_blocks(self, thread: int) -> tuple[Array, Array]:
        blocks = self._blocks.get(thread)
        if blocks is None:
            rows = max(self._store.capacity, _EXACT)
            layout = layout_of(self._contract.states, -(-rows // _ROUND) * _ROUND)
            blocks = self._blocks[thread] = (layout.block(), layout.block())
        return blocks


def _by_row(spec: TensorSpec, buffer: Array, form: Form) -> Array:
    """Return a view of an output whose first axis are the rows; each has the shape that ``Stream.push`` gives it."""
    lacks_time, batch = TIME in form.lacks, batch_axis(spec.axes)
    assert batch is not None
    view = buffer
    if lacks_time and TIME in spec.axes:
        time = spec.axes.index(TIME)
        view = view.reshape([size for index, size in enumerate(view.shape) if index != time])
        batch -= time < batch
    view = np.moveaxis(view, batch, 0)
    return view if BATCH in form.lacks else np.expand_dims(view, batch + 1)
