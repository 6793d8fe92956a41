"""Layers in a Loop or a Scan of single operators, weights handed from step to step: one layer, or a true sentence."""

import dataclasses

import numpy as np
import pytest
from support.fallen_cells import packed_stack
from support.foreign_files import chunked, whole
from support.looped_files import Form, looped, scanned

from lstm_edge_exporters.adopt import Adopted, adopt_bytes
from lstm_edge_exporters.adopt.find import find_layers
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_runtime import Session
from lstm_edge_runtime.errors import ArtifactError

pytestmark = pytest.mark.slow


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in parse_model(data).graph.all_nodes()]


def assert_one_layer_each(data: bytes, adopted: Adopted, kinds: list[str]) -> None:
    """The file holds these layers and no loop, and its answers are the original's at a shape of no trial."""
    found = operators(adopted.artifact.data)
    assert [name for name in found if name in ("LSTM", "GRU")] == kinds, adopted.notes
    assert not {"Loop", "Scan", "MatMul", "Sigmoid", "Expand"} & set(found), found
    specs = {spec.name: spec for spec in adopted.artifact.card.inputs}
    sizes = {"batch": 4, "time": 9}
    rng = np.random.default_rng(1)
    feeds = {n: rng.normal(size=[sizes.get(a, a) for a in s.axes]).astype(np.float32) for n, s in specs.items()}
    want, got = whole(data, feeds), whole(adopted.artifact.data, feeds)
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, atol=2e-6)


FORMS = {
    "with a dead first step": Form(dead=True),
    "wide, batch first": Form(inputs=40, cells=32, batch_first=True),
    "as wide as its state": Form(inputs=5, dead=True),
    "counted by TensorFlow": Form(counted=True),
    "GRU, reset after": Form(kind="gru", dead=True, counted=True),
    "GRU, reset before": Form(kind="gru after", dead=True),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_loop_whose_weights_are_carried_is_one_layer(name: str) -> None:
    form = FORMS[name]
    data = looped(form)
    adopted = adopt_bytes(data)
    kind = form.kind.split()[0].upper()
    assert_one_layer_each(data, adopted, [kind])
    layer = adopted.artifact.card.layers[0]
    assert (layer.cell, layer.input_size, layer.hidden_size) == (kind.lower(), form.inputs, form.cells)
    assert layer.reset_after == {"lstm": None, "gru": True, "gru after": False}[form.kind]
    assert any(note.endswith("step by step, became one layer") for note in adopted.notes)


def test_int8_covers_the_loop_and_nothing_else() -> None:
    data = looped(Form(inputs=64, cells=128, dead=True))
    quantized = quantize_bytes(adopt_bytes(data).artifact.data)
    assert quantized.card.quantization is not None
    assert [(row.operator, row.scheme) for row in quantized.card.quantization.coverage] == [("LSTM", "int8")]
    assert len(quantized.data) < 0.35 * len(data)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_scan_whose_weights_are_state_variables(backward: bool, batch_first: bool) -> None:
    data = scanned(backward=backward, batch_first=batch_first)
    adopted = adopt_bytes(data)
    assert_one_layer_each(data, adopted, ["LSTM"])
    found = find_layers(parse_model(adopted.artifact.data))
    assert found[0].direction == ("reverse" if backward else "forward")


def test_stacked_loops_stream_with_their_states() -> None:
    data = looped(Form(dead=True), layers=2)
    adopted = adopt_bytes(data, stateful=True)
    assert [state.kind for state in adopted.artifact.card.states] == ["h", "c", "h", "c"]
    assert adopted.artifact.card.streaming.verdict == "every-step"
    x = np.random.default_rng(2).normal(size=(2, 12, 6)).astype(np.float32)
    got = chunked(Session(adopted.artifact.data), x, (1, 4, 7), time=1)
    np.testing.assert_allclose(got, whole(data, {"x": x})["y"], atol=2e-6)


def test_two_directions_are_two_loops() -> None:
    data = looped(Form(dead=True), both=True)
    adopted = adopt_bytes(data)
    assert_one_layer_each(data, adopted, ["LSTM", "LSTM"])
    assert adopted.artifact.card.streaming.verdict == "none"


def test_backwards_over_time() -> None:
    data = looped(Form(kind="gru", dead=True), reverse=True)
    assert_one_layer_each(data, adopt_bytes(data, axes={"x": ("batch", "time", 6)}), ["GRU"])


LEFT = {
    "index": "the step of 'l0/major' that it reads is not the number of the step",
    "steps": "its number of steps 'l0/fewer' is not known to be that of 'l0/major'",
    "answer": "it puts out 'l0/ys', which is not the layer's h at each step",
    "mask": "what the next step gets as h is not the layer's h alone (a mask, or other nodes)",
}


@pytest.mark.parametrize("change", LEFT)
def test_what_is_not_the_layer_stays_a_loop(change: str) -> None:
    data = looped(Form(dead=True, change=change))
    adopted = adopt_bytes(data)
    assert [name for name in operators(adopted.artifact.data) if name in ("Loop", "LSTM")] == ["Loop", "LSTM"]
    assert adopted.notes[-1] == (
        f"n.l0.in.new: stays inside the Loop node 'n/l0/hN', which runs it step by step: {LEFT[change]}"
    )
    reason = "n.l0.in.new starts every call from the same state: n.l0.in.new inside a Loop or a Scan"
    assert adopted.artifact.card.streaming.reason == reason
    rows = quantize_bytes(adopted.artifact.data).card.quantization
    assert rows is not None
    assert [(row.operator, row.scheme) for row in rows.coverage] == [("LSTM", "int8")]
    with pytest.raises(ArtifactError, match="inside the Loop n/l0/hN, which runs it many times: its state cannot be"):
        adopt_bytes(data, stateful=True)


def test_weights_that_change_from_step_to_step_are_no_layer() -> None:
    adopted = adopt_bytes(looped(Form(dead=True, change="weights")))
    assert adopted.artifact.card.layers == ()
    assert "multiplies with 'l0/in/W', which is not constant" in adopted.notes[-1]


def test_quantize_counts_no_layer_that_reaches_no_output() -> None:
    data = looped(dataclasses.replace(Form(dead=True, inputs=16, cells=16)))
    rows = quantize_bytes(data).card.quantization
    assert rows is not None
    assert [row.layer for row in rows.coverage] == ["n/l0/in/new", "n/l0/in/new"]


@pytest.mark.parametrize(("widths", "layers"), [(8, 2), (5, 3), (16, 1)])
def test_the_state_is_what_comes_from_where_c_comes_from(widths: int, layers: int) -> None:
    """x and h of a cell whose two products are summed play the same part: h is cut out of the tensor that c is of."""
    adopted = adopt_bytes(packed_stack(widths, layers=layers))
    assert operators(adopted.artifact.data).count("LSTM") == layers
    assert [(state.input, state.output) for state in adopted.artifact.card.states] == [("s", "s_out")]
    assert adopted.artifact.card.streaming.verdict == "each-call"
