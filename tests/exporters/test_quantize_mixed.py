"""LSTM layers whose matrices and gates have different schemes, against the equations written out in NumPy."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from support.networks import exported, operators, parsed, random_inputs, random_network_state, session_of, snr_db
from support.onnx_files import FLOAT as FLOAT32
from support.onnx_files import H, I, assert_close_int8, lstm_model, model, weights
from support.quantize_witness import lstm_witness, noted
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge_exporters.quantize import Scheme, quantize, quantize_bytes
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

# float32 against float64 over six steps; where rows of activations are rounded to int8, a value at the middle between
# two levels may fall to the other side and move an output by up to half a level of 1/127 times a weight.
FLOAT, FLIP = 2e-6, 5e-3
# Most values meet no flip: their differences are those of float32.
MEDIAN = 1e-6

# Mixes that one operator has, by what its name says of W and R.
FUSED = {"matrices": "WInt8RInt4V1", "the other way": "WInt4RInt8V1"}
MIXES = {
    "matrices": {"W": "int8", "R": "int4:32"},
    "the other way": {"W": "int4:32:zero", "R": "int8"},
    "one gate": {"W": "int8", "R": "int8", "R.f": "int4:32"},
    "every gate its own": {
        "W.i": "int8",
        "W.f": "int4:32",
        "W.g": "float16",
        "W.o": "float32",
        "R.i": "float32",
        "R.f": "float16",
        "R.g": "int4:128:zero",
        "R.o": "int8",
    },
    "float products": {"W.i": "float16", "R.g": "float16"},
    "input only": {"W": "int4:128"},
}


def schemes_of(mix: dict[str, str]) -> dict[str, str]:
    """A text for each gate of each matrix; what the mix does not name is float32."""
    found = {}
    for matrix in "WR":
        for gate in "ifgo":
            key = f"{matrix}.{gate}"
            found[key] = mix.get(key, mix.get(matrix, "float32"))
    return found


def mixed(data: bytes, mix: dict[str, str], layer: str = "rnn", **options):
    parts = {f"{layer}.{part}": Scheme.parse(text) for part, text in mix.items()}
    return quantize_bytes(data, scheme="float32", parts=parts, **options)


def constants_of(sides: int, *, peephole: bool = False) -> dict[str, np.ndarray]:
    return {name: array for name, array in weights(sides).items() if name != "P" or peephole}


def random_feeds(lengths: bool, sides: int, *, batch: int = 5, time: int = 7) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    feeds = {"x": rng.standard_normal((time, batch, I)), "h0": rng.uniform(-0.9, 0.9, (sides, batch, H))}
    feeds |= {"c0": rng.uniform(-0.9, 0.9, (sides, batch, H))}
    feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
    return feeds | ({"rows": np.array([time, 1, 3, 0, time], np.int32)} if lengths else {})


@pytest.mark.parametrize(
    ("direction", "lengths", "peephole"),
    [
        ("forward", False, False),
        ("reverse", True, False),
        ("bidirectional", True, True),
        ("bidirectional", False, False),
    ],
)
@pytest.mark.parametrize("mix", MIXES)
def test_answers_are_the_equations(mix: str, direction: str, lengths: bool, peephole: bool) -> None:
    data = lstm_model(direction, lengths=lengths, state=True, peephole=peephole)
    artifact = mixed(data, MIXES[mix])
    sides = 2 if direction == "bidirectional" else 1
    feeds = random_feeds(lengths, sides)
    constants = constants_of(sides, peephole=peephole)
    schemes = schemes_of(MIXES[mix])
    expected = lstm_witness(
        feeds["x"], feeds["h0"], feeds["c0"], constants, schemes, lengths=feeds.get("rows"), direction=direction
    )
    got = open_session(artifact.data).run(["Y", "Y_h", "Y_c"], feeds)
    rounded = any(text.startswith("int") for text in schemes.values())
    for name, left, right in zip(("Y", "Y_h", "Y_c"), got, expected, strict=True):
        assert left.shape == right.shape
        difference = np.abs(left - right)
        assert difference.max() <= (FLIP if rounded else FLOAT), name
        assert np.median(difference) <= MEDIAN, name
    ours = {operator.partition("::Lstm")[2] for operator in operators(artifact.data) if "Lstm" in operator}
    assert "LSTM" not in operators(artifact.data)
    assert all(operator.endswith(FUSED[mix]) for operator in ours) if mix in FUSED else not ours
    assert bool(ours) is (mix in FUSED)


@pytest.mark.parametrize("swap", ["gates", "matrices", "blocks"])
def test_the_witness_tells_mixes_apart(swap: str) -> None:
    """What is compared above fails for a gate, a matrix or a block that is not the one asked for."""
    asked = {"R.f": "int4:32", "W": "int8"}
    other = {"gates": {"R.i": "int4:32", "W": "int8"}, "matrices": {"W.f": "int4:32", "R": "int8"}, "blocks": {}}[swap]
    if swap == "blocks":
        asked, other = {"R": "int4:32"}, {"R": "int4:32:zero"}
    data, feeds = lstm_model(state=True), random_feeds(lengths=False, sides=1)
    got = open_session(mixed(data, asked).data).run(["Y"], feeds)[0]
    worst = []
    for mix in (asked, other):
        expected = lstm_witness(feeds["x"], feeds["h0"], feeds["c0"], constants_of(1), schemes_of(mix))[0]
        worst.append(np.median(np.abs(got - expected)))
    assert worst[0] <= MEDIAN
    assert worst[1] > 100 * MEDIAN


def test_whole_matrices_in_float16_stay_an_lstm() -> None:
    """No product has to be split for that."""
    artifact = mixed(lstm_model(state=True), {"W": "float16"})
    assert operators(artifact.data) == ["Cast", "LSTM"]
    feeds = random_feeds(lengths=False, sides=1)
    got = open_session(artifact.data).run(["Y"], feeds)[0]
    expected = lstm_witness(feeds["x"], feeds["h0"], feeds["c0"], constants_of(1), schemes_of({"W": "float16"}))[0]
    assert np.abs(got - expected).max() <= FLOAT


def test_parts_that_agree_are_the_fused_operator() -> None:
    data = lstm_model(state=True)
    apart = mixed(data, {"W": "int4:32", "R.i": "int4:32", "R.f": "int4:32", "R.g": "int4:32", "R.o": "int4:32"})
    assert apart.data == quantize_bytes(data, scheme="int4:32").data
    assert [op for op in operators(apart.data) if "::" in op] == ["lstm_edge::LstmInt4V1"]


@pytest.mark.parametrize("name", ["tagger", "language-model", "diagonal", "full", "projected"])
def test_chunks_are_as_the_whole_and_rows_are_alone(name: str) -> None:
    """Exactly, where both matrices are rounded: nothing is shared between rows or steps."""
    parts = {
        "lstm.0.R": Scheme(kind="int4", block=32),
        "lstm.0.W.f": Scheme(kind="int4", block=32, symmetric=False),
    }
    session = session_of(quantize_bytes(exported(name), parts=parts).data)
    inputs, state = random_inputs(session, 4, 9), random_network_state(session, 4)
    whole, last = session.run(inputs, state)
    for steps in (1, 2, 7):
        pieces, entering = [], state
        for start in range(0, 9, steps):
            answer, entering = session.run({k: v[:, start : start + steps] for k, v in inputs.items()}, entering)
            pieces.append(answer["output"])
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole["output"])
        for key, array in last.items():
            np.testing.assert_array_equal(entering[key], array)
    louder = {k: v * np.array([1, 8, 8, 8], v.dtype).reshape(-1, 1, 1) for k, v in inputs.items() if v.ndim == 3}
    beside, _ = session.run(inputs | louder, state)
    np.testing.assert_array_equal(beside["output"][0], whole["output"][0])
    if louder:
        assert not np.array_equal(beside["output"][1], whole["output"][1])


@pytest.mark.long
@pytest.mark.parametrize("lengths", [False, True], ids=["full-rows", "ragged"])
@pytest.mark.parametrize("name", ["full", "full-projected-bidirectional", "projected"])
def test_cells_of_our_own(name: str, lengths: bool) -> None:
    """Their other matrices have the layer's scheme; float products are those of the parent with rounded weights."""
    data = exported(name, lengths=lengths)
    layer = next(row.name for row in Session(data).card.layers)
    half, whole = Scheme(kind="float16"), Scheme(kind="float32")
    artifact = quantize_bytes(data, scheme="float32", parts={layer: half, f"{layer}.W.g": whole, f"{layer}.R.f": whole})
    parent = parsed(data)
    for tensor in parent.graph.initializer:
        owner, _, key = tensor.name.rpartition(".")
        if owner == layer and key in ("w", "r", "p", "po", "v"):
            array = onnx.numpy_helper.to_array(tensor)
            rounded = array.astype(np.float16).astype(np.float32)
            kept = {"w": 2, "r": 1}.get(key)
            if kept is not None:
                size = array.shape[1] // 4
                rounded[:, kept * size : (kept + 1) * size] = array[:, kept * size : (kept + 1) * size]
            tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))
    del parent.metadata_props[:]
    session = session_of(data)
    inputs, state = random_inputs(session, 5, 8), random_network_state(session, 5)
    feeds = dict(inputs) | dict(state)
    feeds |= {"lengths": np.array([8, 0, 3, 1, 8])} if lengths else {}
    expected = open_session(parent.SerializeToString()).run(None, feeds)
    for left, right in zip(open_session(artifact.data).run(None, feeds), expected, strict=True):
        np.testing.assert_allclose(left, right, atol=FLOAT, rtol=0)
    row = noted(artifact).coverage[0]
    rest = "" if name == "standard" else ", the rest float16"
    assert row.scheme == f"W i f o float16, W g float32, R i g o float16, R f float32{rest}"


