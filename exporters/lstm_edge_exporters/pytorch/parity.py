"""Compares onnxruntime's answers with PyTorch's over a grid of shapes; fails closed."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from lstm_edge_exporters.pytorch.original import Original
from lstm_edge_exporters.verify.cases import GRID, Case, Comparison
from lstm_edge_exporters.verify.inputs import InputMaker, random_lengths, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_exporters.verify.parity import Refusal, Subjects, Trial, check_finite_answers, run_trials
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import CaptureError, LstmEdgeError

__all__ = ["check_parity"]

# The most frequent error of a module without lengths.
PAST_THE_END = (
    ". With lengths, forward must not read steps after a row's last valid one, as y[:, -1] does: use h_n, the state "
    "after that step, or give forward a parameter lengths"
)


def check_parity(
    model: OpenModel,
    original: Original,
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
        hint=PAST_THE_END if lengths and not original.plan.takes_lengths else "",
    )
    grid = GRID if example is None else (*GRID, Case(batch=example[0], time=example[1]))
    found = run_trials(model, _module_trials(original, maker, grid, lengths), subjects)
    if not found.ran:
        tried = "; ".join(found.for_card().refused)
        raise CaptureError(f"the module itself fails on every shape tried: {tried}")
    return found


def _module_trials(original: Original, maker: InputMaker, grid: Sequence[Case], lengths: str | None) -> Iterator[Trial]:
    rng = np.random.default_rng(2024)
    for case in grid:
        inputs = maker.make(rng, case.batch, case.time)
        state = random_state(original.plan.states, rng, case.batch, zero=case.zero_state)
        rows = random_lengths(rng, case.batch, case.time) if lengths else None
        if rows is not None and original.plan.sorted_rows:
            rows = -np.sort(-rows)
        given = rows
        if rows is None and original.plan.takes_lengths:
            # A module that takes lengths always gets them: its forward may not accept None.
            given = np.full(case.batch, case.time, np.int64)

        feeds = {**inputs, **state, **({lengths: rows} if lengths and rows is not None else {})}
        yield Trial(case=case, feeds=feeds, ask=partial(_ask, original, inputs, state, given))


def _ask(
    original: Original, inputs: Mapping[str, Array], state: Mapping[str, Array], lengths: Array | None
) -> Mapping[str, Array]:
    try:
        answers = original.run(inputs, state, lengths)
        check_finite_answers("the module itself", answers, inputs)
        return answers
    except LstmEdgeError:
        raise
    except Exception as error:  # the user's module may raise any error; it refuses this shape
        raise Refusal(type(error).__name__) from error
