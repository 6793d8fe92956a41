"""A user-defined metric: ``package.module:function``, or a function.

With two parameters it takes ``(outputs, targets)`` of one output of the model and returns one number, or one number for
each sample, whose mean is the metric. Samples are sequences, or steps if the data have a target for each step:
``outputs`` float32 ``[N, ...]``, ``targets`` int64 ``[N]``, float32 ``[N]`` or ``[N, K]``.

With three parameters it takes ``(predictions, targets, lengths)``: dicts by output name of the N sequences, each an
array ``[N, ...]`` if all sequences have one shape, else a list of N arrays, time first; ``lengths`` int64 ``[N]``. A
fourth parameter gets the inputs in the same form. It returns one number, or one for each sequence. A model with several
outputs gives dicts to a function of two parameters as well.

The better direction must be given: the name ends in ``:more`` or ``:less``, or the function has an attribute
``more_is_better``. Imports only NumPy.
"""

import contextlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
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
# The last suffix: the output of a model with several.
OUTPUT = ":output="
# Resamples for a function that returns one number: the function is called for each resample and both models, and a call
# may take a millisecond.
_RESAMPLES = 1_000


def load_metric(named: str | Callable[..., Any] | Metric) -> Metric:
    """Return a metric by name, or a user-defined one.

    Args:
        named: one of ``lstm_edge_runtime.metrics.METRICS`` with its options, or ``package.module:function``, which may
            be in the current folder; the suffix ``:more`` or ``:less`` gives the better direction if the function has
            no attribute ``more_is_better``, and a last suffix ``:output=NAME`` the output of a model with several. Or
            the function itself, or a metric. The function may have an attribute ``unit``: with ``"share"`` a point of a
            budget is a percentage point, else 1.

    Raises:
        InputError: the metric does not exist, or the function cannot be imported, is not a function, or has no better
            direction.
    """
    if isinstance(named, Metric):
        return named
    if not isinstance(named, str):
        name = f"{getattr(named, '__module__', '')}:{getattr(named, '__qualname__', type(named).__name__)}"
        if getattr(named, "more_is_better", None) is None:
            raise InputError(
                f"metric {name}: got no better direction; give the function an attribute more_is_better, True or False"
            )
        return _own(name, named, suffix="", output=None)
    if named.partition(":")[0] in METRICS:
        return get_metric(named)
    if ":" not in named:
        raise InputError(f"metric {named!r}: unknown; expected one of {', '.join(METRICS)}, or {EXPECTED}")
    name, _, output = named.partition(OUTPUT)
    base, _, suffix = name.rpartition(":")
    source = base if suffix in ("more", "less") and ":" in base else name
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
        function = import_object(source, InputError, what=f"metric {source}", expected=EXPECTED)
    return _own(source, function, suffix=name.removeprefix(source).removeprefix(":"), output=output or None)


def _own(source: str, function: Any, *, suffix: str, output: str | None) -> "OwnMetric":
    if not callable(function):
        raise InputError(f"metric {source}: is a {type(function).__name__}, expected a function (outputs, targets)")
    unit = getattr(function, "unit", "")
    count = _parameters(function)
    if output is not None and count > 2:
        raise InputError(
            f"metric {source}: has {count} parameters, so it takes all outputs; leave out {OUTPUT}{output}, or give "
            "the function two parameters"
        )
    return OwnMetric(
        name=source if output is None else f"{source}{OUTPUT}{output}",
        more_is_better=_direction(source, function, suffix),
        unit=unit if isinstance(unit, str) else "",
        point=0.01 if unit == "share" else 1.0,
        target="own",
        output=output,
        function=function,
        parameters=count,
    )


