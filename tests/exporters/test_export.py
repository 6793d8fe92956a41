"""Export: what is in the file, that it gives PyTorch's answers, and that nothing appears when something is wrong."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.networks import (
    NETWORKS,
    build,
    exported,
    input_spec,
    operators,
    parsed,
    random_inputs,
    random_network_state,
    seeded,
    session_of,
)
from torch import Tensor, nn

from lstm_edge import export
from lstm_edge.layers import LSTM
from lstm_edge.training.models import ClassifierConfig, SequenceClassifier
from lstm_edge_exporters.verify.compare import CLOSE, assert_close
from lstm_edge_exporters.verify.parity import EXPORT
from lstm_edge_runtime.card import parse_card, serialize_card
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.session import Session

GOLDEN = Path(__file__).parent / "card_golden.json"

SMALL = [name for name in NETWORKS if not name.startswith(("wide", "long"))]


def weights_of(data: bytes) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in parsed(data).graph.initializer}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_the_file_gives_the_modules_answer(name: str) -> None:
    session, module = session_of(exported(name)), NETWORKS[name]()
    inputs = random_inputs(session, 4, 13)
    got, _ = session.run(inputs)
    with torch.no_grad():
        expected = module(*(torch.from_numpy(array) for array in inputs.values()))
    expected = expected[0] if isinstance(expected, tuple) else expected
    assert_close(name, got["output"], expected.numpy(), CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_the_file_is_valid_small_and_of_the_promised_versions(name: str) -> None:
    model = parsed(exported(name))
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8
    imports = {entry.domain: entry.version for entry in model.opset_import}
    assert imports.pop("") == 18
    calls = {node.op_type for node in model.graph.node if node.domain == "lstm_edge"}
    assert imports == ({"lstm_edge": 1} if calls else {})
    assert {function.name for function in model.functions} == calls
    # Every weight that a recurrent layer takes is an initializer.
    stored = set(weights_of(exported(name)))
    for node in model.graph.node:
        if node.op_type == "LSTM":
            assert {i for n, i in enumerate(node.input) if n in (1, 2, 3, 7) and i} <= stored
        elif node.domain == "lstm_edge":
            assert len(set(node.input) & stored) >= 3


@pytest.mark.slow
def test_recurrent_layers_stay_whole() -> None:
    head = ["Transpose", "LSTM", "Squeeze", "LSTM", "Squeeze"]
    assert operators(exported("standard-2-layers")) == [*head, "Transpose"]
    assert operators(exported("language-model")) == ["Gather", *head, "Transpose", "MatMul", "Add"]
    assert operators(exported("diagonal")) == ["Transpose", "LSTM", "Squeeze", "Transpose"]
    assert operators(exported("full")) == ["Transpose", *["lstm_edge::LstmFullV1"] * 2, "Transpose"]
    assert operators(exported("projected")) == ["Transpose", *["lstm_edge::LstmProjectedV1"] * 2, "Transpose"]
    both = ["LSTM", "Transpose", "Reshape"]
    found = operators(exported("bidirectional"))
    assert [op for op in found if op in both] == ["Transpose", *both, *both, "Transpose"]


@pytest.mark.slow
def test_the_last_layers_final_state_is_taken_from_that_layer() -> None:
    """h_n[-1] of two layers: no Concat of both, from which one would be picked again."""
    found = operators(exported("classifier"))
    assert found == ["Transpose", "LSTM", "Squeeze", "LSTM", "Gather", "Gemm"]


@pytest.mark.slow
def test_weights_are_named_after_the_modules() -> None:
    assert weights_of(exported("language-model")) == {
        "embedding.weight": [17, 8],
        "lstm.0.W": [1, 36, 8],
        "lstm.0.R": [1, 36, 9],
        "lstm.0.B": [1, 72],
        "lstm.1.W": [1, 36, 9],
        "lstm.1.R": [1, 36, 9],
        "lstm.1.B": [1, 72],
        "head.weight": [9, 17],
        "head.bias": [17],
    } | {name: dims for name, dims in weights_of(exported("language-model")).items() if dims in ([], [1])}
    full = weights_of(exported("full"))
    assert (full["lstm.0.w"], full["lstm.0.p"], full["lstm.1.po"]) == ([3, 20], [5, 15], [5, 5])
    nodes = [node.name for node in parsed(exported("language-model")).graph.node]
    assert {"lstm.0", "lstm.1", "head/MatMul", "head/Add"} <= set(nodes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "full-projected-bidirectional", "projected", "language-model"])
def test_plain_has_no_functions_and_gives_the_same(name: str) -> None:
    data = exported(name, plain=True)
    model = parsed(data)
    assert not model.functions
    assert {entry.domain for entry in model.opset_import} == {""}
    assert not any(operator.startswith("lstm_edge::") for operator in operators(data))
    assert "LSTM" in operators(data) or "Scan" in operators(data)
    onnx.checker.check_model(model, full_check=True)
    plain, whole = session_of(data), session_of(exported(name))
    inputs, state = random_inputs(whole, 4, 9), random_network_state(whole, 4)
    answers = [session.run(inputs, state) for session in (plain, whole)]
    np.testing.assert_array_equal(answers[0][0]["output"], answers[1][0]["output"], strict=True)
    assert answers[0][1] == answers[1][1]


@pytest.mark.slow
def test_hidden_state_starts_at_zero_and_is_no_input() -> None:
    session = session_of(exported("bidirectional", state="hidden"))
    assert session.states == ()
    assert [spec.name for spec in session.inputs] == ["x"]
    inputs = random_inputs(session, 4, 13)
    got, _ = session.run(inputs)
    with torch.no_grad():
        y, (h, c) = NETWORKS["bidirectional"]()(torch.from_numpy(inputs["x"]))
    # Without explicit state the returned h_n and c_n are ordinary outputs.
    assert list(got) == ["output_0", "output_1_0", "output_1_1"]
    for array, expected in zip(got.values(), (y, h, c), strict=True):
        assert_close("output", array, expected.numpy(), CLOSE)


@pytest.mark.slow
def test_explicit_states_are_torchs_layer_by_layer() -> None:
    session, module = session_of(exported("full-projected-bidirectional")), NETWORKS["full-projected-bidirectional"]()
    assert [(spec.input, spec.output, spec.axes) for spec in session.states] == [
        ("lstm.0.h", "lstm.0.h_out", (2, "batch", 4)),
        ("lstm.0.c", "lstm.0.c_out", (2, "batch", 6)),
    ]
    inputs, state = random_inputs(session, 3, 8), random_network_state(session, 3)
    _, after = session.run(inputs, state)
    with torch.no_grad():
        entering = (torch.from_numpy(state.stacked("h")), torch.from_numpy(state.stacked("c")))
        _, (h, c) = module(torch.from_numpy(inputs["x"]), entering)
    assert_close("h", after.stacked("h"), h.numpy(), CLOSE)
    assert_close("c", after.stacked("c"), c.numpy(), CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["language-model", "full"])
def test_lengths_are_those_of_each_row_alone(name: str) -> None:
    session, module = session_of(exported(name, lengths=True)), NETWORKS[name]()
    assert session.lengths == "lengths"
    inputs, lengths = random_inputs(session, 3, 8), np.array([8, 3, 1])
    got, state = session.run(inputs, lengths=lengths)
    for row, length in enumerate(lengths):
        tensors = [torch.from_numpy(array[row : row + 1, :length]) for array in inputs.values()]
        with torch.no_grad():
            result = module(*tensors)
        expected = result[0] if isinstance(result, tuple) else result
        assert_close(f"row {row}", got["output"][row : row + 1, :length], expected.numpy(), CLOSE)
        assert not got["output"][row, length:].any()
        _, alone = session.run({k: v[row : row + 1, :length] for k, v in inputs.items()}, lengths=[length])
        for key, array in alone.items():
            assert_close(key, state[key][:, row : row + 1], array, CLOSE)


class TwoTowers(nn.Module):
    """Two recurrent layers of different kinds and layouts, two inputs, and a dict of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.LSTM(3, 5, batch_first=True)
        self.embed = nn.Embedding(11, 2)
        self.right = LSTM(2, 4, 2, peephole="full")
        self.head = nn.Linear(9, 3)

    def forward(self, x: Tensor, ids: Tensor) -> dict[str, Tensor]:
        left, _ = self.left(x)
        right, (h, _) = self.right(self.embed(ids).transpose(0, 1))
        return {"scores": self.head(torch.cat([left, right.transpose(0, 1)], -1)), "summary": h[-1]}


