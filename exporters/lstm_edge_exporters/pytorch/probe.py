"""What a module gives back: its outputs' names and axes, found by running it at three shapes."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from lstm_edge_exporters.pytorch.original import Witness
from lstm_edge_exporters.pytorch.plan import LONGER, TRACED, try_module
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import CaptureError

__all__ = ["LENGTHS", "probe_outputs"]

LENGTHS = "lengths"


def probe_outputs(witness: Witness, maker: InputMaker, names: Sequence[str] | None) -> tuple[TensorSpec, ...]:
    """Run the module at three shapes and say which axis of each output is batch, time, another dynamic one, or fixed.

    Raises:
        CaptureError: the module fails on an input of the shape that was asked for, or returns something unexpected.
    """
    shapes = [(TRACED[BATCH], TRACED[TIME]), (TRACED[BATCH] + 2, TRACED[TIME]), (TRACED[BATCH], LONGER)]
    answers = []
    for batch, time in shapes:
        inputs = maker.make(np.random.default_rng(0), batch, time)
        state = {
            spec.input: np.zeros([batch if axis == BATCH else int(axis) for axis in spec.axes], np.float32)
            for spec in witness.states
        }
        lengths = np.full(batch, time, np.int64) if witness.takes_lengths else None
        answers.append(try_module(inputs, partial(witness.run, inputs, state, lengths)))
    states = {spec.output for spec in witness.states}
    specs = []
    for name, array in answers[0].items():
        if name in states:
            continue
        axes: list[str | int] = []
        for i, (size, wider, longer) in enumerate(zip(array.shape, *(a[name].shape for a in answers[1:]), strict=True)):
            if wider == size + 2 and longer == size:
                axes.append(BATCH)
            elif longer == size + 4 and wider == size and size == TRACED[TIME]:
                axes.append(TIME)
            else:
                axes.append(size if wider == size == longer else f"{name}_{i}")
        specs.append(TensorSpec(name=name, dtype=str(array.dtype), axes=tuple(axes)))
    _check_names(specs, witness, names)
    return tuple(specs)


def _check_names(outputs: Sequence[TensorSpec], witness: Witness, names: Sequence[str] | None) -> None:
    """Refuse an output name that the graph already has: a value in it has one name."""
    own = {name for item in witness.passes for name in item.outputs}  # forward's own outputs that are states
    taken = {spec.name for spec in witness.inputs} | {name for s in witness.states for name in (s.input, s.output)}
    taken -= own
    for name in names or [*(spec.name for spec in outputs), *own]:
        if name in taken | {LENGTHS}:
            raise CaptureError(
                f"the output name {name!r} stands twice, or is the name of an input or a state too: give output_names"
            )
        taken.add(name)
