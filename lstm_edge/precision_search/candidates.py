"""The candidates of a search for the held-out data: at most three, each clearly safer than the one before.

They depend on the tuning data only, so the files that may be evaluated on the held-out data are the same whatever the
outcomes there. Those only decide which of them are left out (``lstm_edge.precision_search.looks``).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from lstm_edge.precision_search.measure import Evaluation, Workbench
from lstm_edge.precision_search.request import LOOKS, SEARCHED, BudgetRequest
from lstm_edge.precision_search.search import Axis, Mix, Search, Trial
from lstm_edge.precision_search.space import SCHEMES, SearchPart, mix_of, parts_of, search_axes
from lstm_edge.precision_search.tasks import Task

__all__ = ["MARGIN", "Candidates", "ceiling", "is_clearly_safer"]

# A clearly safer file has at most a quarter of the loss of the outputs, which is one bit of precision: rounding to a
# step of half the size has a quarter of the squared error.
MARGIN = 4.0
# Largest amount by which a file can be smaller than the source minus the savings of its weights: function bodies and
# the card only grow, golden vectors take at most 64 KiB of the source.
OVERHEAD = 64 * 1024
# Measurements that idle workers make ahead of the search. The predictions behind them become worse with each step.
MOST_AHEAD = 16

Alone = Mapping[tuple[str, str], Evaluation]
Say = Callable[[str], None]
# From fine to coarse.
_PRECISIONS = ("float32", *SCHEMES)


def is_clearly_safer(found: Evaluation, other: Evaluation, parts: Sequence[SearchPart]) -> bool:
    """Return whether a file is clearly safer than another, by their evaluations on the tuning data.

    Its outputs have at most a quarter of the other's loss. If the outputs are labels, which have no loss: it is finer
    in every part, except where both are float32.
    """
    if found.output_loss is not None and other.output_loss is not None:
        return found.output_loss * MARGIN <= other.output_loss and found.output_loss < other.output_loss
    pairs = [(_precision(found, part), _precision(other, part)) for part in parts]
    return any(mine < theirs for mine, theirs in pairs) and all(a < b or a == b == 0 for a, b in pairs)


def _precision(found: Evaluation, part: SearchPart) -> int:
    """The precision of a part, as the number of its scheme; if W and R differ, of the coarser one."""
    own = [found.parts[name] for name in (part.part, f"{part.part}.W", f"{part.part}.R") if name in found.parts]
    schemes = own or [found.parts.get(part.layer, "float32")]
    # Zero blocks that are left out change no weight.
    dense = [scheme.removesuffix(":sparse") for scheme in schemes]
    return max(_PRECISIONS.index(scheme) if scheme in _PRECISIONS else len(_PRECISIONS) for scheme in dense)


class Candidates:
    """The search on the tuning data.

    Attributes:
        exhaustive: whether the search for the first candidate may measure every assignment.
    """

    def __init__(
        self,
        request: BudgetRequest,
        bench: Workbench,
        parts: Sequence[SearchPart],
        alone: Alone,
        *,
        base: Evaluation,
        allowed: float,
        say: Say,
    ) -> None:
        """Prepare a search; nothing is measured yet.

        Args:
            request: the request.
            bench: measures, and has the measurements so far.
            parts: the parts to decide on.
            alone: the evaluation of each part in each scheme.
            base: the evaluation of the model with the fixed schemes only.
            allowed: the budget on the tuning data, in the metric's unit.
            say: called with one line for each search.
        """
        self._request, self._bench, self._parts, self._alone = request, bench, parts, alone
        self._base, self._allowed, self._say = base, allowed, say
        self.exhaustive = self._search(self._axes(math.inf), math.inf, most=self._left).exhaustive

    def __iter__(self) -> Iterator[Evaluation]:
        """Yield the evaluations of the candidates on the tuning data; each is searched when it is asked for."""
        axes, limit = self._axes(math.inf), math.inf
        before: list[Mix] = []
        for number in range(SEARCHED):
            mix = self._cheapest(axes, limit, before, number)
            if mix is None:
                return
            parts = parts_of(mix, axes, self._request.parts)
            found = next(f for f in self._bench.evaluations if _is_tuned(f) and f.parts == parts)
            yield found
            before.append(mix)
            if found.output_loss is None:
                axes = _finer(axes, mix)
            else:
                limit = found.output_loss / MARGIN
                axes = self._axes(limit)

    @property
    def _left(self) -> int:
        # Without the evaluations on the held-out data, so that their outcomes do not change the search.
        return self._request.max_evaluations - LOOKS - self._bench.tuned

    def _axes(self, limit: float) -> tuple[Axis, ...]:
        return search_axes(
            self._parts,
            self._alone,
            base=self._base,
            prefer=self._request.prefer,
            allowed=self._allowed,
            loss_limit=limit,
        )

    def _cheapest(self, axes: tuple[Axis, ...], limit: float, before: list[Mix], number: int) -> Mix | None:
        """Return the cheapest assignment that the search finds within the budget and the limit, or None."""
        # The first search keeps a share for the others (KEPT_BACK), and these share what is left.
        search = self._search(axes, limit, most=self._left if number == 0 else self._left // (SEARCHED - number))
        if number == 0:
            plan = "every one" if search.exhaustive else f"the promising ones, at most {search.planned}"
            self._say(f"searching {search.size:,} assignments of schemes to {len(axes)} parts, {plan}")
        else:
            self._say("searching a clearly safer assignment")
        trial = search.best(1.0, before)
        return None if trial is None else trial.mix

    def _search(self, axes: tuple[Axis, ...], limit: float, *, most: int) -> Search:
        request, base = self._request, self._base

        def measure(mix: Mix, below: float) -> Trial:
            parts = parts_of(mix, axes, request.parts)
            found = self._bench.evaluate(parts, "search", prefer=request.prefer, below=below, ahead=ahead())
            return self._trial(mix, found, limit)

        def ahead() -> Iterator[Task]:
            for mix, below in itertools.islice(search.foresee(), MOST_AHEAD):
                yield Task(parts=parts_of(mix, axes, request.parts), role="tuning", below=below)

        known = {}
        for found in self._bench.evaluations:
            mix = None if found.plain or found.stage == "held-out" else mix_of(self._own(found), axes)
            if mix is not None and parts_of(mix, axes, request.parts) == found.parts:
                known[mix] = self._trial(mix, found, limit)
        search = Search(
            axes,
            measure,
            base_cost=base.cost(request.prefer),
            allowed=self._allowed,
            most=most,
            known=known.values(),
            # The source loses nothing but is not a result, and neither is a larger or slower file.
            ceiling=ceiling(request, base),
            overhead=OVERHEAD if request.prefer == "size" else math.inf,
        )
        return search

    def _trial(self, mix: Mix, found: Evaluation, limit: float) -> Trial:
        """Return a measurement, in which a loss of the outputs at its limit counts like a drop of the whole budget."""
        high = found.high
        if high is not None and found.output_loss is not None:
            high = max(high, self._allowed * _ratio(found.output_loss, limit))
        return Trial(mix=mix, cost=found.cost(self._request.prefer), high=high)

    def _own(self, found: Evaluation) -> dict[str, str]:
        return {part: scheme for part, scheme in found.parts.items() if part not in self._request.parts}


def ceiling(request: BudgetRequest, base: Evaluation) -> float:
    """Return the cost that a result must stay below: that of the source, unless fixed schemes change it already."""
    return math.inf if set(request.parts.values()) - {"float32"} else base.cost(request.prefer)


def _ratio(loss: float, limit: float) -> float:
    """Return the loss as a share of its limit, which is 0 behind a file whose outputs are equal to the source's."""
    return loss / limit if limit else math.inf


def _is_tuned(found: Evaluation) -> bool:
    return found.stage != "held-out" and not found.plain and found.high is not None


def _finer(axes: Sequence[Axis], mix: Mix) -> tuple[Axis, ...]:
    """Return the axes with those options of each part that are finer than its present one, or float32."""
    return tuple(
        Axis(part=axis.part, layer=axis.layer, options=axis.options[: max(1, number)])
        for axis, number in zip(axes, mix, strict=True)
    )