@pytest.mark.slow
def test_several_recurrent_layers_inputs_and_outputs() -> None:
    module = seeded(TwoTowers())
    specs = ["x: float32[batch, time, 3]", "ids: int64[batch, time]"]
    artifact = build(module, None, inputs=specs)
    session = Session(artifact.data)
    assert [spec.name for spec in session.inputs] == ["x", "ids"]
    assert [(s.name, s.axes) for s in session.outputs] == [("scores", ("batch", "time", 3)), ("summary", ("batch", 4))]
    assert [spec.input for spec in session.states] == [
        f"{name}.{kind}" for name in ("left.0", "right.0", "right.1") for kind in "hc"
    ]
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((2, 9, 3)).astype(np.float32), "ids": rng.integers(0, 11, (2, 9))}
    got, _ = session.run(feeds)
    with torch.no_grad():
        expected = module(torch.from_numpy(feeds["x"]), torch.from_numpy(feeds["ids"]))
    for name, tensor in expected.items():
        assert_close(name, got[name], tensor.numpy(), CLOSE)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        y, (h, c) = self.rnn(x)
        return y, [y.sum(-1), h, c]


@pytest.mark.slow
def test_tuples_are_named_and_returned_states_are_not_outputs() -> None:
    example = torch.randn(6, 2, 3)
    data = build(seeded(Pair()), example).data
    session = Session(data)
    assert [(s.name, s.axes) for s in session.inputs] == [("x", ("time", "batch", 3))]
    outputs = [(spec.name, spec.axes) for spec in session.outputs]
    assert outputs == [("output_0", ("time", "batch", 5)), ("output_1_0", ("time", "batch"))]


