"""Foreign files adopted: layers found wherever they are, states made explicit or recognized, and nothing guessed."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_files import FLOAT, H, I, lstm_model, model, weights

from lstm_edge_exporters.adopt import adopt, adopt_bytes
from lstm_edge_exporters.verify.compare import CLOSE, STREAM, assert_close
from lstm_edge_runtime.card import BATCH, TIME
from lstm_edge_runtime.errors import ArtifactError, InputError, OutputError, ParityError, StreamingError
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session

X = {"x": (FLOAT, ["n", "rows", I])}  # time and batch under names that say nothing
ONE = {"one": np.array([1])}


def gru_weights(seed=3):
    rng = np.random.default_rng(seed)
    shapes = {"W": (1, 3 * H, I), "R": (1, 3 * H, H), "B": (1, 6 * H)}
    return {name: rng.uniform(-0.6, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}


def whole(data, feeds):
    session = open_session(data)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def hidden(operator="LSTM", **attributes):
    """One layer with a hidden zero state and a flat output."""
    arrays = (weights(1) if operator == "LSTM" else gru_weights()) | ONE
    arrays.pop("P", None)
    nodes = [
        helper.make_node(operator, ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H, **attributes),
        helper.make_node("Squeeze", ["Y", "one"], ["y"], name="flat"),
    ]
    return model(nodes, X, {"y": ["n", "rows", H]}, arrays)


def chunked(session, x, cuts, time=0):
    stream, start, pieces = session.stream(x.shape[1 - time]), 0, []
    for steps in cuts:
        pieces.append(stream.push(np.ascontiguousarray(np.take(x, range(start, start + steps), axis=time))))
        start += steps
    return np.concatenate(pieces, axis=time)


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_chunked_equals_whole_where_it_did_not_before(operator):
    data = hidden(operator, **({"linear_before_reset": 1} if operator == "GRU" else {}))
    x = np.random.default_rng(1).standard_normal((9, 3, I)).astype(np.float32)
    expected = whole(data, {"x": x})["y"]
    wrong = np.concatenate([whole(data, {"x": part})["y"] for part in (x[:4], x[4:])])
    assert np.abs(wrong - expected).max() > 0.01, "the file's chunked run must be wrong for this test to say anything"
    adopted = adopt_bytes(data, stateful=True)
    session = Session(adopted.artifact.data)
    kinds = ["h", "c"] if operator == "LSTM" else ["h"]
    assert [(s.input, s.output, s.kind) for s in session.states] == [(f"rnn.{k}", f"rnn.{k}_out", k) for k in kinds]
    assert all(spec.axes == (1, BATCH, H) for spec in session.states)
    assert session.inputs[0].axes == (TIME, BATCH, I)
    assert adopted.artifact.card.streaming.verdict == "every-step"
    for cuts in ((4, 5), (1,) * 9, (8, 1)):
        assert_close("chunks", chunked(session, x, cuts), expected, STREAM)
    assert self_test(session).passed


def test_a_hidden_state_is_not_streamed_without_being_asked():
    adopted = adopt_bytes(hidden())
    assert adopted.artifact.card.streaming.verdict == "none"
    with pytest.raises(
        StreamingError, match=r"rnn starts every call from the same state: adopt the file with --stateful"
    ):
        Session(adopted.artifact.data).stream()


def test_zeros_computed_from_the_input_are_hidden_states_too():
    arrays = weights(1) | ONE | {"head": np.array([1]), "cells": np.array([H]), "zero": np.zeros(1, np.float32)}
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], name="s", start=1, end=2),
        helper.make_node("Concat", ["head", "rows", "cells"], ["shape"], name="c", axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["h0"], name="z"),
        helper.make_node("Expand", ["zero", "shape"], ["c0"], name="e"),
        helper.make_node("LSTM", ["x", "W", "R", "B", "", "h0", "c0", "P"], ["Y"], name="rnn", hidden_size=H),
        helper.make_node("Squeeze", ["Y", "one"], ["y"], name="flat"),
    ]
    data = model(nodes, X, {"y": ["n", "rows", H]}, arrays)
    adopted = adopt_bytes(data, stateful=True)
    assert adopted.layers[0].initial == {"h": "zeros", "c": "zeros"}
    assert adopted.artifact.card.layers[0].peephole == "diagonal"
    x = np.random.default_rng(1).standard_normal((7, 2, I)).astype(np.float32)
    assert_close("chunks", chunked(Session(adopted.artifact.data), x, (3, 4)), whole(data, {"x": x})["y"], STREAM)


@pytest.mark.parametrize(
    ("direction", "words"),
    [("bidirectional", "rnn \\(LSTM\\) is bidirectional"), ("reverse", "rnn \\(LSTM\\) runs backwards")],
)
def test_backward_layers_are_refused_by_name(direction, words):
    data = lstm_model(direction)
    with pytest.raises(ArtifactError, match=words + r".*adopt without --stateful"):
        adopt_bytes(data, stateful=True)
    assert adopt_bytes(data).artifact.card.streaming.verdict == "none"


def branch(name, arrays, *, layer=True, scale=1.0):
    """A body that captures x: a layer and its flat output, or zeros of that shape."""
    constants = [
        numpy_helper.from_array(np.asarray(a * scale if a.dtype == np.float32 else a), f"{name}.{k}")
        for k, a in arrays.items()
    ]
    nodes = [helper.make_node("Constant", [], [c.name], value=c) for c in constants]
    nodes += [
        helper.make_node(
            "LSTM", ["x", f"{name}.W", f"{name}.R", f"{name}.B"], [f"{name}.Y"], name=f"{name}.rnn", hidden_size=H
        ),
        helper.make_node("Squeeze", [f"{name}.Y", f"{name}.one"], [f"{name}.y"], name=f"{name}.flat"),
    ]
    if not layer:
        nodes[-2:] = [
            helper.make_node("MatMul", ["x", f"{name}.M"], [f"{name}.y"], name=f"{name}.mul"),
        ]
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}.y", FLOAT, [None, None, H])])


def chosen(*, second=True):
    arrays = {k: a for k, a in weights(1).items() if k != "P"} | ONE | {"M": np.ones((I, H), np.float32)}
    nodes = [
        helper.make_node("Equal", ["rate", "sixteen"], ["is16"], name="equal"),
        helper.make_node(
            "If",
            ["is16"],
            ["y"],
            name="choose",
            then_branch=branch("a", arrays),
            else_branch=branch("b", arrays, layer=second, scale=0.5),
        ),
    ]
    inputs = X | {"rate": (TensorProto.INT64, [])}
    return model(nodes, inputs, {"y": ["n", "rows", H]}, {"sixteen": np.array(16)})


def test_states_are_hoisted_through_branches_that_agree():
    data = chosen()
    adopted = adopt_bytes(data, stateful=True)
    card = adopted.artifact.card
    assert {(layer.name, layer.where) for layer in adopted.layers} == {
        ("a.rnn", "choose.then_branch"),
        ("b.rnn", "choose.else_branch"),
    }
    assert adopted.layers[0].weights == "behind Constant"
    assert [spec.input for spec in card.states] == ["a.rnn.h", "a.rnn.c"]
    session = Session(adopted.artifact.data)
    x = np.random.default_rng(1).standard_normal((7, 2, I)).astype(np.float32)
    for rate in (16, 8):
        expected = whole(data, {"x": x, "rate": np.array(rate)})["y"]
        first, state = session.run({"x": x[:3], "rate": np.array(rate)})
        second, _ = session.run({"x": x[3:], "rate": np.array(rate)}, state)
        assert_close(f"rate {rate}", np.concatenate([first["y"], second["y"]]), expected, STREAM)
    stream = session.stream(2)
    assert stream.push({"x": x[:1], "rate": np.array(16)}).shape == (1, 2, H)
    assert {shape.split(", rate ")[1].split(",")[0] for shape in card.parity.shapes if "rate" in shape} >= {"16", "1"}


def test_branches_that_disagree_are_refused_by_name_and_a_fixed_input_helps():
    data = chosen(second=False)
    with pytest.raises(
        ArtifactError, match=r"^a\.rnn \(LSTM\) stands in a branch of the If choose, whose other branch"
    ):
        adopt_bytes(data, stateful=True)
    adopted = adopt_bytes(data, stateful=True, fixed={"rate": 16})
    proto = onnx.load_from_string(adopted.artifact.data)
    assert {node.op_type for node in proto.graph.node} == {"LSTM", "Squeeze"}
    assert [spec.name for spec in adopted.artifact.card.inputs] == ["x"]
    assert adopted.artifact.card.states[0].input == "a.rnn.h"
    x = np.random.default_rng(1).standard_normal((7, 2, I)).astype(np.float32)
    expected = whole(data, {"x": x, "rate": np.array(16)})["y"]
    assert_close("fixed", chunked(Session(adopted.artifact.data), x, (3, 4)), expected, STREAM)


def looped():
    arrays = {k: a for k, a in weights(1).items() if k != "P"} | ONE
    body = helper.make_graph(
        [
            helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="inner", hidden_size=H),
            helper.make_node("Squeeze", ["Y", "one"], ["flat"], name="flat"),
            helper.make_node("Add", ["flat", "before"], ["after"], name="add"),
            helper.make_node("Identity", ["go"], ["go_on"], name="go"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", FLOAT, [None, None, H]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", FLOAT, [None, None, H]),
        ],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "M"], ["start"], name="mul"),
        helper.make_node("Loop", ["two", "yes", "start"], ["y"], name="twice", body=body),
    ]
    more = {"two": np.array(2), "yes": np.array(True), "M": np.ones((I, H), np.float32)}
    return model(nodes, X, {"y": ["n", "rows", H]}, arrays | more)


def test_layers_in_a_loop_are_found_and_their_state_is_refused_by_name():
    adopted = adopt_bytes(looped())
    assert (adopted.layers[0].name, adopted.layers[0].where) == ("inner", "twice.body")
    assert adopted.artifact.card.layers[0].name == "inner"
    with pytest.raises(ArtifactError, match=r"^inner \(LSTM\) has a hidden state inside the Loop twice"):
        adopt_bytes(looped(), stateful=True)


def packed(*, crossed=False):
    """h and c in one tensor [2, batch, H], as a published VAD has them; crossed: they leave in the wrong order."""
    arrays = weights(1) | ONE | {"zero": np.array([0]), "two": np.array([2]), "axis": np.array([0])}
    leaving = ["hn", "cn"] if not crossed else ["cn", "hn"]
    nodes = [
        helper.make_node("Slice", ["state", "zero", "one", "axis"], ["h0"], name="first"),
        helper.make_node("Slice", ["state", "one", "two", "axis"], ["c0"], name="second"),
        helper.make_node("LSTM", ["x", "W", "R", "B", "", "h0", "c0"], ["Y", "hn", "cn"], name="rnn", hidden_size=H),
        helper.make_node("Concat", leaving, ["stateN"], name="join", axis=0),
        helper.make_node("Squeeze", ["Y", "one"], ["y"], name="flat"),
    ]
    arrays.pop("P")
    inputs = X | {"state": (FLOAT, [2, "b", H])}
    return model(nodes, inputs, {"y": ["n", "rows", H], "stateN": [2, "b", H]}, arrays)


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


def test_a_context_of_samples_is_a_state_when_the_user_says_so():
    """Frames [batch, 4] with the last two samples fed back: one call is one step."""
    arrays = {k: a for k, a in weights(1, inputs=6).items() if k != "P"} | ONE
    arrays |= {"zero": np.array([0]), "from": np.array([2]), "to": np.array([4]), "last": np.array([1])}
    nodes = [
        helper.make_node("Concat", ["context", "frame"], ["joined"], name="join", axis=1),
        helper.make_node("Slice", ["frame", "from", "to", "last"], ["context_out"], name="keep"),
        helper.make_node("Unsqueeze", ["joined", "zero"], ["step"], name="step"),
        helper.make_node("LSTM", ["step", "W", "R", "B"], ["Y", "hn"], name="rnn", hidden_size=H),
        helper.make_node("Squeeze", ["hn", "zero"], ["y"], name="flat"),
    ]
    inputs = {"frame": (FLOAT, ["rows", 4]), "context": (FLOAT, ["rows", 2])}
    data = model(nodes, inputs, {"y": ["rows", H], "context_out": ["rows", 2]}, arrays)
    plain = adopt_bytes(data, stateful=True).artifact.card
    assert [spec.input for spec in plain.states] == ["rnn.h", "rnn.c"]
    assert any("input 'context' may be a state" in text for text in plain.undetermined)
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


@pytest.mark.parametrize("opset", [11, 13, 16])
def test_older_opsets_are_raised_in_nested_graphs_too(opset):
    """ReduceMean takes its axes as an attribute before opset 18, Squeeze and Unsqueeze before 13."""
    arrays = {k: a for k, a in weights(1).items() if k != "P"}
    squeeze = {"axes": [1]} if opset < 13 else {}
    extra = [] if opset < 13 else ["one"]

    def body(name, axis):
        nodes = [helper.make_node("ReduceMean", ["flat"], [f"{name}.m"], name=f"{name}.mean", axes=[axis], keepdims=1)]
        nodes.append(helper.make_node("Sub", ["flat", f"{name}.m"], [f"{name}.y"], name=f"{name}.sub"))
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}.y", FLOAT, [None, None, H])])

    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H),
        helper.make_node("Squeeze", ["Y", *extra], ["flat"], name="flat", **squeeze),
        helper.make_node("If", ["which"], ["y"], name="if", then_branch=body("a", 2), else_branch=body("b", 1)),
    ]
    inputs = X | {"which": (TensorProto.BOOL, [])}
    data = model(nodes, inputs, {"y": ["n", "rows", H]}, arrays | (ONE if extra else {}), opset=opset)
    adopted = adopt_bytes(data)
    proto = onnx.load_from_string(adopted.artifact.data)
    assert next(entry.version for entry in proto.opset_import if not entry.domain) == 18
    note = next(note for note in adopted.notes if note.startswith(f"opset {opset} was brought to 18: "))
    assert ("ReduceMean" in note, "Squeeze" in note) == (True, opset < 13)
    for which in (True, False):
        x = np.random.default_rng(2).standard_normal((6, 4, I)).astype(np.float32)
        feeds = {"x": x, "which": np.array(which)}
        assert_close(f"branch {which}", whole(adopted.artifact.data, feeds)["y"], whole(data, feeds)["y"], CLOSE)


def test_weights_behind_other_nodes_of_any_size_become_initializers():
    """As torch's exporter leaves them from hidden 64 up: gates cut out and joined in another order."""
    hidden_size = 256
    rng = np.random.default_rng(0)
    arrays = {"zero": np.array([0]), **ONE}
    nodes = []
    for name, width in (("W", I), ("R", hidden_size)):
        arrays[f"{name}.raw"] = rng.uniform(-0.1, 0.1, (width, 4 * hidden_size)).astype(np.float32)
        nodes.append(helper.make_node("Transpose", [f"{name}.raw"], [f"{name}.t"], name=f"{name}.t", perm=[1, 0]))
        parts = [f"{name}.{g}" for g in "iofc"]
        nodes.append(helper.make_node("Split", [f"{name}.t"], parts, name=f"{name}.s", axis=0, num_outputs=4))
        nodes.append(helper.make_node("Concat", parts[::-1], [f"{name}.j"], name=f"{name}.j", axis=0))
        nodes.append(helper.make_node("Unsqueeze", [f"{name}.j", "zero"], [name], name=f"{name}.u"))
    nodes.append(helper.make_node("LSTM", ["x", "W", "R"], ["Y"], name="rnn", hidden_size=hidden_size))
    data = model(nodes, X, {"Y": ["n", 1, "rows", hidden_size]}, arrays)
    adopted = adopt_bytes(data)
    assert adopted.layers[0].weights == "behind Concat, Split, Transpose, Unsqueeze"
    assert adopted.layers[0].hidden_size == hidden_size
    assert [node.op_type for node in onnx.load_from_string(adopted.artifact.data).graph.node] == ["LSTM"]


