"""Calls of the graph that rows of a pool share: cut among threads, run, and their states taken over or dropped."""

import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH
from lstm_edge_runtime.crew import Crew, Job
from lstm_edge_runtime.errors import first_line
from lstm_edge_runtime.pool_answers import Answers
from lstm_edge_runtime.pool_plans import Form, Plan, Plans
from lstm_edge_runtime.pool_store import PLACE, PoolStore, is_shared, next_now
from lstm_edge_runtime.providers import RUNTIME_ERRORS

__all__ = ["Call", "SharedCalls", "share_of_threads"]

# A thread gets work from this many bytes of the file times rows times steps on: 60 µs, by 2.5 to 4.5 ns a kilobyte that
# were measured. To hand work over takes 7 µs at best, and more where a thread has to wake.
LEAST_WORK = 20_000_000
# Streams that were pushed together so often get a plan that is bound to the store, if their rows lie side by side: to
# make it takes as long as gathering and scattering states some ten times.
_SEEN = 2
_MOST_SELECTIONS = 8


@dataclass(kw_only=True, slots=True)
class Call:
    """One call of the graph and what became of it.

    Attributes:
        ids: the streams, in the order of the rows of the call.
        rows: int64, their rows of the store.
        columns: for each input what they gave.
        plan: the buffers.
        place: the place of the states that it read, of rows side by side; 0 otherwise.
        failed: None; "" if an input holds NaN or infinity, and nothing ran; otherwise what onnxruntime said.
        overflowed: the streams whose new state is not finite, known after ``commit``.
    """

    ids: list[int]
    rows: Array
    columns: list[list[Any]]
    plan: Plan
    place: int = 0
    failed: str | None = None
    fault: BaseException | None = None
    overflowed: Sequence[int] = ()


@dataclass(kw_only=True, slots=True)
class _Selection:
    """Streams that were pushed together, in the order of their rows.

    ``order`` has the index of each among those that were given, or is None if they were in order. ``first`` is the
    first row if the rows lie side by side. ``place`` is that of all their states, if it is known; ``left`` is the
    number of rows of the last run that were not taken over. ``times`` counts the runs.
    """

    ids: list[int]
    order: list[int] | None
    rows: Array
    first: int | None
    place: int | None = None
    left: int = 0
    times: int = 0


