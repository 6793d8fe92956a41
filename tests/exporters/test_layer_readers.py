"""One reader for each kind of layer, chosen once; each layer is read once."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.part_models import convolution_model, embedding_model, front_end, linear_model

from lstm_edge_exporters.functions import DOMAIN, CellVariant
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.quantize import Scheme, describe_parts, quantize_bytes
from lstm_edge_exporters.quantize.dynamic import DYNAMIC_DOMAIN, DYNAMIC_LSTM, DynamicLstm
from lstm_edge_exporters.quantize.feedforward import Conv, Embedding, Linear
from lstm_edge_exporters.quantize.gru import Gru
from lstm_edge_exporters.quantize.layer import Reader, RecurrentLayer, WeightLayer
from lstm_edge_exporters.quantize.layers import find_layers
from lstm_edge_exporters.quantize.lstm import Lstm, OwnCell
from lstm_edge_exporters.quantize.rnn import Rnn

I, H = 3, 4  # noqa: E741  the equations' own letters
FLOAT = TensorProto.FLOAT


def recurrent_file() -> bytes:
    """A node of each recurrent kind beside the others, and one of ours that is quantized already."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}
    arrays: dict[str, np.ndarray] = {"zero": np.zeros(1, np.int8), "scale": np.full(1, 0.01, np.float32)}
    nodes = []
    for op_type, count in gates.items():
        arrays |= {
            f"W{count}": np.ones((1, count * H, I), np.float32),
            f"R{count}": np.ones((1, count * H, H), np.float32),
        }
        inputs = ["x", f"W{count}", f"R{count}"]
        nodes.append(helper.make_node(op_type, inputs, [f"y_{op_type}"], name=op_type.lower(), hidden_size=H))
    arrays |= {"W8": np.ones((1, I, 4 * H), np.int8), "R8": np.ones((1, H, 4 * H), np.int8)}
    scales = ["scale", "zero", "scale", "zero"]
    inputs = ["x", "W8", "R8", "", "", "", "", "", *scales]
    dynamic = helper.make_node(
        DYNAMIC_LSTM, inputs, ["y_dynamic"], name="dynamic", domain=DYNAMIC_DOMAIN, hidden_size=H
    )
    own = CellVariant(peephole="full")
    shapes = {"w": (I, 4 * H), "r": (H, 4 * H), "b": (4 * H,), "p": (H, 3 * H), "po": (H, H)}
    arrays |= {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    arrays["state"] = np.zeros((1, 1, H), np.float32)
    cell = helper.make_node(own.name, ["x", "state", "state", *shapes], ["y_own"], name="own", domain=DOMAIN)
    eight = helper.make_node(CellVariant(storage="int8").name, ["x"], ["y_eight"], name="eight", domain=DOMAIN)
    nodes += [dynamic, cell, eight]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, [5, 1, I])],
        [helper.make_tensor_value_info(node.output[0], FLOAT, None) for node in nodes],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    imports = [helper.make_opsetid(domain, 1) for domain in (DOMAIN, DYNAMIC_DOMAIN)]
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), *imports], ir_version=8)
    return proto.SerializeToString()


def test_each_kind_of_node_has_its_reader() -> None:
    readers = find_layers(parse_model(recurrent_file()))
    assert [type(reader) for reader in readers] == [Lstm, Gru, Rnn, DynamicLstm, OwnCell]
    assert {reader.kind for reader in readers} == {"recurrent"}
    assert all(isinstance(reader.read(), RecurrentLayer) for reader in readers)


@pytest.mark.parametrize(
    ("data", "kind", "reader"),
    [
        (linear_model(4, 3), "linear", Linear),
        (linear_model(4, 3, gemm=True), "linear", Linear),
        (embedding_model(5, 4), "embedding", Embedding),
        (convolution_model((3, 2, 3)), "convolution", Conv),
    ],
)
def test_layers_with_one_weight(data: bytes, kind: str, reader: type[Reader]) -> None:
    (found,) = find_layers(parse_model(data))
    assert type(found) is reader
    assert found.kind == kind
    layer = found.read()
    assert isinstance(layer, WeightLayer)
    assert layer.weight.dtype == np.float32
    bias = 0 if layer.bias is None else layer.bias.nbytes
    assert found.size_bytes >= layer.weight.nbytes + bias


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each layer is read."""
    counted: Counter[str] = Counter()
    for kind in (Lstm, Gru, DynamicLstm, OwnCell, Linear, Embedding, Conv):

        def read(reader: Reader, original=kind.read) -> object:
            counted[reader.name] += 1
            return original(reader)

        monkeypatch.setattr(kind, "read", read)
    return counted


def test_each_layer_is_read_once(reads: Counter[str]) -> None:
    quantize_bytes(front_end(), scheme="int8")
    assert reads == {"rnn": 1, "head": 1}


def test_a_layer_whose_gates_are_named_is_read_before_too(reads: Counter[str]) -> None:
    """Whether it has gates depends on whether it can be read; only the layer that a part names is asked."""
    four = Scheme(kind="int4", block=32)
    quantize_bytes(front_end(), scheme="int8", parts={"rnn.W": four, "rnn.R.f": four, "head": four})
    assert reads["rnn"] == 2
    assert reads["head"] == 1


def test_what_stays_float32_is_not_read(reads: Counter[str]) -> None:
    quantize_bytes(front_end(), scheme="float32", parts={"head": Scheme(kind="int8")})
    assert reads == {"head": 1}


def test_float16_takes_the_inputs_of_a_node_that_no_operator_can_replace() -> None:
    proto = onnx.ModelProto.FromString(front_end())
    next(node for node in proto.graph.node if node.op_type == "LSTM").attribute.append(
        helper.make_attribute("clip", 1.0)
    )
    data = proto.SerializeToString()
    (rnn,) = (part for part in describe_parts(data) if part.layer == "rnn")
    assert [scheme.text for scheme in rnn.schemes] == ["float16", "float32"]
    assert rnn.parts == ("rnn",)
    artifact = quantize_bytes(data, scheme="float16")
    assert artifact.card.quantization is not None
    assert {row.layer: row.scheme for row in artifact.card.quantization.coverage} == {
        "rnn": "float16",
        "head": "float16",
    }
