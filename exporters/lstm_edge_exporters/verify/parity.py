"""Is the file what it was made from? onnxruntime's answers against the original's, over a grid of shapes; fails closed.

The original is a module that its framework runs (``check_parity``) or another file (``file_parity``). Both make trials:
an input, and a call that gives the original's answer to it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from lstm_edge_exporters.verify.cases import GRID, Case, Comparison
from lstm_edge_exporters.verify.compare import Difference, Tolerance, compare, worst
from lstm_edge_exporters.verify.inputs import InputMaker, random_lengths, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import StateSpec
from lstm_edge_runtime.errors import CaptureError, LstmEdgeError, ParityError, first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS

__all__ = ["EXPORT", "OriginalModule", "Refusal", "Subjects", "Trial", "check_close", "check_parity", "run_trials"]


EXPORT = Tolerance(
    name="EXPORT",
    absolute=1e-5,
    reason="two float32 evaluations of one network that sum in different orders: seen 5e-7 at hidden 128 and 1.3e-6 "
    "at hidden 1024 on outputs of order one; a wrong equation is off by 1e-2 and more. Scaled by the largest output "
    "above 1",
)
# What a module that knows nothing of lengths does wrong most often.
PAST_THE_END = (
    ". With lengths, forward must not look past a row's last valid step, as y[:, -1] does: use h_n, the state after "
    "that step, or give forward a parameter lengths"
)


class Refusal(Exception):  # noqa: N818  not an error: the original says no to one shape
    """The original refuses a trial's input; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One input for the file, and a call that returns the original's answer or raises ``Refusal``."""

    case: Case
    feeds: Mapping[str, Array]
    ask: Callable[[], Mapping[str, Array]]


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """How sentences call the file and the original, what the card calls the original, and what they add to a failure.

    ``same_outputs``: the file has the original's outputs and no more.
    """

    file: str
    original: str
    against: str
    hint: str = ""
    same_outputs: bool = True


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


def check_parity(
    model: OpenModel,
    original: OriginalModule,
    maker: InputMaker,
    *,
    lengths: str | None,
    example: tuple[int, int] | None = None,
) -> Comparison:
    """Compare a model with the module that it was captured from over the grid (and the example's own shape).

    Raises:
        ParityError: a difference is over ``EXPORT``, or onnxruntime does not run the model.
        CaptureError: the module itself accepts none of the shapes.
    """
    subjects = Subjects(
        file="the captured model",
        original="the module",
        against="the PyTorch module, float32",
        hint=PAST_THE_END if lengths and not original.takes_lengths else "",
    )
    grid = GRID if example is None else (*GRID, Case(batch=example[0], time=example[1]))
    found = run_trials(model, _module_trials(original, maker, grid, lengths), subjects)
    if not found.ran:
        tried = "; ".join(found.for_card().refused)
        raise CaptureError(f"the module itself fails on every shape tried: {tried}")
    return found


def _module_trials(
    original: OriginalModule, maker: InputMaker, grid: Sequence[Case], lengths: str | None
) -> Iterator[Trial]:
    rng = np.random.default_rng(2024)
    for case in grid:
        inputs = maker.make(rng, case.batch, case.time)
        state = random_state(original.states, rng, case.batch, zero=case.zero_state)
        rows = random_lengths(rng, case.batch, case.time) if lengths else None
        if rows is not None and original.sorted_rows:
            rows = -np.sort(-rows)
        given = rows
        if rows is None and original.takes_lengths:
            # A module that takes lengths is always given some: its forward may not know what None means.
            given = np.full(case.batch, case.time, np.int64)

        feeds = {**inputs, **state, **({lengths: rows} if lengths and rows is not None else {})}
        yield Trial(case=case, feeds=feeds, ask=partial(_ask, original, inputs, state, given))


def _ask(
    original: OriginalModule, inputs: Mapping[str, Array], state: Mapping[str, Array], lengths: Array | None
) -> Mapping[str, Array]:
    try:
        return original.run(inputs, state, lengths)
    except LstmEdgeError:
        raise
    except Exception as error:  # the user's own module: whatever it raises, it refuses this shape
        raise Refusal(type(error).__name__) from error


def run_trials(model: OpenModel, trials: Iterable[Trial], subjects: Subjects) -> Comparison:
    """Compare a file's answers with the original's; where the original refuses every trial, ``ran`` is empty.

    Raises:
        ParityError: a difference is over ``EXPORT``, the outputs are others, or onnxruntime does not run the file.
    """
    differences: list[Difference] = []
    ran, refused = [], []
    for trial in trials:
        try:
            expected = trial.ask()
        except Refusal as error:
            refused.append((trial.case, str(error)))
            continue
        differences += _compare(model, trial, expected, subjects)
        ran.append(trial.case)
    return Comparison(
        against=subjects.against,
        max_abs_difference=worst(differences).max_abs if ran else 0.0,
        tolerance=EXPORT.absolute,
        ran=tuple(ran),
        refused=tuple(refused),
    )


def _compare(model: OpenModel, trial: Trial, expected: Mapping[str, Array], subjects: Subjects) -> list[Difference]:
    try:
        answers = model.answers(trial.feeds)
    except RUNTIME_ERRORS as error:
        raise ParityError(
            f"onnxruntime does not run {subjects.file} at {trial.case}, which {subjects.original} itself does: "
            f"{first_line(error)}"
        ) from error
    if set(expected) - set(answers) or (subjects.same_outputs and set(answers) != set(expected)):
        raise ParityError(f"{subjects.file} has outputs {sorted(answers)}, {subjects.original} {sorted(expected)}")
    return [check_close(f"{name} at {trial.case}", answers[name], value, subjects) for name, value in expected.items()]


def check_close(what: str, got: Array, expected: Array, subjects: Subjects) -> Difference:
    """Return the difference of two arrays.

    Raises:
        ParityError: it is over ``EXPORT``, or ``compare`` refuses the arrays.
    """
    difference = compare(what, got, expected)
    limit = EXPORT.absolute * max(1.0, float(np.max(np.abs(expected.astype(np.float64)))))
    if not difference.max_abs <= limit:
        raise ParityError(
            f"{subjects.file} is not {subjects.original}: {difference}, tolerance {limit:.1g}; nothing was written"
            f"{subjects.hint}"
        )
    return difference