class SharedCalls:
    """The calls of one pool."""

    def __init__(self, plans: Plans, store: PoolStore, crew: Crew, size_bytes: int) -> None:
        """Run nothing yet; ``size_bytes`` is the size of the file, by which work is shared."""
        self._plans, self._store, self._crew, self._size = plans, store, crew, size_bytes
        # What was pushed together of late, by the ids as they were given, and the last of them.
        self._selections: OrderedDict[tuple[int, ...], _Selection] = OrderedDict()
        self._last: tuple[list[int], _Selection] | None = None

    def forget(self) -> None:
        """Forget which streams were pushed together; to be called before the row of a stream changes."""
        self._selections.clear()
        self._last = None

    def settle(self) -> None:
        """Wait for threads that an interrupt left running; to be called before another writes a state."""
        self._crew.settle()
        self._last = None

    def run(self, form: Form, ids: list[int], rows: Mapping[int, int], columns: list[list[Any]]) -> list[Call]:
        """Run a group of streams, in one call for each thread that gets work; no state changes.

        Args:
            form: of the pieces.
            ids: the streams.
            rows: the row of the store of each stream by its id.
            columns: for each input what they gave.

        Returns:
            The calls, each to be committed if it did not fail.

        Raises:
            WrongDtypeError: the dtype of a piece is not the input's. Nothing changed.
        """
        selection = self._find(ids, rows)
        self._crew.settle()
        if selection.order is not None:
            columns = [[column[index] for index in selection.order] for column in columns]
        count = share_of_threads(self._crew.threads, len(ids), form.steps, self._size)
        if count == 1:
            cuts = [slice(0, len(ids))]
        else:
            ends = [len(ids) * part // count for part in range(count + 1)]
            cuts = [slice(start, stop) for start, stop in itertools.pairwise(ends)]
        direct = self._plans.direct and selection.first is not None and selection.times >= _SEEN
        place = 0
        if direct:
            place = self._one_place(selection) if selection.place is None else selection.place
        selection.place, selection.left, selection.times = None, len(ids), selection.times + 1
        calls: list[Call] = []
        options = self._plans.runner.options, self._plans.runner.run

        def prepare(thread: int) -> Job:
            cut = cuts[thread]
            parts = columns if count == 1 else [column[cut] for column in columns]
            own = selection.rows if count == 1 else selection.rows[cut]
            first = None if not direct or selection.first is None else selection.first + cut.start
            plan = self._plans.find(form, len(own), first=first, thread=thread)
            call = Call(ids=selection.ids[cut], rows=own, columns=parts, plan=plan, place=place)
            calls.append(call)
            self._fill(call)
            if call.failed is None and first is None:
                now = self._store.now[own]
                self._store.gather(own + (now & PLACE) * self._store.capacity, plan.before)
            return lambda: _run(call, *options)

        self._crew.run([lambda thread=thread: prepare(thread) for thread in range(count)])  # type: ignore[misc]
        for call in calls:
            if call.fault is not None:
                raise call.fault
        return calls

    def commit(self, form: Form, call: Call, answers: Answers) -> None:
        """Take over the new states of a call that did not fail, and write its answers.

        Args:
            form: of the pieces.
            call: the call; its ``overflowed`` are found here, and keep their old states.
            answers: gets the answers of the others.
        """
        plan, store, ids = call.plan, self._store, call.ids
        ask, what = plan.finite_after[call.place]
        places: Any = slice(0, len(ids))
        # Rows side by side are a slice, which NumPy takes faster than a list of them.
        rows: Any = call.rows if plan.first is None else slice(plan.first, plan.first + plan.rows)
        if not ask(what):
            good = self._finite_rows(call)
            if not good.all():
                call.overflowed = [number for number, fine in zip(ids, good.tolist(), strict=True) if not fine]
                places = np.flatnonzero(good)
                rows, ids = call.rows[places], [ids[place] for place in places.tolist()]
        now = store.now[rows]
        if plan.first is None:
            store.scatter(rows + ((now & PLACE) ^ PLACE) * store.capacity, plan.after, places)
        store.now[rows] = next_now(now, form.steps, lacks_batch=BATCH in form.lacks)
        if self._last is not None and plan.first is not None and not call.overflowed:
            selection = self._last[1]
            selection.left -= len(ids)
            if selection.left == 0:
                selection.place = call.place ^ PLACE
        found = {name: list(view[places].copy()) for name, view in plan.answers.items()}
        if len(found) == 1:
            answers.update(zip(ids, next(iter(found.values())), strict=True))
        else:
            for index, number in enumerate(ids):
                answers[number] = {name: views[index] for name, views in found.items()}

    def _find(self, ids: list[int], rows: Mapping[int, int]) -> _Selection:
        """Return the selection of these streams; the places of another than the last one's are not known."""
        if self._last is not None and self._last[0] == ids:
            return self._last[1]
        key = tuple(ids)
        selection = self._selections.get(key)
        if selection is None:
            selection = self._selections[key] = _select(ids, [rows[number] for number in ids])
            if len(self._selections) > _MOST_SELECTIONS:
                self._selections.popitem(last=False)
        selection.place = None
        self._last = (ids, selection)
        return selection

    def _one_place(self, selection: _Selection) -> int:
        """Bring the states of all rows into one place if they are in two, and return it."""
        first, rows = int(selection.rows[0]), len(selection.rows)
        places = self._store.now[first : first + rows] & PLACE
        if (places == places[0]).all():
            return int(places[0])
        self._store.align(first, rows)
        return 0

    def _fill(self, call: Call) -> None:
        plan, whole = call.plan, len(call.rows) == call.plan.rows
        for column, pieces in zip(plan.columns, call.columns, strict=True):
            column.fill(pieces, whole)
        ask, what = plan.finite
        if not ask(what) or (plan.others and not _others_finite(plan)):
            call.failed = ""
            # The rows beyond those of a call keep what they have: no NaN.
            for array in plan.inputs.values():
                array.fill(0)

    def _finite_rows(self, call: Call) -> Array:
        """Return for each row whether its new state is finite."""
        store, good = self._store, np.ones(len(call.rows), bool)
        after = call.rows + (call.place ^ PLACE) * store.capacity
        for index, spec in enumerate(store.states):
            if spec.dtype != "float32":
                continue
            if call.plan.first is not None:
                found = store.tables[index][:, after]
            else:
                found = call.plan.after[index][:, : 1 if is_shared(spec) else len(call.rows)]
            values = np.ascontiguousarray(found).view(np.float32).reshape(*found.shape, -1)
            good &= np.isfinite(values).all(axis=(0, 2))
        return good


def _select(ids: list[int], rows: list[int]) -> _Selection:
    first, last = min(rows), max(rows)
    array = np.array(rows, np.int64)
    if last - first + 1 != len(rows):
        return _Selection(ids=ids, order=None, rows=array, first=None)
    straight = list(range(first, last + 1))
    if rows == straight:
        return _Selection(ids=ids, order=None, rows=array, first=first)
    order = np.argsort(array).tolist()
    return _Selection(ids=[ids[index] for index in order], order=order, rows=np.array(straight, np.int64), first=first)


def share_of_threads(threads: int, rows: int, steps: int, size_bytes: int) -> int:
    """Return how many threads share a call.

    Args:
        threads: the threads of the pool.
        rows: rows of the call.
        steps: steps of each.
        size_bytes: size of the file; its weights are read for each row and step.
    """
    return max(1, min(threads, rows, rows * steps * size_bytes // LEAST_WORK))


def _run(call: Call, options: Any, run: Any) -> None:
    if call.failed is not None:
        return
    binding = call.plan.bindings[call.place]
    try:
        run(binding.handle, options)
    except RUNTIME_ERRORS as error:
        call.failed = first_line(error) or "no reason given"
        for array in call.plan.inputs.values():
            array.fill(0)
    except BaseException as error:  # for the caller's thread
        call.fault = error


def _others_finite(plan: Plan) -> bool:
    return all(bool(np.isfinite(array).all()) for array in plan.inputs.values() if array.dtype.kind == "f")
