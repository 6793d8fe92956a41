"""A stream that a ``Metrics`` watches."""

import dataclasses
from time import perf_counter
from typing import Any

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import LstmEdgeError
from lstm_edge_runtime.keeping import Keeper
from lstm_edge_runtime.stream import OpenModel, Stream
from lstm_edge_runtime.stream_plans import Plan
from lstm_edge_runtime.watch.metrics import Metrics

__all__ = ["WatchedStream"]


class _TimedView:
    """The buffer of a piece, in a plan for the pushes that are measured: a push begins when its piece is copied."""

    def __init__(self, view: Array) -> None:
        self.view = view
        self.began_s = 0.0

    def __setitem__(self, place: Any, piece: Any) -> None:
        self.began_s = perf_counter()
        self.view[place] = piece


class WatchedStream(Stream):
    """A ``Stream`` whose pushes and refusals are counted, and every k-th push sampled; see ``Session.stream``.

    The pushes are counted by the stream itself, in the assignment that makes the new state valid: after any interrupt
    the totals and the state agree. Between two samples a push does what one of a ``Stream`` does. The push before a
    sampled one puts a plan in the place of the last one that tells when the piece is copied.
    """

    def __init__(
        self, session: OpenModel, *, metrics: Metrics, batch_size: int = 1, on_nonfinite: str = "refuse"
    ) -> None:
        """Start at the initial state."""
        super().__init__(session, batch_size=batch_size, on_nonfinite=on_nonfinite)
        self._metrics = metrics
        self._watch = metrics.watch(self, session)
        # The number of the next sampled push, from 1; the last push that took the full path, and when it began.
        self._sampled = metrics.every
        self._loaded = (0, 0.0)
        # A plan, the same with a timed view, and that view.
        self._timed: tuple[Plan, Plan, _TimedView] | None = None
        # Where a keeper counts the pushes, ``_push_kept`` sees each of them.
        if self._keeper is None:
            self._due = self._sampled - 2

    def flush(self) -> Any:
        """End the sequence; see ``Stream.flush``."""
        try:
            return super().flush()
        except LstmEdgeError as error:
            self._metrics.count_refusal(error)
            raise

    def _load(self, x: Any) -> tuple[Plan, dict[str, Array]]:
        self._loaded = (self._now[3] + 1, perf_counter())
        return super()._load(x)

    def _on_due(self, x: Any) -> None:
        pushes, last, timed = self._now[3], self._last, self._timed
        if pushes >= self._sampled:
            end_s = perf_counter()
            self._sampled = pushes + self._metrics.every
            self._due = self._sampled - 2
            number, began_s = self._loaded
            if number != pushes and timed is not None and last is timed[1]:
                number, began_s = pushes, timed[2].began_s
            # After an interrupt it is unknown.
            if number == pushes:
                block = self._blocks[self._now[0]]
                self._metrics.sample(began_s, end_s, block, self._layout, rows=self._batch_size, piece=x)
        if last is None or last.shape is None:
            return
        original = timed[0] if timed is not None and last is timed[1] else last
        if pushes > self._due:
            if timed is None or timed[0] is not original:
                view = _TimedView(original.view)
                timed = self._timed = (original, dataclasses.replace(original, view=view), view)
            self._last = timed[1]
        else:
            self._last = original

    def _push_kept(self, keeper: Keeper, x: Any, out: Any) -> Any:
        began_s = perf_counter()
        answer = super()._push_kept(keeper, x, out)
        end_s = perf_counter()
        pushes, _ = keeper.totals
        if pushes >= self._sampled:
            self._sampled = pushes + self._metrics.every
            # The keeper has an array for each state; the stream's blocks are unused then.
            for name, array in keeper.states.items():
                self._states[0][name][...] = array
            self._metrics.sample(began_s, end_s, self._blocks[0], self._layout, rows=self._batch_size, piece=x)
        return answer

    def _refused(self, error: LstmEdgeError) -> None:
        self._metrics.count_refusal(error)

    def __del__(self) -> None:
        """Leave the totals to the metrics."""
        watch = getattr(self, "_watch", None)
        if watch is not None:
            watch.final = self.totals
