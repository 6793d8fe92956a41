"""Quantization of ONNX's GRU: every form of the node is honoured, or refused by name; a row sees nothing but itself."""

from itertools import product

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from support.networks import build, operators, parsed, seeded, snr_db
from support.onnx_files import FLIP, FLOAT, B, H, I, assert_close_int8, both, feeds_of, gru_model, gru_weights, model

from lstm_edge_exporters.functions import GruVariant
from lstm_edge_exporters.functions import simulation as numpy_model
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.quantize.gru import gru_operator_weights
from lstm_edge_exporters.quantize.rounding import Scheme, round_matrix
from lstm_edge_runtime.errors import ArtifactError, CoverageError, QuantizationError
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session


def turned(x: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """x [T, B, F] backwards in time, each row up to its length."""
    result = x.copy()
    for row in range(x.shape[1]):
        steps = x.shape[0] if rows is None else rows[row]
        result[:steps, row] = x[:steps, row][::-1]
    return result


def composed(data: bytes, feeds: dict[str, np.ndarray], scheme: Scheme) -> dict[str, np.ndarray]:
    """What the operators' NumPy model answers, a direction at a time, for the file's one GRU node."""
    proto = parsed(data)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    attributes = {a.name: helper.get_attribute_value(a) for a in proto.graph.node[0].attribute}
    backward = {b"forward": (False,), b"reverse": (True,), b"bidirectional": (False, True)}[attributes["direction"]]
    after = bool(attributes.get("linear_before_reset", 0))
    variant = GruVariant(reset_after=after, ragged="rows" in feeds, storage=scheme.kind)
    rows = feeds["rows"].astype(np.int64) if "rows" in feeds else None
    ys, hs = [], []
    for side, reverse in enumerate(backward):
        bias = arrays["B"][side] if "B" in arrays else np.zeros(6 * H, np.float32)
        rounded: dict[str, np.ndarray] = {}
        stored = {"W": arrays["W"][side], "R": arrays["R"][side], "B": bias}
        floats = gru_operator_weights(stored, reset_after=after)
        for name, array in floats.items():
            parts = round_matrix(name, array, scheme) if variant.is_quantized(name) else {"": array}
            rounded |= {f"{name}{suffix}": part for suffix, part in parts.items()}
        h = feeds["h0"][side : side + 1] if "h0" in feeds else np.zeros((1, B, H), np.float32)
        y, h = numpy_model.gru(variant, turned(feeds["x"], rows) if reverse else feeds["x"], h, rounded, rows)
        ys.append(turned(y, rows) if reverse else y)
        hs.append(h)
    return {"Y": np.stack(ys, axis=1), "Y_h": np.concatenate(hs)}


FORMS = list(product(("forward", "reverse", "bidirectional"), *[(False, True)] * 4))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "int4:32"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_of_the_node(form: tuple, kind: str) -> None:
    direction, bias, lengths, state, after = form
    data = gru_model(direction, bias=bias, lengths=lengths, state=state, linear_before_reset=int(after))
    artifact = quantize_bytes(data, scheme=kind)
    assert artifact.card.quantization is not None
    (row,) = artifact.card.quantization.coverage
    scheme = Scheme.parse(kind)
    assert (row.layer, row.operator, row.scheme) == ("rnn", "GRU", str(scheme))
    assert row.bytes_before == 4 * 3 * H * (I + H + 2 * bias) * (2 if direction == "bidirectional" else 1)
    name = f"lstm_edge::Gru{'ResetAfter' * after}{'Ragged' * lengths}{kind.partition(':')[0].capitalize()}V1"
    found = operators(artifact.data)
    assert "GRU" not in found
    assert found.count(name) == (2 if direction == "bidirectional" else 1)
    onnx.checker.check_model(parsed(artifact.data), full_check=True)
    if kind == "int8":
        assert_close_int8(data, artifact.data)
    expected = composed(data, feeds_of(open_session(data)), scheme)
    _, got = both(data, artifact.data)
    assert set(got) == {"Y", "Y_h"}
    for key, array in got.items():
        off = np.abs(array - expected[key])
        assert np.median(off) < 1e-6
        assert off.max() < FLIP


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("after", [0, 1])
def test_the_other_form_of_the_reset_gate_would_not_pass(direction: str, after: int) -> None:
    """What is compared above depends on linear_before_reset: the other value is seen."""
    data = gru_model(direction, linear_before_reset=after)
    other = gru_model(direction, linear_before_reset=1 - after)
    whole, _ = both(data, data)
    _, got = both(other, quantize_bytes(other).data)
    assert snr_db(whole["Y"], got["Y"]) < 25


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("outputs", [("Y",), ("Y_h",)], ids=str)
def test_any_combination_of_outputs(outputs: tuple[str, ...], direction: str) -> None:
    data = gru_model(direction, outputs=outputs, state=True)
    assert_close_int8(data, quantize_bytes(data).data)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_squeeze_behind_the_node_is_taken_in(direction: str) -> None:
    data = gru_model(direction, squeeze=True)
    artifact = quantize_bytes(data)
    assert not {"Squeeze", "Unsqueeze"} & set(operators(artifact.data))
    assert_close_int8(data, artifact.data)


REFUSED = {
    "clip": ({"clip": 3.0}, "attribute clip (3.0) has no int8 form"),
    "activations": (
        {"activations": ["Sigmoid", "Relu"]},
        "attribute activations is Sigmoid, Relu: only Sigmoid, Tanh",
    ),
    "hard-sigmoid": (
        {"activations": ["HardSigmoid", "Tanh"], "activation_alpha": [0.2], "activation_beta": [0.5]},
        "attribute activations is HardSigmoid, Tanh: only Sigmoid, Tanh",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_attributes_without_an_int8_form_are_refused_by_name(name: str) -> None:
    attributes, sentence = REFUSED[name]
    data = gru_model(**attributes)
    with pytest.raises(CoverageError) as caught:
        quantize_bytes(data)
    assert str(caught.value) == (
        f"rnn (GRU) stays float32: {sentence}. Nothing was written; --allow-unquantized accepts that"
    )
    artifact = quantize_bytes(data, allow_unquantized=True)
    assert artifact.card.quantization is not None
    row = artifact.card.quantization.coverage[0]
    assert (row.layer, row.scheme) == ("rnn", f"float32: {sentence}")
    assert row.bytes_before == row.bytes_after == 4 * 3 * H * (I + H + 2)
    assert operators(artifact.data) == ["GRU"]
    whole, got = both(data, artifact.data)
    for key in whole:
        np.testing.assert_array_equal(got[key], whole[key])


def test_layout_1_is_refused() -> None:
    """onnxruntime does not open it; the sentence comes from there, or from the quantizer."""
    arrays = gru_weights(1)
    node = helper.make_node("GRU", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H, layout=1)
    data = model([node], {"x": (FLOAT, ["batch", "time", I])}, {"Y": ["batch", "time", 1, H]}, arrays)
    with pytest.raises((ArtifactError, CoverageError), match=r"layout|Batchwise"):
        quantize_bytes(data)


def test_default_attributes_spelt_out_are_honoured() -> None:
    data = gru_model("bidirectional", activations=["sigmoid", "TANH"] * 2, linear_before_reset=0, layout=0)
    assert_close_int8(data, quantize_bytes(data).data)


@pytest.mark.parametrize("name", ["W", "R", "B"])
@pytest.mark.parametrize("how", ["input", "overridable"])
def test_weights_that_are_not_constant_are_refused_by_name(name: str, how: str) -> None:
    arrays = gru_weights(1)
    inputs = {"x": (FLOAT, ["time", "batch", I]), name: (FLOAT, list(arrays[name].shape))}
    if how == "input":
        del arrays[name]
    node = helper.make_node("GRU", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H)
    data = model([node], inputs, {"Y": ["time", 1, "batch", H]}, arrays)
    with pytest.raises(CoverageError, match=rf"^rnn \(GRU\) stays float32: input {name} is not constant\. Nothing"):
        quantize_bytes(data)


def test_weights_that_are_not_finite_are_refused() -> None:
    arrays = gru_weights(1)
    arrays["R"][0, 3, 1] = np.nan
    node = helper.make_node("GRU", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H)
    data = model([node], {"x": (FLOAT, ["time", "batch", I])}, {"Y": ["time", 1, "batch", H]}, arrays)
    with pytest.raises(QuantizationError, match=r"^rnn\.r: the weight holds NaN or infinity$"):
        quantize_bytes(data)


def test_a_quantized_gru_is_not_quantized_again() -> None:
    with pytest.raises(QuantizationError, match=r"^the model is quantized already \(int8\)"):
        quantize_bytes(quantize_bytes(gru_model()).data)


@pytest.mark.slow
def test_torchs_own_exporter() -> None:
    """Two layers with their weights as PyTorch 2.13 leaves them; both are found, and the file is a quarter."""
    torch.manual_seed(0)
    module = torch.nn.GRU(64, 128, 2).eval()
    program = torch.onnx.export(module, (torch.randn(7, 2, 64),), dynamo=True, verbose=False)
    assert program is not None
    data = program.model_proto.SerializeToString()
    assert operators(data).count("GRU") == 2
    artifact = quantize_bytes(data)
    assert artifact.card.quantization is not None
    assert [row.scheme for row in artifact.card.quantization.coverage] == ["int8", "int8"]
    assert operators(artifact.data).count("lstm_edge::GruResetAfterInt8V1") == 2
    for row in artifact.card.quantization.coverage:
        assert row.bytes_after <= 0.27 * row.bytes_before
    session, int8 = open_session(data), open_session(artifact.data)
    x = np.random.default_rng(0).standard_normal((7, 2, 64)).astype(np.float32)
    feeds = {session.get_inputs()[0].name: x}
    for whole, got in zip(session.run(None, feeds), int8.run(None, feeds), strict=True):
        assert snr_db(whole, got) > 36  # 40 dB is seen


class Gru(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(I, H, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gru(x)[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_an_exported_gru_has_its_modules_name_and_its_new_operator_in_the_card(kind: str) -> None:
    module = seeded(Gru())
    card = quantize_bytes(build(module, None, inputs=[f"x: float32[time, batch, {I}]"]).data, scheme=kind).card
    assert card.quantization is not None
    assert [row.layer for row in card.quantization.coverage] == ["gru.0", "gru.1"]
    operator = f"lstm_edge::GruResetAfterInt{kind[-1]}V1"
    assert [layer.operator for layer in card.layers] == [operator, operator]


def test_the_file_carries_golden_vectors_that_its_self_test_reads() -> None:
    session = Session(quantize_bytes(gru_model(state=True, linear_before_reset=1)).data, kernels="off")
    assert session.verified
    assert session.operators == 1
    assert self_test(session).passed


def independence_file(kind: str, after: int) -> bytes:
    """Wide enough for onnxruntime to split the work over threads."""
    data = gru_model(state=True, inputs=48, hidden=256, linear_before_reset=after)
    return quantize_bytes(data, scheme=kind).data


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("kind", ["int8", "int4:32"])
def test_a_row_does_not_depend_on_batch_chunks_or_threads(kind: str, after: int) -> None:
    data, time, batch = independence_file(kind, after), 9, 16
    session = open_session(data)
    feeds = feeds_of(session, batch=batch, time=time)
    feeds["x"][:, 1:] *= 8
    y, h = session.run(["Y", "Y_h"], feeds)
    assert not np.array_equal(y[:, :, 0], y[:, :, 1])
    for row in (0, 11):
        alone = {name: np.ascontiguousarray(array[:, row : row + 1]) for name, array in feeds.items()}
        single, last = session.run(["Y", "Y_h"], alone)
        np.testing.assert_array_equal(single[:, :, 0], y[:, :, row])
        np.testing.assert_array_equal(last[:, 0], h[:, row])
    for steps in (1, 2, 7):
        state, pieces = feeds["h0"], []
        for start in range(0, time, steps):
            piece, state = session.run(["Y", "Y_h"], {"x": feeds["x"][start : start + steps], "h0": state})
            pieces.append(piece)
        np.testing.assert_array_equal(np.concatenate(pieces), y)
        np.testing.assert_array_equal(state, h)
    for got, want in zip(open_session(data, threads=2).run(["Y", "Y_h"], feeds), (y, h), strict=True):
        np.testing.assert_array_equal(got, want)
