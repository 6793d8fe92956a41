"""Compares a rewritten file with its original over the grid of shapes, states included; fails closed."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import onnx

from lstm_edge_exporters.onnx_graph.reading import parse_model, parse_proto, read_proto
from lstm_edge_exporters.onnx_graph.writing import draft
from lstm_edge_exporters.verify.cases import GRID, Case, Comparison, within
from lstm_edge_exporters.verify.chunks import cut_time, join_time
from lstm_edge_exporters.verify.guarded import GuardedSession, may_abort
from lstm_edge_exporters.verify.inputs import InputMaker, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_exporters.verify.parity import (
    EXPORT,
    HALF,
    Refusal,
    Subjects,
    Trial,
    check_close,
    check_finite_answers,
    run_trials,
)
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import StateSpec, TensorSpec
from lstm_edge_runtime.errors import ArtifactError, first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS, open_session
from lstm_edge_runtime.survival import check_survives

__all__ = ["Original", "adopted_subjects", "check_chunks", "check_file_parity", "full_lengths"]


# The reference evaluator raises what NumPy does.
_REFUSALS: tuple[type[Exception], ...] = (*RUNTIME_ERRORS, TypeError, IndexError, KeyError, NotImplementedError)


class _Runs(Protocol):
    def run(self, output_names: Any, input_feed: Mapping[str, Array], /) -> Sequence[Any]: ...


class Original:
    """A file as its author left it, run by onnxruntime, or by onnx's reference evaluator where that refuses it.

    Attributes:
        against: what the answers are from, for the card.
        outputs: the names of its outputs.
        tolerance: how far another file's answers may be from its own.
    """

    def __init__(self, data: bytes, *, half: bool = False, widened: bool = False) -> None:
        """Open a file.

        Args:
            data: the file.
            half: it holds float16, on some of which onnxruntime's further optimizations end the process.
            widened: it is a float16 file whose nodes were given float32.

        Raises:
            ArtifactError: onnxruntime cannot read it, or ends the process that opens it.
        """
        proto, _reading = parse_proto(data)
        del proto.metadata_props[:]  # it may be large, and what is asked of the copy are its nodes
        self.tolerance = HALF if half else EXPORT
        self.outputs = [value.name for value in proto.graph.output]
        self.against = "the original file, computed in float32" if widened else "the original file"
        self._session: _Runs
        try:
            if may_abort(read_proto(proto)):
                self._session = GuardedSession(data, basic=half)
            else:
                self._session = _open_half(data) if half else open_session(data)
        except ArtifactError as error:
            # layout=1 is what onnxruntime (1.32) refuses and the standard allows; it checks it when a session opens.
            if "layout" not in str(error).lower():
                raise
            self._session, self.against = _batch_first(data, proto)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name.

        Raises:
            ArtifactError: the file refuses these inputs.
        """
        try:
            answers = self._session.run(self.outputs, dict(feeds))
        except _REFUSALS as error:
            raise ArtifactError(first_line(error)) from error
        return {name: np.asarray(answer) for name, answer in zip(self.outputs, answers, strict=True)}


def _open_half(data: bytes) -> _Runs:
    """Open a float16 file with basic optimizations, after a separate process has done so."""
    check_survives(data, basic=True, advice="convert it to float32, or adopt the float32 file it was made from")
    session: _Runs = open_session(data, basic=True)
    return session


def _batch_first(data: bytes, proto: onnx.ModelProto) -> tuple[_Runs, str]:
    """What answers for a file with ``layout=1``, and what to call it in the card.

    onnx's reference evaluator (1.23) leaves sequence_lens, clip and input_forget out: where a layer has one of them,
    the file itself answers with its layout rewritten. That rewrite alone is then not compared; the tests hold it
    against PyTorch, lengths included.
    """
    from lstm_edge_exporters.onnx_graph.layout import rewrite_layout  # that package imports this file

    model = parse_model(data)
    for node in model.graph.all_nodes():
        lengths = len(node.inputs) > 4 and node.inputs[4] is not None
        if node.op_type in ("LSTM", "GRU", "RNN") and (lengths or {"clip", "input_forget"} & set(node.attributes)):
            rewrite_layout(model)
            session: _Runs = open_session(draft(model).SerializeToString(deterministic=True))
            return session, "the original file, its layout 1 rewritten, as onnxruntime does not run it"
    from onnx.reference import ReferenceEvaluator

    evaluator: Any = ReferenceEvaluator(proto)  # its run returns more kinds of values than recurrent files have
    return evaluator, "the original file in onnx's reference evaluator, as onnxruntime does not run it"


