"""The task and the names of the classes that a user gives for a model that does not say them itself."""

from collections.abc import Sequence
from typing import get_args

from lstm_edge_runtime.card import Task, TensorSpec
from lstm_edge_runtime.errors import InputError

__all__ = ["check_label_names", "check_labels", "check_task"]


def check_task(task: str | None) -> None:
    """Refuse an unknown task.

    Raises:
        InputError: it is not one of the card's tasks.
    """
    if task is not None and task not in get_args(Task):
        raise InputError(f"task must be one of {', '.join(get_args(Task))}, got {task!r}")


def check_label_names(labels: Sequence[str] | None, task: str | None) -> None:
    """Refuse names that cannot be those of classes, before anything slow starts.

    Raises:
        InputError: there is no name; a name is empty, given twice or not a text; or the task has no classes.
    """
    if labels is None:
        return
    if not labels:
        raise InputError("labels is empty: give the name of each class, in the order of the output's last axis")
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip():
            raise InputError(f"labels[{index}] is {label!r}, expected the name of a class")
    twice = [label for index, label in enumerate(labels) if label in labels[:index]]
    if twice:
        raise InputError(f"labels has {twice[0]!r} twice: each class needs its own name")
    if task in ("forecast", "language-model"):
        raise InputError(f"labels are the names of classes, and a model of the task {task!r} has none: leave them out")


def check_labels(labels: Sequence[str] | None, outputs: Sequence[TensorSpec]) -> None:
    """Refuse names that no output has a column for.

    Raises:
        InputError: no output's last axis has as many elements as there are labels.
    """
    if labels is None or any(spec.axes and spec.axes[-1] == len(labels) for spec in outputs):
        return
    shown = ", ".join(f"{spec.name} [{', '.join(map(str, spec.axes))}]" for spec in outputs)
    raise InputError(
        f"labels has {len(labels)} names, and no output has as many elements on its last axis: the outputs are {shown}"
    )
