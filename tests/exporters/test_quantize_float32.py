"""quantize --scheme float32: recurrent layers call operators with a float32 kernel, and are the same nodes without."""

from itertools import product

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.networks import build, exported, operators, parsed, seeded, session_of
from support.onnx_files import FLOAT, H, I, both, feeds_of, gru_model, lstm_model, model, weights
from torch import nn

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.artifact import Artifact
from lstm_edge_exporters.functions import DOMAIN
from lstm_edge_exporters.quantize import Scheme, describe_parts, quantize, quantize_bytes
from lstm_edge_runtime.errors import CoverageError, QuantizationError
from lstm_edge_runtime.providers import open_session

FORMS = list(product(("forward", "reverse", "bidirectional"), *[(False, True)] * 4))
# The kernels' sums have another order than onnxruntime's, and other approximations of sigmoid and tanh; on outputs of
# order one (tests/kernels/test_float32.py).
KERNEL_CLOSE = 2e-6


def fused(data: bytes, **options) -> bytes:
    return quantize_bytes(data, scheme="float32", **options).data


def new_layers(artifact: Artifact) -> list[str]:
    """The operators of the card's layers that are ours."""
    return [layer.operator for layer in artifact.card.layers if layer.operator.startswith(f"{DOMAIN}::")]


def assert_same_answers(data: bytes, made: bytes) -> None:
    """Without kernels to the bit, with kernels up to the order of sums."""
    whole, got = both(data, made)
    assert whole.keys() == got.keys()
    for key in whole:
        np.testing.assert_array_equal(got[key], whole[key], strict=True)
    session = session_of(made)
    if session.kernels is None:
        return
    feeds = feeds_of(open_session(data))
    answers = session.onnxruntime_session.run(list(whole), feeds)
    for key, array in zip(whole, answers, strict=True):
        np.testing.assert_allclose(array, whole[key], rtol=0, atol=KERNEL_CLOSE, err_msg=key)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_of_an_lstm(form: tuple) -> None:
    direction, bias, lengths, state, peephole = form
    data = lstm_model(direction, bias=bias, lengths=lengths, state=state, peephole=peephole)
    made = fused(data)
    name = f"{DOMAIN}::Lstm{'Diagonal' * peephole}{'Ragged' * lengths}V2"
    assert operators(made) == [name if found == "LSTM" else found for found in operators(data)]
    onnx.checker.check_model(parsed(made), full_check=True)
    assert_same_answers(data, made)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("lengths", [False, True])
def test_every_form_of_a_gru(direction: str, after: int, lengths: bool) -> None:
    data = gru_model(direction, lengths=lengths, state=not lengths, linear_before_reset=after)
    made = fused(data)
    name = f"{DOMAIN}::Gru{'ResetAfter' * after}{'Ragged' * lengths}V1"
    assert operators(made).count(name) == 1
    assert_same_answers(data, made)


@pytest.mark.long
@pytest.mark.parametrize(("network", "lengths"), [("tagger", True), ("classifier", False), ("language-model", False)])
def test_networks_keep_their_graph_their_card_and_their_answers(network: str, lengths: bool) -> None:
    data = exported(network, lengths=lengths)
    artifact = quantize_bytes(data, scheme="float32")
    before, after = parsed(data).graph, parsed(artifact.data).graph
    assert [node.name for node in after.node] == [node.name for node in before.node]
    assert [node.op_type for node in before.node if node not in after.node] == ["LSTM"] * len(new_layers(artifact))
    old, new = session_of(data).card, artifact.card
    assert old is not None
    assert new.replace(layers=old.layers) == old  # not quantized, and as close to PyTorch as it was
    assert set(new_layers(artifact)) == {f"{DOMAIN}::Lstm{'Ragged' * lengths}V2"}
    assert artifact.data == fused(artifact.data)  # twice is once


def test_the_file_reads_as_the_one_it_was_made_from() -> None:
    module = seeded(nn.LSTM(6, 5, 2, bidirectional=True, batch_first=True))
    data = build(module, inputs=["x: float32[batch, time, 6]"]).data
    made = fused(data)
    for scheme in ("int8", "int4", "float16"):
        graphs = [parsed(quantize_bytes(source, scheme=scheme).data).graph for source in (made, data)]
        assert graphs[0] == graphs[1]
    assert describe_parts(made) == describe_parts(data)
    mixed = {f"{describe_parts(data)[0].layer}.R": Scheme(kind="int4", block=32)}
    graphs = [parsed(quantize_bytes(source, parts=mixed).data).graph for source in (made, data)]
    assert graphs[0] == graphs[1]
    plain = quantize_bytes(data, scheme="float32", plain=True).data
    assert operators(plain) == operators(data)
    assert not parsed(plain).functions
    assert_same_answers(data, plain)


