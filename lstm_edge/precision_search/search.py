"""The cheapest mix of schemes that keeps within a budget, from few measurements. Pure: it measures by a callable.

A mix gives each part (an ``Axis``) one of its options, by number. Option 0 is the finest; coarser ones follow. What a
mix costs (bytes, or microseconds a step) and loses (the metric's drop) is first predicted: the sum of what its options
cost and lose alone. That losses add up is the usual assumption of mixed-precision search (Dong et al., HAWQ-V2, 2020,
section 3.1), and only decides what is measured next: every answer was measured as a whole.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Axis", "Mix", "Option", "Search", "Trial", "frontier"]

Mix = tuple[int, ...]

# Points of the frontier that are kept while it is built; beyond it the knapsack is not exact any more. Each point is
# two numbers and a tuple: 4,096 of them times ten options merge in some ten milliseconds a part.
MOST_POINTS = 4096
# A move is tried when the additive model puts its drop below this multiple of the budget: the model's errors go both
# ways, and one that is not tried cannot be found. Where nothing is left to try, the next one is taken, with moves of
# more parts at once: on made models of 6 parts and 6 schemes (tests/toolkit/test_budget_search.py) moves of two parts
# ended more than 2 % above the best in 3 of 40 cases, moves of three in none.
HOPES = ((1.25, 2), (1.25, 3), (2.0, 3))
# Moves that are looked through for each evaluation: some tenths of a second. Beyond it fewer parts move at once.
MOST_MOVES = 50_000
# This share of the evaluations is kept back while the first answer is looked for, so that there is something to go on
# with when it does not hold on held-out data.
KEPT_BACK = 0.2


@dataclass(frozen=True, kw_only=True)
class Option:
    """A scheme of one part: what it changes of the cost, alone, and the drop of the metric that it brings, alone.

    ``also``: other names of the same rounding, such as blocks of 128 over at most 32 inputs.
    """

    scheme: str
    cost: float
    loss: float
    also: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A part of a layer and its options, the finest (cost and loss 0: as it is) first."""

    part: str
    layer: str
    options: tuple[Option, ...]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A mix that was built: its real cost, and the bound of its drop, None where its cost already ruled it out."""

    mix: Mix
    cost: float
    high: float | None


# Builds a mix, and judges it where its cost is below the second argument.
Measure = Callable[[Mix, float], Trial]


class Search:
    """What was measured so far, and the search for what is cheaper still.

    Attributes:
        trials: what was measured, by mix.
        exhaustive: whether every mix may be measured, so that the answer is the cheapest there is.
        size: how many mixes there are.
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
            axes: the parts that may differ.
            measure: builds and judges a mix; the same mix must always give the same answer.
            base_cost: cost of the mix of finest options.
            allowed: the largest bound of the drop that passes.
            most: how many mixes may be measured besides the known ones.
            known: what was measured before, mixes of these axes.
            ceiling: what costs as much or more is no answer.
            overhead: by how much the real cost can be below the predicted one; infinite: by anything.
        """
        self._axes, self._measure, self._base, self._allowed = tuple(axes), measure, base_cost, allowed
        self._ceiling, self._overhead = ceiling, overhead
        self.trials: dict[Mix, Trial] = {trial.mix: trial for trial in known}
        self._most = len(self.trials) + most
        self.size = math.prod(len(axis.options) for axis in self._axes)
        self.exhaustive = self.size - len(self.trials) <= most

    @property
    def planned(self) -> int:
        """How many mixes will be measured at most, the known ones among them."""
        return self.size if self.exhaustive else self._most

    def best(self, share: float = 1.0, without: Collection[Mix] = ()) -> Trial | None:
        """Return the cheapest mix whose bound is within ``share`` of the budget; None where none was found.

        Args:
            share: of the allowed drop, above 0 and at most 1.
            without: mixes that were refused elsewhere.
        """
        barred = frozenset(without)
        if self.exhaustive:
            return self._every(share, barred)
        most = self._most if without else self._most - int(KEPT_BACK * (self._most - len(self.trials)))
        self._bisect(share, barred, most)
        best = self._known(share, barred)
        while best is not None and len(self.trials) < most:
            moves = (self._move(best, hope * share, share, barred, parts) for hope, parts in HOPES)
            mix = next((mix for mix in moves if mix is not None), None)
            if mix is None:
                break
            trial = self._try(mix, best.cost)
            if self._passes(trial, share) and trial.cost < best.cost:
                best = trial
        return best

    def predicted(self, mix: Mix) -> tuple[float, float]:
        """Return a mix's cost and drop as the additive model has them."""
        options = [axis.options[number] for axis, number in zip(self._axes, mix, strict=True)]
        return self._base + sum(option.cost for option in options), sum(option.loss for option in options)

    def _passes(self, trial: Trial, share: float) -> bool:
        return trial.high is not None and trial.high <= self._allowed * share and trial.cost < self._ceiling

    def _try(self, mix: Mix, below: float) -> Trial:
        known = self.trials.get(mix)
        if known is None or (known.high is None and known.cost < below):
            self.trials[mix] = known = self._measure(mix, below)
        return known

    def _known(self, share: float, barred: Collection[Mix]) -> Trial | None:
        passing = [trial for trial in self.trials.values() if trial.mix not in barred and self._passes(trial, share)]
        return min(passing, key=lambda trial: (trial.cost, trial.mix), default=None)

    def _every(self, share: float, barred: Collection[Mix]) -> Trial | None:
        """Go through all mixes in the order of their predicted cost; only cheaper ones than the best are judged."""
        best = self._known(share, barred)
        mixes = sorted((self.predicted(mix)[0], mix) for mix in _all_mixes(self._axes) if mix not in barred)
        for cost, mix in mixes:
            limit = self._ceiling if best is None else best.cost
            if cost - self._overhead >= limit:
                break
            trial = self._try(mix, limit)
            if self._passes(trial, share) and (best is None or (trial.cost, trial.mix) < (best.cost, best.mix)):
                best = trial
        return best

    def _bisect(self, share: float, barred: Collection[Mix], most: int) -> None:
        """Measure along the predicted frontier: halving it finds where the budget starts to hold."""
        points = [mix for mix in frontier(self._axes) if mix not in barred]
        low, high = 0, len(points) - 1
        while low <= high and (points[(low + high) // 2] in self.trials or len(self.trials) < most):
            middle = (low + high) // 2
            trial = self._try(points[middle], self._ceiling)
            if self._passes(trial, share) or trial.cost >= self._ceiling:
                high = middle - 1
            else:
                low = middle + 1

    def _move(self, best: Trial, hope: float, share: float, barred: Collection[Mix], parts: int) -> Mix | None:
        """Return the cheapest promising mix that differs from ``best`` in at most ``parts`` parts; None without one.

        The model is anchored at ``best``: its real cost and bound, plus what the options differ by alone. A mix that
        is in no part finer than one that failed is not tried.
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
    """Return the mixes that no other beats in predicted cost and loss, the cheapest first.

    An exact knapsack by dynamic programming over the parts: what is beaten by another choice for the parts so far is
    dropped (Nemhauser and Ullmann, Discrete dynamic programming and capital allocation, 1969). Thinned out evenly
    where it grows beyond 4,096 points.
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
    """Yield the mixes with other options for at most ``parts`` parts; for fewer where these are too many."""
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
