"""What a metric is, and its estimate on samples that a bootstrap can resample.

N samples, U units (what a bootstrap draws: sequences, or blocks of a text), R resamples.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics._options import Option

__all__ = [
    "RESAMPLES",
    "Counts",
    "Estimate",
    "MeanMetric",
    "Means",
    "Metric",
    "Target",
    "by_sequence",
    "difference",
    "join",
    "weights",
]

Scores = NDArray[np.float64]
Units = NDArray[np.int64]
Target = Literal["class", "value", "signal", "detection", "token", "text", "reference", "own"]

# Enough that the 95 % bound of a share over 370 samples moves by less than one sample (0.0027) between seeds.
RESAMPLES = 10_000


class Estimate(Protocol):
    """A metric's value on samples, and on resamples of their units."""

    @property
    def value(self) -> float:
        """The metric on all samples; NaN where it has none."""
        ...

    @property
    def units(self) -> int:
        """U, how many units a resample is drawn from."""
        ...

    @property
    def resamples(self) -> int:
        """How many resamples are worth their time, at most ``RESAMPLES``."""
        ...

    def resample(self, drawn: Units) -> Scores:
        """Return the metric of each resample, float64 ``[R]``; ``drawn`` is int64 ``[R, U]``, the units' numbers."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Means:
    """The mean over all samples, or what ``finish`` makes of it; sums and numbers of samples are float64 ``[U]``.

    A unit may have no samples, if another has some. A resample of such units alone has no mean: NaN.
    """

    sums: Scores
    counts: Scores
    finish: Callable[[Any], Any] | None = None

    @classmethod
    def of(cls, scores: Scores, units: Units | None, finish: Callable[[Any], Any] | None = None) -> "Means":
        """Add scores ``[N]`` up by unit; ``units`` int64 ``[N]`` from 0, None: each sample is one."""
        if units is None:
            return cls(sums=scores, counts=np.ones(len(scores)), finish=finish)
        sums = np.bincount(units, scores).astype(np.float64, copy=False)
        return cls(sums=sums, counts=np.bincount(units).astype(np.float64), finish=finish)

    @property
    def value(self) -> float:
        """The metric on all samples."""
        return float(self._finish(self.sums.sum() / self.counts.sum()))

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.sums)

    @property
    def resamples(self) -> int:
        """As many as there are."""
        return RESAMPLES

    def resample(self, drawn: Units) -> Scores:
        """Return the metric of each resample, float64 ``[R]``."""
        if (self.counts == 1).all():
            means = self.sums[drawn].mean(axis=1)
        else:
            sums, counts = self.sums[drawn].sum(axis=1), self.counts[drawn].sum(axis=1)
            means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
        return np.asarray(self._finish(means), np.float64)

    def _finish(self, means: Any) -> Any:
        with np.errstate(over="ignore"):  # an infinite perplexity is refused by who asked for it
            return means if self.finish is None else self.finish(means)


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """What ``finish`` makes of counts, or other numbers, that are added up over the samples: float64 ``[U, K]``.

    ``finish`` takes sums ``[..., K]`` and returns ``[...]``. Sums of whole numbers are exact in any order.
    """

    counts: Scores
    finish: Callable[[Scores], Scores]

    @property
    def value(self) -> float:
        """The metric on all samples."""
        return float(self.finish(self.counts.sum(axis=0)))

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.counts)

    @property
    def resamples(self) -> int:
        """As many as there are."""
        return RESAMPLES

    def resample(self, drawn: Units) -> Scores:
        """Return the metric of each resample, float64 ``[R]``."""
        return self.finish(weights(drawn) @ self.counts)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Difference:
    """One estimate less another of the same units, both resampled by the same draws."""

    first: Estimate
    second: Estimate

    @property
    def value(self) -> float:
        return self.first.value - self.second.value

    @property
    def units(self) -> int:
        return self.first.units

    @property
    def resamples(self) -> int:
        return min(self.first.resamples, self.second.resamples)

    def resample(self, drawn: Units) -> Scores:
        return self.first.resample(drawn) - self.second.resample(drawn)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return the estimate of ``first - second``, paired: both on the same units, resampled by the same draws.

    Of two means it is the mean of the differences, not the difference of the means: one lost sample of 200 is 0.005 to
    the last bit.
    """
    if isinstance(first, Means) and isinstance(second, Means) and first.finish is None and second.finish is None:
        return Means(sums=first.sums - second.sums, counts=first.counts)
    return _Difference(first=first, second=second)


def join(outputs: Sequence[Array], targets: Sequence[Array], *, per_step: bool) -> tuple[Array, Array, Units | None]:
    """Return outputs, targets and units for ``Metric.estimate``: of all steps, or of all sequences and None.

    Args:
        outputs: for each sequence ``[T, ...]``, or without ``per_step`` ``[...]``.
        targets: the same.
        per_step: whether the first axis is time.

    Raises:
        InputError: a sequence has other axes than the first one, or a target has another number of steps.
    """
    for what, rows in (("output", outputs), ("target", targets)):
        for number, row in enumerate(rows):
            shape, first = row.shape[per_step:], rows[0].shape[per_step:]
            if shape != first or row.ndim < per_step:
                raise InputError(
                    f"metric: the {what} of sequence {number} is {list(row.shape)}, that of sequence 0 is "
                    f"{list(rows[0].shape)}; expected the same axes{' after the steps' if per_step else ''}"
                )
    if not per_step:
        return np.stack(list(outputs)), np.stack(list(targets)), None
    lengths = [len(target) for target in targets]
    for number, (output, length) in enumerate(zip(outputs, lengths, strict=True)):
        if len(output) != length:
            raise InputError(
                f"metric: sequence {number} has {len(output)} steps in the output and {length} in the target, expected "
                "the same number"
            )
    return np.concatenate(list(outputs)), np.concatenate(list(targets)), np.repeat(np.arange(len(lengths)), lengths)


