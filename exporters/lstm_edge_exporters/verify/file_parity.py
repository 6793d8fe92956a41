"""Does a rewritten file answer as the one it was made from? Over the grid of shapes, states too; fails closed."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.graph import parse_model, parse_proto
from lstm_edge_exporters.verify.compare import Difference, compare, worst
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_exporters.verify.parity import EXPORT, GRID, Case, answers_of, random_state
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, Parity, StateSpec, TensorSpec
from lstm_edge_runtime.errors import ArtifactError, ParityError, first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS, open_session

__all__ = ["Original", "check_chunks", "check_file_parity"]


# The reference evaluator raises what NumPy does.
_REFUSALS: tuple[type[Exception], ...] = (*RUNTIME_ERRORS, TypeError, IndexError, KeyError, NotImplementedError)


class _Runs(Protocol):
    def run(self, output_names: Any, input_feed: Mapping[str, Array]) -> Sequence[Any]: ...


class Original:
    """A file as its author left it, run by onnxruntime, or by onnx's reference evaluator where that refuses it.

    Attributes:
        against: what the answers are from, for the card.
        outputs: the names of its outputs.
    """

    def __init__(self, data: bytes) -> None:
        proto, _reading = parse_proto(data)
        self.outputs = [value.name for value in proto.graph.output]
        self.against = "the original file"
        self._session: _Runs
        try:
            self._session = open_session(data)
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
            session: _Runs = open_session(ir.to_proto(model).SerializeToString())
            return session, "the original file, its layout 1 rewritten, as onnxruntime does not run it"
    from onnx.reference import ReferenceEvaluator

    evaluator: Any = ReferenceEvaluator(proto)  # its run returns more kinds of values than recurrent files have
    return evaluator, "the original file in onnx's reference evaluator, as onnxruntime does not run it"


def check_file_parity(
    model: bytes,
    original: Original,
    makers: Sequence[InputMaker],
    *,
    states: Sequence[StateSpec],
    made: Sequence[StateSpec],
    fixed: Mapping[str, Array],
) -> Parity:
    """Compare a rewritten file with the original over the grid of shapes.

    Args:
        model: the rewritten file.
        original: what it was made from.
        makers: of the inputs, one for each choice of the integers that both files take.
        states: the states that the original has too; they are random.
        made: the states that only the rewritten file has; they are zeros, as they are inside the original.
        fixed: inputs that only the original has.

    Returns:
        What was compared and the worst difference, for the model card.

    Raises:
        ParityError: a difference is over ``EXPORT``, or the rewritten file refuses what the original takes.
        ArtifactError: the original refuses every shape.
    """
    session = open_session(model)
    rng = np.random.default_rng(2024)
    differences: list[Difference] = []
    seen: dict[str, bool] = {}
    refused: list[str] = []
    for maker, case in ((maker, case) for maker in makers for case in GRID):
        where = f"{_where(case, maker)}{_suffix(maker)}"
        if where in seen:
            continue
        inputs = maker.make(rng, case.batch, case.time)
        given = random_state(states, rng, case.batch, zero=case.zero_state)
        try:
            expected = original.run({**inputs, **given, **fixed})
        except ArtifactError as error:
            seen[where] = False
            refused.append(f"{where}: {str(error)[:160]}")
            continue
        seen[where] = True
        zeros = random_state(made, rng, case.batch, zero=True)
        try:
            answers = answers_of(session, {**inputs, **given, **zeros})
        except RUNTIME_ERRORS as error:
            raise ParityError(
                f"the adopted file does not run at {where}, which the original does: {first_line(error)}"
            ) from error
        differences += [_difference(name, where, answers, value) for name, value in expected.items()]
    if not differences:
        raise ArtifactError(f"the original runs on none of the shapes that were tried: {'; '.join(refused[:3])}")
    return Parity(
        against=original.against,
        max_abs_difference=worst(differences).max_abs,
        tolerance=EXPORT.absolute,
        shapes=tuple(where for where, ran in seen.items() if ran),
        refused=tuple(refused),
    )


def _where(case: Case, maker: InputMaker) -> str:
    """The case without the axes that the inputs do not have."""
    axes = {axis for spec in maker.specs for axis in spec.axes}
    parts = [f"{axis} {size}" for axis, size in ((BATCH, case.batch), (TIME, case.time)) if axis in axes]
    return ", ".join(parts or ["fixed shapes"]) + ", zero state" * case.zero_state


def _suffix(maker: InputMaker) -> str:
    return "".join(f", {name} {array.reshape(-1)[0]}" for name, array in maker.values.items() if array.size)


def _difference(name: str, where: str, answers: Mapping[str, Array], expected: Array) -> Difference:
    if name not in answers:
        raise ParityError(f"the adopted file has no output {name!r}, which the original has")
    difference = compare(f"{name} at {where}", answers[name], expected)
    limit = EXPORT.absolute * max(1.0, float(np.max(np.abs(expected.astype(np.float64)))))
    if not difference.max_abs <= limit:
        raise ParityError(
            f"the adopted file is not the original: {difference}, tolerance {limit:.1g}; nothing was written"
        )
    return difference


def check_chunks(
    model: bytes,
    original: Original,
    maker: InputMaker,
    *,
    outputs: Sequence[TensorSpec],
    states: Sequence[StateSpec],
    made: Sequence[StateSpec],
    fixed: Mapping[str, Array],
    lengths: str | None,
) -> float | None:
    """Feed the rewritten file two chunks and compare with the original's answer to the whole.

    ``lengths`` names both files' int64 [batch] input of lengths: rows are full, as those of a stream are.

    Returns:
        The worst difference over the outputs, or None where the original does not take the whole.

    Raises:
        ParityError: it is over ``EXPORT``.
    """
    batch, steps, cut = 2, 12, 5
    rng = np.random.default_rng(31)
    whole = maker.make(rng, batch, steps)
    given = random_state(states, rng, batch, zero=False)
    try:
        expected = original.run({**whole, **given, **fixed, **_full(lengths, batch, steps)})
    except ArtifactError:
        return None
    session = open_session(model)
    state, pieces = {**given, **random_state(made, rng, batch, zero=True)}, []
    for start, end in ((0, cut), (cut, steps)):
        part = {
            spec.name: np.take(whole[spec.name], range(start, end), axis=spec.axes.index(TIME))
            if TIME in spec.axes
            else whole[spec.name]
            for spec in maker.specs
        }
        answers = answers_of(session, {**part, **state, **_full(lengths, batch, end - start)})
        state = {spec.input: answers[spec.output] for spec in (*states, *made)}
        pieces.append(answers)
    found = []
    for spec in outputs:
        parts = [piece[spec.name] for piece in pieces]
        joined = np.concatenate(parts, axis=spec.axes.index(TIME)) if TIME in spec.axes else parts[-1]
        found.append(_difference(spec.name, f"{steps} steps in two chunks", {spec.name: joined}, expected[spec.name]))
    return worst(found).max_abs


def _full(lengths: str | None, batch: int, steps: int) -> dict[str, Array]:
    return {} if lengths is None else {lengths: np.full(batch, steps, np.int64)}