def test_dynamic_quantize_lstm_is_found_and_made_stateful(tmp_path):
    from onnxruntime.quantization import quantize_dynamic

    (tmp_path / "in.onnx").write_bytes(hidden())
    quantize_dynamic(tmp_path / "in.onnx", tmp_path / "q.onnx", op_types_to_quantize=["LSTM"])
    data = (tmp_path / "q.onnx").read_bytes()
    adopted = adopt_bytes(data, stateful=True)
    layer = adopted.artifact.card.layers[0]
    assert (layer.operator, layer.input_size, layer.hidden_size) == ("com.microsoft::DynamicQuantizeLSTM", I, H)
    assert [spec.axes for spec in adopted.artifact.card.states] == [(1, BATCH, H)] * 2


def test_axes_that_nothing_tells_are_named_and_the_user_may_say_them():
    """Without a recurrent layer behind it, an input's axes have no meaning that could be found."""
    nodes = [helper.make_node("Tanh", ["x"], ["y"], name="tanh")]
    data = model(nodes, {"x": (FLOAT, ["p", "q", I])}, {"y": ["p", "q", I]}, {})
    card = adopt_bytes(data).artifact.card
    assert card.inputs[0].axes == ("p", "q", I)
    assert any("the meaning of the axis 'p' (x axis 0): --axes names it" in text for text in card.undetermined)
    assert adopt_bytes(data, axes={"x": ("batch", "time", I)}).artifact.card.outputs[0].axes == (BATCH, TIME, I)
    with pytest.raises(InputError, match=r"--axes x: the file's input has the axes \['p', 'q', 3\], got"):
        adopt_bytes(data, axes={"x": ("batch", "time", 4)})


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


