"""Proves a graph whose operations along time keep caches: pushes of any size against the whole sequence."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_edge_exporters.verify.chunks import cut_time, join_time
from lstm_edge_exporters.verify.inputs import InputMaker, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_exporters.verify.parity import EXPORT
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, StateSpec, Streaming, TensorSpec
from lstm_edge_runtime.errors import first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS
from lstm_edge_runtime.state import state_shape
from lstm_edge_runtime.stepping import given_steps, ready_steps

__all__ = ["Whole", "calls_of", "compare_pushes", "pushes_of"]

BATCH_SIZE = 2
# Pushes of single steps of a long sequence only make the calls that larger ones make.
_MOST_PUSHES = 4096


@dataclass(frozen=True)
class Whole(OpenModel):
    """A graph with caches, asked for whole sequences: the caches are zeros, and the sequence ends with the call."""

    specs: tuple[TensorSpec, ...] = ()
    caches: tuple[StateSpec, ...] = ()
    end: str | None = None

    def answers(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name, without the caches'."""
        rows = next((feeds[spec.name].shape[spec.axes.index(BATCH)] for spec in self.specs if BATCH in spec.axes), 1)
        added = {spec.input: np.zeros(state_shape(spec, rows), np.float32) for spec in self.caches}
        answers = super().answers({**feeds, **added, **ending(self.end, last=True)})
        leaving = {spec.output for spec in self.caches}
        return {name: array for name, array in answers.items() if name not in leaving}


def ending(name: str | None, *, last: bool) -> dict[str, Array]:
    """Return the input that says whether the sequence ends with a call, for a graph that has one."""
    return {} if name is None else {name: np.asarray([int(last)], np.int64)}


def calls_of(pushes: Sequence[int], streaming: Streaming) -> tuple[list[int], int]:
    """Return the steps of each call of the graph that pushes lead to, and the steps that are left over."""
    calls: list[int] = []
    kept = 0
    for push in pushes:
        kept += push
        steps = ready_steps(streaming, kept, begun=bool(calls))
        if steps:
            calls.append(steps)
            kept -= steps
    return calls, kept


