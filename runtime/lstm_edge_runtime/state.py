"""The recurrent state of a model as an immutable value."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import StateSpec, batch_factor
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.reading import translated

__all__ = ["State", "batch_of_shape", "state_shape"]


def state_shape(spec: StateSpec, batch_size: int) -> tuple[int, ...]:
    """Return the shape (directions, batch, size) of one state for a batch size."""
    factors = [(axis, batch_factor(axis)) for axis in spec.axes]
    return tuple(int(axis) if factor is None else batch_size * factor for axis, factor in factors)


def batch_of_shape(spec: StateSpec, shape: Sequence[int]) -> int | None:
    """Return the batch size of a state of this shape, or None where its axes are all fixed."""
    factors = [batch_factor(axis) for axis in spec.axes]
    return next((size // factor for size, factor in zip(shape, factors, strict=True) if factor is not None), None)


class State(Mapping[str, Array]):
    """An immutable mapping from each state input's name to a read-only array [directions, batch, size].

    The arrays are float32; those of a count may be int64 or int32 (``StateSpec.dtype``).

    Two states are equal if their names and values are equal. ``Session.initial_state`` makes the first state;
    ``Session.run`` and ``Stream.state`` return later ones.
    """

    __slots__ = ("_arrays", "_begun", "_blocked", "_specs")

    _arrays: dict[str, Array]
    _begun: bool | None
    _blocked: str
    _specs: tuple[StateSpec, ...]

    def __init__(
        self, specs: Sequence[StateSpec], arrays: Mapping[str, Any], *, begun: bool | None = None, blocked: str = ""
    ) -> None:
        """Copy the arrays.

        Args:
            specs: the model's states.
            arrays: an array for each state input's name, of the right dtype and shape.
            begun: see the property; None: what the arrays show.
            blocked: see the property.
        """
        self._specs, self._begun, self._blocked = tuple(specs), begun, blocked
        self._arrays = {}
        for spec in self._specs:
            # A read-only copy: a later change to the caller's array cannot change the state.
            array = np.array(arrays[spec.input], dtype=spec.dtype, order="C")
            array.flags.writeable = False
            self._arrays[spec.input] = array

    @classmethod
    def from_arrays(cls, specs: Sequence[StateSpec], arrays: Mapping[str, Any]) -> "State":
        """Build a state from arrays, for example from the arrays of ``to_arrays`` after they were read from a file.

        Args:
            specs: the model's states (``session.states``).
            arrays: [directions, batch, size] for each state input's name, of the state's dtype; they are copied.

        Raises:
            InputError: a state is missing or unknown, has a wrong dtype or shape, holds NaN or infinity, the batch
                sizes differ, or ``arrays`` is a State from which no sequence can continue (``blocked``).
        """
        if isinstance(arrays, State) and arrays.blocked:
            raise InputError(arrays.blocked)
        names = [spec.input for spec in specs]
        expected = "the model has " + (", ".join(names) or "none")
        if missing := [name for name in names if name not in arrays]:
            raise InputError(f"state {missing[0]!r} is missing; {expected}")
        if unknown := [name for name in arrays if name not in names]:
            raise InputError(f"unknown state {unknown[0]!r}; {expected}")
        batch_sizes: dict[int, str] = {}
        for spec in specs:
            batch_size = _check(spec, arrays[spec.input])
            if batch_size is not None:
                batch_sizes.setdefault(batch_size, spec.input)
        if len(batch_sizes) > 1:
            found = ", ".join(f"{size} in {name!r}" for size, name in batch_sizes.items())
            raise InputError(f"states have different batch sizes: {found}")
        return cls(specs, arrays, begun=arrays.begun if isinstance(arrays, State) else None)

    @classmethod
    def zeros(cls, specs: Sequence[StateSpec], batch_size: int) -> "State":
        """Return the initial state of a model for a batch size (at least 1).

        Raises:
            InputError: the batch size is not a positive integer, or the memory is too small for that many rows.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise InputError(f"batch_size must be a positive integer, got {batch_size!r}")
        with translated(InputError, f"the states of {batch_size} rows cannot be made"):
            arrays = {spec.input: np.zeros(state_shape(spec, int(batch_size)), spec.dtype) for spec in specs}
            return cls(specs, arrays, begun=False)

    @property
    def specs(self) -> tuple[StateSpec, ...]:
        """The description of each state, in the model's order."""
        return self._specs

    @property
    def begun(self) -> bool:
        """Whether steps came before this state.

        For arrays that a caller made or read from a file it is whether the caches of operations along time, or the
        states if there are none, are not all zeros: a layer's first h may be any value.
        """
        if self._begun is not None:
            return self._begun
        caches = [spec.input for spec in self._specs if spec.kind == "cache"] or list(self._arrays)
        return any(self._arrays[name].any() for name in caches)

    @property
    def blocked(self) -> str:
        """Why no sequence can continue from this state, or an empty string.

        Only a model whose card counts steps otherwise than one to one has such states: the state after the end of a
        sequence, and the state of a stream that keeps steps which have completed no output yet.
        """
        return self._blocked

    @property
    def batch_size(self) -> int | None:
        """The number of rows, or None for a model without states or with a fixed batch size."""
        for spec in self._specs:
            rows = batch_of_shape(spec, self._arrays[spec.input].shape)
            if rows is not None:
                return rows
        return None

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        return self._arrays.keys() == other._arrays.keys() and all(
            np.array_equal(array, other._arrays[name]) for name, array in self._arrays.items()
        )

    __hash__ = None  # type: ignore[assignment]  # equality by value over arrays

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}{list(array.shape)}" for name, array in self._arrays.items())
        return f"State({shapes})"

    def to_arrays(self) -> dict[str, Array]:
        """Return a copy of each array by the name of its state input, for example for ``numpy.savez``."""
        return {name: array.copy() for name, array in self._arrays.items()}

    def stacked(self, kind: str = "h", module: str | None = None) -> Array:
        """Return the state of one module in PyTorch's layout.

        Args:
            kind: ``"h"`` (hidden state) or ``"c"`` (cell state).
            module: name of the recurrent module; optional if the model has one recurrent module.

        Returns:
            float32 [layers * directions, batch, size], a copy.

        Raises:
            InputError: no module or more than one module has such a state, or its layers differ in size.
        """
        specs = [spec for spec in self._specs if spec.kind == kind and module in (None, spec.module)]
        modules = sorted({spec.module for spec in self._specs})
        if not specs:
            raise InputError(
                f"no state of kind {kind!r} in module {module!r}; "
                f"the model's modules are {', '.join(modules) or 'none'}"
            )
        if len({spec.module for spec in specs}) > 1:
            raise InputError(f"the model has several recurrent modules, give module=: one of {', '.join(modules)}")
        specs.sort(key=lambda spec: spec.layer)
        sizes = [self._arrays[spec.input].shape[-1] for spec in specs]
        if len(set(sizes)) > 1:
            raise InputError(f"the layers of {specs[0].module!r} have the sizes {sizes}, which cannot be stacked")
        return np.concatenate([self._arrays[spec.input] for spec in specs], axis=0)


def _check(spec: StateSpec, array: Any) -> int | None:
    """Refuse an array that does not fit the state; return its batch size, or None if the batch size is fixed."""
    if not isinstance(array, np.ndarray) or array.dtype != spec.dtype:
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(f"state {spec.input!r} must be {_a(spec.dtype)} array, got {got}")
    expected = "[" + ", ".join(map(str, spec.axes)) + "]"
    rows = batch_of_shape(spec, array.shape) if array.ndim == len(spec.axes) else None
    if array.ndim != len(spec.axes) or array.shape != state_shape(spec, rows or 1):
        raise InputError(f"state {spec.input!r} has shape {list(array.shape)}, expected {expected}")
    if not np.isfinite(array).all():
        raise InputError(f"state {spec.input!r} holds NaN or infinity")
    return rows


def _a(dtype: str) -> str:
    return f"an {dtype}" if dtype.startswith("int") else f"a {dtype}"
