"""Inputs in the model's own domain: a range or an example says it, the card keeps it, and every random input obeys."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from support.networks import build, seeded
from torch import Tensor, nn

import lstm_edge
from lstm_edge_exporters.pytorch.given import read_inputs
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.verify.inputs import InputMaker, parse_input, ranges_of, with_ranges
from lstm_edge_exporters.verify.parity import check_finite_answers
from lstm_edge_runtime.bench import bench
from lstm_edge_runtime.card import TensorSpec, card_to_json, parse_card, serialize_card
from lstm_edge_runtime.contract import read_contract
from lstm_edge_runtime.errors import CardError, InputError, ParityError
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

LOG = "mag: float32[B, T, 9] in [0, 10]"


class LogMel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(9, 5, batch_first=True)

    def forward(self, mag: Tensor) -> Tensor:
        return self.rnn(torch.log(mag))[0]


class Entropy(LogMel):
    def forward(self, mag: Tensor) -> Tensor:
        return self.rnn(-(mag * mag.log() + (1 - mag) * torch.log1p(-mag)))[0]


class Power(LogMel):
    def forward(self, mag: Tensor) -> Tensor:
        return self.rnn(mag**0.3 + mag.sqrt())[0]


class TwoTables(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.tags = nn.Embedding(50, 4), nn.Embedding(3, 4)
        self.rnn = nn.GRU(8, 5, batch_first=True)

    def forward(self, word: Tensor, tag: Tensor) -> Tensor:
        return self.rnn(torch.cat([self.words(word), self.tags(tag.long())], -1))[0]


@pytest.mark.parametrize(
    ("text", "expected"), [(LOG, (0.0, 10.0)), ("p: float32[4] in[-1.5,2e3]", (-1.5, 2000.0)), ("x: bool[4]", None)]
)
def test_a_range_is_read(text, expected):
    assert parse_input(text).range == expected


@pytest.mark.parametrize("text", ["[1]", "[2, 1]", "[a, 1]", "[0, inf]", "[nan, 1]", "[0, 1, 2]", "[]"])
def test_a_range_is_two_numbers(text):
    with pytest.raises(InputError, match=r"^input x: the range \[.*\] must be two numbers, the smaller one first"):
        parse_input(f"x: float32[batch, 4] in {text}")


def test_what_is_drawn_lies_within_the_range():
    specs = [parse_input("x: float32[999] in [5, 6]"), parse_input("i: int64[999] in [3, 7]")]
    for spread in (1.0, 0.25):
        drawn = InputMaker(specs).make(np.random.default_rng(0), 1, 1, spread=spread)
        assert 5 < drawn["x"].min() < 5.5 < drawn["x"].max() < 6
        assert set(drawn["i"].tolist()) == {3, 4, 5, 6, 7}


def test_an_example_of_one_sign_is_a_range():
    arrays = {
        "energy": np.float32([0.5, 3]),
        "signal": np.float32([-1, 1]),
        "zeros": np.zeros(4, np.float32),
        "ids": np.arange(4),
    }
    assert ranges_of(arrays) == {"energy": (0.5, 3.0)}
    spec = TensorSpec(name="x", dtype="float32", axes=(4,))
    assert with_ranges([spec], ranges_of(np.float32([1, 2])))[0].range == (1.0, 2.0)
    with pytest.raises(InputError, match=r"^the example has the array 'y'; the inputs are x: give an \.npz file with"):
        with_ranges([spec], {"y": (0.0, 1.0)})


def test_each_integer_input_has_the_bound_of_its_own_table():
    module = TwoTables().eval()
    given = read_inputs(module, None, ["word: int64[batch, time]", "tag: int32[batch, time]"])
    drawn = given.maker(module, given.specs).make(np.random.default_rng(0), 20, 20)
    assert set(np.unique(drawn["tag"])) == {0, 1, 2}
    assert drawn["word"].max() == 49


def test_where_the_original_answers_nan_the_sentence_says_for_which_values():
    for value, word in ((np.nan, "NaN"), (np.inf, "infinity")):
        with pytest.raises(ParityError) as caught:
            check_finite_answers("the module itself", {"y": np.float32([1, value])}, {"x": np.float32([-2.5, 3])})
        assert str(caught.value) == (
            f"the module itself answers {word} in 'y' for x from -2.5 to 3: give the range of its inputs, as in "
            '--input "x: float32[batch, time, 40] in [0, 10]", or --example with such values'
        )


def test_a_model_of_magnitudes_is_exported_and_the_range_is_kept(tmp_path):
    module = seeded(LogMel())
    with pytest.raises(ParityError, match=r"^the module itself answers NaN in 'output' for mag from -\d"):
        build(module, None, inputs=["mag: float32[B, T, 9]"])
    artifact = build(module, None, inputs=[LOG])
    assert artifact.card.inputs[0].range == (0.0, 10.0)
    small = quantize_bytes(artifact.data)
    assert small.card.inputs[0].range == (0.0, 10.0)
    for one in (artifact, small):
        assert self_test(one.data).passed
        assert all(vector.inputs["mag"].min() > 0 for vector in one.session.golden().vectors)
    (tmp_path / "small.onnx").write_bytes(small.data)
    assert bench(tmp_path / "small.onnx", time_steps=3)
    mag = torch.rand(3, 7, 9) * 10 + 0.01
    with torch.no_grad():
        expected = module(mag).numpy()
    assert np.abs(Session(artifact.data, kernels="off").run(mag.numpy())[0]["output"] - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("kind", "examples", "inputs"),
    [
        (Power, torch.rand(2, 8, 9) * 3 + 0.1, ()),
        (Entropy, None, ["mag: float32[N, frames, 9] in [0, 1]"]),
        (Entropy, torch.rand(2, 8, 9) * 0.9 + 0.05, ()),
    ],
)
def test_other_domains(kind, examples, inputs):
    low, high = build(seeded(kind()), examples, inputs=inputs).card.inputs[0].range
    assert 0 <= low < high


def test_a_card_keeps_the_range_and_refuses_what_is_none():
    artifact = Session(build(seeded(Power()), None, inputs=["mag: float32[B, T, 9] in [0, 4]"]).data).card
    assert parse_card(serialize_card(artifact)).inputs[0].range == (0.0, 4.0)
    assert card_to_json(artifact)["outputs"][0]["range"] is None


@pytest.mark.parametrize("found", [(1.0,), (2.0, 1.0), (0.0, 1e300)])
def test_a_range_of_a_file_is_checked(found):
    session = Session(build(seeded(Power()), None, inputs=["mag: float32[B, T, 9] in [0, 4]"]).data)
    card = session.card.replace(inputs=(dataclasses.replace(session.card.inputs[0], range=found),))
    with pytest.raises(CardError, match=r"^model card: card\.inputs\[0\]\.range is \["):
        read_contract(session.onnxruntime_session, card)


def test_examples_may_come_from_a_file(tmp_path):
    np.savez(tmp_path / "example.npz", mag=np.random.default_rng(0).uniform(0.5, 4, (2, 8, 9)).astype(np.float32))
    module, target = seeded(Power()), tmp_path / "power.onnx"
    report = lstm_edge.export(module, None, target, example=tmp_path / "example.npz")
    low, high = report.card.inputs[0].range
    assert 0.5 <= low < 0.6
    assert 3.9 < high <= 4
    assert report.card.inputs[0].axes == ("batch", "time", 9)
    with pytest.raises(InputError, match=r"^--example and example_inputs exclude one another: give one of them$"):
        lstm_edge.export(module, torch.rand(1, 2, 9), target, example=tmp_path / "example.npz")
    warnings.simplefilter("ignore")  # the legacy exporter announces its end; pytest restores the filters
    torch.onnx.export(
        module,
        (torch.ones(1, 8, 9),),
        tmp_path / "other.onnx",
        input_names=["mag"],
        dynamic_axes={"mag": {0: "n", 1: "t"}},
        opset_version=18,
        dynamo=False,
    )
    adopted = lstm_edge.adopt(tmp_path / "other.onnx", tmp_path / "adopted.onnx", example=tmp_path / "example.npz")
    assert adopted.card.inputs[0].range == (low, high)