def by_sequence(values: Array, units: Units | None) -> list[Array]:
    """Return the values of each sequence: ``[T, ...]``, where ``units`` has the sequence of each step, else a row."""
    if units is None:
        return list(values)
    return np.split(values, np.flatnonzero(np.diff(units)) + 1)


def weights(drawn: Units) -> Scores:
    """Return how often each unit was drawn: float64 ``[R, U]`` from int64 ``[R, U]``."""
    rows, units = drawn.shape
    places = drawn + units * np.arange(rows)[:, np.newaxis]
    return np.bincount(places.reshape(-1), minlength=rows * units).reshape(rows, units).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Metric(ABC):
    """A metric of a task.

    ``unit`` names what it is measured in. ``point`` is the size of one point (``pt``) of a budget in that unit: 0.01
    for a share, where a point is a percentage point, and 1 for every other unit. ``target`` says what the metric
    compares outputs with: classes (int64 ``[N]``), values (float32 ``[N]`` or ``[N, K]``), a ``signal`` for each
    sequence (float32, the samples of all sequences), what is there to detect (0 and 1, integers or float32, ``[N]`` or
    ``[N, K]``), the next tokens of a text (int64 ``[N]``, N tokens), a text for each sequence, the decisions of the
    reference (int64 ``[N]``), or whatever a function of the user's ``own`` takes. ``options`` are those of the metric,
    the first also without its name (``lstm_edge_runtime.metrics.get_metric``). ``output`` names the output that is
    measured, None if the model has only one.
    """

    name: str
    more_is_better: bool
    unit: str
    point: float
    target: Target
    output: str | None = None

    options: ClassVar[tuple[Option, ...]] = ()

    @abstractmethod
    def estimate(self, outputs: Any, targets: Any, units: Units | None = None) -> Estimate:
        """Measure outputs against targets.

        Args:
            outputs: N answers, as the metric takes them; logits are ``[N, C]``.
            targets: what ``target`` says.
            units: int64 ``[N]``, the number of each sample's unit from 0, each number used; None: each is one.

        Raises:
            InputError: outputs and targets do not fit, or the metric is not defined for them.
        """

    def estimate_sequences(
        self,
        outputs: Sequence[Array],
        targets: Sequence[Array],
        *,
        per_step: bool = True,  # noqa: ARG002  here the axis of steps is like any other
    ) -> Estimate:
        """Measure one output of a model on N sequences; the bootstrap draws sequences.

        A metric of whole sequences overrides it; the default joins all steps and calls ``estimate``.

        Args:
            outputs: for each sequence its answer without the batch axis, time first if it has a time axis: ``[...]``.
                Sequences may differ in their number of steps. For classes the last axis is the logits'.
            targets: for each sequence the target: integers without the axis of the logits, or values of the answer's
                shape.
            per_step: whether the answers have a time axis. Only metrics that treat steps differently from other axes
                use it.

        Raises:
            InputError: a target does not fit its output, or the metric is not defined for them.
        """
        joined, wanted, units = [], [], []
        for number, (output, target) in enumerate(zip(outputs, targets, strict=True)):
            classes = output.ndim == target.ndim + 1 and output.shape[:-1] == target.shape
            if not classes and output.shape != target.shape:
                raise InputError(
                    f"metric {self.name}: output {list(output.shape)} and target {list(target.shape)} of sequence "
                    f"{number}: expected equal shapes, or one integer class for each row of logits"
                )
            joined.append(output.reshape(-1, output.shape[-1]) if classes else output.reshape(-1))
            wanted.append(target.reshape(-1))
            units.append(np.full(target.size, number, np.int64))
        return self.estimate(np.concatenate(joined), np.concatenate(wanted), np.concatenate(units))

    def __call__(self, outputs: Any, targets: Any) -> float:
        """Return the metric's value."""
        return self.estimate(outputs, targets).value

    def loss(self, reference: Estimate, candidate: Estimate) -> Estimate:
        """Return how much worse the candidate is; negative where it is better."""
        return difference(reference, candidate) if self.more_is_better else difference(candidate, reference)


@dataclass(frozen=True, kw_only=True)
class MeanMetric(Metric):
    """A metric that is the mean of one score for each sample, or what ``finish`` makes of that mean.

    ``per_sample(outputs, targets)`` returns float64 ``[N]``. ``finish`` takes float64 means of any shape.
    """

    per_sample: Callable[[Array, Array], Scores]
    finish: Callable[[Any], Any] | None = None

    def estimate(self, outputs: Any, targets: Any, units: Units | None = None) -> Means:
        """Average the samples' scores; see ``Metric.estimate``."""
        return Means.of(self.per_sample(outputs, targets), units, self.finish)

    def losses(self, reference: Scores, candidate: Scores) -> Scores:
        """Return how much worse the candidate is for each sample, float64 ``[N]``; negative where it is better."""
        return reference - candidate if self.more_is_better else candidate - reference
