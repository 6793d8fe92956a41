"""The report of a search: the contents of ``report.json``, and the printed tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lstm_edge.precision_search.measure import Evaluation
from lstm_edge.precision_search.request import LOOKS
from lstm_edge.precision_search.space import Prefer
from lstm_edge.precision_search.verdicts import Judging, Verdict, conclusion, verdicts
from lstm_edge.validation.figures import difference_text, value_text
from lstm_edge.validation.report import ValidationReport
from lstm_edge_runtime.errors import BudgetError

__all__ = [
    "SCHEMA",
    "Baseline",
    "BudgetNote",
    "BudgetReport",
    "CalibrationNote",
    "DataNote",
    "Differences",
    "FileNote",
    "LayerNote",
    "MetricNote",
    "ResultNote",
    "Sensitivity",
]

SCHEMA = "1.1"


class _Note:
    """A part of the report: a frozen dataclass whose JSON object has its fields in their order."""

    def to_json(self) -> dict[str, Any]:
        """Return the note as JSON values."""
        return {name: _json(value) for name, value in vars(self).items()}


def _json(value: Any) -> Any:
    if isinstance(value, _Note | Evaluation | ValidationReport):
        return value.to_json()
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True, kw_only=True)
class FileNote(_Note):
    """A model file: its path, SHA-256, size in bytes, and the median time of a step on this machine."""

    path: str
    sha256: str
    bytes: int
    step_us: float


@dataclass(frozen=True, kw_only=True)
class ResultNote(FileNote):
    """The file that was written, and the schemes in it as the card describes them."""

    scheme: str


@dataclass(frozen=True, kw_only=True)
class MetricNote(_Note):
    """The metric that decides."""

    name: str
    unit: str
    more_is_better: bool


@dataclass(frozen=True, kw_only=True)
class BudgetNote(_Note):
    """The budget as given, the drop that it allows on the tuning data, and the confidence levels of the bounds."""

    text: str
    allowed: float
    confidence: float
    held_out_confidence: float


@dataclass(frozen=True, kw_only=True)
class DataNote(_Note):
    """Which data were used: their name, how many ``samples_are`` (sequences, characters), and their SHA-256."""

    name: str
    samples: int
    samples_are: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class CalibrationNote(_Note):
    """The calibration data: name, number of samples, and SHA-256 of the samples."""

    name: str
    samples: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Differences(_Note):
    """Histogram of the outputs' differences to float32: N + 1 ascending ``edges``, N ``counts``; magnitudes."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    worst: float
    mean: float


@dataclass(frozen=True, kw_only=True)
class Sensitivity(_Note):
    """One part alone in one scheme: bytes of the file, drop and its bound, signal-to-noise ratio of the outputs."""

    part: str
    scheme: str
    evaluation: Evaluation

    def to_json(self) -> dict[str, Any]:
        """Return the sensitivity as JSON values."""
        found = self.evaluation
        return {
            "part": self.part,
            "scheme": self.scheme,
            "bytes": found.bytes,
            "drop": found.drop,
            "high": found.high,
            "snr_db": found.snr_db,
            "step_us": found.step_us,
        }


@dataclass(frozen=True, kw_only=True)
class Baseline(_Note):
    """One scheme for every part that supports it, evaluated on the tuning data."""

    name: str
    evaluation: Evaluation

    def to_json(self) -> dict[str, Any]:
        """Return the baseline as JSON values."""
        found = self.evaluation
        values = {"value": found.value, "drop": found.drop, "low": found.low, "high": found.high}
        return {"name": self.name, "bytes": found.bytes, **values, "step_us": found.step_us}


@dataclass(frozen=True, kw_only=True)
class LayerNote(_Note):
    """One layer: its sizes, bytes before and after, the schemes of its parts, and their loss alone."""

    name: str
    operator: str
    kind: str
    parameters: int
    bytes_before: int
    bytes_after: int
    parts: Mapping[str, str]
    sensitivity: tuple[Sensitivity, ...]