def test_the_fused_operators_arithmetic_is_kept() -> None:
    """A layer in which one gate alone differs answers, in the others, as the fused operator does: 36 dB and more."""
    data = exported("wide-standard")
    session = session_of(data)
    inputs, state = random_inputs(session, 2, 9), random_network_state(session, 2)
    expected, _ = session.run(inputs, state)
    parts = {"lstm.0.R.o": Scheme(kind="int4", block=32)}
    artifact = quantize_bytes(data, parts=parts)
    answers = [
        snr_db(expected["output"], session_of(found).run(inputs, state)[0]["output"])
        for found in (quantize_bytes(data).data, artifact.data, quantize_bytes(data, scheme="int4:32").data)
    ]
    assert answers[0] > answers[1] > answers[2] > 15
    assert answers[0] > 33


def body_of(data: bytes) -> onnx.GraphProto:
    """The body of the only Scan."""
    scan = next(node for node in parsed(data).graph.node if node.op_type == "Scan")
    return next(attribute.g for attribute in scan.attribute if attribute.HasField("g"))


def test_sizes_and_names() -> None:
    data = exported("wide-language-model")
    artifact = quantize_bytes(
        data, parts={"lstm.0.R": Scheme(kind="int4", block=32), "lstm.0.W.g": Scheme(kind="float16")}
    )
    quantization = noted(artifact)
    assert quantization.scheme == "mixed"
    assert dict(quantization.parts) == {
        "embedding": "int8",
        "lstm.0.W.i": "int8",
        "lstm.0.W.f": "int8",
        "lstm.0.W.g": "float16",
        "lstm.0.W.o": "int8",
        "lstm.0.R": "int4:32",
        "head": "int8",
    }
    inputs, cells = 48, 256
    row = quantization.coverage[1]
    assert row.scheme == "W i f o int8, W g float16, R int4, block 32"
    w = 3 * cells * inputs + 4 * 3 * cells + 2 * cells * inputs
    r = 4 * cells * cells // 2 + 4 * 4 * cells * (cells // 32) + 1
    # And the cell's biases, and zero ones for three and for four gates.
    assert row.bytes_after == w + r + 4 * (4 * cells) + 4 * (3 * cells + 4 * cells)
    stored = [*parsed(artifact.data).graph.initializer, *body_of(artifact.data).initializer]
    named = [len(tensor.raw_data) for tensor in stored if tensor.name.startswith(("lstm", "zeros"))]
    assert sum(named) == pytest.approx(row.bytes_after, abs=32)
    assert [layer.operator for layer in artifact.card.layers] == ["Scan"]


