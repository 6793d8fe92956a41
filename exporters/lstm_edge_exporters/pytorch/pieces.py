"""Which of forward's results are the next values of its inputs: those by which pieces of a sequence give the whole.

A sequence is run whole and in pieces. Where a result is the next value of an input, feeding it back makes the answers
of the pieces those of the whole sequence. A condition, which has the shape of a result by chance, makes them others;
so do two caches of one shape that are fed to each other.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from lstm_edge_exporters.adopt.caches import same_stem
from lstm_edge_exporters.verify.chunks import cut_time, join_time
from lstm_edge_exporters.verify.inputs import InputMaker, random_state
from lstm_edge_exporters.verify.parity import EXPORT
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TIME, StateSpec, TensorSpec

__all__ = ["Pieces", "assignments"]

# Steps of each piece. A register of a few steps keeps some of them over the short sequence, and none over the long one.
CUTS = ((1, 1), (1,) * 6, (2, 4), (5, 2))
ROWS = 2
# Ways to pair inputs and results that are tried where the likely one fails.
MOST_ASSIGNMENTS = 200

Pairs = Mapping[str, str]


# The answers by name to inputs and states by name, for a number of steps; None where there are none.
Ask = Callable[[Mapping[str, Array], int], dict[str, Array] | None]


class Pieces:
    """Compares pieces with the whole, for any pairing of inputs and results."""

    def __init__(
        self,
        ask: Ask,
        maker: InputMaker,
        *,
        outputs: Sequence[TensorSpec],
        states: Sequence[StateSpec],
        candidates: Sequence[StateSpec],
    ) -> None:
        """Run the whole sequences.

        Args:
            ask: runs the module.
            maker: makes its inputs, except the known states.
            outputs: its results that are no states yet.
            states: the states that are known.
            candidates: the inputs that may be states; their ``output`` says nothing.
        """
        self._ask, self._states = ask, states
        self._axes = {spec.name: spec.axes for spec in outputs}
        self._moving = [spec for spec in maker.specs if spec.name not in {spec.input for spec in candidates}]
        rng = np.random.default_rng(11)
        self._sequences = []
        for cut, zero in itertools.product(CUTS, (True, False)):
            sequence = maker.make(rng, ROWS, sum(cut))
            start = random_state((*states, *candidates), rng, ROWS, zero=zero)
            self._sequences.append((cut, sequence, start, ask(sequence | start, sum(cut))))

    @property
    def runs(self) -> bool:
        """Whether the module answers to the whole sequences, with numbers that can be compared."""
        return all(
            whole is not None and all(bool(np.isfinite(array).all()) for array in whole.values())
            for *_, whole in self._sequences
        )

    def agree(self, pairs: Pairs, *, pooled: bool) -> bool:
        """Say whether the pieces give the whole where each result in ``pairs`` is fed to its input.

        ``pooled``: results without a time axis that are no states are compared too, with those of the last piece.
        """
        fed = {spec.input: spec.output for spec in self._states} | dict(pairs)
        for cut, sequence, given, whole in self._sequences:
            state, start, answers = dict(given), 0, []
            for steps in cut:
                answer = self._ask(cut_time(self._moving, sequence, start, steps) | state, steps)
                if answer is None or any(answer[end].shape != state[source].shape for source, end in fed.items()):
                    return False
                state |= {source: answer[end] for source, end in fed.items()}
                answers.append(answer)
                start += steps
            if whole is None or not self._same(answers, whole, set(fed.values()), pooled=pooled):
                return False
        return True

    def _same(
        self, pieces: Sequence[Mapping[str, Array]], whole: Mapping[str, Array], fed: AbstractSet[str], *, pooled: bool
    ) -> bool:
        for name, expected in whole.items():
            axes = () if name in fed else self._axes.get(name, ())
            if name in fed or TIME in axes or pooled:
                joined = join_time([piece[name] for piece in pieces], axes)
                if joined.shape != expected.shape or not _close(joined, expected):
                    return False
        return True


def _close(a: Array, b: Array) -> bool:
    if a.dtype.kind != "f":
        return np.array_equal(a, b)
    distance = np.abs(a.astype(np.float64) - b)
    limit = EXPORT.absolute * max(1.0, float(np.max(np.abs(b), initial=0.0)))
    return bool(np.max(distance, initial=0.0) <= limit)


def assignments(candidates: Mapping[str, Sequence[str]], named: Pairs) -> Iterator[dict[str, str]]:
    """Yield ways to pair inputs with the results of their shape, the likely one first and then those of most pairs.

    Args:
        candidates: for each input the results of its shape, both in forward's order.
        named: pairs that the user gave, which are in each of them.
    """
    likely = _likely(candidates, named)
    yield likely
    free = {source: ends for source, ends in candidates.items() if source not in named}
    choices = [[*(end for end in ends if end not in named.values()), ""] for ends in free.values()]
    ways = (
        dict(named) | {source: end for source, end in zip(free, way, strict=True) if end}
        for way in itertools.islice(itertools.product(*choices), 20 * MOST_ASSIGNMENTS)
    )
    fitting = [pairs for pairs in ways if len(set(pairs.values())) == len(pairs) and pairs != likely]
    yield from sorted(fitting, key=len, reverse=True)[:MOST_ASSIGNMENTS]


def _likely(candidates: Mapping[str, Sequence[str]], named: Pairs) -> dict[str, str]:
    """By name; else in order, of the last results of a shape: answers come first."""
    pairs = dict(named)
    for source, ends in candidates.items():
        alike = [end for end in ends if same_stem(source, end) and end not in pairs.values()]
        if source not in pairs and len(alike) == 1:
            pairs[source] = alike[0]
    shapes = {tuple(ends) for ends in candidates.values()}
    for ends in shapes:
        sources = [source for source, own in candidates.items() if tuple(own) == ends and source not in pairs]
        left = [end for end in ends if end not in pairs.values()]
        pairs |= dict(zip(sources, left[-len(sources) :] if sources else (), strict=False))
    return pairs
