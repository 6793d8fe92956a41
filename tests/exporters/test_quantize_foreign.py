"""Quantization of other tools' files: weights behind nodes, branches, functions, later opsets, linear layers."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from support.networks import operators, parsed, snr_db
from support.onnx_files import (
    FLOAT,
    LEAST_SNR_DB,
    H,
    I,
    assert_close_int8,
    both,
    feeds_of,
    lstm_model,
    model,
    weights,
)

from lstm_edge_exporters.quantize import quantize, quantize_bytes
from lstm_edge_runtime.errors import ArtifactError, CoverageError, LstmEdgeError, QuantizationError
from lstm_edge_runtime.function_check import check_functions
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.session import Session


def test_weights_behind_other_nodes() -> None:
    """As exporters leave them: Slice, Concat, Transpose, Unsqueeze, Squeeze, Constant."""
    arrays = weights(1)
    w, r, b = arrays["W"], arrays["R"], arrays["B"]
    stored = {
        "w_top": w[0, : 2 * H],
        "w_rest": np.concatenate([w[0, 2 * H :], w[0]]),
        "r_turned": np.ascontiguousarray(r[0].T),
        "zero": np.array([0]),
        "stop": np.array([2 * H]),
        "axis": np.array([0]),
    }
    nodes = [
        helper.make_node("Slice", ["w_rest", "zero", "stop", "axis"], ["w_low"], name="slice"),
        helper.make_node("Concat", ["w_top", "w_low"], ["w_flat"], name="concat", axis=0),
        helper.make_node("Unsqueeze", ["w_flat", "axis"], ["W"], name="unsqueeze"),
        helper.make_node("Transpose", ["r_turned"], ["r_flat"], name="transpose", perm=[1, 0]),
        helper.make_node("Unsqueeze", ["r_flat", "axis"], ["R"], name="unsqueeze_2"),
        helper.make_node("Constant", [], ["B"], name="constant", value=numpy_helper.from_array(b, "b")),
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y", "", "Y_c"], name="rnn", hidden_size=H),
    ]
    outputs = {"Y": ["time", 1, "batch", H], "Y_c": [1, "batch", H]}
    data = model(nodes, {"x": (FLOAT, ["time", "batch", I])}, outputs, stored)
    artifact = quantize_bytes(data)
    assert_close_int8(data, artifact.data)
    # What computed the weights is gone with them.
    assert not {"Concat", "Constant", "Slice"} & {op for op in operators(artifact.data) if op != "Concat"}
    assert not {"w_top", "w_rest", "r_turned"} & {tensor.name for tensor in parsed(artifact.data).graph.initializer}


@pytest.mark.slow
def test_torchs_own_exporter() -> None:
    """From hidden 64 on it leaves weights behind Slice and Concat nodes, and other tools quantize nothing."""
    torch.manual_seed(0)
    module = torch.nn.LSTM(16, 64, 2).eval()
    program = torch.onnx.export(module, (torch.randn(7, 2, 16),), dynamo=True, verbose=False)
    assert program is not None
    data = program.model_proto.SerializeToString()
    assert operators(data).count("LSTM") == 2
    artifact = quantize_bytes(data)
    assert artifact.card.quantization is not None
    assert [row.scheme for row in artifact.card.quantization.coverage] == ["int8", "int8"]
    assert "LSTM" not in operators(artifact.data)
    session, int8 = open_session(data), open_session(artifact.data)
    x = np.random.default_rng(0).standard_normal((7, 2, 16)).astype(np.float32)
    feeds = {session.get_inputs()[0].name: x}
    for whole, got in zip(session.run(None, feeds), int8.run(None, feeds), strict=True):
        assert snr_db(whole, got) > LEAST_SNR_DB
    assert len(artifact.data) < 0.45 * len(data)


def branches(inner: list[onnx.NodeProto]) -> tuple[onnx.GraphProto, onnx.GraphProto]:
    """The two bodies of an If: these nodes, with the weights outside or inside, and an echo of the first state."""
    then = helper.make_graph(inner, "then", [], [helper.make_tensor_value_info("taken", FLOAT, [1, "batch", H])])
    other = helper.make_graph(
        [helper.make_node("Identity", ["h0"], ["echo"], name="echo")],
        "else",
        [],
        [helper.make_tensor_value_info("echo", FLOAT, [1, "batch", H])],
    )
    return then, other


@pytest.mark.parametrize("where", ["outer-initializers", "inner-constants"])
def test_a_layer_inside_a_branch(where: str) -> None:
    arrays = weights(1)
    del arrays["P"]
    inner = [helper.make_node("LSTM", ["x", "W", "R", "B", "", "h0"], ["", "taken"], name="rnn", hidden_size=H)]
    if where == "inner-constants":
        constants = []
        for name, array in arrays.items():
            constants.append(
                helper.make_node("Constant", [], [f"{name}0"], name=name, value=numpy_helper.from_array(array[0], name))
            )
            constants.append(helper.make_node("Unsqueeze", [f"{name}0", "axis"], [name], name=f"{name}_up"))
        inner = constants + inner
        arrays = {"axis": np.array([0])}
    then, other = branches(inner)
    node = helper.make_node("If", ["choose"], ["out"], name="if", then_branch=then, else_branch=other)
    inputs = {
        "choose": (TensorProto.BOOL, []),
        "x": (FLOAT, ["time", "batch", I]),
        "h0": (FLOAT, [1, "batch", H]),
    }
    data = model([node], inputs, {"out": [1, "batch", H]}, arrays)
    artifact = quantize_bytes(data)
    assert artifact.card.quantization is not None
    assert [(row.layer, row.scheme) for row in artifact.card.quantization.coverage] == [("rnn", "int8")]
    assert b"\x04LSTM" not in artifact.data  # no node of that operator is left in any nested graph
    assert_close_int8(data, artifact.data)


def test_a_layer_inside_a_local_function_is_refused_by_name() -> None:
    text = f"""<domain: "other", opset_import: ["" : 18]>
    Layer (x, w, r) => (y) {{ y = LSTM <hidden_size = {H}> (x, w, r) }}"""
    arrays = {name: weights(1)[name] for name in ("W", "R")}
    node = helper.make_node("Layer", ["x", "W", "R"], ["Y"], domain="other", name="call")
    data = model(
        [node],
        {"x": (FLOAT, ["time", "batch", I])},
        {"Y": ["time", 1, "batch", H]},
        arrays,
        functions=[onnx.parser.parse_function(text)],
    )
    with pytest.raises(CoverageError, match=r"^Layer/.* \(LSTM\) stays float32: it stands inside a local function\. "):
        quantize_bytes(data)


@pytest.mark.parametrize("opset", [18, 19, 20, 21, 22])
def test_later_opsets_get_functions_of_their_own_opset(opset: int) -> None:
    arrays = weights(1)
    del arrays["P"]
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H)
    data = model([node], {"x": (FLOAT, ["time", "batch", I])}, {"Y": ["time", 1, "batch", H]}, arrays, opset=opset)
    artifact = quantize_bytes(data)
    function = parsed(artifact.data).functions[0]
    assert [(entry.domain, entry.version) for entry in function.opset_import] == [("", opset)]
    onnx.checker.check_model(parsed(artifact.data), full_check=True)
    assert_close_int8(data, artifact.data)
    # The device compares the body with the one of opset 18; another body is refused in any opset.
    check_functions(artifact.data)
    proto = parsed(artifact.data)
    next(node for node in proto.functions[0].node if node.op_type == "Add").op_type = "Sub"
    with pytest.raises(ArtifactError, match="body of lstm_edge::LstmInt8V1 differs from docs"):
        check_functions(proto.SerializeToString(deterministic=True))


def test_an_older_opset_is_refused() -> None:
    arrays = weights(1)
    del arrays["P"]
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H)
    data = model([node], {"x": (FLOAT, ["time", "batch", I])}, {"Y": ["time", 1, "batch", H]}, arrays, opset=17)
    with pytest.raises(QuantizationError) as caught:
        quantize_bytes(data)
    assert str(caught.value) == (
        "the model has opset 17, quantization needs 18: adopt it first, with lstm-edge adopt IN.onnx -o OUT.onnx"
    )


def test_external_data_is_refused() -> None:
    proto = parsed(lstm_model())
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    with pytest.raises(ArtifactError) as caught:
        quantize_bytes(proto.SerializeToString())
    assert str(caught.value) == "weight 'W' is stored in another file: load and save the model as one file first"


def saved_in_two(folder: Path) -> Path:
    """A model with its weights in a file beside it, as ``torch.onnx.export`` leaves it."""
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(parsed(lstm_model()), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (folder / "weights.bin").stat().st_size > path.stat().st_size / 10
    return path


def test_weights_in_a_file_beside_the_model_are_read_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved_in_two(tmp_path / "two")
    before = {path.name: hashlib.sha256(path.read_bytes()).digest() for path in source.parent.iterdir()}
    (tmp_path / "weights.bin").write_bytes(bytes(10_000))
    monkeypatch.chdir(tmp_path)  # where onnxruntime would look for weights.bin
    quantize(source, "out.onnx")
    two, one = both(Path("out.onnx").read_bytes(), quantize_bytes(lstm_model()).data)
    for name, expected in one.items():
        np.testing.assert_array_equal(two[name], expected)
    assert {path.name: hashlib.sha256(path.read_bytes()).digest() for path in source.parent.iterdir()} == before


@pytest.mark.parametrize("location", ["nowhere.bin", "../secret.bin"])
def test_weights_that_cannot_be_read_are_refused(location: str, tmp_path: Path) -> None:
    source = saved_in_two(tmp_path / "two")
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))
    proto = onnx.load(source, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    source.write_bytes(proto.SerializeToString())
    with pytest.raises(ArtifactError, match=r"^the weights in external files cannot be read: .*bin"):
        quantize(source, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_session_never_takes_weights_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved_in_two(tmp_path / "two")
    (tmp_path / "weights.bin").write_bytes(bytes(10_000))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=r"model\.onnx: its weights lie in another file: make it one file first"):
        Session(source)


def test_weights_that_are_not_finite_are_refused_without_a_warning(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    proto = parsed(lstm_model())
    for tensor in proto.graph.initializer:
        if tensor.name == "B":
            array = numpy_helper.to_array(tensor).copy()
            array[:, : 4 * H], array[:, 4 * H :] = np.inf, -np.inf
            tensor.CopyFrom(numpy_helper.from_array(array, "B"))
    with pytest.raises(LstmEdgeError):
        quantize_bytes(proto.SerializeToString())
    assert not recwarn.list
    assert capfd.readouterr().err == ""


def test_a_torn_graph_is_refused_without_a_warning(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    proto = parsed(lstm_model())
    proto.graph.node[0].input[1] = "lost"
    proto.graph.output[0].name = "nobody"
    with pytest.raises(ArtifactError, match="onnxruntime cannot read the model"):
        quantize_bytes(proto.SerializeToString())
    assert caplog.messages == []
    assert capfd.readouterr().err == ""


def test_nothing_to_quantize_is_refused() -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    data = model([node], {"x": (FLOAT, ["batch", 3])}, {"y": ["batch", 3]}, {})
    with pytest.raises(QuantizationError, match="no float32 recurrent, linear or embedding layer: nothing to quantize"):
        quantize_bytes(data)


def test_weights_of_wrong_shapes_are_refused_in_a_sentence() -> None:
    sentences = r"input [WRBP] is float32 \[|onnxruntime cannot read|does not run on random"
    # onnxruntime refuses some of them when the file is opened, the quantizer names the rest.
    for name, shape in (("R", (1, 4 * H, H + 1)), ("B", (1, 4 * H)), ("P", (1, H)), ("W", (4 * H, I))):
        arrays = weights(1) | {name: np.zeros(shape, np.float32)}
        node = helper.make_node("LSTM", ["x", "W", "R", "B", "", "", "", "P"], ["Y"], name="rnn", hidden_size=H)
        data = model([node], {"x": (FLOAT, ["time", "batch", I])}, {"Y": ["time", 1, "batch", H]}, arrays)
        with pytest.raises(LstmEdgeError, match=sentences):
            quantize_bytes(data)


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 1.0, "beta": 1.0}], ids=str)
@pytest.mark.parametrize("bias", ["none", "vector", "row"])
def test_gemm(attributes: dict, bias: str) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((7, 5)).astype(np.float32)
    arrays = {"W": weight.T.copy() if "transB" in attributes else weight}
    if bias != "none":
        arrays["C"] = rng.standard_normal((5,) if bias == "vector" else (1, 5)).astype(np.float32)
    node = helper.make_node("Gemm", ["x", *arrays], ["y"], name="dense", **attributes)
    data = model([node], {"x": (FLOAT, ["batch", 7])}, {"y": ["batch", 5]}, arrays)
    artifact = quantize_bytes(data)
    assert operators(artifact.data) == ["lstm_edge::LinearInt8V1"]
    assert_close_int8(data, artifact.data)


@pytest.mark.parametrize(("name", "value"), [("alpha", 0.5), ("beta", 2.0), ("transA", 1)])
def test_gemm_that_scales_or_transposes_stays_float32_and_is_listed(name: str, value: float) -> None:
    arrays = {"W": np.eye(7, 5, dtype=np.float32), "C": np.ones(5, np.float32)}
    node = helper.make_node("Gemm", ["x", "W", "C"], ["y"], name="dense", **{name: value})
    axes = [7, "batch"] if name == "transA" else ["batch", 7]
    data = model([node], {"x": (FLOAT, axes)}, {"y": ["batch", 5]}, arrays)
    artifact = quantize_bytes(data)
    assert artifact.card.quantization is not None
    assert artifact.card.quantization.coverage[0].scheme == f"float32: attribute {name} of Gemm is {value}"


@pytest.mark.parametrize("bias", ["none", "after", "before", "shared", "matrix"])
def test_matmul_and_what_follows_it(bias: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {"W": rng.standard_normal((7, 5)).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "W"], ["z"], name="head/MatMul")]
    outputs = {"z": ["batch", "time", 5]}
    if bias != "none":
        arrays["b"] = rng.standard_normal((1, 5) if bias == "matrix" else 5).astype(np.float32)
        nodes.append(helper.make_node("Add", ["b", "z"] if bias == "before" else ["z", "b"], ["y"], name="head/Add"))
        outputs = {"y": ["batch", "time", 5]} | ({"z": ["batch", "time", 5]} if bias == "shared" else {})
    data = model(nodes, {"x": (FLOAT, ["batch", "time", 7])}, outputs, arrays)
    artifact = quantize_bytes(data)
    expected = ["lstm_edge::LinearInt8V1"] + (["Add"] if bias in ("shared", "matrix") else [])
    assert operators(artifact.data) == expected
    assert_close_int8(data, artifact.data)


def test_at_least_as_good_as_onnxruntimes_own_int8_lstm(tmp_path) -> None:
    """DynamicQuantizeLSTM shares one activation scale over all rows and steps: 36.3 dB where ours had 39.8."""
    hidden, inputs = 128, 64
    arrays = weights(1, inputs=inputs, hidden=hidden)
    del arrays["P"]
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=hidden)
    data = model([node], {"x": (FLOAT, ["time", "batch", inputs])}, {"Y": ["time", 1, "batch", hidden]}, arrays)
    (tmp_path / "float.onnx").write_bytes(data)
    quantize_dynamic(
        tmp_path / "float.onnx",
        tmp_path / "theirs.onnx",
        op_types_to_quantize=["LSTM"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    theirs = (tmp_path / "theirs.onnx").read_bytes()
    assert "com.microsoft::DynamicQuantizeLSTM" in operators(theirs)
    session = open_session(data)
    feeds = feeds_of(session, batch=8, time=40)
    whole = session.run(None, feeds)[0]
    ratios = [snr_db(whole, open_session(other).run(None, feeds)[0]) for other in (quantize_bytes(data).data, theirs)]
    assert ratios[0] >= ratios[1]
    assert ratios[0] > 36
