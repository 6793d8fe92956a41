"""Read the piece that a push gets: name its inputs, hold its conditions, find which axes it lacks."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.checks import check_array, check_finite, name_inputs
from lstm_edge_runtime.contract import Contract
from lstm_edge_runtime.errors import InputError

__all__ = ["PieceReader", "shape_of"]

# The axes that a piece lacks. A chunk has all axes, a frame lacks time, and a frame of one row may also lack batch.
_FORMS: tuple[frozenset[str], ...] = (frozenset(), frozenset({TIME}), frozenset({TIME, BATCH}))


class PieceReader:
    """Reads pieces of one batch size for one model.

    Attributes:
        contract: the model's tensors.
        batch_size: number of rows.
        moving: the inputs with a time axis; all inputs if none has one.
        conditions: the other inputs, which a stream holds until they are replaced.
    """

    def __init__(self, contract: Contract, batch_size: int) -> None:
        self.contract, self.batch_size = contract, batch_size
        timed = [spec for spec in contract.inputs if TIME in spec.axes]
        self.moving = tuple(timed or contract.inputs)
        self.conditions = tuple(spec for spec in contract.inputs if spec not in self.moving)

    def read(self, x: Any, held: Mapping[str, Array], step: int) -> dict[str, Array]:
        """Return the arrays of a piece by input name, as they were given; a condition has all of its axes.

        Args:
            x: what ``Stream.push`` got.
            held: the conditions of earlier pieces.
            step: number of steps before this piece, for messages.

        Raises:
            InputError: an input is missing, unknown or has a wrong type or dtype, or a condition has a wrong shape or
                holds NaN or infinity.
        """
        named = name_inputs(self.contract, self._with_held(x, held))
        arrays = {}
        for spec in self.contract.inputs:
            value = named[spec.name]
            # A token alone is a frame: an id of a NumPy type, or a Python int.
            scalar = isinstance(value, np.generic) or (isinstance(value, int) and not isinstance(value, bool))
            arrays[spec.name] = check_array(spec, np.asarray(value) if scalar else value)
        for spec in self.conditions:
            arrays[spec.name] = self._whole_condition(spec, arrays[spec.name], step)
        return arrays

    def _with_held(self, x: Any, held: Mapping[str, Array]) -> Any:
        """The inputs of a push, with the conditions that it does not give."""
        if not self.conditions:
            return x
        if not isinstance(x, Mapping) and len(self.moving) == 1:
            x = {self.moving[0].name: x}
        for spec in self.conditions:
            if isinstance(x, Mapping) and spec.name not in x and spec.name not in held:
                raise InputError(
                    f"input {spec.name!r} is missing: it has no time axis, so give it with the first push, by "
                    "its name; it is kept until reset",
                    reason="name",
                )
        return {**held, **x} if isinstance(x, Mapping) else x

    def _whole_condition(self, spec: TensorSpec, array: Array, step: int) -> Array:
        """Return a condition with all of its axes; for one row it may lack the batch axis."""
        sizes = {BATCH: self.batch_size}
        for lacks in _FORMS[::2] if self.batch_size == 1 else _FORMS[:1]:
            if _fits(spec, array.shape, sizes, lacks):
                try:
                    check_finite(spec.name, array)
                except InputError as error:
                    raise InputError(f"step {step}: {error}; the state is unchanged", reason="not_finite") from error
                return array.reshape(shape_of(spec, sizes))
        expected = ", ".join(str(sizes.get(str(axis), axis)) for axis in spec.axes)
        raise InputError(f"input {spec.name!r} has shape {list(array.shape)}, expected [{expected}]", reason="shape")

    def find_form(self, arrays: Mapping[str, Array]) -> tuple[frozenset[str], int]:
        """Return which axes a piece lacks, and how many time steps it has.

        Raises:
            InputError: an input fits no form, or not the same form as the others.
        """
        specs = self.moving
        # A piece may lack the batch axis only if there is one row.
        forms = _FORMS if self.batch_size == 1 else _FORMS[:2]
        for lacks in forms:
            sizes = {BATCH: self.batch_size}
            if all(_fits(spec, arrays[spec.name].shape, sizes, lacks) for spec in specs):
                return lacks, sizes.get(TIME, 1)
        wrong = next(
            (s for s in specs if not any(_fits(s, arrays[s.name].shape, {BATCH: self.batch_size}, f) for f in forms)),
            specs[0],
        )
        names = {BATCH: str(self.batch_size), TIME: TIME}
        expected = dict.fromkeys(
            "[" + ", ".join(names.get(str(axis), str(axis)) for axis in wrong.axes if axis not in lacks) + "]"
            for lacks in reversed(forms)
        )
        raise InputError(
            f"input {wrong.name!r} has shape {list(arrays[wrong.name].shape)}, expected {' or '.join(expected)}, "
            f"with {TIME} at least 1" + (", all inputs in the same form" if len(specs) > 1 else ""),
            reason="shape",
        )


def shape_of(spec: TensorSpec, sizes: Mapping[str, int], lacks: frozenset[str] = frozenset()) -> tuple[int, ...]:
    """Return the shape of a tensor without the axes that it lacks."""
    return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.axes if axis not in lacks)


def _fits(spec: TensorSpec, shape: tuple[int, ...], sizes: dict[str, int], lacks: frozenset[str]) -> bool:
    """Return whether a shape fits the input in this form; the first time axis sets the time steps in ``sizes``."""
    axes = [axis for axis in spec.axes if axis not in lacks]
    return len(axes) == len(shape) and all(
        size > 0 and size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
        for size, axis in zip(shape, axes, strict=True)
    )