def check_file_parity(
    model: OpenModel,
    original: Original,
    makers: Sequence[InputMaker],
    *,
    states: Sequence[StateSpec],
    made: Sequence[StateSpec],
    fixed: Mapping[str, Array],
) -> Comparison:
    """Compare a rewritten file with the original over the grid of shapes.

    Args:
        model: the rewritten file.
        original: what it was made from.
        makers: of the inputs, one for each choice of the integers that both files take.
        states: the states that the original has too; they are random.
        made: the states that only the rewritten file has; they are zeros, as they are inside the original.
        fixed: inputs that only the original has.

    Raises:
        ParityError: a difference is over ``EXPORT``, or the rewritten file refuses what the original takes.
        ArtifactError: the original refuses every shape.
    """
    trials = _trials(original, makers, states=states, made=made, fixed=fixed)
    found = run_trials(model, trials, adopted_subjects(original))
    if not found.ran:
        tried = "; ".join(found.for_card().refused[:3])
        raise ArtifactError(f"the original runs on none of the tried shapes: {tried}")
    return found


def adopted_subjects(original: Original) -> Subjects:
    """Return how sentences call an adopted file and its original."""
    return Subjects(
        file="the adopted file",
        original="the original",
        against=original.against,
        same_outputs=False,
        tolerance=original.tolerance,
    )


def _trials(
    original: Original,
    makers: Sequence[InputMaker],
    *,
    states: Sequence[StateSpec],
    made: Sequence[StateSpec],
    fixed: Mapping[str, Array],
) -> Iterator[Trial]:
    rng = np.random.default_rng(2024)
    seen = set()
    for maker, shape in ((maker, shape) for maker in makers for shape in GRID):
        case = within(shape, maker)
        if case in seen:
            continue
        seen.add(case)
        inputs = maker.make(rng, shape.batch, shape.time)
        given = random_state(states, rng, shape.batch, zero=shape.zero_state)
        zeros = random_state(made, rng, shape.batch, zero=True)
        feeds = {**inputs, **given, **fixed}
        yield Trial(case=case, feeds={**inputs, **given, **zeros}, ask=partial(_ask, original, feeds))


def _ask(original: Original, feeds: Mapping[str, Array]) -> dict[str, Array]:
    try:
        answers = original.run(feeds)
    except ArtifactError as error:
        raise Refusal(str(error)[:160]) from error
    check_finite_answers("the original", answers, feeds)
    return answers


def check_chunks(
    found: Comparison,
    model: OpenModel,
    original: Original,
    maker: InputMaker,
    *,
    outputs: Sequence[TensorSpec],
    states: Sequence[StateSpec],
    made: Sequence[StateSpec],
    fixed: Mapping[str, Array],
    lengths: str | None,
) -> Comparison:
    """Feed the rewritten file two chunks and compare with the original's answer to the whole.

    ``lengths`` names both files' int64 [batch] input of lengths: rows are full, as those of a stream are.

    Returns:
        ``found`` with this case added; unchanged where the original does not take the whole.

    Raises:
        ParityError: the difference is over ``EXPORT``.
    """
    case = Case(batch=2, time=12, chunks=(5, 7))
    rng = np.random.default_rng(31)
    whole = maker.make(rng, case.batch, case.time)
    given = random_state(states, rng, case.batch, zero=False)
    try:
        expected = original.run({**whole, **given, **fixed, **full_lengths(lengths, case.batch, case.time)})
    except ArtifactError:
        return found
    state, pieces, start = {**given, **random_state(made, rng, case.batch, zero=True)}, [], 0
    for steps in case.chunks:
        part = cut_time(maker.specs, whole, start, steps)
        answers = model.answers({**part, **state, **full_lengths(lengths, case.batch, steps)})
        state = {spec.input: answers[spec.output] for spec in (*states, *made)}
        pieces.append(answers)
        start += steps
    differences = [
        check_close(
            f"{spec.name} at {case.time} steps in two chunks",
            join_time([piece[spec.name] for piece in pieces], spec.axes),
            expected[spec.name],
            adopted_subjects(original),
        )
        for spec in outputs
    ]
    return found.with_case(case, differences)


def full_lengths(lengths: str | None, batch: int, steps: int) -> dict[str, Array]:
    """Return the int64 [batch] input of lengths with every row full, where there is one."""
    return {} if lengths is None else {lengths: np.full(batch, steps, np.int64)}