def pushes_of(steps: int) -> Iterator[tuple[int, ...]]:
    """Yield ways to cut a sequence: chunks of 1, 2 and 7 steps, all but one step, all, and ragged ones."""
    for size in (1, 2, 7):
        if steps // size <= _MOST_PUSHES:
            yield (size,) * (steps // size) + ((steps % size,) if steps % size else ())
    yield (steps,)
    if steps > 1:
        yield (steps - 1, 1)
    ragged = [size for size in (5, 1, 3, steps // 3) if size > 0]
    cut: list[int] = []
    for size in ragged:
        if sum(cut) + size < steps:
            cut.append(size)
    yield (*cut, steps - sum(cut))


def compare_pushes(
    model: OpenModel,
    plain: OpenModel,
    maker: InputMaker,
    *,
    outputs: Sequence[TensorSpec],
    states: Sequence[StateSpec],
    caches: Sequence[StateSpec],
    streaming: Streaming,
    fewest: int,
) -> str:
    """Return why pushes give other answers than the graph without caches gives for the whole, or an empty text."""
    trial = _Trial(model, plain, maker, tuple(outputs), tuple(states), tuple(caches), streaming)
    every, first = streaming.every, streaming.first
    for steps in (first + 12 * every, first + 6 * every + (every + 1) // 2, first + every, first, first - 1, 1):
        if steps < max(fewest, 1):
            continue
        whole = trial.ask_whole(steps)
        if isinstance(whole, str):
            return whole
        tried: set[tuple[tuple[int, ...], int]] = set()
        for pushes in pushes_of(steps):
            calls, rest = calls_of(pushes, streaming)
            if (tuple(calls), rest) in tried:
                continue
            tried.add((tuple(calls), rest))
            problem = trial.compare(whole, calls, rest)
            if problem:
                return problem
    return ""


@dataclass
class _Trial:
    model: OpenModel
    plain: OpenModel
    maker: InputMaker
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    caches: tuple[StateSpec, ...]
    streaming: Streaming

    def ask_whole(self, steps: int) -> dict[str, Array] | str:
        """The answers of the graph without caches, or why there are none."""
        rng = np.random.default_rng(steps)
        self.inputs = self.maker.make(rng, BATCH_SIZE, steps)
        self.start = random_state(self.states, rng, BATCH_SIZE, zero=False)
        try:
            return self.plain.answers({**self.inputs, **self.start})
        except RUNTIME_ERRORS as error:
            return f"a sequence of {steps} steps fails: {first_line(error)}"

    def compare(self, whole: Mapping[str, Array], calls: Sequence[int], rest: int) -> str:
        """Return why the answers of calls, joined, are not those of the whole."""
        state = self.start | {spec.input: np.zeros(state_shape(spec, BATCH_SIZE), np.float32) for spec in self.caches}
        how = (
            f"calls of {', '.join(map(str, [*calls[:3], *['...'] * (len(calls) > 3)]))} steps" if calls else "one call"
        )
        pieces: list[dict[str, Array]] = []
        start, answers = 0, dict[str, Array]()
        try:
            for number, steps in enumerate(calls):
                answers = self._call(state, start, steps, last=False)
                problem = self._counts(answers, number, steps)
                if problem:
                    return f"{how}: {problem}"
                if number < len(calls) - 1:
                    state = {spec.input: answers[spec.output] for spec in (*self.states, *self.caches)}
                    start += steps
                    pieces.append(answers)
            final = self._call(state, start, (calls[-1] if calls else 0) + rest, last=True)
        except RUNTIME_ERRORS as error:
            return f"{how} fail: {first_line(error)}"
        pieces.append(final)
        return self._difference(whole, pieces, how) or (self._prefix(answers, final, how) if calls else "")

    def _call(self, state: Mapping[str, Array], start: int, steps: int, *, last: bool) -> dict[str, Array]:
        part = cut_time(self.maker.specs, self.inputs, start, steps)
        return self.model.answers({**part, **state, **ending(self.streaming.end, last=last)})

    def _counts(self, answers: Mapping[str, Array], number: int, steps: int) -> str:
        expected = given_steps(self.streaming, steps, begun=number > 0)
        for spec in self.outputs:
            if TIME in spec.axes and answers[spec.name].shape[spec.axes.index(TIME)] != expected:
                return f"{spec.name} has shape {list(answers[spec.name].shape)}, expected {expected} steps"
        return ""

    def _difference(self, whole: Mapping[str, Array], pieces: Sequence[Mapping[str, Array]], how: str) -> str:
        named: list[tuple[str, tuple[str | int, ...]]] = [(spec.output, ()) for spec in self.states]
        for name, axes in [*((spec.name, spec.axes) for spec in self.outputs), *named]:
            joined = join_time([piece[name] for piece in pieces], axes)
            problem = _apart(joined, whole[name])
            if problem:
                return f"{how} give another {name} than the whole sequence ({problem})"
        return ""

    def _prefix(self, answers: Mapping[str, Array], final: Mapping[str, Array], how: str) -> str:
        for spec in self.outputs:
            if TIME not in spec.axes:
                continue
            steps = answers[spec.name].shape[spec.axes.index(TIME)]
            again = np.take(final[spec.name], range(steps), axis=spec.axes.index(TIME))
            if problem := _apart(answers[spec.name], again):
                return f"{how}: the end of the sequence changes earlier steps of {spec.name} ({problem})"
        return ""


def _apart(got: Array, expected: Array) -> str:
    if got.shape != expected.shape:
        return f"shape {list(got.shape)} against {list(expected.shape)}"
    if not got.size:
        return ""
    distance = float(np.max(np.abs(got.astype(np.float64) - expected)))
    limit = EXPORT.absolute * max(1.0, float(np.max(np.abs(expected))))
    return "" if distance <= limit else f"difference {distance:.2g}"
