"""A stream that a ``Metrics`` watches."""

from time import perf_counter
from typing import Any

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import LstmEdgeError
from lstm_edge_runtime.stream import OpenModel, Stream
from lstm_edge_runtime.watch.metrics import Metrics

__all__ = ["WatchedStream"]

_push = Stream.push


class WatchedStream(Stream):
    """A ``Stream`` whose pushes and refusals are counted, and every k-th push sampled; see ``Session.stream``.

    The pushes are counted by the stream itself, in the assignment that makes the new state valid: after any interrupt
    the totals and the state agree. Between two samples a push costs one comparison and one call more.
    """

    def __init__(
        self, session: OpenModel, *, metrics: Metrics, batch_size: int = 1, on_nonfinite: str = "refuse"
    ) -> None:
        """Start at the initial state."""
        super().__init__(session, batch_size=batch_size, on_nonfinite=on_nonfinite)
        self._metrics = metrics
        self._watch = metrics.watch(self, session)
        # The number of pushes before the next sampled one.
        self._sample_at = metrics.every - 1
        # The same where ``_now`` counts the pushes; 0 where the keeper does, so that each push takes the slower path.
        self._quick_until = self._sample_at if self._keeper is None else 0

    def push(self, x: Any, out: Any = None) -> Any:
        """Run one piece of the sequence; see ``Stream.push``."""
        if self._now[3] < self._quick_until:
            try:
                return _push(self, x, out)
            except LstmEdgeError as error:
                self._metrics.count_refusal(error)
                raise
        return self._push_slowly(x, out)

    def flush(self) -> Any:
        """End the sequence; see ``Stream.flush``."""
        try:
            return super().flush()
        except LstmEdgeError as error:
            self._metrics.count_refusal(error)
            raise

    def _push_slowly(self, x: Any, out: Any) -> Any:
        start = perf_counter()
        try:
            answer = _push(self, x, out)
        except LstmEdgeError as error:
            self._metrics.count_refusal(error)
            raise
        end = perf_counter()
        pushes, _ = self.totals
        if pushes > self._sample_at:
            self._sample_at = pushes + self._metrics.every - 1
            if self._keeper is None:
                self._quick_until = self._sample_at
            self._metrics.sample(end - start, self._block_now(), self._layout, self._batch_size, x)
        return answer

    def _block_now(self) -> Array:
        if self._keeper is None:
            return self._blocks[self._now[0]]
        # The keeper has an array for each state; the stream's blocks are unused then.
        for name, array in self._keeper.states.items():
            self._states[0][name][...] = array
        return self._blocks[0]

    def __del__(self) -> None:
        """Leave the totals to the metrics."""
        watch = getattr(self, "_watch", None)
        if watch is not None:
            watch.final = self.totals
