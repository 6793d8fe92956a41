"""The outcome of each evaluation on the held-out data, as values and as one paragraph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lstm_edge.precision_search.measure import Evaluation
from lstm_edge.precision_search.space import Prefer

__all__ = ["Judging", "Verdict", "conclusion", "verdicts"]


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What the evaluations have in common.

    ``data``: name of the held-out data. ``most``: largest number of evaluations on them, which share the error
    probability of the confidence ``together``, so that each has ``confidence``. ``source_cost``: bytes or microseconds
    per step of the source. ``answer``: the evaluation of the written file, or None. ``written_bytes``: the size of that
    file; the card of a candidate grows by its metric. ``show``: formats a drop.
    """

    data: str
    most: int
    confidence: float
    together: float
    prefer: Prefer
    source_cost: float
    answer: Evaluation | None
    written_bytes: int
    show: Callable[[float | None], str]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One evaluation on the held-out data: the file, the bound of its drop at ``confidence``, and a word on it.

    ``outcome``: ``result``, ``within the budget``, ``over the budget``, or ``within the budget, not smaller than the
    source`` (``not faster`` with ``prefer="latency"``).
    """

    name: str
    number: int
    bytes: int
    drop: float | None
    high: float | None
    confidence: float | None
    passed: bool
    outcome: str


def verdicts(looks: Sequence[Evaluation], judging: Judging) -> tuple[Verdict, ...]:
    """Return the outcomes of the evaluations on the held-out data, in order."""
    return tuple(
        Verdict(
            name=found.name or "candidate",
            number=found.number,
            bytes=judging.written_bytes if found is judging.answer else found.bytes,
            drop=found.drop,
            high=found.high,
            confidence=found.confidence,
            passed=bool(found.passed),
            outcome=_outcome(found, judging),
        )
        for found in looks
    )


def conclusion(looks: Sequence[Evaluation], left_out: Sequence[str], judging: Judging) -> str:
    """Return one paragraph, without a full stop at its end."""
    files = [
        f"{verdict.name} ({verdict.bytes:,} bytes, drop {judging.show(verdict.drop)}, at most "
        f"{judging.show(verdict.high)}): {verdict.outcome}"
        for verdict in verdicts(looks, judging)
    ]
    were = f"{len(files) or 'no'} file{'s were' if len(files) != 1 else ' was'} evaluated"
    shared = f"at most {judging.most} evaluations share the error probability {1 - judging.together:.3g}"
    judged = f"On {judging.data} {were}, at confidence {judging.confidence:g} each ({shared})"
    return ". ".join([f"{judged}: {'; '.join(files)}" if files else judged, *left_out])


def _outcome(found: Evaluation, judging: Judging) -> str:
    if found is judging.answer:
        return "result"
    if not found.passed:
        return "over the budget"
    if found.cost(judging.prefer) >= judging.source_cost:
        return f"within the budget, not {'faster' if judging.prefer == 'latency' else 'smaller'} than the source"
    return "within the budget"
