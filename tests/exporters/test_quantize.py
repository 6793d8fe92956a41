"""Quantization of our own files: coverage, sizes, the input left alone, and what is refused."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from support.networks import (
    NETWORKS,
    build,
    exported,
    operators,
    parsed,
    quantized,
    random_inputs,
    random_network_state,
    seeded,
    session_of,
    snr_db,
)
from torch import Tensor, nn

from lstm_edge_exporters.functions import function_for
from lstm_edge_exporters.quantize import quantize, quantize_bytes
from lstm_edge_runtime.artifact import append_trailer
from lstm_edge_runtime.errors import (
    ArtifactError,
    CoverageError,
    IntegrityError,
    OutputError,
    ParityError,
    QuantizationError,
)
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session

# int8 noise of an LSTM: 36 to 40 dB seen at hidden 128 to 1024; small networks average less of it away.
LEAST_SNR_DB = 30.0


def bytes_of(data: bytes, prefix: str, *, biases: bool = True) -> int:
    return sum(
        len(tensor.raw_data)
        for tensor in parsed(data).graph.initializer
        if tensor.name.startswith(prefix) and (biases or not tensor.name.endswith((".b", ".B")))
    )


SMALL_NETWORKS = [name for name in NETWORKS if not name.startswith("wide")]
# A last step is not that of a shorter row: export refuses it with lengths.
RAGGED_NETWORKS = [name for name in SMALL_NETWORKS if name != "last-step"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        *(pytest.param(name, False, id=f"{name}-full-rows") for name in SMALL_NETWORKS),
        *(pytest.param(name, True, id=f"{name}-ragged") for name in RAGGED_NETWORKS),
    ],
)
def test_int8_answers_are_close(name: str, lengths: bool) -> None:
    whole, int8 = session_of(exported(name, lengths=lengths)), session_of(quantized(name, lengths=lengths))
    inputs, state = random_inputs(whole, 5, 11), random_network_state(whole, 5)
    rows = np.array([11, 0, 4, 1, 11]) if lengths else None
    expected, expected_state = whole.run(inputs, state, rows)
    got, got_state = int8.run(inputs, state, rows)
    for key in expected:
        assert snr_db(expected[key], got[key]) > LEAST_SNR_DB
    for key in expected_state:
        assert snr_db(expected_state[key], got_state[key]) > LEAST_SNR_DB
    if rows is not None:
        for key in state:
            np.testing.assert_array_equal(got_state[key][:, 1], state[key][:, 1])
    assert self_test(int8).passed


@pytest.mark.slow
def test_the_coverage_table() -> None:
    card = session_of(quantized("wide-language-model")).card
    assert card is not None
    assert card.quantization is not None
    rows = [(row.layer, row.operator, row.scheme) for row in card.quantization.coverage]
    assert rows == [("embedding", "Gather", "int8"), ("lstm.0", "LSTM", "int8"), ("head", "MatMul", "int8")]
    I, H, V = 48, 256, 17  # noqa: E741  the equations' own letters
    embedding, lstm, head = card.quantization.coverage
    assert (embedding.bytes_before, embedding.bytes_after) == (4 * V * I, V * I + 4 * V)
    assert lstm.bytes_before == 4 * (4 * H * (I + H) + 8 * H)
    # Matrices by one byte, a scale a column for each of the two, and one bias.
    assert lstm.bytes_after == 4 * H * (I + H) + 4 * (4 * H) * 3
    assert (head.bytes_before, head.bytes_after) == (4 * (H * V + V), H * V + 8 * V)
    assert [layer.operator for layer in card.layers] == ["lstm_edge::LstmInt8V1"]
    assert card.quantization.parent_sha256 == hashlib.sha256(exported("wide-language-model")).hexdigest()
    assert card.parity is not None
    assert card.parity.tolerance is None
    assert 0 < card.parity.max_abs_difference < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["wide-standard", "wide-diagonal", "wide-full", "wide-projected", "wide-bidirectional"]
)
def test_weights_take_at_most_027_of_their_float32_size(name: str) -> None:
    """Counted in the files themselves, scales included, and as the report says."""
    before, after = bytes_of(exported(name), "lstm."), bytes_of(quantized(name), "lstm.")
    card = session_of(quantized(name)).card
    assert card is not None
    assert card.quantization is not None
    rows = card.quantization.coverage
    # A few constants of the reversal and of the state's split are no weights.
    assert sum(row.bytes_before for row in rows) == pytest.approx(before, abs=64)
    assert sum(row.bytes_after for row in rows) == pytest.approx(after, abs=256)
    # Matrices with their scales. With the biases too, the projection to 64 of 48 inputs is at 0.272: short columns.
    matrices = [bytes_of(data, "lstm.", biases=False) for data in (exported(name), quantized(name))]
    assert matrices[1] <= 0.27 * matrices[0]
    if name != "wide-projected":
        assert after <= 0.27 * before
    assert len(quantized(name)) < 0.4 * len(exported(name))


@pytest.mark.slow
def test_the_smallest_size_that_is_promised() -> None:
    module = seeded(nn.LSTM(64, 64, batch_first=True))
    data = build(module, None, inputs=["x: float32[batch, time, 64]"]).data
    assert bytes_of(quantize_bytes(data).data, "lstm.") <= 0.27 * bytes_of(data, "lstm.")


@pytest.mark.slow
def test_the_input_is_never_changed(tmp_path: Path) -> None:
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    source.write_bytes(exported("tagger"))
    lines: list[str] = []
    report = quantize(source, target, progress=lines.append)
    assert source.read_bytes() == exported("tagger")
    assert target.read_bytes() == quantized("tagger")
    assert (report.parent_bytes, report.size_bytes) == (len(exported("tagger")), len(quantized("tagger")))
    assert (report.scheme, report.path) == ("int8", str(target))
    assert [row.layer for row in report.coverage] == ["enter", "lstm.0", "lstm.1", "head"]
    assert len(lines) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.onnx", "out.onnx"]


@pytest.mark.slow
def test_the_output_must_be_another_file(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(exported("tagger"))
    (tmp_path / "link.onnx").symlink_to(source)
    for target in (source, tmp_path / "link.onnx"):
        with pytest.raises(OutputError, match="this is the file that is read; give the result another name"):
            quantize(source, target)
    assert source.read_bytes() == exported("tagger")
    with pytest.raises(ArtifactError, match="no such file"):
        quantize(tmp_path / "missing.onnx", tmp_path / "out.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tagger", "language-model", "full"])
def test_an_int8_file_is_refused(name: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        quantize_bytes(quantized(name))
    assert str(caught.value) == ("the model is quantized already (int8): start from the float32 file it was made from")


@pytest.mark.slow
def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(QuantizationError, match="unknown scheme 'int3'; known ones are int8"):
        quantize_bytes(exported("tagger"), scheme="int3")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "full-projected-bidirectional", "language-model"])
def test_a_plain_file_is_quantized_too(name: str) -> None:
    """Its Scan bodies hold MatMuls; names of new nodes are unique over all nested graphs."""
    artifact = quantize_bytes(exported(name, plain=True))
    assert artifact.card.quantization is not None
    assert {row.scheme for row in artifact.card.quantization.coverage} == {"int8"}
    int8, whole = Session(artifact.data), session_of(exported(name))
    inputs, state = random_inputs(whole, 5, 11), random_network_state(whole, 5)
    assert snr_db(whole.run(inputs, state)[0]["output"], int8.run(inputs, state)[0]["output"]) > LEAST_SNR_DB
    names: list[str] = []

    def collect(graph: onnx.GraphProto) -> None:
        names.extend(t.name for t in graph.initializer)
        for node in graph.node:
            names.extend(name for name in node.output if name)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    collect(attribute.g)

    collect(parsed(artifact.data).graph)
    assert len(names) == len(set(names))
    onnx.checker.check_model(parsed(artifact.data), full_check=True)


@pytest.mark.slow
def test_other_bodies_under_our_names_are_refused() -> None:
    model = parsed(exported("full"))
    del model.metadata_props[:]
    function = model.functions[0]
    next(node for node in function.node if node.op_type == "Add").op_type = "Sub"
    with pytest.raises(ArtifactError) as caught:
        quantize_bytes(model.SerializeToString())
    assert str(caught.value) == (
        "the file's body of lstm_edge::LstmFullV1 differs from docs/operators.md: "
        "names in this domain never change their meaning"
    )
    function.CopyFrom(function_for("LstmFullV1"))
    assert quantize_bytes(model.SerializeToString()).data
    function.name = "LstmFullV9"
    with pytest.raises(ArtifactError, match="calls lstm_edge::LstmFullV9, which this version does not know: update"):
        quantize_bytes(model.SerializeToString())


@pytest.mark.slow
def test_damaged_files_are_refused() -> None:
    data = exported("tagger")
    flipped = data[:500] + bytes([data[500] ^ 4]) + data[501:]
    with pytest.raises(IntegrityError, match="SHA-256"):
        quantize_bytes(flipped)
    with pytest.raises(ArtifactError):
        quantize_bytes(data[: len(data) // 2])


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.tuples(st.integers(0, 6000), st.binary(min_size=1, max_size=4))))
def test_any_other_bytes_are_an_artifact_error(damage) -> None:
    """Random bytes, and a small model with some of its bytes overwritten (it carries no trailer)."""
    if isinstance(damage, bytes):
        data = damage
    else:
        start, piece = damage
        start %= len(SMALL)
        data = SMALL[:start] + piece + SMALL[start + len(piece) :]
    try:
        artifact = quantize_bytes(data)
    # Damage may also leave a model that opens: of another opset, without layers, with NaN among its weights, or with a
    # recurrent layer whose weights no longer fit (CoverageError), or whose int8 answers are infinite
    # where the parent's are not (ParityError).
    except (ArtifactError, CoverageError, ParityError, QuantizationError):
        return
    assert Session(artifact.data).verified


def small_model() -> bytes:
    rng = np.random.default_rng(0)
    arrays = {
        "W": rng.standard_normal((1, 8, 3)),
        "R": rng.standard_normal((1, 8, 2)),
        "B": rng.standard_normal((1, 16)),
    }
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", "W", "R", "B"], ["y"], name="rnn", hidden_size=2)],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["time", 1, "batch", 2])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


SMALL = small_model()


def test_a_trailer_that_does_not_agree_is_refused_before_anything_else() -> None:
    data = append_trailer(SMALL)
    assert quantize_bytes(data).data == quantize_bytes(data).data
    with pytest.raises(IntegrityError):
        quantize_bytes(data[:-1] + b"g")


class Tied(nn.Module):
    """The head's weight is the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 6, batch_first=True)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(ids))[0])


