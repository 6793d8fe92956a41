"""Files as torch's own exporters and onnxruntime's own quantizer write them: adopted, made stateful, quantized."""

import logging
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic
from torch import nn

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.verify.compare import CLOSE, STREAM, assert_close
from lstm_edge_runtime.card import BATCH, TIME
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

I, H, K = 5, 72, 4  # noqa: E741  # hidden over 64: torch leaves the weights behind Slice, Concat and Unsqueeze
STEPS, ROWS = 9, 3


class Tagger(nn.Module):
    """Two layers and a linear one: x [batch, time, 5] to logits [batch, time, 4]."""

    def __init__(self, cell):
        super().__init__()
        self.rnn = cell(I, H, num_layers=2, batch_first=True)
        self.head = nn.Linear(H, K)

    def forward(self, x):
        """Start from the hidden zero state."""
        return self.head(self.rnn(x)[0])


def write_with_torch(cell, path, *, dynamo):
    torch.manual_seed(7)
    module = Tagger(cell).eval()
    x = torch.randn(2, 6, I)
    if dynamo:
        axes = ({0: torch.export.Dim("rows"), 1: torch.export.Dim("n")},)
        options = {"dynamo": True, "dynamic_shapes": axes, "verbose": False}
    else:
        options = {"dynamo": False, "dynamic_axes": {"x": {0: "rows", 1: "n"}, "y": {0: "rows", 1: "n"}}}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own: deprecations, and batch sizes other than 1 with a zero state
        torch.onnx.export(module, (x,), path, input_names=["x"], output_names=["y"], external_data=False, **options)
    return module


@pytest.fixture(scope="module", params=["LSTM-dynamo", "LSTM-legacy", "GRU-dynamo", "GRU-legacy"])
def exported(request, tmp_path_factory):
    name, kind = request.param.split("-")
    path = tmp_path_factory.mktemp("torch") / "in.onnx"
    module = write_with_torch(getattr(nn, name), path, dynamo=kind == "dynamo")
    return name, kind, module, path


def example():
    return np.random.default_rng(3).standard_normal((ROWS, STEPS, I)).astype(np.float32)


def chunked(session, x, cuts=(1, 4, 4)):
    stream, start, pieces = session.stream(len(x)), 0, []
    for steps in cuts:
        pieces.append(stream.push(np.ascontiguousarray(x[:, start : start + steps])))
        start += steps
    return np.concatenate(pieces, axis=1)


def test_what_torch_writes_becomes_stateful(exported):
    name, kind, module, path = exported
    adopted = adopt_bytes(path.read_bytes(), stateful=True)
    card, x = adopted.artifact.card, example()
    stored = "behind Concat, Slice, Unsqueeze" if kind == "dynamo" else "initializers"
    assert {layer.weights for layer in adopted.layers} == {stored}
    assert [(layer.cell, layer.input_size, layer.hidden_size) for layer in card.layers] == [
        (name.lower(), I, H),
        (name.lower(), H, H),
    ]
    assert card.inputs[0].axes[:2] == (BATCH, TIME)
    assert len(card.states) == (4 if name == "LSTM" else 2)
    assert card.streaming.verdict == "every-step"
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    session = Session(adopted.artifact.data)
    assert_close("whole", session.run(x)[0]["y"], expected, CLOSE)
    assert_close("chunks", chunked(session, x), expected, STREAM)


def test_what_torch_writes_is_quantized_whole(exported):
    path = exported[-1]
    adopted = adopt_bytes(path.read_bytes(), stateful=True).artifact
    quantized = quantize_bytes(adopted.data)
    covered = quantized.card.quantization.coverage
    assert [row.scheme for row in covered] == ["int8"] * 3
    assert len(quantized.data) < 0.5 * len(adopted.data)
    # No scale is shared between steps, so chunks are the whole sequence, which a shared one would not give.
    x, session = example(), Session(quantized.data)
    whole = session.run(x)[0]["y"]
    assert_close("chunks", chunked(session, x), whole, STREAM)
    # A step of 1/127 of the weights; seen 0.01 for both cells.
    assert np.abs(whole - Session(adopted.data).run(x)[0]["y"]).max() < 0.03


def dynamically_quantized(tmp_path, operators):
    write_with_torch(nn.LSTM, tmp_path / "in.onnx", dynamo=False)
    quantize_dynamic(tmp_path / "in.onnx", tmp_path / "q.onnx", op_types_to_quantize=operators)
    return (tmp_path / "q.onnx").read_bytes()


@pytest.mark.parametrize(
    ("operators", "culprits"),
    [
        (["LSTM"], "DynamicQuantizeLSTM takes"),
        (["MatMul"], "DynamicQuantizeLinear takes"),
        (["LSTM", "MatMul"], "DynamicQuantizeLSTM, DynamicQuantizeLinear take"),
    ],
)
def test_what_shares_activation_scales_is_named_as_the_reason(tmp_path, operators, culprits):
    adopted = adopt_bytes(dynamically_quantized(tmp_path, operators), stateful=True)
    streaming = adopted.artifact.card.streaming
    assert streaming.verdict == "none"
    assert f"{culprits} one activation scale from all rows and steps of a call" in streaming.reason
    assert "convolution" not in streaming.reason


def test_dynamically_quantized_layers_get_scales_by_row_and_step(tmp_path):
    data = dynamically_quantized(tmp_path, ["LSTM"])
    x = example()
    original = open_session(data).run(None, {"x": x})[0]
    adopted = adopt_bytes(data, stateful=True).artifact
    quantized = quantize_bytes(adopted.data)
    assert [row.operator for row in quantized.card.quantization.coverage] == [
        "com.microsoft::DynamicQuantizeLSTM",
        "com.microsoft::DynamicQuantizeLSTM",
        "Gemm" if "Gemm" in {n.op_type for n in onnx.load_from_string(data).graph.node} else "MatMul",
    ]
    assert np.abs(Session(quantized.data).run(x)[0]["y"] - original).max() < 0.05
