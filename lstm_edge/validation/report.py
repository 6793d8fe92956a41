"""Budgets, and the report of a validation. Imports only NumPy and the runtime package, so it also runs on the device.

A budget is text. ``0.5pt`` is absolute, in points of the metric: for accuracy percentage points, so 0.005 of the
share; for every other metric a point is 1 in the metric's unit (``0.02pt`` of cross-entropy is 0.02 nats). A number
without a unit, ``0.02``, is in the metric's unit too. It is refused for a share, of which ``0.5`` might mean half, or
half a point. ``0.5dB`` is for a metric in dB. ``0.5%`` is relative to the reference's value. It is refused for dB,
which are a ratio already.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from lstm_edge.amounts import beside_scale, check_confidence, parse_drop
from lstm_edge.validation.bootstrap import interval, resample, upper_bound
from lstm_edge.validation.figures import difference_text, value_text
from lstm_edge.validation.other_outputs import OutputFigures
from lstm_edge.validation.stuck_streams import StreamCheck, StuckStream
from lstm_edge_runtime.errors import BudgetError, InputError
from lstm_edge_runtime.metrics import Estimate, Metric

__all__ = ["INTERVAL", "AnswersOf", "Budget", "ValidationReport", "parse_budget", "weigh"]

Unit = Literal["pt", "dB", ""]

# Confidence level of the intervals if no confidence is given.
INTERVAL = 0.95
# A drop equal to the budget passes: both are rounded sums in float64, with an error far below this share.
ROUNDING = 1e-12

# Stuck streams in the table; the JSON report has all of them.
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The largest allowed drop: ``amount`` percent of the reference (``relative``), or else in ``unit``.

    ``unit`` is ``"pt"`` (points of the metric), ``"dB"``, or ``""`` (the metric's unit).
    """

    amount: float
    relative: bool
    unit: Unit = "pt"

    def __str__(self) -> str:
        return f"{self.amount:g}{'%' if self.relative else self.unit}"

    def check(self, metric: Metric) -> None:
        """Refuse a budget in another unit than the metric's.

        Raises:
            InputError: dB for a metric that is not in dB, percent for one that is, or no unit for a share.
        """
        decibels = metric.unit == "dB"
        if self.relative:
            wrong = f"{self.amount:g}dB (a percentage of decibels has no meaning)" if decibels else None
        elif self.unit == "dB":
            wrong = None if decibels else f"{self.amount:g}pt (points of the metric) or {self.amount:g}%"
        elif self.unit == "" and metric.unit == "share":
            amount = f"{self.amount:g}"
            wrong = f"a unit: {amount}pt (percentage points), {100 * self.amount:g}pt (the share {amount}) or {amount}%"
        else:
            wrong = None
        if wrong is not None:
            raise InputError(f"budget {self}: metric {metric.name} is in {metric.unit or 'no unit'}; expected {wrong}")

    def allowed(self, metric: Metric, reference: float) -> float:
        """Return the allowed drop in the metric's unit, for the reference's value of the metric.

        Raises:
            InputError: the budget is in another unit than the metric's; see ``check``.
        """
        self.check(metric)
        if self.relative:
            return self.amount / 100 * abs(reference)
        return self.amount * (metric.point if self.unit == "pt" else 1.0)


