"""A user-defined metric: ``package.module:function``.

The function takes ``(outputs, targets)`` and returns one number, or one number for each sample, whose mean is the
metric. Samples are sequences, or steps if the data have a target for each step: ``outputs`` float32 ``[N, ...]``,
``targets`` int64 ``[N]``, float32 ``[N]`` or ``[N, K]``. The better direction must be given: the name ends in ``:more``
or ``:less``, or the function has an attribute ``more_is_better``. Imports only NumPy.
"""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge._imports import current_folder_last, import_object
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import InputError, first_line
from lstm_edge_runtime.metrics import METRICS, Estimate, Means, Metric, get_metric

__all__ = ["OwnMetric", "load_metric"]

Scores = NDArray[np.float64]
Units = NDArray[np.int64]

EXPECTED = "package.module:function"
# Resamples for a function that returns one number: the function is called for each resample and both models, and a call
# may take a millisecond.
_RESAMPLES = 1_000


def load_metric(name: str) -> Metric:
    """Return a metric by name, or a user-defined one.

    Args:
        name: one of ``lstm_edge_runtime.metrics.METRICS`` with its options, or ``package.module:function``, which may
            be in the current folder; the suffix ``:more`` or ``:less`` gives the better direction if the function has
            no attribute ``more_is_better``. The function may have an attribute ``unit``: with ``"share"`` a point of a
            budget is a percentage point, else 1.

    Raises:
        InputError: the metric does not exist, or the function cannot be imported, is not a function, or has no better
            direction.
    """
    if name.partition(":")[0] in METRICS:
        return get_metric(name)
    if ":" not in name:
        raise InputError(f"metric {name!r}: unknown; expected one of {', '.join(METRICS)}, or {EXPECTED}")
    base, _, suffix = name.rpartition(":")
    source = base if suffix in ("more", "less") and ":" in base else name
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
        function = import_object(source, InputError, what=f"metric {source}", expected=EXPECTED)
    if not callable(function):
        raise InputError(f"metric {source}: is a {type(function).__name__}, expected a function (outputs, targets)")
    unit = getattr(function, "unit", "")
    return OwnMetric(
        name=source,
        more_is_better=_direction(source, function, name.removeprefix(source).removeprefix(":")),
        unit=unit if isinstance(unit, str) else "",
        point=0.01 if unit == "share" else 1.0,
        target="own",
        function=function,
    )


def _direction(source: str, function: Any, suffix: str) -> bool:
    attribute = getattr(function, "more_is_better", None)
    if attribute is not None and not isinstance(attribute, bool):
        raise InputError(f"metric {source}: its more_is_better is {attribute!r}, expected True or False")
    given = {"more": True, "less": False}.get(suffix)
    if attribute is None and given is None:
        raise InputError(
            f"metric {source}: got no better direction; write {source}:more or {source}:less, or give the function an "
            "attribute more_is_better"
        )
    if attribute is not None and given is not None and attribute != given:
        raise InputError(
            f"metric {source}: got the suffix {suffix}, but its more_is_better is {attribute}; expected the same "
            "direction"
        )
    return bool(attribute if given is None else given)


@dataclass(frozen=True, kw_only=True)
class OwnMetric(Metric):
    """A metric that a user-defined function computes."""

    function: Callable[[Array, Array], Any]

    def estimate(self, outputs: Any, targets: Any, units: Units | None = None) -> Estimate:
        """Call the function; see ``Metric.estimate``.

        Raises:
            InputError: the function raised, or did not return one finite number or one for each sample.
        """
        result = self.call(outputs, targets)
        if result.ndim:
            return Means.of(result, units)
        members = _members(len(targets), units)
        return _Called(metric=self, outputs=outputs, targets=targets, members=members, value=float(result))

    def call(self, outputs: Array, targets: Array) -> Scores:
        """Call the function with copies; returns float64 ``[]`` or ``[N]``, finite."""
        try:
            with contextlib.redirect_stdout(sys.stderr), current_folder_last():
                returned = self.function(outputs.copy(), targets.copy())
        except (Exception, SystemExit) as error:  # user code may raise anything
            raise InputError(f"metric {self.name}: raised {type(error).__name__}: {first_line(error)}") from error
        wanted = f"expected one number, or {len(targets)}, one for each sample"
        try:
            result = np.asarray(returned)
            # A masked number, such as np.ma's mean of an empty array, would become the number behind the mask.
            if result.dtype.kind not in "biuf" or np.ma.is_masked(returned):
                raise TypeError(f"{type(returned).__name__} is not a number")
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"metric {self.name}: returned a {type(returned).__name__}; {wanted}") from error
        if result.shape not in ((), (len(targets),)):
            raise InputError(f"metric {self.name}: returned numbers of shape {list(result.shape)}; {wanted}")
        scores = result.astype(np.float64)
        if not np.isfinite(scores).all():
            place = "" if not scores.ndim else f" for sample {int(np.argmin(np.isfinite(scores)))}"
            raise InputError(
                f"metric {self.name}: returned {float(scores[~np.isfinite(scores)][0]):g}{place}; {wanted}"
            )
        return scores


def _members(samples: int, units: Units | None) -> list[Units]:
    """Return the sample indices of each unit, which are consecutive."""
    if units is None:
        return [np.array([sample]) for sample in range(samples)]
    return np.split(np.arange(samples), np.flatnonzero(np.diff(units)) + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Called:
    """A function of all samples that returns one number, called for each resample."""

    metric: OwnMetric
    outputs: Array
    targets: Array
    members: list[Units]
    value: float

    @property
    def units(self) -> int:
        return len(self.members)

    @property
    def resamples(self) -> int:
        return _RESAMPLES

    def resample(self, drawn: Units) -> Scores:
        values = np.empty(len(drawn))
        for row, numbers in enumerate(drawn):
            rows = np.concatenate([self.members[number] for number in numbers])
            try:
                value = self.metric.call(self.outputs[rows], self.targets[rows])
            except InputError as error:
                raise InputError(f"{error} (on a resample of the bootstrap, which also needs a number)") from error
            if value.ndim:
                raise InputError(
                    f"metric {self.metric.name}: returned one number first, then one for each sample; expected the "
                    "same form"
                )
            values[row] = float(value)
        return values