def test_a_foreign_file_is_adopted_with_onnx_nodes() -> None:
    proto = parsed(fused(lstm_model("forward", state=True)))
    del proto.metadata_props[:]  # the card: a file that has one is not adopted
    adopted = adopt_bytes(proto.SerializeToString()).artifact.data
    assert "LSTM" in operators(adopted)
    assert f"{DOMAIN}::LstmV2" in operators(fused(adopted))


def test_the_table_and_the_report(tmp_path) -> None:
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    data = lstm_model("forward", bias=False)
    source.write_bytes(data)
    report = quantize(source, target, scheme="float32")
    (row,) = report.coverage
    assert (row.layer, row.operator, row.scheme) == ("rnn", "LSTM", f"float32: {DOMAIN}::LstmV2")
    assert row.bytes_after - row.bytes_before == 4 * 8 * H  # a bias of zeros, which the operator stores
    assert (report.scheme, report.max_abs_difference) == ("float32", 0.0)
    assert report.size_bytes == target.stat().st_size


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"clip": 3.0}, r"attribute clip \(3\.0\) has no float32 operator with a kernel"),
        ({"input_forget": 1}, "attribute input_forget has no float32 operator with a kernel"),
        ({"activations": ["Sigmoid", "Tanh", "Relu"]}, "attribute activations is Sigmoid, Tanh, Relu: only Sigmoid"),
    ],
)
def test_what_no_operator_expresses_is_refused(attributes: dict, sentence: str) -> None:
    data = lstm_model(**attributes)
    with pytest.raises(CoverageError, match=rf"^rnn \(LSTM\) stays float32: {sentence}"):
        fused(data)
    assert operators(fused(data, allow_unquantized=True)) == ["LSTM"]


def test_an_rnn_has_no_float32_kernel() -> None:
    data = build(seeded(nn.RNN(6, 5, batch_first=True)), inputs=["x: float32[batch, time, 6]"]).data
    with pytest.raises(CoverageError, match=r"stays float32: no float32 operator has a kernel for RNN"):
        fused(data)


def test_with_parts_only_these_change() -> None:
    module = nn.Sequential()
    module.add_module("rnn", nn.LSTM(6, 5, batch_first=True))
    data = build(seeded(module), inputs=["x: float32[batch, time, 6]"]).data
    (part,) = (part.layer for part in describe_parts(data))
    with pytest.raises(QuantizationError, match=r"^the request leaves every layer float32: nothing to quantize$"):
        quantize_bytes(data, scheme="float32", parts={part: Scheme(kind="float32")})


def test_weights_of_an_outer_graph_are_stored_where_the_node_is() -> None:
    """A kernel takes constants of its own graph alone; the node stands in a branch, its weights outside."""
    arrays = weights(1)
    del arrays["P"]
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["inner"], name="rnn", hidden_size=H, direction="forward")
    y = [helper.make_tensor_value_info("inner", FLOAT, ["time", 1, "batch", H])]
    other = helper.make_node("Mul", ["inner0", "two"], ["inner1"])
    first = helper.make_node("LSTM", ["x", "W", "R", "B"], ["inner0"], name="rnn", hidden_size=H, direction="forward")
    z = [helper.make_tensor_value_info("inner1", FLOAT, ["time", 1, "batch", H])]
    branches = {
        "then_branch": helper.make_graph([node], "then", [], y),
        "else_branch": helper.make_graph([first, other], "else", [], z),
    }
    choose = helper.make_node("If", ["flag"], ["Y"], name="choose", **branches)
    inputs = {"x": (FLOAT, ["time", "batch", I]), "flag": (onnx.TensorProto.BOOL, [])}
    data = model([choose], inputs, {"Y": ["time", 1, "batch", H]}, arrays | {"two": np.float32([2])})
    made = fused(data)
    x = np.random.default_rng(0).standard_normal((3, 2, I)).astype(np.float32)
    bodies, kernels = open_session(made), session_of(made).onnxruntime_session
    for flag in (True, False):
        feeds = {"x": x, "flag": np.array(flag)}
        (expected,) = open_session(data).run(None, feeds)
        np.testing.assert_array_equal(bodies.run(None, feeds)[0], expected)
        np.testing.assert_allclose(kernels.run(None, feeds)[0], expected, rtol=0, atol=KERNEL_CLOSE)


def test_weights_that_nodes_make_are_stored() -> None:
    arrays = weights(1)
    del arrays["P"]
    flat = arrays.pop("W")
    nodes = [helper.make_node("Unsqueeze", ["W0", "zero"], ["W"], name="make")]
    nodes.append(helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H))
    inputs = {"x": (FLOAT, ["time", "batch", I])}
    data = model(nodes, inputs, {"Y": ["time", 1, "batch", H]}, arrays | {"W0": flat[0], "zero": np.array([0])})
    made = fused(data)
    assert operators(made) == [f"{DOMAIN}::LstmV2"]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in parsed(made).graph.initializer}
    np.testing.assert_array_equal(stored["rnn.W"], flat)
    assert_same_answers(data, made)