def _parameters(function: Callable[..., Any]) -> int:
    """Return with how many arguments to call a function: 2, or 3 with lengths, or 4 with inputs too."""
    try:
        known = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have no signature
        return 2
    positional = [one for one in known if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    required = sum(one.default is one.empty for one in positional)
    named = [one.name for one in positional[2:4]]
    for place, name in enumerate(("lengths", "inputs")):
        if named[place : place + 1] == [name]:
            required = max(required, 3 + place)
    return min(max(required, 2), 4)


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
    """A metric that a user-defined function computes; it is called with ``parameters`` arguments."""

    function: Callable[..., Any]
    parameters: int = 2

    def takes_names(self, outputs: int) -> bool:
        """Return whether the function gets dicts of all outputs, of a model with this number of them."""
        return self.parameters > 2 or (self.output is None and outputs > 1)

    def estimate(self, outputs: Any, targets: Any, units: Units | None = None) -> Estimate:
        """Call the function; see ``Metric.estimate``.

        Raises:
            InputError: the function raised, or did not return one finite number or one for each sample.
        """

        def call(rows: Units | None) -> Scores:
            taken = (outputs, targets) if rows is None else (outputs[rows], targets[rows])
            return self.call(taken[0].copy(), taken[1].copy(), samples=len(taken[1]))

        result = call(None)
        if result.ndim:
            return Means.of(result, units)
        return _Called(name=self.name, call=call, members=_members(len(targets), units), value=float(result))

    def estimate_rows(self, outputs: Sequence[Array], targets: Sequence[Array], *, timed: bool) -> Estimate:
        """Call the function with one output of N sequences: with all steps if the targets are per step.

        Raises:
            InputError: the outputs or targets of the sequences cannot be joined to one array.
        """
        per_step = timed and all(
            target.ndim and len(target) == len(output) for output, target in zip(outputs, targets, strict=True)
        )
        joined = np.concatenate if per_step else np.stack
        shapes = {row.shape[1:] if per_step else row.shape for row in outputs}
        if len(shapes) > 1 or len({row.shape[1:] if per_step else row.shape for row in targets}) > 1:
            raise InputError(
                f"metric {self.name}: the sequences have different shapes, which (outputs, targets) cannot have; give "
                "the function the parameters (predictions, targets, lengths), which gets a list for each name"
            )
        units = np.repeat(np.arange(len(targets)), [len(row) for row in targets]) if per_step else None
        return self.estimate(joined(list(outputs)), joined(list(targets)), units)

    def estimate_named(
        self,
        predictions: Mapping[str, Sequence[Array]],
        targets: Mapping[str, Sequence[Array]],
        lengths: Units,
        inputs: Mapping[str, Sequence[Array]],
    ) -> Estimate:
        """Call the function with dicts by name, of N sequences.

        Raises:
            InputError: the function raised, or did not return one finite number or one for each sequence.
        """
        columns = [{name: _together(rows) for name, rows in part.items()} for part in (predictions, targets, inputs)]

        def call(rows: Units | None) -> Scores:
            chosen = np.arange(len(lengths)) if rows is None else rows
            outputs, wanted, given = ({name: _chosen(of, chosen) for name, of in part.items()} for part in columns)
            arguments = (outputs, wanted, lengths[chosen], given)[: self.parameters]
            return self.call(*arguments, samples=len(chosen), unit="sequence")

        result = call(None)
        if result.ndim:
            return Means.of(result, None)
        return _Called(name=self.name, call=call, members=_members(len(lengths), None), value=float(result))

    def call(self, *arguments: Any, samples: int, unit: str = "sample") -> Scores:
        """Call the function, which may change its arguments; returns float64 ``[]`` or ``[samples]``, finite."""
        try:
            with contextlib.redirect_stdout(sys.stderr), current_folder_last():
                returned = self.function(*arguments)
        except (Exception, SystemExit) as error:  # user code may raise anything
            raise InputError(f"metric {self.name}: raised {type(error).__name__}: {first_line(error)}") from error
        wanted = f"expected one number, or {samples}, one for each {unit}"
        try:
            result = np.asarray(returned)
            # A masked number, such as np.ma's mean of an empty array, would become the number behind the mask.
            if result.dtype.kind not in "biuf" or np.ma.is_masked(returned):
                raise TypeError(f"{type(returned).__name__} is not a number")
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"metric {self.name}: returned a {type(returned).__name__}; {wanted}") from error
        if result.shape not in ((), (samples,)):
            raise InputError(f"metric {self.name}: returned numbers of shape {list(result.shape)}; {wanted}")
        scores = result.astype(np.float64)
        if not np.isfinite(scores).all():
            place = "" if not scores.ndim else f" for {unit} {int(np.argmin(np.isfinite(scores)))}"
            raise InputError(
                f"metric {self.name}: returned {float(scores[~np.isfinite(scores)][0]):g}{place}; {wanted}"
            )
        return scores


def _together(rows: Sequence[Array]) -> Array | list[Array]:
    """Return one array ``[N, ...]`` if all sequences have one shape, else a list."""
    same = len({row.shape for row in rows}) == 1
    return np.stack(list(rows)) if same else list(rows)


def _chosen(rows: Array | list[Array], numbers: Units) -> Array | list[Array]:
    """Return copies of some sequences, in the form that all of them have."""
    return rows[numbers] if isinstance(rows, np.ndarray) else [rows[number].copy() for number in numbers]


def _members(samples: int, units: Units | None) -> list[Units]:
    """Return the sample indices of each unit, which are consecutive."""
    if units is None:
        return [np.array([sample]) for sample in range(samples)]
    return np.split(np.arange(samples), np.flatnonzero(np.diff(units)) + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Called:
    """A function of all samples that returns one number, called for each resample."""

    name: str
    call: Callable[[Units | None], Scores]
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
                value = self.call(rows)
            except InputError as error:
                raise InputError(f"{error} (on a resample of the bootstrap, which also needs a number)") from error
            if value.ndim:
                raise InputError(
                    f"metric {self.name}: returned one number first, then one for each sample; expected the same form"
                )
            values[row] = float(value)
        return values