@dataclass(frozen=True, kw_only=True)
class BudgetReport(_Note):
    """The result of ``quantize_to_budget``; ``to_json`` is ``report.json``.

    ``result`` is None if no file stayed within the budget on the held-out data; ``validation`` is the verdict on the
    file that was written. ``tuning_note``: what ordered the candidates if the metric could not, else empty.
    ``left_out``: sentences on the files that were not evaluated on the held-out data.
    """

    command: str
    versions: Mapping[str, str]
    machine: str
    seed: int
    prefer: Prefer
    source: FileNote
    result: ResultNote | None
    metric: MetricNote
    budget: BudgetNote
    tuning_data: DataNote
    held_out_data: DataNote
    calibration: CalibrationNote
    baselines: tuple[Baseline, ...]
    evaluations: tuple[Evaluation, ...]
    layers: tuple[LayerNote, ...]
    differences: Differences | None
    validation: ValidationReport | None
    exhaustive: bool
    elapsed_s: float
    tuning_note: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether a file stayed within the budget, and was written."""
        return self.result is not None

    @property
    def looks(self) -> tuple[Evaluation, ...]:
        """The evaluations on the held-out data, in order."""
        return tuple(found for found in self.evaluations if found.stage == "held-out")

    @property
    def answer(self) -> Evaluation | None:
        """The evaluation of the written file on the held-out data: of those that passed, the best."""
        passed = [found for found in self.looks if found.passed]
        if self.result is None or not passed:
            return None
        return min(passed, key=lambda found: (found.cost(self.prefer), found.number))

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The outcome of each evaluation on the held-out data, in order."""
        return verdicts(self.looks, self._judging)

    @property
    def conclusion(self) -> str:
        """One paragraph: which files were evaluated on the held-out data, the outcome of each, and the result."""
        return conclusion(self.looks, self.left_out, self._judging)

    @property
    def _judging(self) -> Judging:
        source = self.source
        return Judging(
            data=self.held_out_data.name,
            most=LOOKS,
            confidence=self.budget.held_out_confidence,
            together=self.budget.confidence,
            prefer=self.prefer,
            source_cost=source.step_us if self.prefer == "latency" else float(source.bytes),
            answer=self.answer,
            written_bytes=0 if self.result is None else self.result.bytes,
            show=self._difference,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        judged = [vars(verdict) for verdict in self.verdicts]
        more = {"passed": self.passed, "judged": judged, "conclusion": self.conclusion}
        return {"schema": SCHEMA} | super().to_json() | more

    def sensitivity_rows(self) -> list[tuple[str, str, str, str, str]]:
        """Return a row for each part and scheme alone: part, scheme, bytes, drop, signal to noise."""
        rows = []
        for layer in self.layers:
            for entry in layer.sensitivity:
                found = entry.evaluation
                snr = "equal" if found.snr_db is None else f"{found.snr_db:.1f} dB"
                rows.append((entry.part, entry.scheme, f"{found.bytes:,}", self._difference(found.drop), snr))
        return rows

    def layer_rows(self) -> list[tuple[str, str, str, str]]:
        """Return a row for each layer of the result: name, schemes of its parts, bytes before and after."""
        rows = []
        for layer in self.layers:
            rows.append((layer.name, _schemes(layer), f"{layer.bytes_before:,}", f"{layer.bytes_after:,}"))
        return rows

    def rows(self) -> list[tuple[str, str]]:
        """Return the summary as the rows of a table."""
        rows = [
            ("tuned on", self._data(self.tuning_data)),
            ("verified on", f"{self._data(self.held_out_data)}, {len(self.looks)} of at most {LOOKS} evaluations"),
            (
                "evaluations",
                f"{len(self.evaluations)}, {'every assignment' if self.exhaustive else 'the promising assignments'}",
            ),
        ]
        for entry in self.baselines:
            found = entry.evaluation
            rows.append((f"{entry.name} for all layers", f"{found.bytes:,} bytes, drop {self._difference(found.drop)}"))
        for verdict in self.verdicts:
            rows.append((f"{verdict.name}, held out", f"{verdict.bytes:,} bytes, {verdict.outcome}"))
        if self.result is not None and self.validation is not None:
            share = self.result.bytes / self.source.bytes
            bound = self.validation.drop_bound
            rows += [
                ("result", f"{self.result.bytes:,} bytes, {share:.1%} of the source"),
                (f"{self.metric.name}, held out", self._value(self.validation.candidate)),
                ("drop, held out", self._difference(self.validation.drop)),
                (f"drop, bound at {self.validation.confidence:g}", self._difference(bound)),
                (f"allowed drop ({self.budget.text})", self._difference(self.validation.max_drop)),
            ]
            rows.append(("step, source / result", f"{self.source.step_us:,.1f} / {self.result.step_us:,.1f} µs"))
        return rows

    def check(self) -> None:
        """Raise if nothing stayed within the budget.

        Raises:
            BudgetError: nothing did; the message has the outcome of each evaluation on the held-out data.
        """
        if self.passed:
            return
        judged = [found for found in self.evaluations if found.high is not None and found.parts]
        bounds = [found.high for found in judged if found.high is not None]
        kept = [found for found in judged if found.passed and found.stage != "held-out"]
        tuned = {(found.plain, tuple(sorted(found.parts.items()))) for found in kept}
        failed = [found for found in self.looks if not found.passed]
        both = sum((found.plain, tuple(sorted(found.parts.items()))) in tuned for found in failed)
        if both:
            reason = f" and on {self.held_out_data.name}: {both} passed on the first and failed on the second"
        elif kept:
            better = "faster" if self.prefer == "latency" else "smaller"
            reason = f" and is {better} than the source: {len(kept)} are within it, none of them {better}"
        else:
            reason = f"; the closest of {len(judged)} may lose {self._difference(min(bounds))}" if bounds else ""
        wanted = f"{self.budget.text} ({self._difference(self.budget.allowed)})"
        raise BudgetError(
            f"no assignment of schemes keeps {self.metric.name} within {wanted} at confidence "
            f"{self.budget.confidence:g} on {self.tuning_data.name}{reason}. {self.conclusion}. Nothing was written"
        )

    def _data(self, note: DataNote) -> str:
        return f"{note.name}, {note.samples:,} {note.samples_are}"

    def _value(self, value: float | None) -> str:
        if value is None:
            return "not evaluated"
        return value_text(value, self.metric.unit)

    def _difference(self, value: float | None) -> str:
        return "not evaluated" if value is None else difference_text(value, self.metric.unit)


def _schemes(layer: LayerNote) -> str:
    """Return the scheme of a layer, or the schemes of its parts, as text."""
    # Two matrices, or their eight gates.
    if len(layer.parts) in (2, 8) and len(set(layer.parts.values())) == 1:
        return next(iter(layer.parts.values()))
    return ", ".join(f"{_short(part, layer.name)}{scheme}" for part, scheme in layer.parts.items()) or "float32"


def _short(part: str, layer: str) -> str:
    """Return a part's address without its layer's name as a prefix, such as ``W ``, or nothing."""
    rest = part.removeprefix(layer).removeprefix(".")
    return f"{rest} " if rest else ""
