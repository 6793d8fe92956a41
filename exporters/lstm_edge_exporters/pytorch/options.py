"""The options of an export; imports no torch, so that a command line can create them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lstm_edge_exporters.front_end.request import FrontEnd
from lstm_edge_exporters.labels import check_label_names, check_task
from lstm_edge_runtime.card import Task, TensorSpec
from lstm_edge_runtime.errors import InputError

__all__ = ["ExportOptions"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The options of an export.

    Attributes:
        inputs: each input of forward in order, as ``"x: float32[batch, time, 40]"``; if empty, the axes are guessed
            from the examples.
        state: ``"explicit"``: one input and output per layer and kind; ``"hidden"``: zero initial state inside.
        pairs: the result of forward that is the next value of an input, by the input's name, where the proof leaves it
            open.
        lengths: add an int64 ``[batch]`` input ``lengths``; outputs past a row's length are zero.
        plain: inline the ``lstm_edge::`` functions, for consumers that know no local functions.
        batch_axis: the name of the axis that is the batch; found by running the module without it.
        time_axis: the name of the axis that is time, likewise.
        front_end: the file computes the features of samples itself (``parse_front_end``); None: it takes features.
        task: what the model is for, for its card; None: what the module says itself, if it does.
        labels: the names of the classes, in the order of an output's last axis; None likewise.
        output_names: names for the outputs, in order; if empty, they are named after their place in the result.

    Raises:
        InputError: ``state`` is neither of the two, or it is ``"hidden"`` and there are ``pairs``, or ``task`` or
            ``labels`` cannot be those of a model.
    """

    inputs: Sequence[str | TensorSpec] = ()
    state: Literal["explicit", "hidden"] = "explicit"
    pairs: Mapping[str, str] = field(default_factory=dict)
    lengths: bool = False
    plain: bool = False
    batch_axis: str | None = None
    time_axis: str | None = None
    front_end: FrontEnd | None = None
    output_names: Sequence[str] = ()
    task: Task | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.state not in ("explicit", "hidden"):
            raise InputError(f"state must be 'explicit' or 'hidden', got {self.state!r}")
        if self.pairs and self.state == "hidden":
            raise InputError(
                "--state IN=OUT names an explicit state, and --states hidden asks for none: give one of them"
            )
        check_task(self.task)
        check_label_names(self.labels, self.task)
