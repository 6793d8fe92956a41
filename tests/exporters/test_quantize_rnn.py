"""Quantization of ONNX's RNN: tanh and relu, every direction, lengths, states; or refused by name; export to int8."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from support.networks import build, operators, seeded, snr_db
from support.onnx_files import H, I, assert_close_int8, both, gru_model

from lstm_edge_exporters.adopt import adopt
from lstm_edge_exporters.functions.simulation import quantize_rows
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.quantize.calibration import collect
from lstm_edge_runtime.errors import CoverageError
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session


def rnn_model(direction: str = "forward", activation: str = "", **options: Any) -> bytes:
    if activation:
        options["activations"] = [activation] * (2 if direction == "bidirectional" else 1)
    return gru_model(direction, operator="RNN", **options)


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("activation", ["", "Tanh", "Relu"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_every_form_of_the_node(direction: str, activation: str, kind: str) -> None:
    relu = activation == "Relu"
    for bias, lengths, state in ((True, False, False), (False, True, True)):
        data = rnn_model(direction, activation, bias=bias, lengths=lengths, state=state)
        artifact = quantize_bytes(data, scheme=kind)
        assert artifact.card.quantization is not None
        (row,) = artifact.card.quantization.coverage
        sides = 2 if direction == "bidirectional" else 1
        assert (row.layer, row.operator) == ("rnn", "RNN")
        assert row.bytes_before == 4 * H * (I + H + 2 * bias) * sides
        name = f"lstm_edge::Rnn{'Relu' * relu}{'Ragged' * lengths}{kind.capitalize()}V1"
        assert operators(artifact.data).count(name) == sides
        if kind == "int8":
            assert_close_int8(data, artifact.data)


REFUSED = {
    "clip": ({"clip": 3.0}, "attribute clip (3.0) has no int8 form"),
    "sigmoid": (
        {"activations": ["Sigmoid"]},
        "attribute activations is Sigmoid: only Tanh or Relu, the same for all directions",
    ),
    "two": (
        {"direction": "bidirectional", "activations": ["Tanh", "Relu"]},
        "attribute activations is Tanh, Relu: only Tanh or Relu, the same for all directions",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_attributes_without_an_int8_form_are_refused_by_name(name: str) -> None:
    attributes, sentence = REFUSED[name]
    data = gru_model(operator="RNN", **attributes)
    with pytest.raises(CoverageError) as caught:
        quantize_bytes(data)
    assert sentence in str(caught.value)
    artifact = quantize_bytes(data, allow_unquantized=True)
    whole, got = both(data, artifact.data)
    for key in whole:
        np.testing.assert_array_equal(got[key], whole[key])


class Tagger(torch.nn.Module):
    def __init__(self, nonlinearity: str) -> None:
        super().__init__()
        self.rnn = torch.nn.RNN(12, 40, 2, batch_first=True, nonlinearity=nonlinearity)
        self.head = torch.nn.Linear(40, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0])


@pytest.mark.slow
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_an_exported_rnn_is_quantized_calibrated_and_streamed(nonlinearity: str) -> None:
    parent = build(seeded(Tagger(nonlinearity)), None, inputs=["x: float32[batch, time, 12]"], lengths=True)
    x = np.random.default_rng(0).standard_normal((4, 30, 12)).astype(np.float32)
    whole = Session(parent.data, kernels="off").run({"x": x})[0]["output"]
    for kind, least in (("int8", 25), ("int4", 6)):
        artifact = quantize_bytes(parent.data, scheme=kind)
        operator = f"lstm_edge::Rnn{'Relu' * (nonlinearity == 'relu')}RaggedInt{kind[-1]}V1"
        assert [layer.operator for layer in artifact.card.layers] == [operator] * 2
        assert [layer.activation for layer in artifact.card.layers] == [nonlinearity] * 2
        session = Session(artifact.data, kernels="off")
        assert self_test(session).passed
        got = session.run({"x": x})[0]["output"]
        assert snr_db(whole, got) > least
        state, pieces = None, []
        for start, stop in ((0, 1), (1, 7), (7, 30)):
            piece, state = session.run({"x": x[:, start:stop]}, state)
            pieces.append(piece["output"])
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1), got)


@pytest.mark.parametrize("activation", ["Tanh", "Relu"])
def test_a_foreign_rnn_is_adopted_with_a_state_described_and_streamed(activation: str, tmp_path: Path) -> None:
    source, target = tmp_path / "rnn.onnx", tmp_path / "adopted.onnx"
    source.write_bytes(rnn_model("forward", activation, squeeze=True, outputs=("Y",)))
    report = adopt(source, target, stateful=True)
    (layer,) = report.card.layers
    assert (layer.cell, layer.activation, layer.operator) == ("rnn", activation.lower(), "RNN")
    assert [state.input for state in report.card.states] == ["rnn.h"]
    assert report.card.streaming.verdict == "every-step"
    assert not any("rnn" in said for said in report.card.undetermined)
    session, x = Session(target), np.random.default_rng(0).standard_normal((9, 2, I)).astype(np.float32)
    whole, _ = session.run({"x": x})
    first, state = session.run({"x": x[:4]})
    second, _ = session.run({"x": x[4:]}, state)
    (name,) = whole
    np.testing.assert_allclose(np.concatenate([first[name], second[name]]), whole[name], atol=1e-6, rtol=0)


def test_an_rnn_with_a_clip_is_no_cell_that_the_card_describes(tmp_path: Path) -> None:
    source = tmp_path / "rnn.onnx"
    source.write_bytes(rnn_model(clip=0.5))
    report = adopt(source, tmp_path / "adopted.onnx")
    assert not report.card.layers
    assert any("has a clip, or activations other than one Tanh or Relu" in said for said in report.card.undetermined)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["Tanh", "Relu"])
def test_calibration_sees_the_states_before_each_step_of_both_directions(activation: str) -> None:
    data = rnn_model("bidirectional", activation, state=True, outputs=("Y_h",))
    arrays = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(data).graph.initializer}
    rng = np.random.default_rng(1)
    x, h0 = rng.standard_normal((40, 3, I)).astype(np.float32), rng.uniform(-0.9, 0.9, (2, 3, H)).astype(np.float32)
    squash = np.tanh if activation == "Tanh" else lambda a: np.maximum(a, 0)
    grams = collect(data, [{"x": x, "h0": h0}]).grams
    for side, name in enumerate(("rnn", "rnn_reverse")):
        h, before = h0[side], []
        for t in range(40) if side == 0 else reversed(range(40)):
            before.append(h)
            a = x[t] @ arrays["W"][side].T + h @ arrays["R"][side].T + arrays["B"][side].reshape(2, -1).sum(0)
            h = squash(a).astype(np.float32)
        for matrix, rows in (("w", x.reshape(-1, I)), ("r", np.concatenate(before))):
            q, s = quantize_rows(rows)
            seen = q * s.astype(np.float64)
            expected = seen.T @ seen
            np.testing.assert_allclose(grams[f"{name}.{matrix}"], expected, atol=0.02 * np.abs(expected).max())
