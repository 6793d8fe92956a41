"""Is the file what the module is? onnxruntime's answers against PyTorch's, over a grid of shapes; fails closed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnxruntime

from lstm_edge_exporters.verify.compare import Difference, Tolerance, compare, worst
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, Parity, StateSpec
from lstm_edge_runtime.errors import CaptureError, LstmEdgeError, ParityError, first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS, open_session

__all__ = [
    "EXPORT",
    "GRID",
    "Case",
    "OriginalModule",
    "answers_of",
    "check_parity",
    "random_lengths",
    "random_state",
]


EXPORT = Tolerance(
    name="EXPORT",
    absolute=1e-5,
    reason="two float32 evaluations of one network that sum in different orders: seen 5e-7 at hidden 128 and 1.3e-6 "
    "at hidden 1024 on outputs of order one; a wrong equation is off by 1e-2 and more. Scaled by the largest output "
    "above 1",
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One shape of the grid: rows, steps, and whether the initial state is zero."""

    batch: int
    time: int
    zero_state: bool = False

    def __str__(self) -> str:
        return f"batch {self.batch}, time {self.time}{', zero state' * self.zero_state}"


class OriginalModule(Protocol):
    """The module that a file was made from, run by its own framework."""

    @property
    def states(self) -> Sequence[StateSpec]:
        """Its explicit states."""
        ...

    @property
    def sorted_rows(self) -> bool:
        """Say whether rows must come in order of falling lengths."""
        ...

    @property
    def takes_lengths(self) -> bool:
        """Say whether its forward itself deals with lengths."""
        ...

    def run(
        self, inputs: Mapping[str, Array], state: Mapping[str, Array], lengths: Array | None = None
    ) -> Mapping[str, Array]:
        """Return outputs and leaving states by name; ``lengths`` is int64 [batch]."""
        ...


# What a module that knows nothing of lengths does wrong most often.
PAST_THE_END = (
    ". With lengths, forward must not look past a row's last valid step, as y[:, -1] does: use h_n, the state after "
    "that step, or give forward a parameter lengths"
)

# Batch 1, one step, lengths on both sides of the traced one, and both kinds of initial state.
GRID = (
    Case(batch=3, time=7, zero_state=True),
    Case(batch=2, time=5),
    Case(batch=1, time=11),
    Case(batch=4, time=1),
    Case(batch=1, time=1),
    Case(batch=5, time=23),
)


def random_state(specs: Sequence[StateSpec], rng: np.random.Generator, batch: int, *, zero: bool) -> dict[str, Array]:
    """Return an array for each state: zeros, or normal values of deviation 0.5, float32 [directions, batch, size]."""
    state: dict[str, Array] = {}
    for spec in specs:
        shape = [batch if axis == BATCH else int(axis) for axis in spec.axes]
        values = np.zeros(shape) if zero else np.round(rng.standard_normal(shape) * 32) / 64
        state[spec.input] = values.astype(np.float32)
    return state


def random_lengths(rng: np.random.Generator, batch: int, time: int) -> Array:
    """Return lengths int64 [batch] between 1 and ``time``; the first row is full, so that T is what it seems."""
    lengths = rng.integers(1, time + 1, batch)
    lengths[0] = time
    return lengths.astype(np.int64)


def answers_of(session: onnxruntime.InferenceSession, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run a session; returns its outputs by name. onnxruntime's errors (``RUNTIME_ERRORS``) pass through."""
    names = [output.name for output in session.get_outputs()]
    answers: dict[str, Any] = dict(zip(names, session.run(None, dict(feeds)), strict=True))
    return answers


def check_parity(
    model: bytes,
    original: OriginalModule,
    maker: InputMaker,
    *,
    lengths: str | None,
    example: tuple[int, int] | None = None,
) -> Parity:
    """Compare a serialized model with the module over the grid (and the example's own shape).

    Returns:
        What was compared and the worst difference, for the model card.

    Raises:
        ParityError: a difference is over ``EXPORT``, or onnxruntime does not run the model.
        CaptureError: the module itself accepts none of the shapes.
    """
    session = open_session(model)
    grid = GRID if example is None else (*GRID, Case(batch=example[0], time=example[1]))
    rng = np.random.default_rng(2024)
    differences: list[Difference] = []
    refused = []
    for case in grid:
        inputs = maker.make(rng, case.batch, case.time)
        state = random_state(original.states, rng, case.batch, zero=case.zero_state)
        rows = random_lengths(rng, case.batch, case.time) if lengths else None
        if rows is not None and original.sorted_rows:
            rows = -np.sort(-rows)
        try:
            expected = original.run(inputs, state, _given(original, rows, case))
        except LstmEdgeError:
            raise
        except Exception as error:  # the user's own module: whatever it raises, it refuses this shape
            refused.append(f"{case}: {type(error).__name__}")
            continue
        feeds = {**inputs, **state, **({lengths: rows} if lengths and rows is not None else {})}
        hint = PAST_THE_END if lengths and not original.takes_lengths else ""
        differences += _compare(session, feeds, expected, case, hint)
    if not differences:
        raise CaptureError(f"the module itself fails on every shape tried: {'; '.join(refused)}")
    return Parity(
        against="the PyTorch module, float32",
        max_abs_difference=worst(differences).max_abs,
        tolerance=EXPORT.absolute,
        shapes=tuple(str(case) for case in grid if not any(entry.startswith(f"{case}:") for entry in refused)),
        refused=tuple(refused),
    )


def _given(original: OriginalModule, rows: Array | None, case: Case) -> Array | None:
    """A module that takes lengths is always given some: its forward may not know what None means."""
    if rows is None and original.takes_lengths:
        return np.full(case.batch, case.time, np.int64)
    return rows


def _compare(
    session: Any, feeds: Mapping[str, Array], expected: Mapping[str, Array], case: Case, hint: str
) -> list[Difference]:
    try:
        answers = answers_of(session, feeds)
    except RUNTIME_ERRORS as error:
        raise ParityError(
            f"onnxruntime does not run the captured model at {case}, which the module itself does: {first_line(error)}"
        ) from error
    if set(answers) != set(expected):
        raise ParityError(f"the captured model has outputs {sorted(answers)}, the module {sorted(expected)}")
    found = []
    for name, got in answers.items():
        difference = compare(f"{name} at {case}", got, expected[name])
        limit = EXPORT.absolute * max(1.0, float(np.max(np.abs(expected[name]))))
        if not difference.max_abs <= limit:
            raise ParityError(
                f"the captured model is not the module: {difference}, tolerance {limit:.1g}; nothing was written{hint}"
            )
        found.append(difference)
    return found
