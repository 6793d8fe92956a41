"""Evaluation of files on the tuning and on the held-out data of a search."""

from collections.abc import Callable, Mapping

from lstm_edge.precision_search.data import Samples
from lstm_edge.precision_search.request import BudgetRequest
from lstm_edge.precision_search.tasks import Judged, Role
from lstm_edge.validation.judge import Judge

__all__ = ["Judges"]


class Judges:
    """Evaluation on both data; each runs the reference once, at the first evaluation."""

    def __init__(self, request: BudgetRequest, source: bytes, *, tuning: Samples, held_out: Samples) -> None:
        """Prepare; nothing is run yet.

        Args:
            request: the request.
            source: the float32 file, the reference.
            tuning: the tuning data.
            held_out: the held-out data.
        """
        self._request, self._source = request, source
        self._samples: dict[Role, Samples] = {"tuning": tuning, "held-out": held_out}
        self._made: dict[Role, Judge] = {}

    @property
    def by_role(self) -> Mapping[Role, Callable[[bytes], Judged]]:
        """What evaluates a file, by the role of the data."""
        return {"tuning": self.tuning, "held-out": self.held_out}

    def tuning(self, data: bytes) -> Judged:
        """Evaluate on the tuning data at the requested confidence."""
        return self._judge("tuning", data, self._request.confidence)

    def held_out(self, data: bytes) -> Judged:
        """Evaluate on the held-out data at the confidence of one of five evaluations."""
        return self._judge("held-out", data, self._request.look_confidence)

    def check_held_out(self) -> None:
        """Evaluate the source on the held-out data, to raise their errors before the search."""
        self._judge("held-out", self._source, self._request.confidence)

    def _judge(self, role: Role, data: bytes, confidence: float) -> Judged:
        request = self._request
        if role not in self._made:
            self._made[role] = Judge(
                self._source,
                self._samples[role],
                metric=request.metric,
                seed=request.seed,
                threads=request.threads,
            )
        return self._made[role].judge(data, max_drop=request.max_drop, confidence=confidence)
