"""The evaluations on the held-out data: which files, in which order, and which are left out.

At most five files are evaluated: plain float16, plain int8, and the three candidates of the search, which depend on the
tuning data only (``lstm_edge.precision_search.candidates``). Each of them would accept a bad file with the error
probability that its confidence allows, so together they share the requested one: each uses the confidence
1 - (1 - confidence) / 5 (the Bonferroni inequality: Dunn, Multiple comparisons among means, JASA 56, 1961). That holds
whatever the outcomes are, because an outcome never adds a file to the five: it only leaves some out.

The plain files are evaluated in any case, so the result is never larger than one of them that is within the budget. A
candidate is left out if its file would not be smaller than one that is within the budget, or if it is not clearly safer
than each one that failed: it would fail for the same reason.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lstm_edge.precision_search.candidates import is_clearly_safer
from lstm_edge.precision_search.measure import Evaluation, Parts, Workbench
from lstm_edge.precision_search.request import LOOKS
from lstm_edge.precision_search.space import Prefer, SearchPart

__all__ = ["Looked", "Looks"]


@dataclass(frozen=True, kw_only=True)
class Looked:
    """The evaluation of the result on the held-out data, or None; a sentence on each file that was left out."""

    answer: Evaluation | None
    left_out: tuple[str, ...]


class Looks:
    """Evaluates on the held-out data, each file at most once."""

    def __init__(
        self,
        bench: Workbench,
        parts: Sequence[SearchPart],
        *,
        prefer: Prefer,
        ceiling: float,
        written: Callable[[Parts], int],
        say: Callable[[str], None],
    ) -> None:
        """Prepare; nothing is evaluated yet.

        Args:
            bench: evaluates.
            parts: the parts of the search.
            prefer: the cost: bytes, or microseconds per step.
            ceiling: a result must cost less than this.
            written: returns an upper bound of the bytes of a candidate's file as it would be written.
            say: called with one line for each evaluation.
        """
        self._bench, self._parts, self._prefer, self._written, self._say = bench, parts, prefer, written, say
        # The evaluation of the best file so far, its name, and the cost that a better one must stay below.
        self._answer: Evaluation | None = None
        self._best, self._limit = "the source", ceiling
        self._failed: list[tuple[str, Evaluation]] = []
        self._left_out: list[str] = []
        self._count = 0

    def look(self, plain: Iterable[Evaluation], candidates: Iterable[Evaluation]) -> Looked:
        """Evaluate the plain files, then the candidates until one is within the budget.

        Args:
            plain: the evaluations of the plain files on the tuning data.
            candidates: those of the candidates, the cheapest first, each clearly safer than the one before.
        """
        for tuned in sorted(plain, key=lambda found: -found.cost(self._prefer)):
            self._evaluate(tuned, tuned.name, tuned.cost(self._prefer))
        for number, tuned in enumerate(candidates, start=1):
            name = f"candidate {number}"
            cost = self._cost(tuned)
            if cost >= self._limit:
                self._leave_out(name, tuned, f"{self._not_better(tuned, cost)} than {self._best}")
                break
            risky = [other for other, failed in self._failed if not is_clearly_safer(tuned, failed, self._parts)]
            if risky:
                self._leave_out(name, tuned, f"it is not clearly safer than {' and '.join(risky)}, over the budget")
            elif self._evaluate(tuned, name, cost):
                break
        return Looked(answer=self._answer, left_out=tuple(self._left_out))

    def _cost(self, tuned: Evaluation) -> float:
        if self._prefer == "latency":
            return tuned.cost(self._prefer)
        return float(self._written(tuned.parts)) if tuned.bytes < self._limit else float(tuned.bytes)

    def _evaluate(self, tuned: Evaluation, name: str, cost: float) -> bool:
        """Return whether the file is within the budget; remember it as the best so far if its cost allows."""
        self._count += 1
        self._say(f"evaluation {self._count} of at most {LOOKS} on the held-out data: {name}")
        plain = tuned.name if tuned.plain else ""
        found = self._bench.evaluate(tuned.parts, "held-out", prefer=self._prefer, plain=plain, name=name)
        if not found.passed:
            self._failed.append((name, tuned))
        elif cost < self._limit:
            self._answer, self._best, self._limit = found, f"{name}, which is within the budget", cost
        return bool(found.passed)

    def _not_better(self, tuned: Evaluation, cost: float) -> str:
        if self._prefer == "latency":
            return "it is not faster"
        if tuned.bytes >= self._limit:
            return "it is not smaller"
        return f"with its metric in its card, which makes it {cost:,.0f} bytes, it is not smaller"

    def _leave_out(self, name: str, tuned: Evaluation, reason: str) -> None:
        self._left_out.append(f"{name[:1].upper()}{name[1:]} ({tuned.bytes:,} bytes) was left out: {reason}")