def test_weights_of_a_branch_that_was_folded_away_are_gone():
    """They stand in the outermost graph, where both branches see them."""
    arrays = {f"{side}.{k}": a * s for side, s in (("a", 1), ("b", 0.5)) for k, a in weights(1).items() if k in "WRB"}

    def body(side):
        layer = helper.make_node("LSTM", ["x", f"{side}.W", f"{side}.R", f"{side}.B"], [f"{side}.Y"], hidden_size=H)
        value = helper.make_tensor_value_info(f"{side}.Y", FLOAT, [None, 1, None, H])
        return helper.make_graph([layer], side, [], [value])

    nodes = [
        helper.make_node("Equal", ["rate", "sixteen"], ["is16"], name="equal"),
        helper.make_node("If", ["is16"], ["y"], name="choose", then_branch=body("a"), else_branch=body("b")),
    ]
    arrays |= {"sixteen": np.array(16)}
    arrays = {k: a.astype(np.float32) if a.dtype == np.float64 else a for k, a in arrays.items()}
    inputs = X | {"rate": (TensorProto.INT64, [])}
    data = model(nodes, inputs, {"y": ["n", 1, "rows", H]}, arrays)
    graph = onnx.load_from_string(adopt_bytes(data, fixed={"rate": 8}).artifact.data).graph
    assert [node.op_type for node in graph.node] == ["LSTM"]
    assert sorted(tensor.name for tensor in graph.initializer) == ["b.B", "b.R", "b.W"]


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


