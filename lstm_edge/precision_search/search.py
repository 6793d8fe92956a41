"""Search for the cheapest assignment of schemes within a budget, with few measurements. Pure: a callable measures.

A ``Mix``, an assignment of schemes, gives each part (an ``Axis``) one of its options, by number. Option 0 is the
finest; coarser options follow. The cost (bytes, or microseconds per step) and the loss (the metric's drop) of an
assignment are predicted as the sums of its options' costs and losses alone. Additive losses are the usual assumption of
mixed-precision search (Dong et al., HAWQ-V2, 2020, section 3.1). The prediction only decides what is measured next:
every result is measured as a whole.
"""

import copy
import itertools
import math
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Axis", "Mix", "Option", "Request", "Search", "Trial", "frontier"]

Mix = tuple[int, ...]

# Largest number of frontier points; with more points the knapsack is no longer exact. A point is two numbers and a
# tuple: 4,096 points times ten options merge in about ten milliseconds per part.
MOST_POINTS = 4096
# A move is tried if the additive model predicts a drop below this multiple of the budget, because the model's errors
# have both signs. If no move is left, the next multiple is used, with moves of more parts at once: on synthetic models
# of 6 parts and 6 schemes (tests/toolkit/test_budget_search.py) moves of two parts ended more than 2 % above the best
# in 3 of 40 cases, moves of three parts in none.
HOPES = ((1.25, 2), (1.25, 3), (2.0, 3))
# Moves that are compared for each evaluation, which takes some tenths of a second. With more moves fewer parts move.
MOST_MOVES = 50_000
# Share of the evaluations that is reserved during the search for the first result, in case it fails on held-out data.
KEPT_BACK = 0.2


@dataclass(frozen=True, kw_only=True)
class Option:
    """A scheme of one part, with its change of the cost and its drop of the metric, both for this part alone.

    ``also``: other names of the same rounding, such as blocks of 128 over at most 32 inputs.
    """

    scheme: str
    cost: float
    loss: float
    also: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A part of a layer and its options, the finest (unchanged: cost and loss 0) first."""

    part: str
    layer: str
    options: tuple[Option, ...]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A built assignment: its real cost, and the bound of its drop, None if its cost already excluded it."""

    mix: Mix
    cost: float
    high: float | None


# Builds an assignment, and evaluates it if its cost is below the second argument.
Measure = Callable[[Mix, float], Trial]
# An assignment to measure, and the cost below which it is evaluated.
Request = tuple[Mix, float]