def test_onnxruntime_folds_what_unpacks_weights(tmp_path: Path) -> None:
    """What unpacks four bits and float16 is constant: onnxruntime leaves none of it in the optimized graph."""
    artifact = mixed(lstm_model(state=True), {"W.i": "float16", "R": "int4:32", "R.o": "float16"})
    path = tmp_path / "optimized.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path), 3
    onnxruntime.InferenceSession(artifact.data, options, providers=["CPUExecutionProvider"])
    # A kernel needs its constants in its own graph: onnxruntime 1.18 does not look outside.
    assert {tensor.name.rpartition(".")[2] for tensor in body_of(artifact.data).initializer} >= {"w", "w_scale"}
    kinds: list[str] = []

    def collect(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            kinds.append(node.op_type)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    collect(attribute.g)

    collect(onnx.load(str(path)).graph)
    assert "Scan" in kinds
    assert not {"BitShift", "BitwiseAnd", "Cast"} & set(kinds)


def test_a_plain_file_and_kernels_give_the_same() -> None:
    data = exported("tagger", lengths=True)
    parts = {"lstm.0.R.f": Scheme(kind="int4", block=32), "lstm.1.W.i": Scheme(kind="int4", block=128)}
    artifact, plain = (quantize_bytes(data, parts=parts, plain=plain) for plain in (False, True))
    assert not parsed(plain.data).functions
    assert {function.name for function in parsed(artifact.data).functions} == {"LinearInt4V1", "LinearInt8V1"}
    session = session_of(data)
    inputs, state = random_inputs(session, 3, 8), random_network_state(session, 3)
    answers = []
    for found in (Session(artifact.data, kernels="off"), Session(plain.data), Session(artifact.data)):
        assert self_test(found).passed
        answers.append(found.run(inputs, state, np.array([8, 2, 0]))[0]["output"])
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-6)
    np.testing.assert_allclose(answers[2], answers[0], atol=FLIP)


