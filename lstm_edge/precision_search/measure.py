"""One measurement: build a candidate file, time it if needed, evaluate it; the journal caches measurements."""

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lstm_edge.precision_search.journal import Journal
from lstm_edge.precision_search.tasks import Built, Judged, Parts, Role, Task, file_values, verdict_values
from lstm_edge_runtime.bench import bench

__all__ = ["Built", "Evaluation", "Judged", "Parts", "Stage", "Workbench", "kind_of", "step_time_us"]

Stage = Literal["sensitivity", "search", "held-out"]
# Has a measurement made before it is used, beside measurements that may follow; see lstm_edge.precision_search.crew.
Fetch = Callable[[Task, Iterable[Task]], None]

# Number of timed calls; on an idle machine their median varies by a few percent between runs.
STEPS = 1000
SEQUENCE, REPEATS = 20, 50


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The evaluation of one assignment of schemes.

    ``parts``: scheme by part; all other parts are as in the source. ``bytes``: size of the built file. ``saved``: bytes
    by which its weights are smaller than the source's. ``step_us``: median time of a step on this machine, None if not
    requested. The other fields are None if the file was built but not evaluated, because it was not smaller than one
    that had passed: the metric's ``value``, its interval ``value_low`` to ``value_high``, the ``drop`` (positive is
    worse), its lower end ``low``, and the bound ``high`` at ``confidence`` that is compared with ``allowed``, all in
    ``unit``; ``snr_db`` of the outputs, also None if they are equal; ``has_loss``: False if the outputs are no numbers.

    ``plain``: whether this is the file that ``lstm-edge quantize --scheme NAME`` writes, without calibration.
    ``name``: that scheme; on the held-out data ``candidate 1`` to ``candidate 3`` for those of the search; else empty.
    """

    number: int
    stage: Stage
    parts: Parts
    bytes: int
    saved: int
    step_us: float | None
    value: float | None = None
    drop: float | None = None
    low: float | None = None
    high: float | None = None
    value_low: float | None = None
    value_high: float | None = None
    snr_db: float | None = None
    passed: bool | None = None
    confidence: float | None = None
    allowed: float | None = None
    unit: str = ""
    plain: bool = False
    name: str = ""
    has_loss: bool = True

    @property
    def output_loss(self) -> float | None:
        """Squared error of the outputs as a share of the source's squared outputs, 0 if they are equal.

        None if the outputs are no numbers, or if the file was not evaluated.
        """
        if not self.has_loss or self.drop is None:
            return None
        return 0.0 if self.snr_db is None else math.pow(10.0, -self.snr_db / 10.0)

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON values, without the values that all evaluations share."""
        values = dataclasses.asdict(self) | {"parts": dict(self.parts)}
        return {key: value for key, value in values.items() if key not in ("saved", "allowed", "unit")}

    def cost(self, prefer: str) -> float:
        """Return the cost that the search minimizes: bytes, or for ``latency`` microseconds per step."""
        if prefer == "latency":
            assert self.step_us is not None
            return self.step_us
        return float(self.bytes)


class Workbench:
    """Builds and evaluates assignments of schemes, each at most once; ``evaluations`` lists them in order."""

    def __init__(
        self,
        *,
        build: Callable[[Parts], Built],
        plain: Callable[[str], Built] | None = None,
        judges: Mapping[Role, Callable[[bytes], Judged]],
        journal: Journal,
        timer: Callable[[bytes], float] | None = None,
        on_evaluation: Callable[[Evaluation], None] | None = None,
    ) -> None:
        """Prepare; nothing is built yet.

        Args:
            build: builds the file of an assignment; equal assignments must give equal bytes.
            plain: builds the plain file of a scheme; None if none is evaluated.
            judges: by role, the function that evaluates a file.
            journal: the journal to read and write measurements.
            timer: returns microseconds per step of a file; None if only the size matters.
            on_evaluation: called after each evaluation.
        """
        self.evaluations: list[Evaluation] = []
        self._build, self._plain, self._judges, self._journal, self._timer = build, plain, judges, journal, timer
        # Puts a measurement that other processes make into the journal; None: all are made here.
        self.fetch: Fetch | None = None
        self._report = on_evaluation
        self._last: tuple[tuple[str, dict[str, str]], Built] | None = None

    @property
    def tuned(self) -> int:
        """Number of evaluations so far that did not use the held-out data."""
        return sum(found.stage != "held-out" for found in self.evaluations)

    def evaluate(
        self,
        parts: Parts,
        stage: Stage,
        *,
        prefer: str = "size",
        below: float = math.inf,
        plain: str = "",
        name: str = "",
        ahead: Iterable[Task] = (),
    ) -> Evaluation:
        """Build the file of an assignment, and evaluate it if its cost is below a limit.

        Args:
            parts: scheme by part.
            stage: on which data, and for what.
            prefer: the cost that ``below`` limits.
            below: a file of this cost or more is only built.
            plain: build the plain file of this scheme instead; ``parts`` then only describe it.
            name: see ``Evaluation``.
            ahead: measurements that may follow, the likely ones first: idle workers make them, nothing depends on them.

        Raises:
            LstmEdgeError: the file cannot be built, or the metric or its bounds are undefined on the data.
        """
        role: Role = "held-out" if stage == "held-out" else "tuning"
        if self.fetch is not None:
            self.fetch(Task(parts=dict(parts), role=role, plain=plain, below=below), ahead)
        file = self._journal.get(kind_of("file", plain), parts)
        if file is None:
            built = self._built(parts, plain)
            step_us = None if self._timer is None else self._timer(built.data)
            file = self._journal.put(kind_of("file", plain), parts, file_values(built, step_us))
        found = Evaluation(
            number=len(self.evaluations) + 1,
            stage=stage,
            parts=dict(parts),
            plain=bool(plain),
            name=plain or name,
            **file,
        )
        if found.cost(prefer) < below:
            found = dataclasses.replace(found, **self._verdict(role, parts, plain))
        self.evaluations.append(found)
        if self._report:
            self._report(found)
        return found

    def _verdict(self, role: Role, parts: Parts, plain: str) -> dict[str, Any]:
        known = self._journal.get(kind_of(role, plain), parts)
        if known is not None:
            return known
        values = verdict_values(role, self._judges[role](self._built(parts, plain).data))
        return self._journal.put(kind_of(role, plain), parts, values)

    def _built(self, parts: Parts, plain: str) -> Built:
        """Return the file of an assignment; the last file is cached for timing and evaluation."""
        key = plain, dict(parts)
        if self._last is None or self._last[0] != key:
            if plain:
                assert self._plain is not None
                self._last = key, self._plain(plain)
            else:
                self._last = key, self._build(parts)
        return self._last[1]


def kind_of(what: str, plain: str) -> str:
    """Return the kind of a measurement in the journal; a plain file has the same parts as a calibrated one."""
    return f"{what} of plain {plain}" if plain else what


def step_time_us(data: bytes) -> float:
    """Return the median time of a step in microseconds, as ``lstm-edge bench`` measures it.

    If the model cannot be streamed, the time of a sequence of 20 steps is divided by 20.

    Raises:
        LstmEdgeError: the file cannot be run.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "candidate.onnx")
        path.write_bytes(data)
        report = bench(path, steps=STEPS, time_steps=SEQUENCE, repeats=REPEATS)
    if report.step is not None:
        return report.step.p50_us
    assert report.sequence is not None
    return report.sequence.p50_us / SEQUENCE
