"""Files of other precisions and ages: float16 throughout, onnxruntime's float16 converter, weights among the inputs."""

import subprocess
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.foreign_files import gru_weights, hidden
from support.onnx_files import H, I, weights

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_runtime import Session
from lstm_edge_runtime.commands.device import inspect
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.providers import session_options
from lstm_edge_runtime.survival import check_survives

pytestmark = pytest.mark.slow

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def basic(data: bytes) -> onnxruntime.InferenceSession:
    options = session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def half_file(operator: str, *, doors: int = HALF, opset: int = 14, **attributes: Any) -> bytes:
    """One layer of float16, Y flat behind it; ``doors`` is the type of what enters and leaves."""
    arrays = {k: a for k, a in (weights(1) if operator == "LSTM" else gru_weights()).items() if k != "P"}
    nodes, x, y = [], "x", "y"
    if doors != HALF:
        nodes.append(helper.make_node("Cast", ["x"], ["x16"], to=HALF))
        x, y = "x16", "y16"
    nodes.append(helper.make_node(operator, [x, "W", "R", "B"], ["Y"], name="rnn", hidden_size=H, **attributes))
    nodes.append(helper.make_node("Squeeze", ["Y", "one"], [y]))
    if doors != HALF:
        nodes.append(helper.make_node("Cast", [y], ["y"], to=doors))
    held = [numpy_helper.from_array(a.astype(np.float16), k) for k, a in arrays.items()]
    held.append(numpy_helper.from_array(np.array([1]), "one"))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "half", [info("x", doors, ["T", "N", I])], [info("y", doors, ["T", "N", H])], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("doors", [HALF, FLOAT])
@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_float16_layers_are_computed_in_float32(operator: str, doors: int) -> None:
    data = half_file(operator, doors=doors)
    adopted = adopt_bytes(data)
    dtype = np.float16 if doors == HALF else np.float32
    x = np.random.default_rng(0).normal(size=(7, 2, I)).astype(dtype)
    want = basic(data).run(None, {"x": x})[0]
    got = Session(adopted.artifact.data).run(x)[0]["y"]
    assert got.dtype == want.dtype == dtype
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), atol=2e-3)
    kept = "; x, y stay float16" if doors == HALF else ""
    note = f"float16 weights and nodes are computed in float32, as onnxruntime does on the CPU{kept}"
    assert adopted.notes[0] == note
    model = onnx.load_from_string(adopted.artifact.data)
    assert {t.data_type for t in model.graph.initializer if t.name in ("W", "R", "B")} == {FLOAT}
    assert adopted.artifact.card.parity is not None
    assert adopted.artifact.card.parity.tolerance == 1e-2
    rows = quantize_bytes(adopted.artifact.data).card.quantization
    assert rows is not None
    assert [(row.operator, row.scheme) for row in rows.coverage] == [(operator, "int8")]


def test_a_wrong_float16_rewriting_is_held_to_float32s_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    """One part in a thousand is within float16's rounding of the original, but not of its float32 form."""
    import onnx_ir as ir

    import lstm_edge_exporters.adopt as package

    def spoil(model: ir.Model) -> tuple[str, ...]:
        value = model.graph.initializers["R"]
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.001), name="R")
        return ()

    monkeypatch.setattr(package, "gather_layers", spoil)
    with pytest.raises(Exception, match="the adopted file is not the original"):
        adopt_bytes(half_file("LSTM"))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What onnxruntime's converter makes of two stacked layers, float32 at the door."""
    import torch
    from onnxruntime.transformers.float16 import convert_float_to_float16

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = torch.nn.GRU(3, 4, 2, batch_first=True)
            self.head = torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(x)[0])

    path = tmp_path_factory.mktemp("half") / "f.onnx"
    torch.manual_seed(0)
    axes = {"x": {0: "N", 1: "T"}, "y": {0: "N", 1: "T"}}
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the legacy exporter warns that it is one
        torch.onnx.export(Net().eval(), (torch.randn(1, 5, 3),), str(path), dynamo=False, opset_version=11, **names)
    half: onnx.ModelProto = convert_float_to_float16(onnx.load(path), keep_io_types=True)
    return half.SerializeToString()


def test_a_converted_file_that_ends_onnxruntime_is_adopted(converted: bytes) -> None:
    adopted = adopt_bytes(converted)
    x = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    got = Session(adopted.artifact.data).run(x)[0]["y"]
    np.testing.assert_allclose(got, basic(converted).run(None, {"x": x})[0], atol=5e-3)


def test_inspect_of_a_file_that_ends_onnxruntime(converted: bytes, tmp_path: Any) -> None:
    (tmp_path / "h.onnx").write_bytes(converted)
    report = inspect(tmp_path / "h.onnx")
    assert [spec.name for spec in report.inputs] == ["x"]


def test_a_process_that_dies_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess(args=[], returncode=-11)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_named: done)
    with pytest.raises(ArtifactError, match=r"onnxruntime \S+ ends with SIGSEGV when it opens the file: do that"):
        check_survives(b"", advice="do that")


def test_weights_among_the_inputs_are_weights() -> None:
    proto = onnx.load_from_string(hidden())
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    proto.ir_version = 3
    adopted = adopt_bytes(proto.SerializeToString())
    assert [spec.name for spec in adopted.artifact.card.inputs] == ["x"]
    assert adopted.notes[0].startswith(
        "4 inputs have a value in the file (W, R, B, one): they are weights from here on"
    )
    assert onnx.load_from_string(adopted.artifact.data).ir_version == 8
    stateful = adopt_bytes(proto.SerializeToString(), stateful=True).artifact.card
    assert stateful.streaming.verdict == "every-step"
