"""Files on which onnxruntime ends the process that runs them, at some inputs: adopted, and these inputs are refused."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_files import FLOAT, gru_weights, model, weights

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.verify.guarded import GuardedSession, may_abort
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.session import Session

I, H = 3, 5  # noqa: E741  the equations' own letters
NODE = helper.make_node
SAID = "ends with SIGABRT when it runs the model on these inputs"


def gru(x: str, name: str, answer: str) -> list[onnx.NodeProto]:
    return [
        NODE("GRU", [x, "W", "R", "B"], [f"{name}.Y"], name=name, hidden_size=H),
        NODE("Squeeze", [f"{name}.Y", "one"], [answer], name=f"{name}/flat"),
    ]


def file_of(nodes: list[onnx.NodeProto], axes: list[Any], **arrays: np.ndarray) -> bytes:
    held = {name: array for name, array in gru_weights(1).items() if name in "WRB"} | {"one": np.array([1])} | arrays
    return model(nodes, {"x": (FLOAT, axes)}, {"y": [None, None, H]}, held)


def later_steps(first: int) -> bytes:
    """A GRU over all but the first steps: over none, where there are no more than these."""
    nodes = [NODE("Slice", ["x", "first", "end", "axis"], ["late"], name="slice"), *gru("late", "rnn", "y")]
    more = {"first": np.array([first]), "end": np.array([2**31]), "axis": np.array([0])}
    return file_of(nodes, ["time", "batch", I], **more)


def windows() -> bytes:
    """Three steps through a convolution of width four leave none."""
    rng = np.random.default_rng(0)
    nodes = [
        NODE("Transpose", ["x"], ["turned"], name="turn", perm=[1, 2, 0]),
        NODE("AveragePool", ["turned"], ["pooled"], name="pool", kernel_shape=[2], strides=[2]),
        NODE("Conv", ["pooled", "kernel"], ["conv"], name="conv", kernel_shape=[1]),
        NODE("Transpose", ["conv"], ["back"], name="back", perm=[2, 0, 1]),
        *gru("back", "rnn", "y"),
    ]
    kernel = rng.standard_normal((I, I, 1)).astype(np.float32)
    return file_of(nodes, ["time", "batch", I], kernel=kernel)


def loud_steps() -> bytes:
    """A GRU over the steps whose first feature is above 100."""
    nodes = [
        NODE("Slice", ["x", "zero", "one", "two"], ["feature"], name="feature"),
        NODE("ReduceMax", ["feature", "inner"], ["level"], name="level", keepdims=0),
        NODE("Greater", ["level", "bound"], ["loud"], name="loud"),
        NODE("Compress", ["x", "loud"], ["late"], name="pick", axis=0),
        *gru("late", "rnn", "y"),
    ]
    more = {"zero": np.array([0]), "two": np.array([2]), "inner": np.array([1, 2]), "bound": np.float32(0.3)}
    return file_of(nodes, ["time", "batch", I], **more)


@pytest.mark.parametrize("first", [1, 5])
def test_inputs_that_leave_no_step_are_refused_and_the_file_is_adopted(first: int) -> None:
    data = later_steps(first)
    assert may_abort(parse_model(data))
    adopted = adopt_bytes(data)
    parity = adopted.artifact.card.parity
    assert parity is not None
    assert parity.shapes
    assert all(SAID in refused for refused in parity.refused)
    assert {refused.partition(":")[0] for refused in parity.refused} >= {"batch 1, time 1", "batch 4, time 1"}
    x = np.random.default_rng(0).standard_normal((first + 4, 2, I)).astype(np.float32)
    got = Session(adopted.artifact.data).run(x)[0]["y"]
    want = GuardedSession(data).run(None, {"x": x})[0]
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("make", [windows, loud_steps])
def test_a_length_that_the_graph_computes(make: Any) -> None:
    data = make()
    assert may_abort(parse_model(data))
    adopted = adopt_bytes(data)
    assert [layer.operator for layer in adopted.artifact.card.layers] == ["GRU"]


def test_the_session_goes_on_after_its_process_ended() -> None:
    session = GuardedSession(later_steps(2))
    x = np.ones((4, 2, I), np.float32)
    (before,) = session.run(["y"], {"x": x})
    assert before.shape == (2, 2, H)
    for steps in (2, 1):
        with pytest.raises(RuntimeError, match=SAID):
            session.run(["y"], {"x": x[:steps]})
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], before)
    with pytest.raises(RuntimeError, match="Got invalid dimensions for input: x"):
        session.run(None, {"x": x[:, :, :2]})
    assert [output.name for output in session.get_outputs()] == ["y"]
    with pytest.raises(ArtifactError, match=r"^onnxruntime cannot read the model"):
        GuardedSession(b"no model")


def test_what_certainly_has_steps_is_run_in_this_process() -> None:
    plain = file_of(gru("x", "rnn", "y"), ["time", "batch", I])
    assert not may_abort(parse_model(plain))
    turned = file_of(
        [NODE("Transpose", ["x"], ["t"], name="turn", perm=[1, 0, 2]), *gru("t", "rnn", "y")], ["batch", "time", I]
    )
    assert not may_abort(parse_model(turned))
    # An LSTM runs over no steps; over no rows it does not, and rows are seldom counted.
    arrays = {name: array for name, array in weights(1).items() if name in "WRB"} | {"two": np.array([1])}
    late = [
        NODE("Slice", ["x", "two", "end"], ["late"], name="slice"),
        NODE("LSTM", ["late", "W", "R", "B"], ["y"], name="rnn", hidden_size=H),
    ]
    data = model(
        late,
        {"x": (TensorProto.FLOAT, ["time", "batch", I])},
        {"y": [None, 1, "batch", H]},
        arrays | {"end": np.array([2**31])},
    )
    assert not may_abort(parse_model(data))
