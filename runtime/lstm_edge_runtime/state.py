"""The recurrent state of a model as an immutable value."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import StateSpec
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.layout import StateLayout, batch_of_shape, layout_of, state_shape
from lstm_edge_runtime.reading import translated

__all__ = ["State", "batch_of_shape", "split_states", "state_shape"]


class State(Mapping[str, Array]):
    """An immutable mapping from each state input's name to a read-only array [directions, batch, size].

    The arrays are float32; those of a count may be int64 or int32 (``StateSpec.dtype``).

    Two states are equal if their names and values are equal. ``Session.initial_state`` makes the first state;
    ``Session.run`` and ``Stream.state`` return later ones.
    """

    __slots__ = ("_begun", "_block", "_blocked", "_layout", "_made", "_specs")

    # A state has its arrays, or a read-only block with a layout; then its arrays are made when they are asked for.
    _begun: bool | None
    _block: Array | None
    _blocked: str
    _layout: StateLayout | None
    _made: dict[str, Array] | None
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
        self._block = self._layout = self._made = None
        layout = _layout_for(self._specs, arrays)
        if layout is not None:
            self._layout, self._block = layout, _filled(layout, arrays)
            return
        self._made = {}
        for spec in self._specs:
            # A read-only copy: a later change to the caller's array cannot change the state.
            array = np.array(arrays[spec.input], dtype=spec.dtype, order="C")
            array.flags.writeable = False
            self._made[spec.input] = array

    @classmethod
    def from_block(cls, layout: StateLayout, block: Array, *, begun: bool | None = None, blocked: str = "") -> "State":
        """Make a state of a block that nobody else holds; it becomes read-only.

        Args:
            layout: where the states lie in it.
            block: float32 [layout.size].
            begun: see the property; None: what the arrays show.
            blocked: see the property.
        """
        block.flags.writeable = False
        state = cls.__new__(cls)
        state._specs, state._begun, state._blocked = layout.specs, begun, blocked
        state._block, state._layout, state._made = block, layout, None
        return state

    def copy_into(self, layout: StateLayout, block: Array) -> bool:
        """Copy the states into a block if they lie as in ``layout``; return whether they do.

        Args:
            layout: where the states lie in the block.
            block: float32 [layout.size].
        """
        if self._layout is not layout or self._block is None:
            return False
        block[...] = self._block
        return True

    @property
    def _arrays(self) -> dict[str, Array]:
        made = self._made
        if made is None:
            # Two threads may both make them: the views are of the same memory.
            assert self._layout is not None
            assert self._block is not None
            made = self._made = self._layout.views(self._block)
        return made

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
        specs = tuple(specs)
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
        layout = layout_of(specs, next(iter(batch_sizes), None))
        return cls.from_block(
            layout, _filled(layout, arrays), begun=arrays.begun if isinstance(arrays, State) else None
        )

    @classmethod
    def zeros(cls, specs: Sequence[StateSpec], batch_size: int) -> "State":
        """Return the initial state of a model for a batch size (at least 1).

        Raises:
            InputError: the batch size is not a positive integer, or the memory is too small for that many rows.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise InputError(f"batch_size must be a positive integer, got {batch_size!r}")
        with translated(InputError, f"the states of {batch_size} rows cannot be made"):
            layout = layout_of(tuple(specs), int(batch_size))
            return cls.from_block(layout, layout.block(), begun=False)

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


def _layout_for(specs: tuple[StateSpec, ...], arrays: Mapping[str, Any]) -> StateLayout | None:
    """Return the layout of arrays; None if a graph gave them other shapes than its card says."""
    shapes = {spec.input: np.shape(arrays[spec.input]) for spec in specs}
    if any(len(shapes[spec.input]) != len(spec.axes) for spec in specs):
        return None
    rows = (batch_of_shape(spec, shapes[spec.input]) for spec in specs)
    layout = layout_of(specs, next((row for row in rows if row is not None), None))
    return layout if layout.shapes == shapes else None


def _filled(layout: StateLayout, arrays: Mapping[str, Any]) -> Array:
    """Return a read-only block with a copy of the arrays."""
    block = layout.block()
    for name, view in layout.views(block).items():
        view[...] = arrays[name]
    block.flags.writeable = False
    return block


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


def split_states(inputs: Any, state: State | None, specs: Sequence[StateSpec]) -> tuple[Any, State | None]:
    """Take the states out of a mapping of inputs, where they are in it.

    Args:
        inputs: what a caller gave, a mapping of arrays by name or anything else.
        state: the state that was given beside the inputs.
        specs: the states of the model.

    Returns:
        The inputs without states, and the state; both as given where no state is among the inputs.

    Raises:
        InputError: some states are among the inputs and others are not, or the state was given twice.
    """
    names = [spec.input for spec in specs]
    given = [name for name in names if isinstance(inputs, Mapping) and name in inputs]
    if not given:
        return inputs, state
    if state is not None:
        raise InputError(f"the state {given[0]!r} is among the inputs, and state= is given too: pass one of them")
    if missing := [name for name in names if name not in given]:
        raise InputError(
            f"{given[0]!r} is a state, not an input, and the state {missing[0]!r} is missing: give all states "
            "among the inputs, or pass a State as state="
        )
    arrays = {name: inputs[name] for name in names}
    return {k: v for k, v in inputs.items() if k not in arrays}, State.from_arrays(specs, arrays)
