"""The streams of a pool whose model gives one output step for each input step: rows of one store, run together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, Streaming
from lstm_edge_runtime.checks import check_finite
from lstm_edge_runtime.delivery import answer_shape
from lstm_edge_runtime.errors import InputError, StreamingError
from lstm_edge_runtime.keeping import ENDED
from lstm_edge_runtime.moment import Moment, moment_from_arrays, moment_to_arrays
from lstm_edge_runtime.pieces import PieceReader
from lstm_edge_runtime.pool_answers import Answers
from lstm_edge_runtime.pool_calls import Call, SharedCalls
from lstm_edge_runtime.pool_plans import Form, WrongDtypeError
from lstm_edge_runtime.pool_store import PoolStore, is_shared
from lstm_edge_runtime.state import State

__all__ = ["RowStreams"]


@dataclass(kw_only=True, slots=True)
class _Group:
    """Streams whose pieces share a call: their ids, and for each input what they gave."""

    form: Form
    ids: list[int] = field(default_factory=list)
    columns: list[list[Any]] = field(default_factory=list)


class RowStreams:
    """The streams of one pool by id; ids are the caller's, and are valid here."""

    def __init__(self, reader: PieceReader, store: PoolStore, calls: SharedCalls) -> None:
        """Have no stream yet."""
        self._reader, self._store, self._calls = reader, store, calls
        # The row of each stream by its id, in the order of attachment.
        self.rows: dict[int, int] = {}
        # What each stream was given last of the inputs without a time axis.
        self._held: dict[int, dict[str, Array]] = {}
        self._ended: set[int] = set()
        contract = reader.contract
        # Inputs and states without a batch axis: streams share a call if they agree in them.
        self._agreed = tuple(spec.name for spec in contract.inputs if BATCH not in spec.axes)
        self._shares = any(map(is_shared, contract.states))
        self._names = tuple(spec.name for spec in reader.moving)
        self._dtypes = tuple(np.dtype(spec.dtype) for spec in reader.moving)
        # The form of the last call, if pieces of it can be looked at together.
        self._form: Form | None = None
        self._quick = not (reader.conditions or self._agreed or self._shares)

    def attach(self, number: int, state: State) -> None:
        """Start a stream at a state, in the lowest row that is free."""
        self._calls.forget()
        self._calls.settle()
        used, row = set(self.rows.values()), 0
        while row in used:
            row += 1
        self._store.write(row, state, 0)
        self.rows[number] = row

    def detach(self, number: int) -> State:
        """Forget a stream, and return its state."""
        state = self.state(number)
        self._calls.forget()
        del self.rows[number]
        self._held.pop(number, None)
        self._ended.discard(number)
        return state

    def state(self, number: int) -> State:
        """Return a copy of the state of a stream."""
        return self._store.read(self.rows[number])

    def set_state(self, number: int, state: State) -> None:
        """Continue from a state; the steps stay."""
        self._calls.settle()
        self._store.write(self.rows[number], state, None)
        self._ended.discard(number)

    def steps(self, number: int) -> int:
        """Return the steps of a stream."""
        return self._store.steps(self.rows[number])

    def reset(self, number: int, initial: State) -> None:
        """Go back to a state and to step 0, without conditions."""
        self._calls.settle()
        self._held.pop(number, None)
        row = self.rows[number]
        lacks = self._store.lacks_batch(row) and not self._reader.conditions
        self._store.write(row, initial, 0, lacks_batch=lacks)
        self._ended.discard(number)

    def snapshot(self, number: int) -> dict[str, Array]:
        """Return everything of a stream as arrays."""
        steps = self.steps(number)
        return moment_to_arrays(
            Moment(
                state=self.state(number),
                steps=steps,
                begun=steps > 0,
                ended=number in self._ended,
                conditions=self._held.get(number, {}),
            )
        )

    def restore(self, number: int, arrays: Mapping[str, Any]) -> None:
        """Continue from a snapshot."""
        moment = moment_from_arrays(arrays, self._reader, Streaming(verdict="every-step"))
        self._calls.settle()
        self._held[number] = dict(moment.conditions)
        self._store.write(self.rows[number], moment.state, moment.steps)
        (self._ended.add if moment.ended else self._ended.discard)(number)

    def flush(self, number: int) -> dict[str, Array]:
        """End a sequence; such a model has nothing left to give."""
        row = self.rows[number]
        lacks = self._store.lacks_batch(row) and BATCH in self._reader.moving[0].axes
        self._ended.add(number)
        self._store.forget_form(row)
        return {
            spec.name: np.zeros(answer_shape(spec, 0, 1, lacks_batch=lacks, called=False), spec.dtype)
            for spec in self._reader.contract.outputs
        }

    def push(self, pieces: Mapping[int, Any], answers: Answers) -> None:
        """Run a piece of each of some streams; see ``Pool.push``."""
        ids, given = list(pieces), list(pieces.values())
        form = self._form
        if form is not None and not (self._ended and not self._ended.isdisjoint(ids)):
            columns = self._columns(form, given)
            if columns is not None:
                try:
                    self._run(_Group(form=form, ids=ids, columns=columns), answers)
                    return
                except WrongDtypeError:
                    pass  # nothing changed: the piece is found below
        for group in self._sort(ids, given, answers):
            self._run(group, answers)

    def _columns(self, form: Form, given: list[Any]) -> list[list[Any]] | None:
        """Return for each input what the streams gave, if all gave NumPy arrays of a form's shapes, else None."""
        if len(self._names) == 1:
            columns = [given]
        elif set(map(type, given)) == {dict} and set(map(len, given)) == {len(self._names)}:
            try:
                columns = [list(map(itemgetter(name), given)) for name in self._names]
            except KeyError:
                return None
        else:
            return None
        for index, (column, shape, dtype) in enumerate(zip(columns, form.shapes, self._dtypes, strict=True)):
            types = set(map(type, column))
            if types == {np.ndarray}:
                if set(map(attrgetter("shape"), column)) != {shape}:
                    return None
            elif shape == () and dtype == np.int64 and types <= {int, np.int64}:
                try:
                    columns[index] = list(np.array(column, np.int64))
                except OverflowError:
                    return None
            else:
                return None
        return columns

    def _sort(self, ids: list[int], given: list[Any], answers: Answers) -> list[_Group]:
        """Check each piece, refuse those that are wrong, and put those that share a call into groups."""
        groups: dict[Any, _Group] = {}
        reader = self._reader
        for number, x in zip(ids, given, strict=True):
            try:
                arrays, form = self._read(number, x)
            except (InputError, StreamingError) as error:
                answers.refuse(number, error)
                continue
            agreed = tuple(arrays[name].tobytes() for name in self._agreed)
            key = (form.shapes, agreed, self._store.shared_key(self.rows[number]) if self._shares else ())
            group = groups.get(key)
            if group is None:
                group = groups[key] = _Group(form=form, columns=[[] for _ in reader.contract.inputs])
            group.ids.append(number)
            for column, spec in zip(group.columns, (*reader.moving, *reader.conditions), strict=True):
                column.append(arrays[spec.name])
        found = list(groups.values())
        if found and self._quick:
            self._form = found[-1].form
        return found

    def _read(self, number: int, x: Any) -> tuple[dict[str, Array], Form]:
        """Check the piece of one stream, as ``Stream`` does."""
        if number in self._ended:
            raise StreamingError(ENDED)
        reader, steps = self._reader, self.steps(number)
        arrays = reader.read(x, self._held.get(number, {}), steps)
        lacks, count = reader.find_form(arrays)
        for spec in reader.moving:
            try:
                check_finite(spec.name, arrays[spec.name])
            except InputError as error:
                raise InputError(f"step {steps}: {error}; the state is unchanged") from error
        shapes = tuple(arrays[spec.name].shape for spec in reader.moving)
        return arrays, Form(shapes=shapes, lacks=lacks, steps=count)

    def _run(self, group: _Group, answers: Answers) -> None:
        calls = self._calls.run(group.form, group.ids, self.rows, group.columns)
        # What failed runs again in parts, in the buffers of all of these calls.
        for call in sorted(calls, key=lambda call: call.failed is not None):
            self._conclude(group.form, call, answers)

    def _conclude(self, form: Form, call: Call, answers: Answers) -> None:
        """Take the answers of a call; where it failed, find out which streams it must refuse, and run the others."""
        if call.failed is None:
            self._calls.commit(form, call, answers)
            self._hold(call)
            for number in call.overflowed:
                text = "the new state is not finite: it was discarded, and the old state was kept"
                answers.refuse(number, InputError(f"step {self.steps(number)}: {text}"))
            return
        if call.failed == "" or len(call.ids) > 1:
            again = self._without_refused(call, answers) if call.failed == "" else _each(call)
            for ids, columns in again:
                self._run(_Group(form=form, ids=ids, columns=columns), answers)
            return
        [number] = call.ids
        text = f"onnxruntime refused this input, the state is unchanged: {call.failed}"
        answers.refuse(number, InputError(f"step {self.steps(number)}: {text}"))

    def _hold(self, call: Call) -> None:
        """Hold the conditions of the streams of a call that was taken over."""
        specs = self._reader.conditions
        if not specs:
            return
        columns = call.columns[len(self._names) :]
        for index, number in enumerate(call.ids):
            if number not in call.overflowed:
                held = {spec.name: column[index] for spec, column in zip(specs, columns, strict=True)}
                self._held[number] = {name: array.copy() for name, array in held.items()}

    def _without_refused(self, call: Call, answers: Answers) -> list[tuple[list[int], list[list[Any]]]]:
        """Refuse the streams that gave NaN or infinity; return the ids and columns of the others."""
        keep = []
        for index, number in enumerate(call.ids):
            try:
                for name, column in zip(self._names, call.columns, strict=False):
                    check_finite(name, np.asarray(column[index]))
                keep.append(index)
            except InputError as error:
                text = f"step {self.steps(number)}: {error}; the state is unchanged"
                answers.refuse(number, InputError(text))
        if not keep:
            return []
        return [([call.ids[i] for i in keep], [[column[i] for i in keep] for column in call.columns])]


def _each(call: Call) -> Sequence[tuple[list[int], list[list[Any]]]]:
    """Return the ids and columns of calls with one row each."""
    return [([number], [[column[i]] for column in call.columns]) for i, number in enumerate(call.ids)]
