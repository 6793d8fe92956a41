"""Which array of a data set is which input, state or target of a model, by its name."""

import dataclasses
from collections.abc import Mapping, Sequence

from lstm_edge.data._named import NamedDataset
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.session import Session

__all__ = ["ONLY_TARGET", "with_names"]

# Names of the only input and of the only target, whatever the model calls them.
ONLY_INPUT = ("", "x", "ids")
ONLY_TARGET = ("", "y", "target")

Columns = Mapping[str, Sequence[Array]]


def with_names(data: NamedDataset, session: Session, *, model: str) -> NamedDataset:
    """Return the set with the model's names: inputs and states in ``inputs``, outputs in ``targets``.

    Raises:
        DataError: an array belongs to no tensor of the model, two belong to one, or an input has none; the message has
            the names that were found and those that are expected.
    """
    inputs = [spec.name for spec in session.inputs]
    states = [spec.input for spec in session.states]
    outputs = [spec.name for spec in session.outputs]
    found: dict[str, Sequence[Array]] = {}
    targets: dict[str, Sequence[Array]] = {}
    expected = _expected(inputs, states, outputs)
    for wanted, name, rows in (
        *((False, name, rows) for name, rows in data.inputs.items()),
        *((True, name, rows) for name, rows in data.targets.items()),
    ):
        place, key = _place(name, wanted=wanted, inputs=inputs, states=states, outputs=outputs)
        into = {"input": found, "target": targets}.get(place)
        if into is None and wanted and name in ONLY_TARGET and outputs:
            raise DataError(
                f"data {data.name}: the target {name or 'y'!r} may be that of any output of {model}: "
                f"{', '.join(outputs)}. Name it target.{outputs[0]}, or give the metric with :output={outputs[0]}"
            )
        if into is None:
            raise DataError(
                f"data {data.name}: the array {name or 'x'!r} belongs to no input, state or output of {model}; "
                f"found {_listed(data)}; expected {expected}"
            )
        if key in into:
            raise DataError(f"data {data.name}: two arrays belong to the {place} {key!r} of {model}; expected one")
        into[key] = rows
    if missing := [name for name in inputs if name not in found]:
        raise DataError(
            f"data {data.name}: the input {missing[0]!r} of {model} is missing; found {_listed(data)}; "
            f"expected {expected}"
        )
    given = [name for name in states if name in found]
    if given and len(given) < len(states):
        lacking = next(name for name in states if name not in found)
        raise DataError(
            f"data {data.name}: has the initial state {given[0]!r} but not {lacking!r} of {model}; expected all states "
            "or none (zeros)"
        )
    return dataclasses.replace(data, inputs=found, targets=targets)


def _place(
    name: str, *, wanted: bool, inputs: Sequence[str], states: Sequence[str], outputs: Sequence[str]
) -> tuple[str, str]:
    """Return whether a name means an input (or state) or a target, and of which name; empty if neither."""
    if wanted and name in outputs:
        return "target", name
    if name in inputs or name in states:
        return "input", name
    if name in outputs:
        return "target", name
    if wanted and name in ONLY_TARGET and len(outputs) == 1:
        return "target", outputs[0]
    if not wanted and name in ONLY_INPUT and len(inputs) == 1:
        return "input", inputs[0]
    return "", name


def _expected(inputs: Sequence[str], states: Sequence[str], outputs: Sequence[str]) -> str:
    """Return the keys that a model's data may have."""
    parts = [f"inputs {', '.join(inputs) or 'none'}"]
    if states:
        parts.append(f"optional initial states {', '.join(states)}")
    only = "y or " if len(outputs) == 1 else ""
    parts.append("targets " + only + ", ".join(f"target.{name}" for name in outputs))
    return "; ".join(parts)


def _listed(data: NamedDataset) -> str:
    names = [*(name or "x" for name in data.inputs), *(name or "y" for name in data.targets)]
    return ", ".join(names)