def test_the_same_bytes_come_out_twice_and_the_source_is_left_alone(tmp_path):
    source = tmp_path / "in.onnx"
    source.write_bytes(hidden())
    before = source.read_bytes()
    reports = [adopt(source, tmp_path / f"{name}.onnx", stateful=True) for name in "ab"]
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert source.read_bytes() == before
    assert reports[0].card.parity.max_abs_difference <= CLOSE.absolute
    with pytest.raises(OutputError, match="this is the file that is read"):
        adopt(source, source)
    with pytest.raises(ArtifactError, match="the file has a model card already"):
        adopt(tmp_path / "a.onnx", tmp_path / "c.onnx")


def test_a_wrong_rewriting_is_caught_and_nothing_is_written(tmp_path, monkeypatch):
    import lstm_edge_exporters.adopt as package

    (tmp_path / "in.onnx").write_bytes(hidden())

    def spoil(rewritten):
        value = next(value for name, value in rewritten.graph.initializers.items() if name == "R")
        import onnx_ir as ir

        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.01), name="R")
        return ()

    monkeypatch.setattr(package, "fold_cells", spoil)
    with pytest.raises(ParityError, match=r"the adopted file is not the original: y at .*nothing was written"):
        adopt(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


@pytest.mark.parametrize(
    ("fixed", "sentence"),
    [
        ({"nothing": 1}, "--fix nothing: the file has no such input; its inputs are x, rate"),
        ({"x": 1}, "--fix x: the input has a dynamic axis"),
        ({"rate": 1.5}, "--fix rate: 1.5 is no INT64"),
    ],
)
def test_inputs_that_cannot_be_fixed_are_refused(fixed, sentence):
    with pytest.raises(InputError, match=sentence):
        adopt_bytes(chosen(), fixed=fixed)
