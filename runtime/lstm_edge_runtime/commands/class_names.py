"""Names of classes in place of scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.lines import to_json
from lstm_edge_runtime.session import Session

__all__ = ["check_has_labels", "name_classes", "with_class_names"]


def name_classes(session: Session, outputs: Mapping[str, Array], lengths: Sequence[int] | Array | None = None) -> Any:
    """Return the name of the largest score along the last axis of each output that has a column for each label.

    Args:
        session: the model; its card has the labels.
        outputs: arrays by output name, with any axes; the last one is that of the classes.
        lengths: valid steps of each row of outputs with all axes: steps past them get None.

    Returns:
        Nested lists of names, without the last axis; where several outputs have such columns, a dict by output name;
        None if the card has no labels. A score that is not finite gives None.
    """
    labels = None if session.card is None else session.card.labels
    if labels is None:
        return None
    specs = [spec for spec in session.outputs if spec.axes and spec.axes[-1] == len(labels)]
    named = {spec.name: _names(spec, outputs[spec.name], labels, lengths) for spec in specs}
    return next(iter(named.values()), None) if len(named) < 2 else named


def with_class_names(session: Session, answer: Any) -> dict[str, Any]:
    """Return an answer of a stream as JSON values: outputs by name, and the names of the classes as ``labels``."""
    outputs = answer if isinstance(answer, Mapping) else {session.outputs[0].name: answer}
    return {**to_json(outputs), "labels": name_classes(session, outputs)}


def check_has_labels(session: Session) -> None:
    """Refuse a model whose classes have no names.

    Raises:
        InputError: the card has no labels.
    """
    if session.card is None or session.card.labels is None:
        raise InputError("--show-labels: the model's card has no labels; export or adopt it with --labels")


def _names(spec: TensorSpec, scores: Array, labels: Sequence[str], lengths: Sequence[int] | Array | None) -> Any:
    chosen = np.take(np.array(labels, dtype=object), scores.argmax(axis=-1))
    names: NDArray[Any] = np.array(chosen, dtype=object).reshape(scores.shape[:-1])
    names[~np.isfinite(scores).all(axis=-1)] = None
    if lengths is not None and BATCH in spec.axes and TIME in spec.axes:
        batch, time = spec.axes.index(BATCH), spec.axes.index(TIME)
        steps = np.arange(scores.shape[time]).reshape([-1 if axis == time else 1 for axis in range(names.ndim)])
        valid = np.asarray(lengths).reshape([-1 if axis == batch else 1 for axis in range(names.ndim)])
        names[np.broadcast_to(steps >= valid, names.shape)] = None
    return names.tolist()
