"""A file of one step per call as one call over a sequence: its graph becomes the body of a ``Scan`` over time."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from lstm_edge_exporters.onnx_graph.writing import serialize
from lstm_edge_exporters.verify.compare import EXACT, assert_close
from lstm_edge_exporters.verify.inputs import InputMaker, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TIME, StateSpec, TensorSpec
from lstm_edge_runtime.errors import ArtifactError, ParityError, first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS

__all__ = ["check_sequence", "timed", "wrap_in_scan"]

STEPS, BATCH_SIZE = 12, 2


def timed(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the specifications with a time axis before their own; a scalar, such as a sample rate, has none."""
    return tuple(dataclasses.replace(s, axes=(TIME, *s.axes)) if s.axes else s for s in specs)


def wrap_in_scan(
    model: ir.Model, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], states: Sequence[StateSpec]
) -> onnx.ModelProto:
    """Return a model that runs another one for each step of a sequence, with the states handed on.

    Inputs and outputs keep their names and get a leading time axis (see ``timed``), states are as they were. The graph
    with its weights is the body of one ``Scan``.

    Raises:
        ArtifactError: an output has no axes, so the answers of steps cannot be joined.
    """
    flat = [spec.name for spec in outputs if not spec.axes]
    if flat:
        raise ArtifactError(f"--sequence: output {flat[0]!r} is a scalar, which has no place in a sequence")
    proto = onnx.ModelProto.FromString(serialize(model))
    inner, scanned = proto.graph, [spec.name for spec in inputs if spec.axes]
    entering = [*(state.input for state in states), *scanned]
    leaving = [*(state.output for state in states), *(spec.name for spec in outputs)]
    values = {value.name: value for value in (*inner.input, *inner.output)}
    # Names of a body and of the graph around it must differ.
    new = {name: f"step:{name}" for name in entering}
    for node in inner.node:
        _rename(node, new)
    body_in = [_named(values[name], new[name]) for name in entering]
    # Each output of a body is a separate value, even if one value leaves twice or an input is passed on.
    ends = [helper.make_node("Identity", [new.get(n, n)], [f"step:{n}:out"], name=f"step:{n}:out") for n in leaving]
    inside = {name: f"step:{name}:value" for name in leaving if name not in entering}
    for node in (*inner.node, *ends):
        _rename(node, inside)
    body_out = [_named(values[name], f"step:{name}:out") for name in leaving]
    # Weights lie in the body: onnxruntime (1.32) fuses no constant of the graph around it, and sums in another order.
    body = helper.make_graph([*inner.node, *ends], "step", body_in, body_out, inner.initializer)
    scan = helper.make_node("Scan", entering, leaving, name="sequence", body=body, num_scan_inputs=len(scanned))
    graph = helper.make_graph(
        [scan],
        inner.name,
        [_with_time(v) if v.name in scanned else v for v in inner.input],
        [_with_time(values[n]) if n in {spec.name for spec in outputs} else values[n] for n in leaving],
    )
    proto.graph.CopyFrom(graph)
    return proto


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Rename the values that a node and the graphs in it use; in place."""
    for field in (node.input, node.output):
        for index, name in enumerate(field):
            field[index] = names.get(name, name)
    for attribute in node.attribute:
        for nested in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            for part in nested.node:
                _rename(part, names)
            for value in nested.output:
                value.name = names.get(value.name, value.name)


def _named(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    new = onnx.ValueInfoProto()
    new.CopyFrom(value)
    new.name = name
    return new


def _with_time(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    new = _named(value, value.name)
    shape = new.type.tensor_type.shape
    sizes = [onnx.TensorShapeProto.Dimension(dim_param=TIME), *shape.dim]
    del shape.dim[:]
    shape.dim.extend(sizes)
    return new


def check_sequence(
    whole: OpenModel, step: OpenModel, maker: InputMaker, outputs: Sequence[TensorSpec], states: Sequence[StateSpec]
) -> None:
    """Compare one call over a sequence with calls of one step in a row, from a random state.

    Args:
        whole: the file over sequences.
        step: the file of one step per call.
        maker: of the step's inputs.
        outputs: the step's outputs.
        states: the states of both.

    Raises:
        ParityError: a bit of an output or of the last state differs, or onnxruntime does not run the sequence.
    """
    rng = np.random.default_rng(53)
    frames = [maker.make(rng, BATCH_SIZE, 1) for _ in range(STEPS)]
    start = random_state(states, rng, BATCH_SIZE, zero=False)
    state, answers = start, list[dict[str, Array]]()
    for frame in frames:
        answers.append(step.answers({**frame, **state}))
        state = {spec.input: answers[-1][spec.output] for spec in states}
    joined = {s.name: np.stack([f[s.name] for f in frames]) if s.axes else frames[0][s.name] for s in maker.specs}
    try:
        got = whole.answers({**joined, **start})
    except RUNTIME_ERRORS as error:
        raise ParityError(f"onnxruntime does not run the sequence: {first_line(error)}") from error
    for output in outputs:
        expected = np.stack([answer[output.name] for answer in answers])
        assert_close(f"{output.name} of a sequence", got[output.name], expected, EXACT)
    for spec in states:
        assert_close(f"{spec.output} of a sequence", got[spec.output], state[spec.input], EXACT)
