"""The card's layers name operators that the graph has, whatever made the file and whether functions were inlined."""

from collections import Counter
from collections.abc import Mapping

import onnx
import pytest
from support.networks import build, exported, operators, parsed, seeded, session_of
from torch import nn

from lstm_edge.layers import LSTM
from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.artifact import Artifact, with_card
from lstm_edge_exporters.quantize import Scheme, quantize_bytes


def layers_of(artifact: Artifact) -> Counter[str]:
    """How often the card of the file names each operator; each must be one of the graph's."""
    card = session_of(artifact.data).card
    assert card == artifact.card
    found = {operator for graph in graphs(parsed(artifact.data).graph) for operator in called(graph)}
    named = Counter(layer.operator for layer in card.layers)
    assert set(named) <= found, f"the card names {set(named) - found}, the graph has {sorted(found)}"
    return named


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """The graph and all within its nodes."""
    nested = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [graph, *(found for inner in nested for found in graphs(inner))]


def called(graph: onnx.GraphProto) -> list[str]:
    return [f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in graph.node]


@pytest.mark.parametrize(
    ("network", "lengths", "operator", "count"),
    [
        ("projected", False, "LstmProjectedV1", 2),
        ("projected", True, "LstmProjectedRaggedV1", 2),
        ("full-projected-bidirectional", False, "LstmFullProjectedV1", 1),
    ],
)
def test_an_export(network: str, lengths: bool, operator: str, count: int) -> None:
    whole = exported(network, lengths=lengths)
    assert {layer.operator for layer in session_of(whole).card.layers} == {f"lstm_edge::{operator}"}
    plain = build_of(exported(network, lengths=lengths, plain=True))
    assert layers_of(plain) == {"Scan": count}
    assert not any(found.startswith("lstm_edge::") for found in operators(plain.data))


def build_of(data: bytes) -> Artifact:
    session = session_of(data)
    return Artifact(data=data, card=session.card, session=session)


def adopted(artifact: Artifact) -> Artifact:
    """The file without its card, as another tool would have written it, adopted."""
    proto = parsed(artifact.data)
    del proto.metadata_props[:]
    return adopt_bytes(proto.SerializeToString()).artifact


@pytest.mark.parametrize(
    ("network", "node"), [("tagger", "LSTM"), ("bidirectional", "LSTM"), ("diagonal", "LSTM"), ("gru", "GRU")]
)
def test_float32_operators(network: str, node: str) -> None:
    if network == "gru":
        gru = seeded(nn.GRU(3, 5, 2, batch_first=True))
        data = build(gru, None, inputs=["x: float32[batch, time, 3]"], lengths=True).data
    else:
        data = exported(network)
    own = quantize_bytes(data, scheme="float32")
    assert any(name.startswith("lstm_edge::") for name in layers_of(own))
    plain = quantize_bytes(data, scheme="float32", plain=True)
    # A diagonal peephole of ours is a Scan before: it has no node of ONNX's and stays an operator of version 1.
    assert set(layers_of(plain)) <= {node, "Scan"}
    assert layers_of(plain).total() == layers_of(own).total()
    # Without its card it is adopted, with another card it is the same.
    assert layers_of(adopted(own)).total() >= layers_of(own)[f"lstm_edge::{node.capitalize()}V2"]
    assert layers_of(with_card(plain, plain.card.replace(task="tagging"))) == layers_of(plain)


@pytest.mark.parametrize(
    ("scheme", "parts"),
    [
        ("int8", {}),
        ("int4", {}),
        ("float16", {}),
        ("int8", {"lstm.0.R": Scheme(kind="int4", block=32)}),
        ("int8", {"lstm.0": Scheme(kind="float32")}),
    ],
)
def test_quantized_layers(scheme: str, parts: Mapping[str, Scheme]) -> None:
    data = exported("tagger")
    for plain in (False, True):
        made = quantize_bytes(data, scheme=scheme, parts=parts, plain=plain, allow_unquantized=True)
        named = layers_of(made)
        assert named.total() == 2
        assert not plain or not any(name.startswith("lstm_edge::") for name in named)
    layers_of(adopted(made))


def test_one_layer_called_twice_and_layers_of_our_own() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = LSTM(4, 4, proj_size=2, batch_first=True)
            self.gru = nn.GRU(2, 2, batch_first=True)

        def forward(self, x):
            y, _ = self.gru(self.own(x)[0])
            return self.gru(y)[0]

    whole = build(seeded(Twice()), None, inputs=["x: float32[batch, time, 4]"])
    assert layers_of(whole) == {"lstm_edge::LstmProjectedV1": 1, "GRU": 1}
    plain = quantize_bytes(whole.data, scheme="float32", plain=True)
    assert layers_of(plain) == {"Scan": 1, "GRU": 1}
    assert not any(name in ("LSTM", "GRU") for name in layers_of(quantize_bytes(whole.data)))
