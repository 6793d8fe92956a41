"""Caches: arguments of forward that come back as results, whatever they hold and whatever their shape.

A state of a recurrent layer is found by ``carried.py``. Everything else that a call leaves to the next one is proved
here, by its values: the last frames that a convolution needs, counts, running statistics, keys and values. In a module
of many steps, pieces of a sequence must give the answers of the whole (``pieces.py``). Where they do not, and in a
module of one step, the graph and what becomes of the values decide, as for a foreign file (``adopt/caches.py``).
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from lstm_edge_exporters.adopt.caches import find_caches, same_stem
from lstm_edge_exporters.adopt.state_values import idle_states
from lstm_edge_exporters.onnx_graph.writing import to_proto
from lstm_edge_exporters.pytorch.cache_trials import GraphTrial, ModuleTrial, Sizes
from lstm_edge_exporters.pytorch.capture import Captured
from lstm_edge_exporters.pytorch.original import Original
from lstm_edge_exporters.pytorch.outputs import TRACED, axes_of_graph
from lstm_edge_exporters.pytorch.pieces import Pieces, assignments
from lstm_edge_exporters.verify.inputs import InputMaker, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, StateSpec, TensorSpec
from lstm_edge_runtime.errors import InputError

__all__ = ["with_returned_states"]

DType = Literal["float32", "int64", "int32"]
DTYPES: tuple[DType, ...] = get_args(DType)
Pairs = Mapping[str, str]
Say = Callable[[str], None]


def with_returned_states(
    captured: Captured, original: Original, maker: InputMaker, *, named: Pairs, say: Say
) -> tuple[Captured, Original, InputMaker]:
    """Make states of the inputs that are proved to be, or that the user says are.

    Args:
        captured: the graph, and the states of its recurrent layers.
        original: the module.
        maker: makes the inputs that are no states.
        named: results by input, as the user gave them.
        say: called with a sentence for each input that may be a state and is not proved to be.

    Raises:
        InputError: a pair that the user gave cannot be a state, or is proved not to be one; the message says why.
    """
    captured = replace(captured, outputs=axes_of_graph(captured.outputs, to_proto(captured.model).graph))
    search = _Search(captured, original, maker, named)
    if not search.candidates:
        return captured, original, maker
    pairs = search.pairs()
    for sentence in search.sentences:
        say(sentence)
    if not pairs:
        return captured, original, maker
    return _applied(captured, original, maker, search.specs(pairs))


def _applied(
    captured: Captured, original: Original, maker: InputMaker, found: Sequence[StateSpec]
) -> tuple[Captured, Original, InputMaker]:
    plan = original.plan
    places = {spec.name: place for place, spec in enumerate(plan.inputs)}
    # Forward's own in its order, then those that the exporter added.
    states = tuple(sorted((*plan.states, *found), key=lambda spec: places.get(spec.input, len(places))))
    entering, leaving = {spec.input for spec in found}, {spec.output for spec in found}

    def left(specs: Sequence[TensorSpec], taken: set[str]) -> tuple[TensorSpec, ...]:
        return tuple(spec for spec in specs if spec.name not in taken)

    captured = replace(
        captured,
        states=states,
        inputs=left(captured.inputs, entering),
        outputs=left(captured.outputs, leaving),
    )
    plan = replace(plan, states=states, outputs=left(plan.outputs, leaving))
    return captured, replace(original, plan=plan), maker.without(entering, lengths=maker.lengths)


class _Search:
    """Looks for the result that is the next value of an input; ``sentences`` say what remains uncertain."""

    def __init__(self, captured: Captured, original: Original, maker: InputMaker, named: Pairs) -> None:
        self._captured, self._plan, self._maker = captured, original.plan, maker
        self._module = ModuleTrial(original=original, maker=maker)
        known = {spec.input: spec.output for spec in original.plan.states}
        self._named = {source: end for source, end in named.items() if known.get(source) != end}
        _check_named(self._named, captured, known)
        self._results = {spec.name: spec for spec in captured.outputs}
        self.candidates = {
            spec.name: ends
            for spec in captured.inputs
            if TIME not in spec.axes and spec.dtype in DTYPES
            if (ends := [end.name for end in captured.outputs if (end.axes, end.dtype) == (spec.axes, spec.dtype)])
        }
        self._specs = {
            spec.name: _state(spec) for spec in captured.inputs if spec.name in {*self.candidates, *self._named}
        }
        self._counts = self._find_counts() if self.candidates else {}
        counting = [replace(spec, counts=spec.counts or name in self._counts) for name, spec in self._specs.items()]
        self._specs = {spec.input: spec for spec in self._in_domain(counting)}
        self.sentences: list[str] = []

    def pairs(self) -> dict[str, str]:
        """Return the result of each input that is a state."""
        found = self._by_pieces() if any(TIME in spec.axes for spec in self._captured.inputs) else None
        if found is None:
            found = self._by_values()
        idle = self._idle(found)
        for name in idle & self._named.keys():
            raise InputError(f"--state {name}={found[name]}: {self._is_idle(name, found[name])}")
        self.sentences += [self._is_idle(name, found[name]) for name in sorted(idle)]
        return {source: end for source, end in found.items() if source not in idle}

    def specs(self, pairs: Pairs) -> tuple[StateSpec, ...]:
        """Return the states of these pairs."""
        return tuple(replace(self._specs[source], output=end) for source, end in pairs.items())

    def _in_domain(self, specs: Sequence[StateSpec]) -> Sequence[StateSpec]:
        """Mark the candidates as ``nonnegative`` where the module's answers are finite at such values alone."""
        states = self._plan.states
        for nonnegative in (False, True):
            marked = [replace(spec, nonnegative=nonnegative) for spec in specs]
            given = random_state((*states, *marked), np.random.default_rng(47), TRACED[BATCH], zero=False)
            answers = self._module.run((), TRACED, given=given)
            if answers is not None and all(bool(np.isfinite(array).all()) for array in answers.values()):
                return marked
        return specs

    def _by_pieces(self) -> dict[str, str] | None:
        """The pairs by which pieces give the whole, as few as it takes; None where no pairs do."""
        pieces = Pieces(
            self._module.ask,
            self._maker,
            outputs=self._captured.outputs,
            states=self._plan.states,
            candidates=tuple(self._specs.values()),
        )
        if not pieces.runs:
            return None
        for pooled in (True, False):
            for pairs in assignments(self.candidates, self._named):
                if pieces.agree(pairs, pooled=pooled):
                    return self._fewest(pieces, pairs, pooled=pooled)
        if self._named:
            for pairs in assignments(self.candidates, {}):
                if pieces.agree(pairs, pooled=False):
                    raise self._disproved(pairs)
        return None

    def _fewest(self, pieces: Pieces, pairs: dict[str, str], *, pooled: bool) -> dict[str, str]:
        """Leave out the inputs that may keep their value from piece to piece: they are conditions."""
        for source in [name for name in pairs if name not in self._named]:
            fewer = {name: end for name, end in pairs.items() if name != source}
            if pieces.agree(fewer, pooled=pooled):
                pairs = fewer
        return pairs

    def _disproved(self, pairs: Pairs) -> InputError:
        source, end = next((s, e) for s, e in self._named.items() if pairs.get(s) != e)
        right = f"{source!r} is the state that {pairs[source]!r} returns" if source in pairs else f"{source!r} is none"
        return InputError(
            f"--state {source}={end}: pieces of a sequence, each with the states of the one before, do not give the "
            f"answers of the whole sequence so; they do where {right}: give that, or leave the option out"
        )

    def _by_values(self) -> dict[str, str]:
        """The pairs that the graph and the values prove, as in a foreign file, and those that the user gave."""
        captured = self._captured
        proved = find_caches(
            to_proto(captured.model).SerializeToString(),
            captured.inputs,
            {source: ends for source, ends in self.candidates.items() if self._specs[source].dtype == "float32"},
            sizes=Sizes(TRACED),
            open_trial=lambda data: GraphTrial(
                model=OpenModel.of(data),
                maker=self._maker,
                states=(*self._plan.states, *self._specs.values()),
                lengths=captured.lengths,
            ),
            related=self._related,
            counts=self._counts,
        )
        for source, ends in self._counts.items():
            proved.setdefault(source, [end for end in ends if self._related(source, end)])
        found: dict[str, str] = {}
        for source, ends in proved.items():
            if source in self._named and self._named[source] not in ends:
                raise InputError(
                    f"--state {source}={self._named[source]}: the values of {source!r} come back in "
                    f"{' or '.join(map(repr, ends))}: give that, or leave the option out"
                )
            free = [end for end in ends if end not in self._named.values()]
            if source not in self._named and len(free) == 1:
                found[source] = free[0]
        doubles = [end for end in found.values() if list(found.values()).count(end) > 1]
        found = {source: end for source, end in found.items() if end not in doubles} | self._named
        if len(found) == len(captured.inputs):
            found = dict(self._named)  # something must enter besides states
        self.sentences += self._open(found)
        return found

    def _open(self, found: Pairs) -> list[str]:
        """Return a sentence for each input that may be a state; forward's first is usually data."""
        left = {
            source: free
            for source, ends in self.candidates.items()
            if source not in found and (free := [end for end in ends if end not in found.values()])
        }
        if len(self._captured.inputs) - len(found) == 1:
            return []
        several = [source for source in left if source != self._plan.inputs[0].name]
        return [
            f"input {source!r} may be a state ({', '.join(left[source])} of forward's results has its shape), but what "
            f"becomes of its values does not prove it: --state {source}={left[source][0]} says so"
            for source in several or left
        ]

    def _find_counts(self) -> dict[str, list[str]]:
        """The inputs that count, and the results that go on: whole numbers that depend on the input's alone."""
        zeros = {
            spec.input: array
            for spec in (*self._plan.states, *self._specs.values())
            for array in random_state([spec], np.random.default_rng(0), TRACED[BATCH], zero=True).values()
        }
        runs: dict[str, list[dict[str, Array] | None]] = {
            source: [
                self._module.run((), TRACED, seed=seed, given={**zeros, source: zeros[source] + start})
                for start, seed in itertools.product((0, 1, 2), (1, 2))
            ]
            for source in self.candidates
        }
        return {
            source: ends
            for source, answers in runs.items()
            if (ends := [end for end in self.candidates[source] if _goes_on(answers, end)])
        }

    def _related(self, source: str, end: str) -> bool:
        """Say whether the names agree, or the places: neither comes first, and both are in the order of the states."""
        if same_stem(source, end):
            return True
        inputs, results = [spec.name for spec in self._plan.inputs], list(self._plan.results)
        place, back = inputs.index(source), results.index(end)
        own = [(inputs.index(s.input), results.index(s.output)) for s in self._plan.states if s.input in inputs]
        return bool(place and back) and all((place < a) == (back < b) for a, b in own)

    def _idle(self, pairs: Pairs) -> set[str]:
        """The inputs whose value changes no answer in calls in a row."""
        specs = [replace(self._specs[source], output=end) for source, end in pairs.items()]
        states = (*specs, *self._plan.states)
        idle = idle_states(self._module, self._captured.inputs, TRACED, states)
        return {spec.input for spec in idle if spec in specs}

    @staticmethod
    def _is_idle(source: str, end: str) -> str:
        return f"input {source!r}, which comes back as {end!r}, changes no other result, so it is not a state"


