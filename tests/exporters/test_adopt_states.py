"""States of adopted files: recognized by what flows through them, named by the user, or refused."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.foreign_files import ONE, X, chunked, packed, whole
from support.onnx_files import FLOAT, H, I, lstm_model, model, weights

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.verify.compare import STREAM, assert_close
from lstm_edge_runtime.card import BATCH, TIME
from lstm_edge_runtime.errors import ArtifactError, InputError
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.session import Session


def test_a_packed_state_is_recognized_by_what_flows_through_it():
    data = packed()
    adopted = adopt_bytes(data)
    spec = adopted.artifact.card.states[0]
    assert (spec.input, spec.output, spec.kind, spec.module, spec.axes) == (
        "state",
        "stateN",
        "packed",
        "state",
        (2, BATCH, H),
    )
    x = np.random.default_rng(1).standard_normal((7, 3, I)).astype(np.float32)
    expected = whole(data, {"x": x, "state": np.zeros((2, 3, H), np.float32)})["y"]
    assert_close("chunks", chunked(Session(adopted.artifact.data), x, (2, 5)), expected, STREAM)


def test_a_state_that_leaves_in_another_order_is_none_and_is_named():
    card = adopt_bytes(packed(crossed=True)).artifact.card
    assert card.states == ()
    assert [spec.name for spec in card.inputs] == ["x", "state"]
    assert any("input 'state' may be a state (output stateN has its shape)" in text for text in card.undetermined)


def test_an_input_that_is_only_passed_through_is_no_state():
    arrays = {k: a for k, a in weights(1).items() if k != "P"}
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H),
        helper.make_node("Identity", ["tag"], ["tag_out"], name="pass"),
    ]
    inputs = X | {"tag": (FLOAT, ["rows", 2])}
    data = model(nodes, inputs, {"Y": ["n", 1, "rows", H], "tag_out": ["rows", 2]}, arrays)
    card = adopt_bytes(data).artifact.card
    assert card.states == ()
    assert any("input 'tag' may be a state (output tag_out has its shape)" in text for text in card.undetermined)


def test_stacked_layers_and_separate_states_are_recognized():
    arrays = {
        f"{k}{i}": a for i in (0, 1) for k, a in weights(1, inputs=I if i == 0 else H, seed=i).items() if k != "P"
    }
    arrays |= ONE | {"zero": np.array([0]), "two": np.array([2]), "axis": np.array([0])}
    nodes = [
        helper.make_node("Split", ["h"], ["ha", "hb"], name="split", axis=0, num_outputs=2),
        helper.make_node(
            "LSTM", ["x", "W0", "R0", "B0", "", "ha", "ca"], ["Y0", "hna", "ca_out"], name="l0", hidden_size=H
        ),
        helper.make_node("Squeeze", ["Y0", "one"], ["y0"], name="flat0"),
        helper.make_node(
            "LSTM", ["y0", "W1", "R1", "B1", "", "hb", "cb"], ["Y1", "hnb", "cb_out"], name="l1", hidden_size=H
        ),
        helper.make_node("Squeeze", ["Y1", "one"], ["y"], name="flat1"),
        helper.make_node("Concat", ["hna", "hnb"], ["hn"], name="join", axis=0),
    ]
    inputs = X | {"h": (FLOAT, [2, "rows", H]), "ca": (FLOAT, [1, "rows", H]), "cb": (FLOAT, [1, "rows", H])}
    outputs = {"y": ["n", "rows", H], "hn": [2, "rows", H], "ca_out": [1, "rows", H], "cb_out": [1, "rows", H]}
    data = model(nodes, inputs, outputs, arrays)
    card = adopt_bytes(data).artifact.card
    assert [(s.input, s.output, s.kind, s.module) for s in card.states] == [
        ("h", "hn", "packed", "h"),
        ("ca", "ca_out", "c", "l0"),
        ("cb", "cb_out", "c", "l1"),
    ]
    assert card.streaming.verdict == "every-step"


@pytest.mark.parametrize("joined", [True, False])
def test_a_context_of_samples_is_a_state_when_it_is_proved_or_the_user_says_so(joined):
    """Frames [batch, 4] with the last two samples fed back: one call is one step.

    What is joined with the frame is proved to be what came before it; what goes elsewhere is not.
    """
    arrays = {k: a for k, a in weights(1, inputs=6).items() if k != "P"} | ONE
    arrays |= {"zero": np.array([0]), "from": np.array([2]), "to": np.array([4]), "last": np.array([1])}
    arrays |= {} if joined else {"wide": np.ones((2, 6), np.float32), "narrow": np.ones((4, 6), np.float32)}
    nodes = [
        helper.make_node("Concat", ["context", "frame"], ["joined"], name="join", axis=1),
    ]
    if not joined:
        nodes = [
            helper.make_node("MatMul", ["context", "wide"], ["old"], name="old"),
            helper.make_node("MatMul", ["frame", "narrow"], ["new"], name="new"),
            helper.make_node("Add", ["old", "new"], ["joined"], name="join"),
        ]
    nodes += [
        helper.make_node("Slice", ["frame", "from", "to", "last"], ["context_out"], name="keep"),
        helper.make_node("Unsqueeze", ["joined", "zero"], ["step"], name="step"),
        helper.make_node("LSTM", ["step", "W", "R", "B"], ["Y", "hn"], name="rnn", hidden_size=H),
        helper.make_node("Squeeze", ["hn", "zero"], ["y"], name="flat"),
    ]
    inputs = {"frame": (FLOAT, ["rows", 4]), "context": (FLOAT, ["rows", 2])}
    data = model(nodes, inputs, {"y": ["rows", H], "context_out": ["rows", 2]}, arrays)
    plain = adopt_bytes(data, stateful=True).artifact.card
    assert [spec.input for spec in plain.states] == ["context"] * joined + ["rnn.h", "rnn.c"]
    assert any("input 'context' may be a state" in text for text in plain.undetermined) != joined
    adopted = adopt_bytes(data, stateful=True, states={"context": "context_out"})
    card = adopted.artifact.card
    assert [(s.input, s.kind) for s in card.states] == [("context", "packed"), ("rnn.h", "h"), ("rnn.c", "c")]
    assert card.streaming.verdict == "each-call"
    session = Session(adopted.artifact.data)
    frames = np.random.default_rng(4).standard_normal((5, 1, 4)).astype(np.float32)
    stream, state = session.stream(), None
    for index, frame in enumerate(frames):
        outputs, state = session.run(frame, state)
        assert_close(
            f"frame {index}", stream.push(frame if index % 2 else frame[0]).reshape(1, H), outputs["y"], STREAM
        )
    assert stream.steps == 5
    assert np.array_equal(stream.state["context"], frames[-1][:, 2:])


@pytest.mark.parametrize(
    ("states", "sentence"),
    [
        ({"nothing": "stateN"}, "the file has no input 'nothing'"),
        ({"state": "nothing"}, "the file has no output 'nothing'"),
        ({"state": "y"}, "a state is float32 and has one shape"),
    ],
)
def test_named_states_that_cannot_be_are_refused(states, sentence):
    with pytest.raises(InputError, match=sentence):
        adopt_bytes(packed(), states=states)


def test_lengths_are_recognized_and_stay_what_they_are():
    arrays = {k: a for k, a in weights(1).items() if k != "P"} | ONE
    nodes = [
        helper.make_node("Cast", ["rows64"], ["rows"], name="cast", to=TensorProto.INT32),
        helper.make_node("LSTM", ["x", "W", "R", "B", "rows"], ["Y"], name="rnn", hidden_size=H),
        helper.make_node("Squeeze", ["Y", "one"], ["y"], name="flat"),
    ]
    inputs = X | {"rows64": (TensorProto.INT64, ["rows"])}
    card = adopt_bytes(model(nodes, inputs, {"y": ["n", "rows", H]}, arrays)).artifact.card
    assert card.lengths == "rows64"
    data = model(nodes, inputs, {"y": ["n", "rows", H]}, arrays)
    card = adopt_bytes(data, stateful=True).artifact.card
    assert (card.lengths, card.streaming.verdict) == ("rows64", "every-step")
    assert card.parity.shapes[-1] == "batch 2, time 12 in chunks of 5 and 7", "with full lengths chunks are compared"
    card = adopt_bytes(lstm_model(lengths=True)).artifact.card
    assert card.lengths is None
    assert any("input 'rows' holds valid lengths, int32" in text for text in card.undetermined)


def test_a_state_that_something_else_was_added_to_is_none():
    """In one run the sum is the state and a whole number, as what layers hand on is; the next run adds another one."""
    arrays = {k: a for k, a in weights(1).items() if k != "P"} | ONE
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["Y", "hn", "cn"], name="rnn", hidden_size=H),
        helper.make_node("Abs", ["x"], ["loud"], name="abs"),
        helper.make_node("ReduceSum", ["loud"], ["sum"], name="sum", keepdims=0),
        helper.make_node("Ceil", ["sum"], ["count"], name="ceil"),
        helper.make_node("Add", ["hn", "count"], ["h_out"], name="add"),
        helper.make_node("Squeeze", ["Y", "one"], ["y"], name="flat"),
    ]
    inputs = X | {"h": (FLOAT, [1, "rows", H]), "c": (FLOAT, [1, "rows", H])}
    outputs = {"y": ["n", "rows", H], "h_out": [1, "rows", H], "cn": [1, "rows", H]}
    card = adopt_bytes(model(nodes, inputs, outputs, arrays)).artifact.card
    assert [(spec.input, spec.output) for spec in card.states] == [("c", "cn")]
    assert any(text.startswith("input 'h' may be a state") for text in card.undetermined)


def test_several_layers_are_spoken_of_in_the_plural():
    arrays = {f"{k}{i}": a for i in (0, 1) for k, a in weights(1, seed=i).items() if k != "P"}
    for direction, words in (
        ("forward", "l0, l1 start every call from the same state"),
        ("reverse", "l0, l1 run backwards in time too"),
    ):
        nodes = [
            helper.make_node(
                "LSTM", ["x", f"W{i}", f"R{i}", f"B{i}"], [f"Y{i}"], name=f"l{i}", hidden_size=H, direction=direction
            )
            for i in (0, 1)
        ]
        data = model(nodes, X, {f"Y{i}": ["n", 1, "rows", H] for i in (0, 1)}, arrays)
        assert adopt_bytes(data).artifact.card.streaming.reason.startswith(words)


def test_a_fixed_batch_is_fixed_in_the_states_too():
    arrays = {k: a for k, a in weights(1).items() if k != "P"} | ONE
    nodes = [helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H)]
    data = model(nodes, {"x": (FLOAT, ["n", 3, I])}, {"Y": ["n", 1, 3, H]}, arrays | {})
    card = adopt_bytes(data, stateful=True).artifact.card
    assert [spec.axes for spec in card.states] == [(1, 3, H)] * 2
    assert card.streaming.verdict == "every-step"


def test_batch_first_nodes_which_onnxruntime_refuses_run_after_adoption():
    """The witness is onnx's reference evaluator, which knows layout=1."""
    arrays = {k: a for k, a in weights(1).items() if k != "P"}
    nodes = [helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H, layout=1)]
    data = model(nodes, {"x": (FLOAT, ["rows", "n", I])}, {"Y": ["rows", "n", 1, H]}, arrays)
    with pytest.raises(ArtifactError, match="onnxruntime cannot read the model"):
        open_session(data)
    card = adopt_bytes(data, stateful=True).artifact.card
    assert card.inputs[0].axes == (BATCH, TIME, I)
    assert card.outputs[0].axes == (BATCH, TIME, 1, H)
    assert card.parity.against.startswith("the original file in onnx's reference evaluator")
    assert card.streaming.verdict == "every-step"
