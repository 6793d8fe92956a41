"""What ``bench`` measured, as JSON and as a table; docs/boards.md collects the JSON of many devices."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lstm_edge_runtime._json import decode, encode
from lstm_edge_runtime.device_facts import Condition, Device
from lstm_edge_runtime.errors import CardError, InputError

__all__ = ["REPORT", "BenchReport", "Opening", "Paced", "Timing", "read_report"]

# Version of the form of the JSON object.
REPORT = 1


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Latency of a call in microseconds over ``calls`` calls, and time steps of all rows per second at the median.

    ``first_us``, ``last_us``: medians of the first and of the last quarter of the calls. A device that gets hot is
    slower at the end.
    """

    calls: int
    p50_us: float
    p95_us: float
    p99_us: float
    worst_us: float
    first_us: float
    last_us: float
    steps_per_s: float


@dataclass(frozen=True, kw_only=True)
class Paced:
    """Latency of ``calls`` calls that started at fixed times, ``rate_hz`` a second.

    ``worst_wake_us``: how long after its time the latest call started. ``missed_deadlines``: starts that passed before
    the answer of the call before was there; such a start is left out. The keys are those of ``lstm-edge-device bench``.
    """

    calls: int
    rate_hz: float
    p50_us: float
    p99_us: float
    p999_us: float
    worst_us: float
    worst_wake_us: float
    missed_deadlines: int


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Time to open the file in a fresh process, and the resident memory that opening it and one run add.

    ``resident_bytes`` is the memory afterwards (VmRSS), ``peak_bytes`` the maximum (VmHWM). Both are relative to the
    memory after the imports of NumPy and onnxruntime, and None if there is no /proc/self/status.
    """

    load_ms: float
    resident_bytes: int | None
    peak_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """The result of ``bench``.

    ``step`` is one ``Stream.push`` of a frame, or, if ``frames`` is above 1, of so many frames that complete an output
    (``card.streaming.every``). ``sequence`` is one ``Session.run`` of ``time`` steps; both have
    ``batch_size`` rows. ``step`` is None for a model that cannot be streamed, ``sequence`` for a model whose every
    call is one step. With a rate, ``paced`` takes the place of ``step``. ``kernels`` is None if function bodies ran.
    ``sha256``: digest of the file. ``before``, ``after``: the condition of the device around the measurements.
    ``report``: version of this form, for docs/boards.md.
    """

    model: str
    sha256: str
    size_bytes: int
    onnxruntime: str
    provider: str
    kernels: str | None
    operators: int
    threads: int
    batch_size: int
    time: int
    frames: int
    opening: Opening
    step: Timing | None
    sequence: Timing | None
    device: Device
    before: Condition
    after: Condition
    report: int = REPORT
    # Reports written before the rate existed have no such key.
    paced: Paced | None = field(default=None, metadata={"since": 1})

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return dataclasses.asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Return the report as the rows of a table."""
        rows = [
            ("file", f"{self.model}, {self.size_bytes:,} bytes"),
            ("onnxruntime", f"{self.onnxruntime}, {self.provider}, threads: {self.threads}"),
            ("operators run by", self._operators()),
            ("device", ", ".join((*filter(None, (self.device.board,)), *self.device.processors, self.device.machine))),
            ("opening the file, fresh process", f"{self.opening.load_ms:.1f} ms"),
            (
                "resident memory it adds / peak",
                f"{_size(self.opening.resident_bytes)} / {_size(self.opening.peak_bytes)}",
            ),
        ]
        name = f"{'step' if self.frames == 1 else f'{self.frames} steps'}, batch {self.batch_size}"
        if self.step is not None:
            rows += _timing_rows(name, self.step)
        if self.paced is not None:
            rows += _paced_rows(f"{name}, {self.paced.rate_hz:,g} Hz", self.paced)
        if self.sequence is not None:
            rows += _timing_rows(f"sequence of {self.time}, batch {self.batch_size}", self.sequence)
        return rows

    def _operators(self) -> str:
        if not self.operators:
            return "onnxruntime (the file has no lstm_edge operator)"
        return "function bodies" if self.kernels is None else f"kernels ({self.kernels})"


def read_report(text: str, where: str) -> BenchReport:
    """Read the JSON object that ``lstm-edge bench --json`` printed.

    Args:
        text: the JSON object.
        where: the name of its file, for messages.

    Raises:
        InputError: the text is no report of this version, or has keys that a report has not.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError(
            f"{where}: expected the JSON object of lstm-edge bench --json, got no JSON ({error})"
        ) from error
    if not isinstance(values, Mapping) or values.get("report") != REPORT:
        got = values.get("report") if isinstance(values, Mapping) else type(values).__name__
        raise InputError(
            f"{where}: expected a report of version {REPORT}, got {got!r}; run lstm-edge bench --json again"
        )
    try:
        report = decode(BenchReport, values, "report", minor=0)
    except CardError as error:
        raise InputError(f"{where}: {str(error).removeprefix('model card: ')}") from error
    unknown = _unknown(values, encode(report), "")
    if unknown:
        raise InputError(f"{where}: {unknown} is no key of a report; expected only what lstm-edge bench --json prints")
    return report


def _unknown(values: Mapping[str, Any], known: Mapping[str, Any], path: str) -> str:
    """Return the dotted path of the first key that is not known, or nothing."""
    for key, value in values.items():
        if key not in known:
            return f"{path}{key}"
        below = _unknown(value, known[key], f"{path}{key}.") if isinstance(value, Mapping) else ""
        if below:
            return below
    return ""


def _timing_rows(name: str, timing: Timing) -> list[tuple[str, str]]:
    parts = (timing.p50_us, timing.p95_us, timing.p99_us, timing.worst_us)
    figures = f"{' / '.join(f'{part:,.1f}' for part in parts)} µs"
    return [
        (f"{name}: p50 / p95 / p99 / worst", figures),
        (f"{name}: throughput", f"{timing.steps_per_s:,.0f} steps/s"),
    ]


def _paced_rows(name: str, paced: Paced) -> list[tuple[str, str]]:
    parts = (paced.p50_us, paced.p99_us, paced.p999_us, paced.worst_us)
    return [
        (f"{name}: p50 / p99 / p99.9 / worst", f"{' / '.join(f'{part:,.1f}' for part in parts)} µs"),
        (f"{name}: latest start", f"{paced.worst_wake_us:,.1f} µs"),
        (f"{name}: missed deadlines", f"{paced.missed_deadlines:,} ({paced.calls:,} pushes)"),
    ]


def _size(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**20:.1f} MiB"
