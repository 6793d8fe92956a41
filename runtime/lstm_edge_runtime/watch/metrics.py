"""``Metrics``: what one or several streams did, counted, sampled and written to a file."""

import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import REASONS, InputError, LstmEdgeError, OutputError
from lstm_edge_runtime.layout import StateLayout
from lstm_edge_runtime.metrics_format import MetricsFormat, format_of
from lstm_edge_runtime.watch.files import append_line, write_text_file
from lstm_edge_runtime.watch.samples import Reading, Samples, WatchedModel
from lstm_edge_runtime.watch.text import check_labels, json_line, prometheus_text

if TYPE_CHECKING:
    from lstm_edge_runtime.stream import Stream

__all__ = ["Metrics", "Watch"]


class Watch:
    """One stream in the books of a ``Metrics``; ``final`` has the stream's last totals once it is gone."""

    __slots__ = ("final", "seen", "stream")

    def __init__(self, stream: "Stream") -> None:
        """Begin with a stream."""
        self.stream = weakref.ref(stream)
        self.seen = (0, 0)
        self.final: tuple[int, int] | None = None

    def totals(self) -> tuple[int, int]:
        """Return pushes and steps of the stream."""
        stream = self.stream()
        if stream is not None:
            self.seen = stream.totals
        # Between the end of the stream and ``final`` the numbers that were read last hold.
        return self.final or self.seen


class Metrics:
    """Counts what streams do, samples every k-th push, and writes both to a file now and then.

    ``session.stream(metrics=metrics)`` adds a stream; all streams of a Metrics are of one model, and may run in
    different threads. docs/watch.md explains each metric.

    The file is written in the thread of a stream, after a sampled or a refused push, at most once in ``write_every_s``.
    A file that cannot be written stops no stream: the attempt is counted, and ``on_problem`` gets one sentence until
    the next success.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        every: int = 100,
        file_format: MetricsFormat | None = None,
        write_every_s: float = 10.0,
        labels: Mapping[str, str] | None = None,
        on_problem: Callable[[str], None] | None = None,
    ) -> None:
        """Start with zeros, and write them.

        Args:
            path: the file: Prometheus text (``.prom``), which is replaced, or JSON lines (``.jsonl``), to which a line
                is appended. None: no file; see ``read``.
            every: sample every k-th push of each stream.
            file_format: ``"prometheus"`` or ``"jsonl"``; by default what the file's ending says.
            write_every_s: least time between two writes, in seconds.
            labels: labels of all metrics, such as ``{"model": "kws"}``.
            on_problem: called with a sentence where the file cannot be written; by default it is a RuntimeWarning.

        Raises:
            InputError: an argument is not valid.
        """
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InputError(f"every must be a positive integer, got {every!r}: the number of pushes for each sample")
        if isinstance(write_every_s, bool) or not isinstance(write_every_s, int | float) or not write_every_s >= 0:
            raise InputError(f"write_every_s must be a number of seconds, 0 or more, got {write_every_s!r}")
        self.path = None if path is None else Path(path)
        self.every = every
        self.labels = check_labels(labels or {})
        self.file_format = format_of(self.path, file_format)
        self._write_every_s, self._on_problem = write_every_s, on_problem or _warn
        self._lock = threading.Lock()
        self._watches: list[Watch] = []
        self._past = (0, 0)
        self._refusals: dict[str, int] = dict.fromkeys(REASONS, 0)
        self._write_errors, self._failing = 0, False
        self._model: WatchedModel | None = None
        self._samples: Samples | None = None
        self._write_at_s = 0.0
        self._write_if_due(time.perf_counter())

    def watch(self, stream: "Stream", model: WatchedModel) -> Watch:
        """Add a stream; ``Session.stream`` calls it.

        Raises:
            InputError: other streams of this object are of another model.
            CardError: the card's reference data contradict the model.
        """
        with self._lock:
            if self._model is None or self._samples is None:
                self._samples, self._model = Samples(model), model
            elif (self._model.card, self._model.inputs) != (model.card, model.inputs):
                raise InputError("this Metrics has streams of another model: make a Metrics for each model")
            watch = Watch(stream)
            self._watches.append(watch)
            return watch

    def count_refusal(self, error: LstmEdgeError | str) -> None:
        """Count a refusal by the reason of its error, or by a reason."""
        reason = error if isinstance(error, str) else error.reason
        with self._lock:
            self._refusals[reason if reason in self._refusals else "other"] += 1
        self._write_if_due(time.perf_counter())

    def sample(self, began_s: float, end_s: float, block: Array, layout: StateLayout, *, rows: int, piece: Any) -> None:
        """Add a sampled push; ``WatchedStream`` calls it."""
        with self._lock:
            if self._samples is not None:
                self._samples.add(end_s - began_s, block, layout, rows, piece)
        self._write_if_due(end_s)

    def read(self) -> Reading:
        """Return the metrics of this moment."""
        with self._lock:
            return self._read()

    def to_prometheus(self) -> str:
        """Return the metrics of this moment as Prometheus text."""
        return prometheus_text(self.read(), self.labels)

    def to_json_line(self) -> str:
        """Return the metrics of this moment as one line of JSON, without the newline."""
        return json_line(self.read(), self.labels)

    def write(self) -> bool:
        """Write the file now; return whether it could be written. Without a path nothing is done."""
        with self._lock:
            problem = self._write()
        if problem is not None:
            self._on_problem(problem)
        return self.path is None or not self._failing

    def _read(self) -> Reading:
        pushes, steps = self._past
        live = []
        for watch in self._watches:
            totals = watch.totals()
            pushes, steps = pushes + totals[0], steps + totals[1]
            if watch.final is None:
                live.append(watch)
            else:
                self._past = (self._past[0] + watch.final[0], self._past[1] + watch.final[1])
        self._watches = live
        return Reading(
            time_s=time.time(),
            pushes=pushes,
            steps=steps,
            refusals=dict(self._refusals),
            streams=len(live),
            write_errors=self._write_errors,
            sampled=None if self._samples is None else self._samples.read(),
        )

    def _write_if_due(self, now_s: float) -> None:
        if self.path is not None and now_s >= self._write_at_s:
            self._write_at_s = now_s + self._write_every_s
            self.write()

    def _write(self) -> str | None:
        """Write the file; return a sentence for the first failure after a success."""
        if self.path is None:
            return None
        reading = self._read()
        try:
            if self.file_format == "jsonl":
                append_line(self.path, json_line(reading, self.labels))
            else:
                write_text_file(self.path, prometheus_text(reading, self.labels))
        except OutputError as error:
            self._write_errors += 1
            again, self._failing = self._failing, True
            if again:
                return None
            return f"metrics: {error}; the stream goes on, and the next attempts are counted but not reported"
        self._failing = False
        return None


def _warn(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=3)
