"""Foreign files adopted: layers found wherever they are, states made explicit or recognized, and nothing guessed."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.foreign_files import ONE, X, chosen, chunked, hidden, looped, whole
from support.onnx_files import FLOAT, H, I, lstm_model, model, weights

from lstm_edge_exporters.adopt import adopt, adopt_bytes
from lstm_edge_exporters.verify.compare import CLOSE, STREAM, assert_close
from lstm_edge_runtime.card import BATCH, TIME
from lstm_edge_runtime.errors import ArtifactError, InputError, OutputError, ParityError, StreamingError
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session


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
    with pytest.raises(ArtifactError, match=r"^a\.rnn \(LSTM\) is in a branch of the If choose, whose other branch"):
        adopt_bytes(data, stateful=True)
    adopted = adopt_bytes(data, stateful=True, fixed={"rate": 16})
    proto = onnx.load_from_string(adopted.artifact.data)
    assert {node.op_type for node in proto.graph.node} == {"LSTM", "Squeeze"}
    assert [spec.name for spec in adopted.artifact.card.inputs] == ["x"]
    assert adopted.artifact.card.states[0].input == "a.rnn.h"
    x = np.random.default_rng(1).standard_normal((7, 2, I)).astype(np.float32)
    expected = whole(data, {"x": x, "rate": np.array(16)})["y"]
    assert_close("fixed", chunked(Session(adopted.artifact.data), x, (3, 4)), expected, STREAM)


def test_layers_in_a_loop_are_found_and_their_state_is_refused_by_name():
    adopted = adopt_bytes(looped())
    assert (adopted.layers[0].name, adopted.layers[0].where) == ("inner", "twice.body")
    assert adopted.artifact.card.layers[0].name == "inner"
    with pytest.raises(ArtifactError, match=r"^inner \(LSTM\) has a hidden state inside the Loop twice"):
        adopt_bytes(looped(), stateful=True)


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
    note = next(note for note in adopted.notes if note.startswith(f"opset {opset} was converted to 18: "))
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
    assert any("the meaning of the axis 'p' (x axis 0): --input names it" in text for text in card.undetermined)
    assert adopt_bytes(data, axes={"x": ("batch", "time", I)}).artifact.card.outputs[0].axes == (BATCH, TIME, I)
    with pytest.raises(InputError, match=r"--input x: the file's input has the axes \['p', 'q', 3\], got"):
        adopt_bytes(data, axes={"x": ("batch", "time", 4)})


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
    with pytest.raises(ArtifactError, match="the file already has a model card"):
        adopt(tmp_path / "a.onnx", tmp_path / "c.onnx")


def test_a_wrong_rewriting_is_caught_and_nothing_is_written(tmp_path, monkeypatch):
    import lstm_edge_exporters.adopt as package

    (tmp_path / "in.onnx").write_bytes(hidden())

    def spoil(rewritten):
        value = next(value for name, value in rewritten.graph.initializers.items() if name == "R")
        import onnx_ir as ir

        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.01), name="R")
        return ()

    monkeypatch.setattr(package, "gather_layers", spoil)
    with pytest.raises(ParityError, match=r"the adopted file is not the original: y at .*nothing was written"):
        adopt(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


@pytest.mark.parametrize(
    ("fixed", "sentence"),
    [
        ({"nothing": 1}, "--fix nothing: the file has no such input; its inputs are x, rate"),
        ({"x": 1}, "--fix x: the input has a dynamic axis"),
        ({"rate": 1.5}, "--fix rate: 1.5 is not INT64"),
    ],
)
def test_inputs_that_cannot_be_fixed_are_refused(fixed, sentence):
    with pytest.raises(InputError, match=sentence):
        adopt_bytes(chosen(), fixed=fixed)