def _state(spec: TensorSpec) -> StateSpec:
    dtype: DType = next(dtype for dtype in DTYPES if dtype == spec.dtype)
    return StateSpec(
        input=spec.name,
        output="",
        kind="packed",
        module=spec.name,
        layer=0,
        axes=spec.axes,
        dtype=dtype,
        counts=dtype != "float32",
    )


def _check_named(named: Pairs, captured: Captured, known: Pairs) -> None:
    """Refuse a pair whose names or shapes cannot be those of a state.

    Raises:
        InputError: there is no such input or result, they differ, or nothing reads the input.
    """
    inputs, results = ({spec.name: spec for spec in specs} for specs in (captured.inputs, captured.outputs))
    for source, end in named.items():
        given = f"--state {source}={end}"
        if source in known:
            raise InputError(f"{given}: {source!r} is a state already, which comes back as {known[source]!r}")
        if end in known.values():
            whose = next(name for name, leaving in known.items() if leaving == end)
            raise InputError(f"{given}: {end!r} is the state of {whose!r} already")
        if source not in inputs:
            raise InputError(f"{given}: there is no input {source!r}; the inputs are {', '.join([*inputs, *known])}")
        if end not in results:
            raise InputError(
                f"{given}: forward returns no {end!r}; its results are {', '.join([*results, *known.values()])}"
            )
        one, other = inputs[source], results[end]
        if (one.axes, one.dtype) != (other.axes, other.dtype) or one.dtype not in DTYPES or TIME in one.axes:
            raise InputError(
                f"{given}: the input is {one.dtype} {_axes(one)}, the result {other.dtype} {_axes(other)}; expected an "
                "input of numbers without a time axis, and a result of its shape and dtype"
            )
        value = next(value for value in captured.model.graph.inputs if value.name == source)
        if not value.uses() and not value.is_graph_output():
            raise InputError(f"{given}: forward does not use {source!r}, so what is fed to it changes nothing")


def _goes_on(answers: Sequence[Mapping[str, Array] | None], end: str) -> bool:
    """Say whether a count goes on, perhaps around a ring: from 0, 1 and 2, for two draws of the other inputs each."""
    values = [answer[end] for answer in answers if answer is not None]
    if len(values) < len(answers) or not all(value.size and np.isfinite(value).all() for value in values):
        return False
    numbers = [int(value.flat[0]) for value in values]
    same = all(np.array_equal(v, np.full_like(v, n)) for v, n in zip(values, numbers, strict=True))
    first, around = numbers[0], max(numbers) + 1
    further = [first, first, first + 1, first + 1, first + 2, first + 2]
    return same and first > 0 and numbers in (further, [number % around for number in further])


def _axes(spec: TensorSpec) -> str:
    return f"[{', '.join(map(str, spec.axes))}]"