@pytest.mark.slow
def test_our_own_classifier_describes_itself() -> None:
    config = ClassifierConfig(features=6, classes=3, hidden=7, layers=2, labels=("a", "b", "c"))
    module = seeded(SequenceClassifier(config))
    module.set_standardization(torch.arange(6) / 3.0, torch.arange(6) + 0.5)
    artifact = build(module, None, lengths=True)
    card = artifact.card
    assert (card.task, card.labels, card.lengths) == ("classification", ("a", "b", "c"), "lengths")
    assert "standardized" in card.preprocessing[0]
    assert card.streaming.verdict == "last-step"
    x, lengths = torch.randn(3, 8, 6) * 3 + 1, torch.tensor([5, 8, 1])
    with torch.no_grad():
        expected = module(x, lengths).numpy()
    got, _ = Session(artifact.data).run(x.numpy(), lengths=lengths.numpy())
    assert_close("logits", got["logits"], expected, CLOSE)


@pytest.mark.slow
def test_the_card_is_the_golden_one() -> None:
    """A change of the card's form shows here; the producer's version and the measured difference are masked."""
    session = session_of(exported("language-model", lengths=True))
    assert session.card is not None
    assert session.card.parity is not None
    assert 0 < session.card.parity.max_abs_difference < EXPORT.absolute
    card = json.loads(serialize_card(session.card))
    card["producer"], card["parity"]["max_abs_difference"] = "lstm-edge", 0.0
    assert card == json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert parse_card(json.dumps(card)).layers == session.card.layers


@pytest.mark.slow
def test_export_writes_reports_and_says_what_it_does(tmp_path: Path) -> None:
    lines: list[str] = []
    example = torch.randn(2, 31, 3)
    module, target = NETWORKS["classifier"](), tmp_path / "model.onnx"
    report = export(module, example, target, output_names=["logits"], progress=lines.append)
    data = (tmp_path / "model.onnx").read_bytes()
    assert (report.path, report.size_bytes) == (str(tmp_path / "model.onnx"), len(data))
    assert report.elapsed_s > 0
    assert [spec.name for spec in report.card.outputs] == ["logits"]
    assert report.card.parity is not None
    # The grid, and the example's own shape.
    assert len(report.card.parity.shapes) == 7
    assert report.card.parity.shapes[-1] == "batch 2, time 31"
    assert lines[0] == "capturing Classifier with 2 recurrent layers kept whole"
    assert len(lines) == 4
    assert Session(data).verified
    assert list(tmp_path.iterdir()) == [tmp_path / "model.onnx"]


def test_an_unknown_state_is_refused() -> None:
    with pytest.raises(InputError, match="state must be 'explicit' or 'hidden', got 'both'"):
        build(NETWORKS["classifier"](), torch.randn(2, 5, 3), state="both")  # type: ignore[arg-type]  # on purpose


def test_input_spec_matches_the_network() -> None:
    assert input_spec("tagger") == "x: float32[batch, time, 6]"
    assert input_spec("wide-language-model") == "ids: int64[batch, time]"
