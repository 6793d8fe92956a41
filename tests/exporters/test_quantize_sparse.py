"""Files whose recurrent weights have zero blocks: found, left out, reported; answers are those of the dense file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from support.networks import operators, parsed
from support.onnx_files import FLIP, feeds_of, gru_model, lstm_model
from support.pruned import GATES, prune, pruned_file, recurrent_feeds, recurrent_weights
from support.quantize_witness import noted
from torch import nn
from torch.nn.utils import prune as torch_prune

from lstm_edge.layers import LSTM
from lstm_edge_exporters.functions import parse_cell_name, parse_gru_name, parse_rnn_name, simulation
from lstm_edge_exporters.pytorch import export as exporting
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_exporters.quantize import Scheme, describe_parts, quantize_bytes
from lstm_edge_exporters.quantize.calibration import collect
from lstm_edge_exporters.quantize.compensate import calibrated_rounder
from lstm_edge_exporters.quantize.rounding import round_matrix
from lstm_edge_runtime.errors import CoverageError, QuantizationError
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session

THIRD = {"W": 1 / 3, "R": 1 / 3}


def ours(data: bytes) -> list[str]:
    return [name.partition("::")[2] for name in operators(data) if name.startswith("lstm_edge::")]


def same_answers(one: bytes, other: bytes, feeds: dict[str, np.ndarray]) -> None:
    """Every output and state, to the bit, from the function bodies."""
    for left, right in zip(open_session(one).run(None, feeds), open_session(other).run(None, feeds), strict=True):
        np.testing.assert_array_equal(left, right)


# Operator, direction, lengths, attributes, and the name of the sparse operator.
FORMS = [
    ("LSTM", "forward", False, {}, "LstmSparseInt8V1"),
    ("LSTM", "bidirectional", True, {}, "LstmRaggedSparseInt8V1"),
    ("GRU", "reverse", False, {"linear_before_reset": 1}, "GruResetAfterSparseInt8V1"),
    ("GRU", "bidirectional", True, {"linear_before_reset": 0}, "GruRaggedSparseInt8V1"),
    ("RNN", "forward", True, {"activations": ["Relu"]}, "RnnReluRaggedSparseInt8V1"),
]


@pytest.mark.parametrize(("operator", "direction", "lengths", "attributes", "name"), FORMS)
def test_answers_and_states_are_those_of_the_dense_file(
    operator: str, direction: str, lengths: bool, attributes: dict, name: str
) -> None:
    sides = 2 if direction == "bidirectional" else 1
    arrays = recurrent_weights(operator, 37, 133, THIRD, sides=sides)
    data = pruned_file(operator, arrays, direction=direction, lengths=lengths, **attributes)
    sparse, dense = quantize_bytes(data), quantize_bytes(data, sparse="off")
    assert ours(sparse.data) == [name] * sides
    assert ours(dense.data) == [name.replace("Sparse", "")] * sides
    same_answers(sparse.data, dense.data, recurrent_feeds(operator, arrays, lengths=lengths))
    (row,) = noted(sparse).coverage
    (before,) = noted(dense).coverage
    assert row.scheme == "sparse int8"
    assert before.scheme == "int8"
    assert row.density == before.density
    assert row.density == pytest.approx(THIRD, abs=0.01)
    stored = {t.name: len(t.raw_data) for t in parsed(sparse.data).graph.initializer if t.name.startswith("rnn")}
    assert row.bytes_after == sum(size for constant, size in stored.items() if ".int8." in constant)
    assert noted(sparse).parts == {"rnn": "int8:sparse"}
    assert noted(sparse).scheme == "int8"
    assert self_test(Session(sparse.data)).passed


def test_w_and_r_are_decided_apart() -> None:
    arrays = recurrent_weights("GRU", 40, 128, {"W": 1.0, "R": 0.25})
    data = pruned_file("GRU", arrays, linear_before_reset=1)
    artifact = quantize_bytes(data)
    assert ours(artifact.data) == ["GruResetAfterWInt8RSparseInt8V1"]
    (row,) = noted(artifact).coverage
    assert row.scheme == "W int8, R sparse int8"
    assert (row.density["W"], row.density["R"]) == (1.0, pytest.approx(0.25, abs=0.01))
    assert noted(artifact).parts == {"rnn.W": "int8", "rnn.R": "int8:sparse"}
    same_answers(artifact.data, quantize_bytes(data, sparse="off").data, recurrent_feeds("GRU", arrays))
    # What the card says makes the same layer again, from any default.
    parts = {part: Scheme.parse(text) for part, text in noted(artifact).parts.items()}
    again = quantize_bytes(data, scheme="float32", parts=parts)
    assert parsed(again.data).graph == parsed(artifact.data).graph


@pytest.mark.parametrize(
    ("cells", "density", "operator"),
    [(128, 0.6, "LstmInt8V1"), (112, 0.3, "LstmInt8V1"), (128, 0.45, "LstmSparseInt8V1")],
)
def test_auto_goes_by_cells_and_density(cells: int, density: float, operator: str) -> None:
    data = pruned_file("LSTM", recurrent_weights("LSTM", 16, cells, {"W": density, "R": density}))
    artifact = quantize_bytes(data)
    assert ours(artifact.data) == [operator]
    assert quantize_bytes(data).data == artifact.data
    assert ours(quantize_bytes(data, sparse="smaller").data) == ["LstmSparseInt8V1"]


def test_required_says_which_layers_have_no_zero_blocks() -> None:
    small = pruned_file("LSTM", recurrent_weights("LSTM", 12, 20, {"W": 1.0, "R": 0.3}))
    assert ours(quantize_bytes(small, sparse="required").data) == ["LstmWInt8RSparseInt8V1"]
    dense = pruned_file("LSTM", recurrent_weights("LSTM", 12, 32, {"W": 1.0, "R": 0.97}))
    with pytest.raises(CoverageError) as caught:
        quantize_bytes(dense, sparse="required")
    assert str(caught.value) == (
        "sparse weights are required of every recurrent layer, and would not be smaller in rnn (W has density 1.000, "
        "R has density 0.969). Nothing was written; prune blocks of 16 cells by 4 inputs to zero, or let --sparse auto "
        "decide"
    )
    with pytest.raises(CoverageError, match=r"would not be smaller in rnn \(int4, block 128\)\. Nothing"):
        quantize_bytes(small, scheme="int4", sparse="required")
    with pytest.raises(CoverageError, match=r"would not be smaller in rnn \(float32: attribute clip"):
        quantize_bytes(lstm_model(clip=1.0), sparse="required", allow_unquantized=True)


def test_sparse_weights_can_be_asked_of_a_part() -> None:
    data = pruned_file("LSTM", recurrent_weights("LSTM", 12, 20, {"W": 1.0, "R": 0.3}))
    sparse = Scheme.parse("int8:sparse")
    artifact = quantize_bytes(data, parts={"rnn.R": sparse, "rnn.W": Scheme.parse("int4:32")}, sparse="off")
    assert ours(artifact.data) == ["LstmWInt4RSparseInt8V1"]
    assert noted(artifact).coverage[0].scheme == "W int4, block 32, R sparse int8"
    with pytest.raises(CoverageError, match=r"^rnn \(LSTM\) stays float32: W has density 1\.000: sparse weights would"):
        quantize_bytes(data, parts={"rnn": sparse})
    with pytest.raises(CoverageError, match=r"sparse weights need a W and an R in int8 or int4, each with one scheme"):
        quantize_bytes(data, scheme="float32", parts={"rnn.R": sparse})


def test_weights_that_only_round_to_zero_count() -> None:
    arrays = recurrent_weights("LSTM", 16, 128, {"W": 1.0, "R": 1.0})
    for name, columns in (("W", 16), ("R", 128)):
        tiny = prune(np.ones((4 * 128, columns), np.float32), 0.3, gates=4) == 0
        arrays[name][0][tiny] *= 1e-4
    data = pruned_file("LSTM", arrays)
    sparse = quantize_bytes(data)
    assert ours(sparse.data) == ["LstmSparseInt8V1"]
    # Calibration keeps them zero: the same blocks are stored.
    feeds = [recurrent_feeds("LSTM", arrays, batch=2, steps=80) for _ in range(2)]
    rounder = calibrated_rounder(collect(data, feeds))
    calibrated = quantize_bytes(data, rounder=rounder)
    assert ours(calibrated.data) == ["LstmSparseInt8V1"]
    assert noted(calibrated).coverage[0].density == noted(sparse).coverage[0].density
    same_answers(calibrated.data, quantize_bytes(data, rounder=rounder, sparse="off").data, feeds[0])
    assert calibrated.data != sparse.data


def test_a_pruned_file_that_onnxruntime_quantized(tmp_path: Path) -> None:
    """Its integers are carried over, and so are its zero blocks."""
    arrays = recurrent_weights("LSTM", 16, 128, {"W": 1.0, "R": 0.3})
    source, target = tmp_path / "float.onnx", tmp_path / "dynamic.onnx"
    source.write_bytes(pruned_file("LSTM", arrays))
    quantize_dynamic(source, target, weight_type=QuantType.QInt8)
    data = target.read_bytes()
    assert "com.microsoft::DynamicQuantizeLSTM" in operators(data)
    found = quantize_bytes(data)
    assert ours(found.data) == ["LstmWInt8RSparseInt8V1"]
    (row,) = noted(found).coverage
    assert row.scheme == "W int8, R sparse int8: weights and scales carried over exactly"
    assert row.density == pytest.approx({"W": 1.0, "R": 0.3}, abs=0.01)
    same_answers(found.data, quantize_bytes(data, sparse="off").data, recurrent_feeds("LSTM", arrays))
    four = quantize_bytes(data, parts={f"{row.layer}.W": Scheme.parse("int4:32")})
    assert ours(four.data) == ["LstmWInt4RSparseInt8V1"]
    assert (
        noted(four)
        .coverage[0]
        .scheme.endswith(": W dequantized and rounded anew, because of four bits; the rest carried over exactly")
    )


def pruned_module() -> nn.Module:
    """A GRU pruned with torch.nn.utils.prune, by blocks; its parametrization is still on."""
    gru = nn.GRU(24, 128, batch_first=True)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        weight = getattr(gru, name)
        mask = prune(np.ones(weight.shape, np.float32), 0.3, gates=3)
        torch_prune.custom_from_mask(gru, name, torch.from_numpy(mask))
        torch_prune.remove(gru, name)
    return gru.eval()


def test_a_module_pruned_with_torch() -> None:
    torch.manual_seed(0)
    built = exporting.build(pruned_module(), (torch.randn(2, 5, 24),), ExportOptions())
    artifact = quantize_bytes(built.artifact.data)
    assert ours(artifact.data) == ["GruResetAfterSparseInt8V1"]
    (layer,) = artifact.card.layers
    assert layer.operator == "lstm_edge::GruResetAfterSparseInt8V1"
    assert noted(artifact).coverage[0].density == pytest.approx({"W": 0.3, "R": 0.3}, abs=0.01)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"peephole": "full"}, "LstmFullSparseInt8V1"),
        ({"peephole": "diagonal", "proj_size": 24}, "LstmDiagonalProjectedSparseInt8V1"),
    ],
)
def test_our_own_cells(options: dict, name: str) -> None:
    """Their further matrices stay dense int8."""
    torch.manual_seed(1)
    layer = LSTM(12, 36, batch_first=True, **options)
    with torch.no_grad():
        for key, weight in layer.named_parameters():
            if key.startswith(("weight_ih", "weight_hh")):
                weight.copy_(torch.from_numpy(prune(weight.numpy(), 0.3, gates=4)))
    data = exporting.build(layer.eval(), (torch.randn(2, 5, 12),), ExportOptions()).artifact.data
    sparse, dense = (quantize_bytes(data, sparse=choice) for choice in ("smaller", "off"))
    assert ours(sparse.data) == [name]
    (row,) = noted(sparse).coverage
    assert row.scheme == "W sparse int8, R sparse int8, the rest int8"
    feeds = feeds_of(open_session(data))
    same_answers(sparse.data, dense.data, feeds)
    again = {part: Scheme.parse(text) for part, text in noted(sparse).parts.items()}
    assert ours(quantize_bytes(data, scheme="float32", parts=again).data) == [name]


@pytest.mark.parametrize(
    ("operator", "density", "options"),
    [
        ("LSTM", THIRD, {"direction": "bidirectional", "lengths": True}),
        ("GRU", {"W": 1.0, "R": 0.2}, {"linear_before_reset": 1}),
    ],
)
def test_a_file_that_is_quantized_already_keeps_its_answers(operator: str, density: dict, options: dict) -> None:
    sides = 2 if "direction" in options else 1
    data = pruned_file(operator, recurrent_weights(operator, 16, 128, density, sides=sides), **options)
    dense, expected = quantize_bytes(data, sparse="off"), quantize_bytes(data)
    found = quantize_bytes(dense.data)
    assert sorted(operators(found.data)) == sorted(operators(expected.data))
    assert noted(found) == noted(expected)
    assert found.card == expected.card
    feeds = recurrent_feeds(operator, recurrent_weights(operator, 16, 128, density, sides=sides), lengths=sides == 2)
    same_answers(found.data, dense.data, feeds)
    for again in (found.data, quantize_bytes(lstm_model()).data):
        with pytest.raises(
            QuantizationError, match=r"^the model is quantized already \(int8\): start from the float32"
        ):
            quantize_bytes(again)
    with pytest.raises(QuantizationError, match=r"^the model is quantized already"):
        quantize_bytes(dense.data, sparse="off")


def test_a_quantized_file_without_zero_blocks_is_not_what_is_required() -> None:
    dense = quantize_bytes(pruned_file("LSTM", recurrent_weights("LSTM", 12, 32, {"W": 1.0, "R": 0.97})))
    with pytest.raises(
        CoverageError, match=r"would not be smaller in rnn \(W has density 1\.000, R has density 0\.969\)"
    ):
        quantize_bytes(dense.data, sparse="required")
    mixed = quantize_bytes(
        pruned_file("LSTM", recurrent_weights("LSTM", 16, 32, {"W": 1.0, "R": 0.3})),
        parts={"rnn.W": Scheme.parse("int4:32")},
        sparse="off",
    )
    found = quantize_bytes(mixed.data, sparse="required")
    assert ours(found.data) == ["LstmWInt4RSparseInt8V1"]
    assert noted(found).parts == {"rnn.W": "int4:32", "rnn.R": "int8:sparse"}


# --- W and R in different schemes ------------------------------------------------------------------------------------

SIMULATED = {
    "LSTM": (simulation.lstm, parse_cell_name),
    "GRU": (simulation.gru, parse_gru_name),
    "RNN": (simulation.rnn, parse_rnn_name),
}


def _assert_simulated(quantized: bytes, source: bytes) -> None:
    """The answers are the operator's, with the constants of the file, up to onnxruntime's sigmoid and tanh."""
    (name,), (layer,) = ours(quantized), parsed(source).graph.node
    run, parse = SIMULATED[layer.op_type]
    arrays = {t.name.split(".")[-1]: numpy_helper.to_array(t) for t in parsed(quantized).graph.initializer}
    feeds = feeds_of(open_session(source))
    moving = [feeds[key] for key in ("x", "h0", "c0") if key in feeds]
    expected = run(parse(name), *moving, arrays)
    for got, right in zip(open_session(quantized).run(None, feeds), expected, strict=True):
        difference = np.abs(got.reshape(right.shape) - right)
        assert difference.max() <= FLIP
        assert np.median(difference) <= 1e-6


PAIRS = [("int8", "int4:32"), ("int4:128", "int8"), ("int4:32", "int4:128"), ("int4:128:zero", "int4:32")]


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_two_schemes_are_one_operator(operator: str, pair: tuple[str, str]) -> None:
    data = lstm_model(state=True) if operator == "LSTM" else gru_model(operator=operator, state=True)
    schemes = {f"rnn.{matrix}": Scheme.parse(text) for matrix, text in zip("WR", pair, strict=True)}
    artifact = quantize_bytes(data, scheme="float32", parts=schemes)
    kinds = [text.partition(":")[0].title() for text in pair]
    expected = kinds[0] if kinds[0] == kinds[1] else f"W{kinds[0]}R{kinds[1]}"
    assert ours(artifact.data) == [f"{operator.title()}{expected}V1"]
    assert noted(artifact).parts == {part: scheme.text for part, scheme in schemes.items()}
    _assert_simulated(artifact.data, data)
    seen = {}

    def rounder(name: str, weight: np.ndarray, scheme: Scheme) -> dict[str, np.ndarray]:
        seen[name] = scheme
        return round_matrix(name, weight, scheme)

    assert quantize_bytes(data, scheme="float32", parts=schemes, rounder=rounder).data == artifact.data
    assert seen == {"rnn.w": schemes["rnn.W"], "rnn.r": schemes["rnn.R"]}


def test_a_float_matrix_beside_integers_is_an_lstms_alone() -> None:
    with pytest.raises(CoverageError, match=r"W int8, R float32: only an LSTM can have an int8 or int4 matrix beside"):
        quantize_bytes(gru_model(), scheme="float32", parts={"rnn.W": Scheme()})
    halves = quantize_bytes(gru_model(), scheme="float32", parts={"rnn.W": Scheme(kind="float16")})
    assert ours(halves.data) == []
    assert noted(halves).coverage[0].scheme == "W float16, R float32"


def test_only_recurrent_layers_are_sparse() -> None:
    from support.part_models import linear_model

    with pytest.raises(CoverageError, match=r"only the W and R of a recurrent layer can have sparse weights"):
        quantize_bytes(linear_model(8, 16), parts={"head": Scheme.parse("int8:sparse")})
    with pytest.raises(QuantizationError, match=r"^sparse weights are required, and the model has no recurrent layer$"):
        quantize_bytes(linear_model(8, 16), sparse="required")


def test_what_parts_save_is_described() -> None:
    data = pruned_file("LSTM", recurrent_weights("LSTM", 12, 20, {"W": 1.0, "R": 0.25}))
    (part,) = describe_parts(data)
    # 4 gates of 2 by 5 blocks, a quarter of them kept.
    assert part.sparse_savings == {"rnn.R": 20 * 4 * 20 - 10 * 68 - 8}
    assert GATES["LSTM"] == 4
    assert describe_parts(gru_model())[0].sparse_savings == {}