class Search:
    """The measurements so far, and the search for a cheaper assignment.

    Attributes:
        trials: measurements by assignment.
        exhaustive: whether every assignment may be measured, so that the result is optimal.
        size: number of assignments.
        planned: largest number of measured assignments, including the known ones.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        measure: Measure,
        *,
        base_cost: float,
        allowed: float,
        most: int,
        known: Iterable[Trial] = (),
        ceiling: float = math.inf,
        overhead: float = math.inf,
    ) -> None:
        """Prepare a search; nothing is measured yet.

        Args:
            axes: the parts to decide on.
            measure: builds and evaluates an assignment; it must be deterministic.
            base_cost: cost of the assignment of the finest options.
            allowed: the largest bound of the drop that passes.
            most: largest number of new measurements.
            known: earlier measurements of assignments of these axes.
            ceiling: a result must cost less than this.
            overhead: largest amount by which the real cost can be below the predicted one; may be infinite.
        """
        self._axes, self._measure, self._base, self._allowed = tuple(axes), measure, base_cost, allowed
        self._ceiling, self._overhead = ceiling, overhead
        self.trials: dict[Mix, Trial] = {trial.mix: trial for trial in known}
        self._most, self._measured = max(0, most), 0
        self._asked: tuple[float, frozenset[Mix]] = 1.0, frozenset()
        self._frontier: list[Mix] | None = None
        self.size = math.prod(len(axis.options) for axis in self._axes)
        # What was only built may have to be evaluated now.
        evaluated = sum(trial.high is not None for trial in self.trials.values())
        self.exhaustive = self.size - evaluated <= self._most
        self.planned = self.size if self.exhaustive else len(self.trials) + self._most

    def best(self, share: float = 1.0, without: Collection[Mix] = ()) -> Trial | None:
        """Return the cheapest assignment whose bound is within ``share`` of the budget, or None.

        Args:
            share: share of the allowed drop, above 0 and at most 1.
            without: assignments that failed on held-out data.
        """
        self._asked = share, frozenset(without)
        steps = self._steps(*self._asked)
        try:
            request = next(steps)
            while True:
                request = steps.send(self._measure(*request))
        except StopIteration as end:
            best: Trial | None = end.value
            return best

    def foresee(self) -> Iterator[Request]:
        """Yield the measurements that may follow the present one of ``best``, the likely ones first.

        This runs the search ahead on predicted measurements, once as predicted and once with the present measurement
        the other way round. It changes nothing.
        """
        seen: set[Mix] = set()
        branches = [self._ahead(surprise=False), self._ahead(surprise=True)]
        for pair in itertools.zip_longest(*branches):
            for mix, below in filter(None, pair):
                if mix not in seen:
                    seen.add(mix)
                    yield mix, below

    def _ahead(self, *, surprise: bool) -> Iterator[Request]:
        """Yield the measurements after the present one, as one branch of ``foresee``."""
        twin = copy.copy(self)
        # The present measurement is asked for again.
        twin.trials, twin._measured = dict(self.trials), self._measured - 1
        steps = twin._steps(*self._asked)
        try:
            # Its limit is the highest that a later measurement can have.
            request = _, limit = next(steps)
            while True:
                request = steps.send(twin._guess(*request, surprise=surprise))
                surprise = False
                yield request[0], limit
        except StopIteration:
            return

    def _guess(self, mix: Mix, below: float, *, surprise: bool) -> Trial:
        """Return the measurement that the additive model predicts from the best one, or one with the other verdict."""
        share, barred = self._asked
        anchor = self._known(share, barred) or Trial(mix=(0,) * len(mix), cost=self._base, high=0.0)
        assert anchor.high is not None
        before, after = self.predicted(anchor.mix), self.predicted(mix)
        high = max(0.0, anchor.high + after[1] - before[1])
        if surprise:
            high = math.inf if high <= self._allowed * share else 0.0
        cost = anchor.cost + after[0] - before[0]
        return Trial(mix=mix, cost=cost, high=high if cost < below else None)

    def _steps(self, share: float, barred: Collection[Mix]) -> Generator[Request, Trial, Trial | None]:
        """Search; yields each request for a measurement and gets it sent."""
        if self.exhaustive:
            return (yield from self._every(share, barred))
        most = self._most if barred else self._most - int(KEPT_BACK * (self._most - self._measured))
        yield from self._bisect(share, barred, most)
        best = self._known(share, barred)
        while best is not None and self._measured < most:
            moves = (self._move(best, hope * share, share, barred, parts) for hope, parts in HOPES)
            mix = next((mix for mix in moves if mix is not None), None)
            if mix is None:
                break
            trial = yield from self._try(mix, best.cost)
            if self._passes(trial, share) and trial.cost < best.cost:
                best = trial
        return best

    def predicted(self, mix: Mix) -> tuple[float, float]:
        """Return the cost and the drop of an assignment, predicted by the additive model."""
        options = [axis.options[number] for axis, number in zip(self._axes, mix, strict=True)]
        return self._base + sum(option.cost for option in options), sum(option.loss for option in options)

    def _passes(self, trial: Trial, share: float) -> bool:
        return trial.high is not None and trial.high <= self._allowed * share and trial.cost < self._ceiling

    def _try(self, mix: Mix, below: float) -> Generator[Request, Trial, Trial]:
        known = self.trials.get(mix)
        if known is None or (known.high is None and known.cost < below):
            self._measured += 1
            self.trials[mix] = known = yield mix, below
        return known

    def _known(self, share: float, barred: Collection[Mix]) -> Trial | None:
        passing = [trial for trial in self.trials.values() if trial.mix not in barred and self._passes(trial, share)]
        return min(passing, key=lambda trial: (trial.cost, trial.mix), default=None)

    def _every(self, share: float, barred: Collection[Mix]) -> Generator[Request, Trial, Trial | None]:
        """Measure all assignments in the order of predicted cost; only those cheaper than the best are evaluated."""
        best = self._known(share, barred)
        mixes = sorted((self.predicted(mix)[0], mix) for mix in _all_mixes(self._axes) if mix not in barred)
        for cost, mix in mixes:
            limit = self._ceiling if best is None else best.cost
            if cost - self._overhead >= limit:
                break
            trial = yield from self._try(mix, limit)
            if self._passes(trial, share) and (best is None or (trial.cost, trial.mix) < (best.cost, best.mix)):
                best = trial
        return best

    def _bisect(self, share: float, barred: Collection[Mix], most: int) -> Generator[Request, Trial, None]:
        """Bisect the predicted frontier for the cheapest assignment within the budget."""
        if self._frontier is None:
            self._frontier = frontier(self._axes)
        points = [mix for mix in self._frontier if mix not in barred]
        low, high = 0, len(points) - 1
        while low <= high:
            middle = (low + high) // 2
            known = self.trials.get(points[middle])
            is_free = known is not None and (known.high is not None or known.cost >= self._ceiling)
            if not is_free and self._measured >= most:
                break
            trial = yield from self._try(points[middle], self._ceiling)
            if self._passes(trial, share) or trial.cost >= self._ceiling:
                high = middle - 1
            else:
                low = middle + 1

    def _move(self, best: Trial, hope: float, share: float, barred: Collection[Mix], parts: int) -> Mix | None:
        """Return the cheapest promising assignment that differs from ``best`` in at most ``parts`` parts, or None.

        The model is anchored at ``best``: its real cost and bound, plus the differences of the options alone. An
        assignment that is in no part finer than a failed one is not tried.
        """
        assert best.high is not None
        cost, loss = self.predicted(best.mix)
        failed = [t.mix for t in self.trials.values() if t.high is not None and t.high > self._allowed * share]
        room = hope * self._allowed
        found: tuple[float, Mix] | None = None
        for mix in _neighbours(best.mix, self._axes, parts):
            known = self.trials.get(mix)
            if mix in barred or (known is not None and (known.high is not None or known.cost >= best.cost)):
                continue
            expected = self.predicted(mix)
            key = (expected[0], mix)
            if expected[0] >= cost or best.high + expected[1] - loss > room or (found is not None and key >= found):
                continue
            if not any(all(a >= b for a, b in zip(mix, other, strict=True)) for other in failed):
                found = key
        return None if found is None else found[1]


def frontier(axes: Sequence[Axis]) -> list[Mix]:
    """Return the Pareto-optimal assignments in predicted cost and loss, the cheapest first.

    This is an exact knapsack by dynamic programming over the parts: dominated choices for the parts so far are dropped
    (Nemhauser and Ullmann, Discrete dynamic programming and capital allocation, 1969). More than 4,096 points are
    thinned out evenly.
    """
    points: list[tuple[float, float, Mix]] = [(0.0, 0.0, ())]
    for axis in axes:
        grown = sorted(
            (cost + option.cost, loss + option.loss, (*mix, number))
            for cost, loss, mix in points
            for number, option in enumerate(axis.options)
        )
        points, least = [], math.inf
        for point in grown:
            if point[1] < least:
                points.append(point)
                least = point[1]
        if len(points) > MOST_POINTS:
            last = len(points) - 1
            points = [points[round(index * last / (MOST_POINTS - 1))] for index in range(MOST_POINTS)]
    return [mix for _, _, mix in points]


def _all_mixes(axes: Sequence[Axis]) -> Iterator[Mix]:
    return itertools.product(*(range(len(axis.options)) for axis in axes))


def _neighbours(mix: Mix, axes: Sequence[Axis], parts: int) -> Iterator[Mix]:
    """Yield the assignments with other options for at most ``parts`` parts, or for fewer if these are too many."""
    others = [
        [number for number in range(len(axis.options)) if number != mix[place]] for place, axis in enumerate(axes)
    ]
    for count in range(1, parts + 1):
        places = list(itertools.combinations(range(len(axes)), count))
        if count > 2 and sum(math.prod(len(others[place]) for place in chosen) for chosen in places) > MOST_MOVES:
            return
        for chosen in places:
            for numbers in itertools.product(*(others[place] for place in chosen)):
                moved = list(mix)
                for place, number in zip(chosen, numbers, strict=True):
                    moved[place] = number
                yield tuple(moved)
