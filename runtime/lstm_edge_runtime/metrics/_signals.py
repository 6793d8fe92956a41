"""SI-SDR and SDR: the ratio of a signal to its distortion, in dB, for each sequence.

Le Roux, Wisdom, Erdogan and Hershey, "SDR - half-baked or well done?", ICASSP 2019. s is the target
and e the estimate, each with all values of a sequence in one vector:

    SDR = 10 log10(|s|² / |s - e|²)                            (the paper's SNR)
    SI-SDR = 10 log10(|a s|² / |a s - e|²),  a = <e, s> / |s|²

The mean of a signal is not removed. SDR allows no filter, unlike the SDR of BSS-Eval.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics._metric import Means, Metric, by_sequence, join
from lstm_edge_runtime.metrics._options import Option, one_of
from lstm_edge_runtime.metrics._scores import check_pair

__all__ = ["LIMIT_DB", "SignalRatio", "sdr_db", "si_sdr_db"]

Vector = NDArray[np.float64]

# Each sequence counts as at most 100 dB and at least -100 dB, so that an equal or a silent estimate has a finite value:
# 16 bit samples have 98 dB, so no recording tells values beyond apart.
LIMIT_DB = 100.0


def si_sdr_db(estimate: Vector, target: Vector) -> float:
    """Return the SI-SDR of one signal, -100 to 100 dB; both float64 ``[L]``, the target not silent.

    An estimate times any factor other than 0 has the same value. A silent estimate has -100 dB.
    """
    estimate, target = _unit_peak(estimate), _unit_peak(target)
    wanted = (estimate @ target) / (target @ target) * target
    return _ratio_db(wanted, wanted - estimate)


def sdr_db(estimate: Vector, target: Vector) -> float:
    """Return the SDR of one signal, -100 to 100 dB; both float64 ``[L]``, the target not silent.

    A silent estimate has 0 dB.
    """
    peak = max(np.abs(target).max(), np.abs(estimate).max())
    return _ratio_db(target / peak, target / peak - estimate / peak)


def _unit_peak(signal: Vector) -> Vector:
    # The squares of very large and very small values would leave float64's range.
    peak = np.abs(signal).max()
    return signal / peak if peak > 0 else signal


def _ratio_db(wanted: Vector, distortion: Vector) -> float:
    signal, noise = float(wanted @ wanted), float(distortion @ distortion)
    if signal == 0.0:
        return -LIMIT_DB
    if noise == 0.0:
        return LIMIT_DB
    return float(np.clip(10.0 * (np.log10(signal) - np.log10(noise)), -LIMIT_DB, LIMIT_DB))


@dataclass(frozen=True, kw_only=True)
class SignalRatio(Metric):
    """The mean over sequences of a ratio in dB: ``ratio(estimate, target)`` is ``si_sdr_db`` or ``sdr_db``.

    Frames ``[T, L]`` of a signal are joined to one signal; so are channels. The ratio to a silent target is not
    defined: ``silence`` says whether such a sequence is refused, or left out.
    """

    ratio: Callable[[Vector, Vector], float]
    silence: Literal["refuse", "skip"] = "refuse"

    options: ClassVar[tuple[Option, ...]] = (
        Option(name="silence", parse=one_of("refuse", "skip"), form="refuse|skip"),
    )

    def estimate(self, outputs: Any, targets: Any, units: NDArray[np.int64] | None = None) -> Means:
        """Measure each sequence; see ``Metric.estimate``.

        Args:
            outputs: float ``[N, ...]``.
            targets: float, the same shape; ``[N]`` also fits ``[N, 1]``.
            units: the sequence of each of N steps. None: N sequences, each with all values of its signal in one row.

        Raises:
            InputError: the shapes differ, a signal has one value only, a target is silent and ``silence`` is
                ``refuse``, or all targets are silent.
        """
        if np.ndim(targets) == 1 and np.shape(outputs) == (len(targets), 1):
            targets = targets[:, np.newaxis]
        check_pair(targets, outputs)
        pairs = list(zip(by_sequence(outputs, units), by_sequence(targets, units), strict=True))
        measured = [self._measure(number, *pair) for number, pair in enumerate(pairs)]
        if not any(value is not None for value in measured):
            raise InputError(f"metric {self.name}: the targets of all sequences are silent, expected a signal")
        return Means(
            sums=np.array([0.0 if value is None else value for value in measured]),
            counts=np.array([float(value is not None) for value in measured]),
        )

    def estimate_sequences(self, outputs: Sequence[Array], targets: Sequence[Array], *, per_step: bool = True) -> Means:
        """Measure one output of a model; see ``Metric.estimate_sequences``."""
        return self.estimate(*join(outputs, targets, per_step=per_step))

    def _measure(self, number: int, estimate: Any, target: Any) -> float | None:
        if target.size < 2:
            raise InputError(
                f"metric {self.name}: the target of sequence {number} has one value, expected the samples of a signal"
            )
        if not target.any():
            if self.silence == "skip":
                return None
            raise InputError(
                f"metric {self.name}: the target of sequence {number} is silent (all values are 0), which has no ratio "
                "in dB; expected a signal, or silence=skip to leave such sequences out"
            )
        return self.ratio(estimate.reshape(-1).astype(np.float64), target.reshape(-1).astype(np.float64))