@pytest.mark.slow
def test_tied_weights_and_a_head_without_bias() -> None:
    data = build(seeded(Tied()), None, inputs=["ids: int64[batch, time]"]).data
    artifact = quantize_bytes(data)
    assert artifact.card.quantization is not None
    assert [(row.layer, row.scheme) for row in artifact.card.quantization.coverage] == [
        ("embedding", "int8"),
        ("lstm.0", "int8"),
        ("head", "int8"),
    ]
    ids = np.random.default_rng(0).integers(0, 11, (4, 9))
    whole, int8 = Session(data).run(ids)[0]["output"], Session(artifact.data).run(ids)[0]["output"]
    assert snr_db(whole, int8) > LEAST_SNR_DB
    assert not any(
        t.data_type == TensorProto.FLOAT and len(t.dims) == 2 and min(t.dims) > 1
        for t in parsed(artifact.data).graph.initializer
    )


@pytest.mark.slow
@pytest.mark.parametrize("features", ["zero-column", "zero-row", "all-zero"])
def test_zero_weights(features: str) -> None:
    module = nn.LSTM(3, 5, batch_first=True)
    seeded(module)
    with torch.no_grad():
        if features == "zero-column":
            module.weight_ih_l0[7] = 0
        elif features == "zero-row":
            module.weight_ih_l0[:, 1] = 0
        else:
            for parameter in module.parameters():
                parameter.zero_()
    data = build(module, None, inputs=["x: float32[batch, time, 3]"]).data
    int8 = Session(quantize_bytes(data).data)
    x = np.random.default_rng(0).standard_normal((4, 9, 3)).astype(np.float32)
    whole, got = Session(data).run(x)[0]["output"], int8.run(x)[0]["output"]
    if features == "all-zero":
        np.testing.assert_array_equal(got, whole)
    else:
        assert snr_db(whole, got) > LEAST_SNR_DB


@pytest.mark.slow
def test_operators_of_a_quantized_network() -> None:
    assert operators(quantized("language-model")) == [
        "Gather",
        "Gather",
        "Cast",
        "Mul",
        "Transpose",
        "lstm_edge::LstmInt8V1",
        "lstm_edge::LstmInt8V1",
        "Transpose",
        "lstm_edge::LinearInt8V1",
    ]