def test_a_stream_of_a_mixed_layer() -> None:
    session = Session(
        quantize_bytes(exported("tagger"), parts={"lstm.0.R.g": Scheme(kind="int4", block=32)}).data, kernels="off"
    )
    x = random_inputs(session, 1, 9)
    whole, _ = session.run(x)
    stream = session.stream()
    ((_, array),) = x.items()
    pieces = [stream.push(array[:, start : start + 2]) for start in range(0, 9, 2)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole["output"])


def test_layers_without_names_and_in_branches() -> None:
    """Two layers of one name are one part; a layer in a branch gets its Scan there."""
    arrays = {f"{key}{i}": weights(1, inputs=H, seed=i)[key] for i in (0, 1) for key in "WRB"}
    nodes, x = [], "x"
    for i in (0, 1):
        nodes.append(helper.make_node("LSTM", [x, f"W{i}", f"R{i}", f"B{i}"], [f"Y{i}"], hidden_size=H))
        nodes.append(helper.make_node("Squeeze", [f"Y{i}", "one"], [f"y{i}"]))
        x = f"y{i}"
    axes = ["time", "batch", H]
    data = model(nodes, {"x": (FLOAT32, axes)}, {"y1": axes}, arrays | {"one": np.array([1])})
    artifact = quantize_bytes(data, parts={"LSTM.R": Scheme(kind="float16")})
    assert [row.scheme for row in noted(artifact).coverage] == ["W int8, R float16"] * 2
    assert_close_int8(data, artifact.data)
    inner = helper.make_node("LSTM", ["x", "W0", "R0", "B0"], ["inner"], name="rnn", hidden_size=H)
    echo = helper.make_node("LSTM", ["x", "W1", "R1", "B1"], ["echo"], name="other", hidden_size=H)
    then, other = (
        helper.make_graph([node], node.name, [], [helper.make_tensor_value_info(node.output[0], FLOAT32, None)])
        for node in (inner, echo)
    )
    choice = helper.make_node("If", ["choose"], ["Y"], name="if", then_branch=then, else_branch=other)
    inputs: dict[str, tuple[int, list]] = {"x": (FLOAT32, axes), "choose": (TensorProto.BOOL, [])}
    data = model([choice], inputs, {"Y": ["time", 1, "batch", H]}, arrays)
    artifact = quantize_bytes(data, parts={"rnn.R.f": Scheme(kind="float16"), "other.W": Scheme(kind="float16")})
    assert dict(noted(artifact).parts)["rnn.R.f"] == "float16"
    assert_close_int8(data, artifact.data)


@pytest.mark.parametrize("command", ["check", "inspect"])
def test_commands_take_mixed_files(command: str, tmp_path: Path) -> None:
    path, source = tmp_path / "mixed.onnx", tmp_path / "whole.onnx"
    source.write_bytes(exported("tagger"))
    lines: list[str] = []
    report = quantize(source, path, parts={"lstm.0.R": Scheme(kind="int4", block=32)}, progress=lines.append)
    assert (report.scheme, report.coverage[1].scheme) == ("mixed", "W int8, R int4, block 32")
    assert lines[0] == "rounding weights to mixed"
    result = CliRunner().invoke(app, [command, str(path), "--json"])
    assert result.exit_code == 0
    if command == "check":
        assert json.loads(result.output)["passed"] is True
    else:
        assert json.loads(result.output)["card"]["quantization"]["parts"]["lstm.0.R"] == "int4:32"


def test_nothing_changes_when_made_again() -> None:
    parts = {"rnn.R.f": Scheme(kind="int4", block=32), "rnn.W": Scheme(kind="float16")}
    first, second = (quantize_bytes(lstm_model("bidirectional"), parts=parts).data for _ in range(2))
    assert first == second