@dataclass(frozen=True, kw_only=True)
class AnswersOf:
    """The device whose answers are judged.

    ``host``: as it was given. ``program``: ``"lstm-edge"`` or ``"lstm-edge-device"``. ``lstm_edge``, ``onnxruntime``:
    versions on the device; ``machine``: its architecture, None where the program does not say it. ``reference_kernels``
    and ``candidate_kernels``: instruction set of the fused kernels that ran the file, None without them.
    """

    host: str
    program: str
    lstm_edge: str | None
    onnxruntime: str | None
    machine: str | None
    reference_kernels: str | None
    candidate_kernels: str | None

    def row(self) -> tuple[str, str]:
        """Return the row of a table."""
        names = (self.reference_kernels or "none", self.candidate_kernels or "none")
        kernels = names[1] if names[0] == names[1] else f"{names[0]} (reference), {names[1]} (candidate)"
        program = " ".join(filter(None, (self.program, self.lstm_edge)))
        machine = "" if self.machine is None else f", {self.machine}"
        return f"answers of {self.host}", f"{program}, onnxruntime {self.onnxruntime}{machine}, kernels {kernels}"


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """The report of ``validate``.

    ``reference``, ``candidate``: the metric's values; ``drop``: how much worse the candidate is, negative if it is
    better; ``max_drop``: the largest allowed drop; both in the metric's ``unit``. ``budget`` is the budget as text.
    ``agreement``: share of samples with the same decision, None for metrics without decisions. The differences are
    over all output values, None if the outputs are labels; ``snr_db`` is infinite if the outputs are equal, and
    ``output_scale`` is the greatest absolute value of the reference.
    ``drop_bound`` is the upper bound of the drop at ``confidence``, both None if the estimate decides. ``drop_low`` to
    ``drop_high`` and ``candidate_low`` to ``candidate_high`` are two-sided intervals of the drop and of the candidate's
    metric at ``interval_confidence`` (``confidence``, or 0.95 where none decides), by a paired bootstrap of
    ``resamples`` draws of ``units`` units: sequences, or blocks of a text. Sizes are those of the files, in bytes.
    ``samples_are`` names the samples: sequences, their steps, or tokens of a text. ``streams``: for a text, where the
    candidate's carried state got stuck; None for sequences, which all start from a fresh state. ``streams`` is only a
    warning: ``passed`` depends on the budget alone. ``others``: for a model with several outputs, the figures of the
    outputs that have targets but are not judged. ``device``: the device whose answers these are; None: this machine.
    """

    metric: str
    unit: str
    data: str
    samples: int
    reference: float
    candidate: float
    drop: float
    budget: str
    max_drop: float
    passed: bool
    confidence: float | None
    drop_bound: float | None
    seed: int
    agreement: float | None
    max_abs_difference: float | None
    mean_abs_difference: float | None
    snr_db: float | None
    reference_bytes: int
    candidate_bytes: int
    samples_are: str = "sequences"
    drop_low: float | None = None
    drop_high: float | None = None
    candidate_low: float | None = None
    candidate_high: float | None = None
    interval_confidence: float = INTERVAL
    resamples: int = 0
    units: int = 0
    streams: StreamCheck | None = None
    others: tuple[OutputFigures, ...] = ()
    device: AnswersOf | None = None
    output_scale: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; absent values, and an infinite ``snr_db``, are null."""
        values = dataclasses.asdict(self)
        if self.streams is not None:
            values["streams"]["stuck"] = list(values["streams"]["stuck"])
        values["others"] = list(values["others"])
        return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}

    def rows(self) -> list[tuple[str, str]]:
        """Return the report as the rows of a table."""
        bound = (
            []
            if self.drop_bound is None
            else [(f"drop, bound at {self.confidence:g}", self._difference(self.drop_bound))]
        )
        agree = [] if self.agreement is None else [("agreement of decisions", f"{self.agreement:.2%}")]
        return [
            ("validated on", f"{self.data}, {self.samples:,} {self.samples_are}"),
            *([] if self.device is None else [self.device.row()]),
            (f"{self.metric}, reference", self._value(self.reference)),
            (f"{self.metric}, candidate", self._value(self.candidate)),
            ("drop", self._difference(self.drop)),
            *self._intervals(),
            *bound,
            (f"allowed drop ({self.budget})", self._difference(self.max_drop)),
            ("verdict", "passed" if self.passed else "BUDGET BROKEN"),
            *self._stuck(),
            *((f"{o.metric} of {o.output}, both", f"{o.reference:.4g} / {o.candidate:.4g}") for o in self.others),
            *agree,
            *self._differences(),
            ("model size, reference / candidate", f"{self.reference_bytes:,} / {self.candidate_bytes:,} bytes"),
        ]

    def _intervals(self) -> list[tuple[str, str]]:
        rows = []
        for name, low, high, text in (
            ("drop", self.drop_low, self.drop_high, self._difference),
            ("candidate", self.candidate_low, self.candidate_high, self._value),
        ):
            if low is not None and high is not None:
                # The unit once: "-0.1 to 0.33 pt".
                start = text(low) if text(low).endswith("%") else text(low).partition(" ")[0]
                rows.append((f"{name}, {100 * self.interval_confidence:g} % interval", f"{start} to {text(high)}"))
        return rows

    def _stuck(self) -> list[tuple[str, str]]:
        if self.streams is None or not self.streams.stuck:
            return []
        worst = sorted(self.streams.stuck, key=lambda stuck: -stuck.lost_nats)[:SHOWN]
        more = len(self.streams.stuck) - len(worst)
        return [
            *(("WARNING, STUCK STREAM", _stuck_sentence(stuck)) for stuck in worst),
            *([("", f"and {more:,} more with smaller losses")] if more else []),
            ("", "call Stream.reset at the data's boundaries, or train with --reset-probability"),
        ]

    def _differences(self) -> list[tuple[str, str]]:
        if self.max_abs_difference is None or self.mean_abs_difference is None or self.snr_db is None:
            return []
        return [
            ("worst output difference", beside_scale(self.max_abs_difference, self.output_scale)),
            ("mean output difference", f"{self.mean_abs_difference:.2g}"),
            ("signal to noise", f"{self.snr_db:.1f} dB"),
        ]

    def _value(self, value: float) -> str:
        return value_text(value, self.unit)

    def _difference(self, value: float) -> str:
        return difference_text(value, self.unit)

    def check(self) -> None:
        """Raise if the drop is over the budget.

        Raises:
            BudgetError: ``passed`` is false; the message has the figures.
        """
        if self.passed:
            return
        bound = ""
        if self.drop_bound is not None:
            bound = f" (at most {self._difference(self.drop_bound)} at confidence {self.confidence:g})"
        raise BudgetError(
            f"over the budget: {self.metric} goes from {self._precise(self.reference)} to "
            f"{self._precise(self.candidate)}, a drop of {self._difference(self.drop)}{bound}; allowed is "
            f"{self._difference(self.max_drop)} ({self.budget})"
        )

    def _precise(self, value: float) -> str:
        """Return a value with more digits than the table has."""
        return self._value(value) if self.unit == "share" else f"{value:.6g}"


def parse_budget(text: str) -> Budget:
    """Read ``0.5pt``, ``0.5%``, ``0.5dB`` or ``0.5``.

    Raises:
        InputError: the text is none of them.
    """
    amount, kind = parse_drop(text)
    return Budget(amount=amount, relative=kind == "%", unit="dB" if kind == "dB" else "pt" if kind else "")


def weigh(
    metric: Metric, reference: Estimate, candidate: Estimate, budget: Budget, *, confidence: float | None, seed: int
) -> dict[str, Any]:
    """Compare a candidate's metric with the reference's.

    Args:
        metric: the metric.
        reference: the reference's metric on U units.
        candidate: the candidate's metric on the same units.
        budget: the largest allowed drop.
        confidence: None: the estimated drop decides; else the upper bound of the drop at this confidence.
        seed: random seed of the bootstrap. Returns:
        The fields of ``ValidationReport`` from ``metric`` to ``seed``, without ``data`` and ``samples``, and those of
        the intervals.

    Raises:
        InputError: the confidence is out of its range, or a model's metric is NaN or infinite.
    """
    check_confidence(confidence)
    for name, value in (("reference", reference.value), ("candidate", candidate.value)):
        if not math.isfinite(value):
            raise InputError(f"metric {metric.name}: is {value:g} for the {name}; expected a finite number")
    loss = metric.loss(reference, candidate)
    drops, values = resample([loss, candidate], seed=seed)
    level = INTERVAL if confidence is None else confidence
    low, high = interval(drops, level)
    candidate_low, candidate_high = interval(values, level)
    bound = None if confidence is None else upper_bound(drops, confidence)
    allowed = budget.allowed(metric, reference.value)
    return {
        "metric": metric.name,
        "unit": metric.unit,
        "reference": reference.value,
        "candidate": candidate.value,
        "drop": loss.value,
        "budget": str(budget),
        "max_drop": allowed,
        "passed": (loss.value if bound is None else bound) <= allowed + ROUNDING * max(1.0, abs(reference.value)),
        "confidence": confidence,
        "drop_bound": bound,
        "seed": seed,
        "drop_low": low,
        "drop_high": high,
        "candidate_low": candidate_low,
        "candidate_high": candidate_high,
        "interval_confidence": level,
        "resamples": len(drops),
        "units": loss.units,
    }


def _stuck_sentence(stuck: StuckStream) -> str:
    left = "to the end" if stuck.to_the_end else f"until token {stuck.until:,}"
    return (
        f"since token {stuck.since:,} {left} (started at {stuck.row_start:,}): {stuck.carried_nats:.3g} nats a token, "
        f"{stuck.fresh_nats:.3g} from a fresh state; {stuck.lost_nats:,.0f} nats lost"
    )
